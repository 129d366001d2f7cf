"""Conversations as OpenAI-compatible servers take them, and their replies as completions.

    text     the default: what a dialect says stands in the messages as it is; replies to operations are user messages.
             Works with every server, and is what the released checkpoints were trained on.
    native   operations are offered as `tools`, calls travel as `tool_calls`. Their results come as a `tool` message of
             words and a user message with the pictures: many servers drop pictures from `tool` messages.

Inside the project a call is always text between `<tool_call>` tags; `as_native_messages` is a way to write it down.
A server gets the fields that its profile names, and no others: some refuse a request for a single unknown key.
"""

from __future__ import annotations

import base64
import io
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.dialects.syntax.hermes import CLOSE, OPEN
from pixel_reasoner.models.api import Completion, Messages
from pixel_reasoner.schema.settings import SamplingParams

if TYPE_CHECKING:
    from httpx2 import Response


class ToolProtocol(StrEnum):
    """How operations travel."""

    TEXT = "text"
    NATIVE = "native"


class ServerKind(StrEnum):
    """Whose profile is used."""

    ANY = "any"
    """the fields that all of them accept"""
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    OLLAMA = "ollama"
    TRANSFORMERS = "transformers"
    HOSTED = "hosted"
    """the API of a provider"""


class Profile(NamedTuple):
    """Which fields a server accepts beside `model`, `messages`, `temperature`, `top_p` and `stream`."""

    limit: str = "max_tokens"
    """the name of the limit on new tokens"""
    seed: bool = True
    logprobs: bool = False
    usage: bool = False
    """whether a stream tells token counts when asked to (`stream_options`)"""
    owner: str = ""
    """what its list of models says in `owned_by`"""


PROFILES = {
    ServerKind.ANY: Profile(seed=False),
    ServerKind.VLLM: Profile(logprobs=True, usage=True, owner="vllm"),
    ServerKind.SGLANG: Profile(logprobs=True, usage=True, owner="sglang"),
    ServerKind.LLAMACPP: Profile(logprobs=True, usage=True, owner="llamacpp"),
    ServerKind.OLLAMA: Profile(usage=True, owner="library"),
    ServerKind.TRANSFORMERS: Profile(),
    ServerKind.HOSTED: Profile(limit="max_completion_tokens", seed=False),
}


class ServerError(Exception):
    """A reply that is none; what came instead is its text."""


# --- what is sent ---


class MessageWriter:
    """The messages of one conversation as JSON. What was written for an earlier turn, pictures above all, is not written again."""

    def __init__(self) -> None:
        self._done: list[tuple[dict[str, Any], bytes]] = []

    def messages(self, conversation: Messages) -> bytes:
        """The JSON list of messages.

        >>> MessageWriter().messages([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
        b'[{"role": "user", "content": "Hi"}]'
        """
        done: list[tuple[dict[str, Any], bytes]] = []
        for n, message in enumerate(conversation):
            # A picture is the same object from turn to turn, which is what == looks at first.
            if n < len(self._done) and self._done[n][0] == message:
                done.append(self._done[n])
            else:
                done.append((message, _json(message)))
        self._done = done
        return b"[" + b",".join(told for _, told in done) + b"]"


def _json(message: dict[str, Any]) -> bytes:
    content = message.get("content")
    if isinstance(content, list):
        if all(part["type"] == "text" for part in content):
            content = "".join(part["text"] for part in content)
        else:
            content = [_part(part) for part in content]
    return json.dumps({**message, "content": content}, ensure_ascii=False).encode()


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    return {"type": "image_url", "image_url": {"url": data_url(part["image"])}}


def data_url(image: Any) -> str:
    """A picture without loss: a remote model sees what a local one would.

    >>> from PIL import Image
    >>> data_url(Image.new("RGB", (2, 2)))[:22]
    'data:image/png;base64,'
    """
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def fields(
    model: str, decoding: SamplingParams, profile: Profile, *, stream: bool = False
) -> dict[str, Any]:
    """All fields of a request but the messages.

    >>> fields("m", SamplingParams(max_new_tokens=9), PROFILES[ServerKind.ANY])
    {'model': 'm', 'max_tokens': 9, 'temperature': 0.0}
    """
    told: dict[str, Any] = {
        "model": model,
        profile.limit: decoding.max_new_tokens,
        "temperature": decoding.temperature,
    }
    if decoding.top_p < 1:
        told["top_p"] = decoding.top_p
    if profile.seed:
        told["seed"] = decoding.seed
    if profile.logprobs:
        told["logprobs"] = True
    if stream:
        told["stream"] = True
        if profile.usage:
            told["stream_options"] = {"include_usage": True}
    return told


