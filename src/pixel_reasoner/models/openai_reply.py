r"""Replies of OpenAI-compatible servers as completions: reasoning, content and calls.

A reply has two forms. `Completion.text` is one text: reasoning between `<think>` tags, content, then calls in the syntax of
the dialect. `Completion.parts` contains the same separately. A call or an answer that is only mentioned in the reasoning does
not count: `text_to_parse` returns the text without the reasoning.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pixel_reasoner.dialects.syntax.hermes import CLOSE, OPEN
from pixel_reasoner.models.api import Completion
from pixel_reasoner.schema.trace import Part, Text, Thought, ToolCall

if TYPE_CHECKING:
    from httpx2 import Response

THINK_OPEN, THINK_CLOSE = "<think>\n", "\n</think>\n\n"
INVALID_REPLY_ERRORS = (LookupError, TypeError, AttributeError, ValueError)
"""raised while a reply is read that has another structure"""

WriteCall = Callable[[str, dict[str, Any]], str]
"""name and arguments of a call -> its text in the syntax of a dialect"""


class ServerError(Exception):
    """A response that is not a valid reply; its message shows what came instead."""


def write_hermes_call(name: str, arguments: dict[str, Any]) -> str:
    """Return a call as JSON between `<tool_call>` tags."""
    call = {"name": name, "arguments": arguments}
    return f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}"


def read_json(response: Response) -> Any:
    """Return the JSON of a response.

    Raises:
        ServerError: it is not JSON.
    """
    response.read()
    try:
        return response.json()
    except ValueError as error:
        kind = response.headers.get("content-type", "no content type")
        raise ServerError(f"no chat completion but {kind}: {response.text[:80]!r}") from error


def completion(reply: Any, write: WriteCall = write_hermes_call) -> Completion:
    r"""Return the turn of a reply.

    Args:
        reply: the JSON of a chat completion.
        write: writes calls that came as `tool_calls` back into the text. Some servers parse the text whether or not the
            request contained tools, and return `0.4` for `0.40`.

    Raises:
        ServerError: not a chat completion.

    >>> completion({"choices": [{"message": {"content": "Yes."}, "finish_reason": "length"}]})[:2]
    ('Yes.', True)
    """
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        usage = reply.get("usage") or {}
        return Completion(
            text=message_text(message, write),
            truncated=choice.get("finish_reason") == "length",
            logprobs=array("f", _logprobs(choice)),
            num_prompt_tokens=usage.get("prompt_tokens") or 0,
            num_new_tokens=usage.get("completion_tokens") or None,
            parts=message_parts(message, write),
        )
    except INVALID_REPLY_ERRORS as error:
        raise ServerError(shorten(reply)) from error


def content_of(reply: Any) -> str:
    """Return the content of a reply alone; empty where the model wrote none.

    Raises:
        ServerError: not a chat completion.
    """
    try:
        content = reply["choices"][0]["message"].get("content")
    except INVALID_REPLY_ERRORS as error:
        raise ServerError(shorten(reply)) from error
    return content if isinstance(content, str) else ""


def message_text(message: dict[str, Any], write: WriteCall = write_hermes_call) -> str:
    r"""Return a message as one text: reasoning between tags, content, and calls in the syntax of a dialect.

    >>> message_text({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]})
    '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    """
    text = message.get("content") or ""
    reasoning = message_reasoning(message)
    if reasoning:
        text = f"{THINK_OPEN}{reasoning}{THINK_CLOSE}{text}"
    for call in message.get("tool_calls") or ():
        text = f"{text}\n" if text and not text.endswith("\n") else text
        text += _call_text(call["function"], write)
    return str(text)


def message_parts(
    message: dict[str, Any], write: WriteCall = write_hermes_call
) -> tuple[Part, ...] | None:
    """Return thought, content and calls of a message; None if the server returned the content alone.

    Calls have the names and coordinates of the model's family. A call whose arguments are not a JSON object is a `Text`,
    which the dialect rejects.

    >>> message_parts({"reasoning": "Hm.", "content": "Red."})
    (Thought(thought='Hm.'), Text(text='Red.'))
    """
    reasoning, content = message_reasoning(message), message.get("content")
    calls = message.get("tool_calls") or ()
    if not (reasoning or calls):
        return None
    parts: list[Part] = [Thought(thought=str(reasoning))] if reasoning else []
    parts += [Text(text=str(content))] if content else []
    for call in calls:
        name, arguments = call["function"]["name"], _arguments(call["function"])
        if isinstance(name, str) and arguments is not None:
            parts.append(ToolCall(name=name, arguments=arguments))
        else:
            parts.append(Text(text=_call_text(call["function"], write)))
    return tuple(parts)


def text_to_parse(completion: Completion) -> str:
    r"""Return the text in which a call or an answer counts: without reasoning that the server returned separately.

    >>> text_to_parse(completion({"choices": [{"message": {"reasoning": "Hm.", "content": "Red."}}]}))
    'Red.'
    """
    reasoning = reasoning_of(completion)
    return completion.text.removeprefix(
        f"{THINK_OPEN}{reasoning}{THINK_CLOSE}" if reasoning else ""
    )


def reasoning_of(completion: Completion) -> str:
    """Return the reasoning that the server returned separately; empty where there is none."""
    return "".join(part.thought for part in completion.parts or () if isinstance(part, Thought))


def split_reasoning(text: str) -> tuple[str, str]:
    r"""Return reasoning and remainder of a text of `message_text`; the reasoning is empty where there is none.

    >>> split_reasoning("<think>\nHm.\n</think>\n\nRed.")
    ('Hm.', 'Red.')
    """
    if text.startswith(THINK_OPEN) and THINK_CLOSE in text:
        reasoning, _, rest = text.removeprefix(THINK_OPEN).partition(THINK_CLOSE)
        return reasoning, rest
    return "", text


def message_reasoning(message: dict[str, Any]) -> Any:
    """Return the reasoning of a message or of a piece of one; servers use one of two names for it."""
    return message.get("reasoning_content") or message.get("reasoning")


def _arguments(function: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a call; None if they are not a JSON object."""
    value = function.get("arguments") or {}
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _call_text(function: dict[str, Any], write: WriteCall) -> str:
    """Return a call as text. Arguments that are not a JSON object stay as they are: the dialect rejects them."""
    name, arguments = function["name"], _arguments(function)
    if arguments is not None:
        return write(name, arguments)
    return (
        f'{OPEN}\n{{"name": {json.dumps(name)}, "arguments": {function.get("arguments")}}}\n{CLOSE}'
    )


def _logprobs(choice: dict[str, Any]) -> list[float]:
    tokens = (choice.get("logprobs") or {}).get("content") or []
    return [float(token["logprob"]) for token in tokens]


def shorten(value: Any, max_chars: int = 200) -> str:
    """Return a value on one line, for an error message."""
    return " ".join(str(value).split())[:max_chars]
