r"""Conversion of replies of OpenAI-compatible servers to completions: reasoning, content and calls.

A completion has two forms. `Completion.text` is one text: reasoning between `<think>` tags, content, then calls in the
syntax of the dialect. `Completion.parts` contains the same parts separately. Calls and answers in the reasoning are
ignored: `text_to_parse` returns the text without the reasoning.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from pixel_reasoner.dialects.syntax.hermes import CLOSE, OPEN
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.http_body import read_body
from pixel_reasoner.models.openai_schema import (
    MAX_TEXT_CHARS,
    ChatReply,
    Choice,
    Function,
    InvalidReplyError,
    Message,
    ServerError,
    validated,
)
from pixel_reasoner.schema.trace import Part, Text, Thought, ToolCall

if TYPE_CHECKING:
    from httpx2 import Response

THINK_OPEN, THINK_CLOSE = "<think>\n", "\n</think>\n\n"
WriteCall = Callable[[str, dict[str, Any]], str]
"""name and arguments of a call -> its text in the syntax of a dialect"""


Redact = Callable[[str], str]
"""returns a text without secrets"""


def write_hermes_call(name: str, arguments: dict[str, Any]) -> str:
    """Return a call as JSON between `<tool_call>` tags."""
    call = {"name": name, "arguments": arguments}
    return f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}"


class ReplyReader:
    """Parser of complete replies."""

    def __init__(self, write: WriteCall = write_hermes_call, redact: Redact = str) -> None:
        self.write, self.redact = write, redact

    def __call__(self, response: Response) -> Completion:
        """Return the turn in a response.

        Raises:
            ServerError: not a valid reply.
        """
        return self.completion(read_reply(response))

    def content(self, response: Response) -> str:
        """Return only the content of a reply; empty if there is none.

        Raises:
            ServerError: not a valid reply.
        """
        return _checked(read_reply(response).choices[0].message, self.redact).text

    def completion(self, reply: ChatReply) -> Completion:
        """Return the turn of a reply.

        Raises:
            InvalidReplyError: its texts exceed `MAX_TEXT_CHARS`.
        """
        choice = reply.choices[0]
        message = _checked(choice.message, self.redact)
        usage = reply.usage
        return Completion(
            text=message_text(message, self.write),
            truncated=choice.finish_reason == "length",
            logprobs=array("f", _logprobs(choice)),
            num_prompt_tokens=(usage and usage.prompt_tokens) or 0,
            num_new_tokens=(usage and usage.completion_tokens) or None,
            num_cached_tokens=usage.num_cached_tokens if usage else 0,
            parts=message_parts(message, self.write),
        )


def read_reply(response: Response) -> ChatReply:
    """Return the reply in a response.

    Raises:
        ServerError: not a valid reply.
    """
    data = read_body(response)
    try:
        return validated(ChatReply, data)
    except InvalidReplyError as error:
        if data.lstrip()[:1] in (b"{", b"["):
            raise
        kind = response.headers.get("content-type", "no content type")
        start = data[:80].decode("utf-8", "replace")
        raise ServerError(f"no chat completion but {kind}: {start!r}") from error


def completion(reply: Any, write: WriteCall = write_hermes_call) -> Completion:
    r"""Return the turn of a reply.

    Args:
        reply: the JSON of a chat completion, as text or as an object.
        write: converts `tool_calls` back to text. Some servers parse calls even if the request contained no tools, and
            return `0.4` for `0.40`.

    Raises:
        ServerError: not a chat completion.

    >>> completion({"choices": [{"message": {"content": "Yes."}, "finish_reason": "length"}]})[:2]
    ('Yes.', True)
    """
    return ReplyReader(write).completion(validated(ChatReply, reply))


def _checked(message: Message, redact: Redact) -> Message:
    """Return a message without secrets.

    Raises:
        InvalidReplyError: its texts are too long.
    """
    functions = [call.function for call in message.tool_calls or ()]
    texts = [message.text, message.thought, *(f"{one.name}{one.arguments}" for one in functions)]
    if sum(map(len, texts)) > MAX_TEXT_CHARS:
        raise InvalidReplyError(f"a reply of more than {MAX_TEXT_CHARS:,} characters")
    for function in functions:
        function.name = redact(function.name)
        function.arguments = redact(function.arguments or "")
    return Message(
        content=redact(message.text),
        reasoning=redact(message.thought),
        tool_calls=message.tool_calls,
    )


def message_text(message: Message, write: WriteCall = write_hermes_call) -> str:
    r"""Return a message as one text: reasoning between tags, content, and calls in the syntax of a dialect.

    >>> message_text(Message(tool_calls=[{"function": {"name": "f", "arguments": '{"a": 1}'}}]))
    '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    """
    text, reasoning = message.text, message.thought
    if reasoning:
        text = f"{THINK_OPEN}{reasoning}{THINK_CLOSE}{text}"
    for call in message.tool_calls or ():
        text = f"{text}\n" if text and not text.endswith("\n") else text
        text += _call_text(call.function, write)
    return text