def body(told: dict[str, Any], messages: bytes) -> bytes:
    """The bytes of a request."""
    return json.dumps(told, ensure_ascii=False).encode()[:-1] + b', "messages": ' + messages + b"}"


def as_native_messages(conversation: Messages) -> Messages:
    """A conversation of texts with calls as messages with `tool_calls`.

    >>> said = 'I look. <tool_call>{"name": "zoom_in", "arguments": {"target_image": 1}}</tool_call>'
    >>> turns = [{"role": "assistant", "content": [{"type": "text", "text": said}]}]
    >>> turns.append({"role": "user", "content": [{"type": "text", "text": "Image 2:"}]})
    >>> [(m["role"], m["content"]) for m in as_native_messages(turns)]
    [('assistant', 'I look. '), ('tool', 'Image 2:')]
    >>> as_native_messages(turns)[0]["tool_calls"][0]["function"]
    {'name': 'zoom_in', 'arguments': '{"target_image": 1}'}
    """
    told: Messages = []
    asked: str | None = None
    for n, message in enumerate(conversation):
        calls = _calls(message, n) if message["role"] == "assistant" else []
        if calls:
            words = text_of(message).partition(OPEN)[0]
            told.append({"role": "assistant", "content": words, "tool_calls": calls})
        elif asked is not None and message["role"] == "user":
            told += _result(message, asked)
        else:
            told.append(message)
        asked = calls[0]["id"] if calls else None
    return told


def text_of(message: dict[str, Any]) -> str:
    """All text of a message."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _calls(message: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """The call of a message, if it can be read as one; what cannot stays text."""
    inside = text_of(message).partition(OPEN)[2].partition(CLOSE)[0]
    try:
        call = json.loads(inside)
        name, arguments = call["name"], call.get("arguments", {})
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    function = {"name": name, "arguments": json.dumps(arguments)}
    return [{"id": f"call_{n}", "type": "function", "function": function}]


def _result(message: dict[str, Any], asked: str) -> Messages:
    """The reply to a call: words as the tool's, pictures as the user's."""
    words = text_of(message).strip()
    told: Messages = [{"role": "tool", "tool_call_id": asked, "content": words}]
    parts = message["content"]
    if not isinstance(parts, str) and any(part["type"] == "image" for part in parts):
        told[0]["content"] = words or "See the next message."
        told.append(message)
    return told


# --- what comes back ---


Write = Callable[[str, dict[str, Any]], str]
"""name and arguments of a call -> its text, as a dialect writes it"""


def as_json(name: str, arguments: dict[str, Any]) -> str:
    """A call between its tags, numbers as JSON has them."""
    call = {"name": name, "arguments": arguments}
    return f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}"


def json_of(response: Response) -> Any:
    """The JSON of a server's reply.

    Raises:
        ServerError: it is none.
    """
    response.read()
    try:
        return response.json()
    except ValueError as error:
        kind = response.headers.get("content-type", "no content type")
        raise ServerError(f"no chat completion but {kind}: {response.text[:80]!r}") from error


def completion(reply: Any, write: Write = as_json) -> Completion:
    r"""The turn in a reply.

    Args:
        reply: the JSON of a chat completion.
        write: how calls that came as `tool_calls` are put back into the text. Some servers read them out of it whether or not
            tools were sent, and give `0.40` back as `0.4`.

    Raises:
        ServerError: it is none.

    >>> completion({"choices": [{"message": {"content": "Yes."}, "finish_reason": "length"}]})[:2]
    ('Yes.', True)
    """
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        text = message_text(message, write)
    except (LookupError, TypeError, AttributeError) as error:
        raise ServerError(_shown(reply)) from error
    usage = reply.get("usage") or {}
    return Completion(
        text=text,
        truncated=choice.get("finish_reason") == "length",
        logprobs=array("f", _logprobs(choice)),
        num_prompt_tokens=usage.get("prompt_tokens") or 0,
    )


def message_text(message: dict[str, Any], write: Write = as_json) -> str:
    r"""What a model said, as one text: reasoning, words, and a call between its tags.

    >>> message_text({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]})
    '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    """
    text = message.get("content") or ""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if reasoning:
        text = f"<think>\n{reasoning}\n</think>\n\n{text}"
    for call in message.get("tool_calls") or ():
        text = f"{text}\n" if text and not text.endswith("\n") else text
        text += _call_text(call["function"], write)
    return str(text)


