"""Parser and writer of turns: thoughts, text, calls and the answer.

A call must end the turn, because text after it would be a hallucinated result. Calls and answers inside a thought are
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pixel_reasoner.dialects.answers import BOXED, AnswerFormat
from pixel_reasoner.dialects.arguments import (
    ArgumentConventions,
    CallError,
    Repair,
    RepairKind,
)
from pixel_reasoner.dialects.syntax.base import (
    MAX_TURN_CHARS,
    CallSyntax,
    RawTurn,
    StreamParser,
    TextDelta,
    WrittenCall,
    num_partial_tag_chars,
    several_calls_message,
    too_long_message,
)
from pixel_reasoner.dialects.syntax.hermes import HERMES
from pixel_reasoner.schema.events import PartKind
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.trace import CallErrorKind, Part, Picture, Text, Thought, ToolCall

THINK, END_THINK = "<think>", "</think>"
_SURROGATE = re.compile("[\ud800-\udfff]")


class ParsedTurn(Record):
    """Parts of a turn, its answer, and the errors of its calls.

    Either the whole turn is rejected (several calls, invalid JSON), or some of its calls, or none.
    """

    parts: tuple[Part, ...] = ()
    """thoughts, text and calls in order; calls with names and coordinates of the project"""
    answer: str | None = None
    """None if the turn contains no answer or calls an operation"""
    errors: tuple[CallError, ...] = ()
    repairs: tuple[Repair, ...] = ()

    @property
    def calls(self) -> list[ToolCall]:
        """All parsed calls, in order, including rejected ones."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    @property
    def executable_calls(self) -> list[ToolCall]:
        """Calls without an error, in order; empty if the whole turn is rejected."""
        rejected = {error.call for error in self.errors}
        if None in rejected:
            return []
        return [call for number, call in enumerate(self.calls) if number not in rejected]

    @property
    def has_attempted_call(self) -> bool:
        """Whether the turn contains a call, valid or not."""
        return bool(self.errors) or any(isinstance(part, ToolCall) for part in self.parts)

    @property
    def error(self) -> CallError | None:
        """The first error; None without errors."""
        return next(iter(self.errors), None)

    @property
    def call(self) -> ToolCall | None:
        """The first parsed call; None if there is none."""
        return next(iter(self.calls), None)