def message_parts(
    message: Message, write: WriteCall = write_hermes_call
) -> tuple[Part, ...] | None:
    """Return thought, content and calls of a message; None if the server returned only content.

    Calls have names and coordinates of the model family. A call with arguments that are not a JSON object is a `Text`,
    which the dialect rejects.

    >>> message_parts(Message(reasoning="Hm.", content="Red."))
    (Thought(thought='Hm.'), Text(text='Red.'))
    """
    text, reasoning, calls = message.text, message.thought, message.tool_calls or ()
    if not (reasoning or calls):
        return None
    parts: list[Part] = [Thought(thought=reasoning)] if reasoning else []
    parts += [Text(text=text)] if text else []
    for call in calls:
        arguments = parse_arguments(call.function.arguments)
        if arguments is not None:
            parts.append(ToolCall(name=call.function.name, arguments=arguments))
        else:
            parts.append(Text(text=_call_text(call.function, write)))
    return tuple(parts)


def text_to_parse(completion: Completion) -> str:
    r"""Return the text to search for calls and answers, without reasoning that the server returned separately.

    >>> text_to_parse(completion({"choices": [{"message": {"reasoning": "Hm.", "content": "Red."}}]}))
    'Red.'
    """
    reasoning = extract_reasoning(completion)
    return completion.text.removeprefix(
        f"{THINK_OPEN}{reasoning}{THINK_CLOSE}" if reasoning else ""
    )


def extract_reasoning(completion: Completion) -> str:
    """Return the reasoning that the server returned separately; empty if there is none."""
    return "".join(part.thought for part in completion.parts or () if isinstance(part, Thought))


def split_reasoning(text: str) -> tuple[str, str]:
    r"""Split the result of `message_text` into reasoning, possibly empty, and the rest.

    >>> split_reasoning("<think>\nHm.\n</think>\n\nRed.")
    ('Hm.', 'Red.')
    """
    if text.startswith(THINK_OPEN) and THINK_CLOSE in text:
        reasoning, _, rest = text.removeprefix(THINK_OPEN).partition(THINK_CLOSE)
        return reasoning, rest
    return "", text


def parse_arguments(value: str | None) -> dict[str, Any] | None:
    """Return the arguments of a call; None if they are not a JSON object or too deeply nested.

    >>> parse_arguments('{"a": 1}'), parse_arguments("{"), parse_arguments("")
    ({'a': 1}, None, {})
    """
    try:
        found = from_json(value or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _call_text(function: Function, write: WriteCall) -> str:
    """Return a call as text. Arguments that are not a JSON object are kept verbatim, so that the dialect rejects them."""
    arguments = parse_arguments(function.arguments)
    if arguments is not None:
        return write(function.name, arguments)
    return f'{OPEN}\n{{"name": {json.dumps(function.name)}, "arguments": {function.arguments}}}\n{CLOSE}'


def _logprobs(choice: Choice) -> list[float]:
    """Return the log-probabilities of a reply; none if any is missing, because the others would be misaligned."""
    tokens = (choice.logprobs and choice.logprobs.content) or []
    found = [one for token in tokens if (one := token.get("logprob")) is not None]
    return found if len(found) == len(tokens) else []