def _call_text(function: dict[str, Any], write: Write) -> str:
    """A call as text; what is no JSON object stays as it came, to be refused by the loop."""
    name, told = function["name"], function.get("arguments") or {}
    try:
        arguments = json.loads(told) if isinstance(told, str) else told
    except ValueError:
        arguments = None
    if isinstance(arguments, dict):
        return write(name, arguments)
    return f'{OPEN}\n{{"name": {json.dumps(name)}, "arguments": {told}}}\n{CLOSE}'


def _logprobs(choice: dict[str, Any]) -> list[float]:
    told = (choice.get("logprobs") or {}).get("content") or []
    return [float(one["logprob"]) for one in told]


def _shown(reply: Any) -> str:
    return " ".join(str(reply).split())[:200]


class StreamedReply:
    """A reply that comes piece by piece."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
        self.logprobs: list[Any] = []
        self.finish: str | None = None
        self.usage: dict[str, Any] = {}

    def take(self, event: Any) -> str:
        """Add an event; returns its new words."""
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices") or []
        if not choices:
            return ""
        choice = choices[0]
        self.finish = choice.get("finish_reason") or self.finish
        self.logprobs += (choice.get("logprobs") or {}).get("content") or []
        delta = choice.get("delta") or {}
        words = delta.get("content") or ""
        self.message["content"] += words
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        self.message["reasoning_content"] += thought
        for call in delta.get("tool_calls") or ():
            self._take_call(call)
        return str(words)

    def _take_call(self, piece: dict[str, Any]) -> None:
        calls, index = self.message["tool_calls"], piece.get("index", 0)
        while len(calls) <= index:
            calls.append({"function": {"name": "", "arguments": ""}})
        function = piece.get("function") or {}
        for name in ("name", "arguments"):
            calls[index]["function"][name] += function.get(name) or ""

    def reply(self) -> dict[str, Any]:
        """As if it had come at once.

        Raises:
            ServerError: it was cut off before its end.
        """
        if self.finish is None:
            raise ServerError(f"a stream that ends after {len(self.message['content'])} characters")
        choice = {
            "message": self.message,
            "finish_reason": self.finish,
            "logprobs": {"content": self.logprobs},
        }
        return {"choices": [choice], "usage": self.usage}


def events(lines: Iterable[str]) -> Iterator[Any]:
    """The events of a stream of server-sent lines.

    Raises:
        ServerError: a line that is no event, or an error that the server sends in place of one.

    >>> list(events(['data: {"a": 1}', "", ": still here", "data: [DONE]"]))
    [{'a': 1}]
    """
    for line in lines:
        if not line.startswith("data:"):
            continue
        told = line.removeprefix("data:").strip()
        if told == "[DONE]":
            return
        try:
            event = json.loads(told)
        except ValueError as error:
            raise ServerError(_shown(told)) from error
        if not isinstance(event, dict) or "error" in event:
            raise ServerError(_shown(event))
        yield event


def server_of(models: Sequence[Any]) -> ServerKind:
    """Whose list of models this is.

    >>> server_of([{"id": "m", "owned_by": "vllm"}]).value
    'vllm'
    """
    owners = {str(one.get("owned_by", "")) for one in models if isinstance(one, dict)}
    known = {profile.owner: server for server, profile in PROFILES.items() if profile.owner}
    return next((known[owner] for owner in owners if owner in known), ServerKind.ANY)
