"""Streamed replies: text deltas during generation, then the complete turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pixel_reasoner.models.api import Completion, OnText
from pixel_reasoner.models.http_body import body_chunks, text_lines
from pixel_reasoner.models.openai_reply import (
    THINK_CLOSE,
    THINK_OPEN,
    ReplyReader,
    WriteCall,
    extract_reasoning,
    parse_arguments,
    text_to_parse,
    write_hermes_call,
)
from pixel_reasoner.models.openai_schema import (
    MAX_CALLS,
    MAX_JSON_VALUES,
    MAX_TEXT_CHARS,
    Call,
    CallPiece,
    ChatReply,
    Choice,
    Function,
    FunctionPiece,
    InvalidReplyError,
    Logprobs,
    Message,
    ServerError,
    StreamChoice,
    StreamEvent,
    TokenLogprob,
    Usage,
    validated,
)
from pixel_reasoner.models.redaction import Redactor, StreamRedactor

if TYPE_CHECKING:
    from httpx2 import Response

OnDelta = Callable[[str, bool], None]
"""called with new text, and whether it is reasoning"""


@dataclass(slots=True)
class _StreamedCall:
    """Accumulator for a streamed call."""

    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def is_continued_by(self, piece: CallPiece, function: FunctionPiece) -> bool:
        """Return whether a piece with the same index (or no index) belongs to this call."""
        if piece.id and self.id:
            return piece.id == self.id
        if not function.name:
            return True
        if piece.index is None:
            return False  # some servers send complete calls without index and id
        return not self.arguments or parse_arguments("".join(self.arguments)) is None

    def add(self, piece: CallPiece, function: FunctionPiece) -> None:
        self.id = self.id or piece.id or ""
        if function.name and function.name != self.name:  # some servers repeat it in every piece
            self.name += function.name
        if function.arguments:
            self.arguments.append(function.arguments)


class StreamedReply:
    """Accumulator for a streamed chat completion."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[_StreamedCall] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.is_done = False
        """whether the server sent [DONE]; some servers send no finish reason before it"""
        self._num_chars = 0
        self._latest: dict[int | None, _StreamedCall] = {}
        """index -> latest call with this index"""

    def add(self, event: StreamEvent) -> None:
        """Add an event of the stream.

        Raises:
            InvalidReplyError: the reply exceeds a limit.
        """
        self.usage = event.usage or self.usage
        for choice in (event.choices or ())[:1]:
            self._add(choice)

    def _add(self, choice: StreamChoice) -> None:
        self.finish_reason = choice.finish_reason or self.finish_reason
        self.logprobs += (choice.logprobs and choice.logprobs.content) or []
        if len(self.logprobs) > MAX_JSON_VALUES:
            raise InvalidReplyError(f"a reply with more than {MAX_JSON_VALUES:,} log-probabilities")
        delta = choice.delta
        if delta is None:
            return
        self.content.append(delta.text)
        self.reasoning.append(delta.thought)
        self._num_chars += len(delta.text) + len(delta.thought)
        for call in delta.tool_calls or ():
            self._add_call(call)
        if self._num_chars > MAX_TEXT_CHARS:
            raise InvalidReplyError(f"a reply of more than {MAX_TEXT_CHARS:,} characters")

    def _add_call(self, piece: CallPiece) -> None:
        function = piece.function or FunctionPiece()
        self._num_chars += len(function.name or "") + len(function.arguments or "")
        call = self._latest.get(piece.index)
        if piece.index is None and self.calls:
            call = self.calls[-1]
        if call is None or not call.is_continued_by(piece, function):
            call = _StreamedCall(piece.id or "")
            self.calls.append(call)
            self._latest[piece.index] = call
        if len(self.calls) > MAX_CALLS:
            raise InvalidReplyError(f"a reply with more than {MAX_CALLS} calls")
        call.add(piece, function)

    def reply(self) -> ChatReply:
        """Return the complete reply, in the same form as without streaming.

        Raises:
            ServerError: the stream ended before the reply was complete.
        """
        if self.finish_reason is None and not self.is_done:
            raise ServerError(f"a stream that ends after {sum(map(len, self.content))} characters")
        functions = [
            Function(name=one.name, arguments="".join(one.arguments)) for one in self.calls
        ]
        message = Message(
            content="".join(self.content),
            reasoning="".join(self.reasoning),
            tool_calls=[Call(function=function) for function in functions],
        )
        logprobs = Logprobs.model_construct(content=self.logprobs)  # each item is already validated
        choice = Choice(message=message, finish_reason=self.finish_reason, logprobs=logprobs)
        return ChatReply(choices=[choice], usage=self.usage)


