"""Streamed replies: deltas of text while a turn is generated, then the whole turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pixel_reasoner.models.api import Completion, OnText
from pixel_reasoner.models.openai_reply import (
    INVALID_REPLY_ERRORS,
    THINK_CLOSE,
    THINK_OPEN,
    ServerError,
    WriteCall,
    completion,
    message_reasoning,
    read_json,
    reasoning_of,
    shorten,
    text_to_parse,
)

if TYPE_CHECKING:
    from httpx2 import Response

_MAX_CALLS = 100
"""of one reply; a stream that numbers them higher is not a valid reply"""

OnDelta = Callable[[str, bool], None]
"""called with new text, and whether it is reasoning"""


class StreamedReply:
    """Chat completion that arrives in pieces."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
        self.logprobs: list[Any] = []
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] = {}

    def add(self, event: Any) -> None:
        """Add an event of the stream.

        Raises:
            ServerError: not a piece of a chat completion.
        """
        try:
            self._add(event)
        except INVALID_REPLY_ERRORS as error:
            raise ServerError(shorten(event)) from error

    def _add(self, event: Any) -> None:
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices") or []
        if not choices:
            return
        choice = choices[0]
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.logprobs += (choice.get("logprobs") or {}).get("content") or []
        delta = choice.get("delta") or {}
        self.message["content"] += delta.get("content") or ""
        self.message["reasoning_content"] += message_reasoning(delta) or ""
        for call in delta.get("tool_calls") or ():
            self._add_call(call)

    def _add_call(self, piece: dict[str, Any]) -> None:
        calls, function = self.message["tool_calls"], piece.get("function") or {}
        index = piece.get("index")
        if index is None:  # some servers send whole calls without an index
            index = len(calls) if function.get("name") else max(len(calls) - 1, 0)
        if not 0 <= index < _MAX_CALLS:
            raise ValueError(index)
        while len(calls) <= index:
            calls.append({"function": {"name": "", "arguments": ""}})
        for name in ("name", "arguments"):
            calls[index]["function"][name] += function.get(name) or ""

    def reply(self) -> dict[str, Any]:
        """Return the whole reply, as if it had not been streamed.

        Raises:
            ServerError: the stream ended before the reply did.
        """
        if self.finish_reason is None:
            raise ServerError(f"a stream that ends after {len(self.message['content'])} characters")
        choice = {
            "message": self.message,
            "finish_reason": self.finish_reason,
            "logprobs": {"content": self.logprobs},
        }
        return {"choices": [choice], "usage": self.usage}


def stream_events(lines: Iterable[str]) -> Iterator[Any]:
    """Yield the events of a stream of server-sent lines.

    Raises:
        ServerError: a line that is not an event, or an error that the server sends in place of one.

    >>> list(stream_events(['data: {"a": 1}', "", ": comment", "data: [DONE]"]))
    [{'a': 1}]
    """
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise ServerError(shorten(data)) from error
        if not isinstance(event, dict) or "error" in event:
            raise ServerError(shorten(event))
        yield event


class StreamReader:
    """Reads a stream and passes its text on. A second try does not repeat the text of the first."""

    def __init__(self, on_delta: OnDelta, write: WriteCall) -> None:
        self.write = write
        self._reasoning = _NewText(lambda text: on_delta(text, True))
        self._content = _NewText(lambda text: on_delta(text, False))

    def __call__(self, response: Response) -> Completion:
        """Return the turn in a streamed response.

        Raises:
            ServerError: not a valid reply, or an incomplete one.
        """
        if "event-stream" not in response.headers.get("content-type", ""):
            turn = completion(read_json(response), self.write)
        else:
            streamed = StreamedReply()
            for event in stream_events(response.iter_lines()):
                streamed.add(event)
                self._reasoning.extend_to(streamed.message["reasoning_content"])
                self._content.extend_to(streamed.message["content"])
            turn = completion(streamed.reply(), self.write)
        self._reasoning.extend_to(reasoning_of(turn))
        self._content.extend_to(text_to_parse(turn))  # includes calls that came as `tool_calls`
        return turn


class _NewText:
    """Passes on what is new of a text that grows."""

    def __init__(self, on_text: OnText) -> None:
        self.on_text = on_text
        self.passed = ""

    def extend_to(self, text: str) -> None:
        """Pass on the new end of a text. A text that begins differently, of another try, follows on a new line."""
        if self.passed.startswith(text):
            return
        if not text.startswith(self.passed):
            self.on_text("\n")
            self.passed = ""
        self.on_text(text[len(self.passed) :])
        self.passed = text


class TextJoiner:
    """Joins reasoning and content to the text of the completion."""

    def __init__(self, on_text: OnText) -> None:
        self.on_text = on_text
        self.is_thinking = False

    def add(self, text: str, is_reasoning: bool) -> None:
        """Pass on new text, with tags where reasoning begins and ends."""
        if is_reasoning and not self.is_thinking:
            self.on_text(THINK_OPEN)
        if not is_reasoning:
            self.finish()
        self.is_thinking = is_reasoning
        self.on_text(text)

    def finish(self) -> None:
        """Close the reasoning, if it is open."""
        if self.is_thinking:
            self.on_text(THINK_CLOSE)
        self.is_thinking = False