@dataclass(frozen=True, kw_only=True)
class CallFormat(ArgumentConventions):
    """Format of thoughts, calls and answers of a model family."""

    syntax: CallSyntax = HERMES
    answer_format: AnswerFormat = BOXED
    thought_template: str = "{words}"
    """template of the text before a call or an answer"""
    separates_thoughts: bool = False
    """whether text before the first `</think>` is a thought"""
    max_calls_per_turn: int = 1

    @property
    def special_tokens(self) -> frozenset[str]:
        """Tags that decoding must keep even if they are special tokens of the tokenizer."""
        thought_tags = {THINK, END_THINK} if self.separates_thoughts else set()
        return self.syntax.special_tokens | thought_tags

    # --- generated text ---

    def parse(self, text: str, pictures: Sequence[Picture] = ()) -> ParsedTurn:
        r"""Parse a generated turn.

        Args:
            text: the whole turn.
            pictures: all pictures in the context of the model. Without them calls and syntax errors are found, but boxes
                in pixels are not converted.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> COMPACT.parse(r"It is \boxed{red}.").answer
        'red'
        >>> COMPACT.parse("I look. <tool_call>{}</tool_call>").errors[0].message
        'the call has no name; write {"name": ..., "arguments": {...}}'
        """
        parser = self.parser(pictures)
        parser.feed(text)
        return parser.finish()

    def parser(self, pictures: Sequence[Picture] = ()) -> TurnParser:
        """Return a streaming parser of a turn."""
        return TurnParser(self, pictures)

    def parse_parts(self, parts: Sequence[Part], pictures: Sequence[Picture] = ()) -> ParsedTurn:
        """Parse a turn whose parts were separated by the backend, and convert its calls.

        Text is parsed like generated text. A call in a thought is ignored. An answer in a thought is used only if the turn
        contains nothing else.

        Args:
            parts: thoughts, text and calls, with names and coordinates of the family.
            pictures: all pictures in the context of the model.
        """
        content = self.parser(pictures)
        for part in parts:
            if isinstance(part, Text):
                content.feed(part.text)
        raw, inner = content.split()
        given = [one for one in parts if isinstance(one, ToolCall)]
        thoughts = [one for one in parts if isinstance(one, Thought)]
        count = raw.num_calls + len(given)
        problem = raw.problem or _text_after_call_error(parts)
        if count > self.max_calls_per_turn:
            problem = several_calls_message(count, self.max_calls_per_turn)
        if problem:
            return self._rejected([*thoughts, *inner], problem, count, content.content)
        if raw.num_calls or inner:
            ordered = [*thoughts, *inner, *raw.parts, *map(_to_written, given)]
        else:
            ordered = [_to_written(one) for one in parts]
        turn = self._converted(ordered, content.content, pictures)
        if turn.has_attempted_call or content.content.strip():
            return turn
        answer = self.answer_format.find("\n".join(one.thought for one in thoughts))
        return turn.model_copy(update={"answer": answer})

    def parse_completion(
        self, text: str, parts: Sequence[Part] | None, pictures: Sequence[Picture] = ()
    ) -> ParsedTurn:
        """Parse a completion: its parts if the backend separated them, otherwise its text."""
        return self.parse(text, pictures) if parts is None else self.parse_parts(parts, pictures)

    def parsed_turn(
        self, thoughts: Sequence[Part], raw: RawTurn, content: str, pictures: Sequence[Picture]
    ) -> ParsedTurn:
        """Return the parsed turn for thoughts and parsed content."""
        if raw.problem:
            return self._rejected(thoughts, raw.problem, raw.num_calls, content)
        return self._converted([*thoughts, *raw.parts], content, pictures)

    def _rejected(
        self, thoughts: Sequence[Part], problem: str, num_calls: int, content: str
    ) -> ParsedTurn:
        """Return a turn that is rejected as a whole."""
        is_several = num_calls > self.max_calls_per_turn
        kind = CallErrorKind.SEVERAL_CALLS if is_several else CallErrorKind.MALFORMED_CALL
        error = CallError(kind=kind, message=problem)
        return ParsedTurn(parts=(*thoughts, *_text_parts(content)), errors=(error,))

    def _converted(
        self, ordered: Sequence[Part | str | WrittenCall], content: str, pictures: Sequence[Picture]
    ) -> ParsedTurn:
        """Return a turn with converted calls."""
        parts: list[Part] = []
        errors: list[CallError] = []
        repairs: list[Repair] = []
        number = 0
        for part in ordered:
            if isinstance(part, str):
                parts += _text_parts(part)
                continue
            if not isinstance(part, WrittenCall):
                parts.append(part)
                continue
            converted = self.to_project(part, pictures)
            parts.append(converted.call)
            if converted.error is not None:
                kind, message = converted.error
                errors.append(CallError(kind=kind, message=message, call=number))
            repairs += [
                Repair(kind=RepairKind.CLAMPED_BOX, call=number, argument=argument)
                for argument in converted.repaired
            ]
            number += 1
        return ParsedTurn(
            parts=tuple(parts),
            answer=None if number else self.answer_format.find(content),
            errors=tuple(errors),
            repairs=tuple(repairs),
        )

    # --- writing ---

    def write_call(self, call: ToolCall, pictures: Sequence[Picture] = (), about: str = "") -> str:
        """Return the text of a call in the format of the family. The inverse of `parse`, except for padding.

        Args:
            call: with names and coordinates of the project.
            pictures: all pictures in the context of the model; required if boxes are in pixels or pictures have names.
            about: target of the call, for families with a label argument.
        """
        return self.encode(self.to_family(call, pictures, about))

    def encode(self, *calls: WrittenCall) -> str:
        """Return the text of calls with names and coordinates of the family."""
        return self.syntax.encode(calls, self.grid.decimals)

    def write_turn(
        self,
        words: str,
        call: ToolCall | None = None,
        pictures: Sequence[Picture] = (),
        *,
        about: str = "",
        answer: str | None = None,
    ) -> str:
        r"""Return the text of a turn: words, and a call or an answer.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> COMPACT.write_turn("It is red.", answer="red")
        'It is red. \\boxed{red}'
        """
        thought = self.thought_template.format(words=words)
        if call is not None:
            return f"{thought}\n{self.write_call(call, pictures, about)}"
        return thought if answer is None else f"{thought} {self.answer_format.write(answer)}"

    def strip_call(self, text: str) -> str:
        """Return the text of a turn without its last call.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> COMPACT.strip_call("I look. <tool_call>{}</tool_call>")
        'I look. '
        """
        words, tag, _ = text.rpartition(self.syntax.open)
        return words if tag else text