def stream_events(lines: Iterable[str]) -> Iterator[StreamEvent | None]:
    """Yield the events of a stream of server-sent lines; None for [DONE].

    Raises:
        ServerError: an invalid event, or an error event.

    >>> [event and event.usage for event in stream_events(['data: {"usage": null}', "", ": comment", "data: [DONE]"])]
    [None, None]
    """
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            yield None
            return
        yield validated(StreamEvent, data)


class StreamReader:
    """Parser of a stream that emits text deltas. A retry does not repeat the text of the first attempt."""

    def __init__(
        self,
        on_delta: OnDelta,
        write: WriteCall = write_hermes_call,
        redact: Redactor | None = None,
    ) -> None:
        redact = redact or Redactor()
        self.whole = ReplyReader(write, redact)
        self._reasoning = _TextEmitter(lambda text: on_delta(text, True), redact)
        self._content = _TextEmitter(lambda text: on_delta(text, False), redact)

    def __call__(self, response: Response) -> Completion:
        """Return the turn in a streamed response.

        Raises:
            ServerError: an invalid or incomplete reply.
        """
        self._reasoning.restart()
        self._content.restart()
        if "event-stream" not in response.headers.get("content-type", ""):
            turn = self.whole(response)
        else:
            turn = self.whole.completion(self._streamed(response))
        self._reasoning.finish(extract_reasoning(turn))
        self._content.finish(text_to_parse(turn))  # includes `tool_calls` as text
        return turn

    def _streamed(self, response: Response) -> ChatReply:
        streamed = StreamedReply()
        for event in stream_events(text_lines(body_chunks(response))):
            if event is None:
                streamed.is_done = True
                break
            streamed.add(event)
            for choice in (event.choices or ())[:1]:
                if choice.delta is not None:
                    self._reasoning.add(choice.delta.thought)
                    self._content.add(choice.delta.text)
        return streamed.reply()


class _TextEmitter:
    """Emitter of new text, with secrets removed and without text that an earlier attempt emitted."""

    def __init__(self, on_text: OnText, redact: Redactor) -> None:
        self._on_text = on_text
        self._redact = redact
        self._stream = StreamRedactor(redact)
        self._earlier = ""
        """text emitted by earlier attempts, while this attempt agrees with it"""
        self._pieces: list[str] = []
        """text of this attempt"""
        self._num_chars = 0

    def restart(self) -> None:
        """Restart the text for another attempt."""
        self._emit(self._stream.finish())
        text = "".join(self._pieces)
        self._earlier = text if len(text) > len(self._earlier) else self._earlier
        self._stream = StreamRedactor(self._redact)
        self._pieces, self._num_chars = [], 0

    def add(self, text: str) -> None:
        """Add the next piece of the text."""
        self._emit(self._stream.add(text))

    def finish(self, text: str) -> None:
        """Add the rest of the complete text."""
        self._emit(self._stream.finish())
        self._emit(text.removeprefix("".join(self._pieces)))

    def _emit(self, text: str) -> None:
        """Emit new text. If it differs from the text of an earlier attempt, it starts on a new line."""
        if not text:
            return
        known = self._earlier[self._num_chars : self._num_chars + len(text)]
        self._pieces.append(text)
        self._num_chars += len(text)
        if text.startswith(known):
            new = text[len(known) :]
        else:
            new = "\n" + "".join(self._pieces)
            self._earlier = ""
        if new:
            self._on_text(new)


class TextJoiner:
    """Joiner of reasoning and content to the text of the completion."""

    def __init__(self, on_text: OnText) -> None:
        self.on_text = on_text
        self.is_thinking = False

    def add(self, text: str, is_reasoning: bool) -> None:
        """Emit new text, with tags around reasoning."""
        if is_reasoning and not self.is_thinking:
            self.on_text(THINK_OPEN)
        if not is_reasoning:
            self.finish()
        self.is_thinking = is_reasoning
        self.on_text(text)

    def finish(self) -> None:
        """Emit the closing tag of open reasoning."""
        if self.is_thinking:
            self.on_text(THINK_CLOSE)
        self.is_thinking = False