class TurnParser:
    """Streaming parser of one turn: the thought, then content in the call syntax.

    `feed` returns deltas for display. They are provisional: without `<think>` at the start, a later `</think>` can still
    turn the text before it into a thought. `finish` returns the result, which does not depend on how the text was split.
    """

    def __init__(self, call_format: CallFormat, pictures: Sequence[Picture] = ()) -> None:
        self._format = call_format
        self._pictures = pictures
        self._content_parser = self._new_content_parser()
        self._text: list[str] = []
        self._num_chars = 0
        self._has_thought_ended = not call_format.separates_thoughts
        self._thought_chars = 0
        """characters before `</think>`"""
        self._held = ""
        self._has_started = not call_format.separates_thoughts
        """whether text other than white space arrived"""
        self._starts_with_think = False
        self._scanned = 0

    @property
    def num_scanned(self) -> int:
        """Number of scanned characters, as a measure of work."""
        return self._scanned + self._content_parser.num_scanned

    def feed(self, delta: str) -> list[TextDelta]:
        """Parse more text and return new text of each part. Lone surrogates, which no file can contain, are replaced."""
        if not delta.isascii():
            delta = _SURROGATE.sub("\ufffd", delta)
        self._num_chars += len(delta)
        if self._num_chars > MAX_TURN_CHARS:
            self._text.clear()
            return []
        self._text.append(delta)
        if self._has_thought_ended:
            return self._content_parser.feed(delta)
        text = self._held + delta
        self._scanned += len(text)
        thought, tag, rest = text.partition(END_THINK)
        if not tag:
            held = self._num_partial_tag_chars(text)
            self._held = text[len(text) - held :]
            return self._provisional(text[: len(text) - held])
        self._held, self._has_thought_ended = "", True
        deltas = self._provisional(thought)
        self._thought_chars = self._num_chars - len(rest) - len(END_THINK)
        self._scanned += self._content_parser.num_scanned
        self._content_parser = self._new_content_parser()
        return deltas + self._content_parser.feed(rest)

    def finish(self) -> ParsedTurn:
        """Return the parts of the turn."""
        raw, thoughts = self.split()
        return self._format.parsed_turn(thoughts, raw, self.content, self._pictures)

    def split(self) -> tuple[RawTurn, list[Part]]:
        """Return the parsed content and the thought before it. Do not call `feed` afterwards."""
        if self._num_chars > MAX_TURN_CHARS:
            return RawTurn(problem=too_long_message()), []
        self._content_parser.feed(self._held)
        self._held = ""
        raw = self._content_parser.finish()
        thought = "".join(self._text)[: self._thought_chars]
        start = thought.lstrip()
        if start.startswith(THINK):
            thought = start.removeprefix(THINK)
        return raw, [Thought(thought=thought)] if thought.strip() else []

    @property
    def content(self) -> str:
        """Text after the thought; empty if the turn is longer than the limit."""
        text = "".join(self._text)
        is_split = self._has_thought_ended and self._format.separates_thoughts
        return text[self._thought_chars + len(END_THINK) :] if is_split else text

    def _new_content_parser(self) -> StreamParser:
        return self._format.syntax.parser(self._format.max_calls_per_turn)

    def _num_partial_tag_chars(self, text: str) -> int:
        """Return the number of characters at the end that may start a tag."""
        start = text.lstrip()
        if not self._has_started and len(start) < len(THINK) and THINK.startswith(start):
            return len(start)
        return num_partial_tag_chars(text, (END_THINK,))

    def _provisional(self, piece: str) -> list[TextDelta]:
        """Return deltas of text that may belong to a thought."""
        if not self._has_started and piece.strip():
            self._has_started = True
            self._starts_with_think = piece.lstrip().startswith(THINK)
            if self._starts_with_think:
                self._content_parser.feed(piece)
                piece = piece.lstrip().removeprefix(THINK)
                return [TextDelta(PartKind.THOUGHT, piece)] if piece else []
        deltas = self._content_parser.feed(piece)
        if self._starts_with_think:
            return [TextDelta(PartKind.THOUGHT, piece)] if piece else []
        return deltas


def _text_parts(text: str) -> list[Part]:
    return [Text(text=text)] if text.strip() else []


def _to_written(part: Part) -> Part | str | WrittenCall:
    """Convert a part from a backend to the form that parsers return."""
    if isinstance(part, ToolCall):
        return WrittenCall(part.name, part.arguments)
    return part.text if isinstance(part, Text) else part


def _text_after_call_error(parts: Sequence[Part]) -> str:
    """Return an error message if text follows a call; otherwise an empty string."""
    first = next((n for n, one in enumerate(parts) if isinstance(one, ToolCall)), len(parts))
    after = parts[first:]
    if any(isinstance(one, Text) and one.text.strip() for one in after):
        return "a call must end the turn; write no text after it"
    return ""
