"""Parsing and writing of turns: thoughts, text, calls and the answer.

A call counts when it is the last thing in the turn: what a model writes after it, it made up. A call or an answer
inside a thought does not count.
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
    held_back,
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
    """Parts of a turn, its answer, and what is wrong with its calls.

    A turn is rejected as a whole (several calls, not JSON), or some of its calls are, or nothing is wrong.
    """

    parts: tuple[Part, ...] = ()
    """thoughts, text and calls in their order; calls in the project's names and coordinates"""
    answer: str | None = None
    """None when the turn contains no answer, or calls an operation"""
    errors: tuple[CallError, ...] = ()
    repairs: tuple[Repair, ...] = ()

    @property
    def calls(self) -> list[ToolCall]:
        """All calls that could be read, in order, rejected ones included."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    @property
    def executable_calls(self) -> list[ToolCall]:
        """Calls without an error, in order; none when the turn is rejected as a whole."""
        rejected = {error.call for error in self.errors}
        if None in rejected:
            return []
        return [call for number, call in enumerate(self.calls) if number not in rejected]

    @property
    def has_attempted_call(self) -> bool:
        """Whether the turn calls an operation, or tries to."""
        return bool(self.errors) or any(isinstance(part, ToolCall) for part in self.parts)

    @property
    def error(self) -> CallError | None:
        """The first error; None when nothing is wrong."""
        return next(iter(self.errors), None)

    @property
    def call(self) -> ToolCall | None:
        """The first call that could be read; None when there is none."""
        return next(iter(self.calls), None)


@dataclass(frozen=True, kw_only=True)
class CallFormat(ArgumentConventions):
    """How a family writes thoughts, calls and answers."""

    syntax: CallSyntax = HERMES
    answer_format: AnswerFormat = BOXED
    thought_template: str = "{words}"
    """how the words before a call or an answer are written"""
    separates_thoughts: bool = False
    """whether text before the first `</think>` is a thought"""
    max_calls_per_turn: int = 1

    @property
    def special_tokens(self) -> frozenset[str]:
        """Tags that decoding must keep where the tokenizer treats them as special tokens."""
        thought_tags = {THINK, END_THINK} if self.separates_thoughts else set()
        return self.syntax.special_tokens | thought_tags

    # --- generated text ---

    def parse(self, text: str, pictures: Sequence[Picture] = ()) -> ParsedTurn:
        r"""Return the parts of a generated turn.

        Args:
            text: the whole turn.
            pictures: all pictures in the context of the model. Without them, calls and errors of syntax are found, but a
                box stays in numbers that only a picture would explain.

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
        """Return a parser for a turn that arrives in pieces."""
        return TurnParser(self, pictures)

    def parse_parts(self, parts: Sequence[Part], pictures: Sequence[Picture] = ()) -> ParsedTurn:
        """Return the parts of a turn that a backend separated, calls converted.

        Text is parsed as generated text is. A call in a thought never counts; an answer in a thought counts only
        when the turn contains nothing else.

        Args:
            parts: thoughts, text and calls in the family's own names and coordinates.
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
        problem = raw.problem or _misplaced(parts)
        if count > self.max_calls_per_turn:
            problem = several_calls_message(count, self.max_calls_per_turn)
        if problem:
            return self._rejected([*thoughts, *inner], problem, count, content.content)
        if raw.num_calls or inner:
            ordered = [*thoughts, *inner, *raw.parts, *map(_as_written, given)]
        else:
            ordered = [_as_written(one) for one in parts]
        turn = self._converted(ordered, content.content, pictures)
        if turn.has_attempted_call or content.content.strip():
            return turn
        answer = self.answer_format.find("\n".join(one.thought for one in thoughts))
        return turn.model_copy(update={"answer": answer})

    def parse_completion(
        self, text: str, parts: Sequence[Part] | None, pictures: Sequence[Picture] = ()
    ) -> ParsedTurn:
        """Return the parts of a completion: of its parts where the backend separated them, otherwise of its text."""
        return self.parse(text, pictures) if parts is None else self.parse_parts(parts, pictures)

    def parsed_turn(
        self, thoughts: Sequence[Part], raw: RawTurn, content: str, pictures: Sequence[Picture]
    ) -> ParsedTurn:
        """Return a turn from its thoughts and its parsed content."""
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
        """Return a turn whose calls are converted."""
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

    # --- written text ---

    def write_call(self, call: ToolCall, pictures: Sequence[Picture] = (), about: str = "") -> str:
        """Return a call as this family writes it. The inverse of `parse`, padding aside.

        Args:
            call: in the project's names and coordinates.
            pictures: all pictures in the context of the model; needed where numbers are pixels, or names are words.
            about: what the call is to show, for a family that says so.
        """
        return self.encode(self.to_family(call, pictures, about))

    def encode(self, *calls: WrittenCall) -> str:
        """Return the text of calls that are in the family's names and coordinates already."""
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
        r"""Return a whole turn: words, and a call or an answer.

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

    `feed` returns deltas for display. They are provisional: a turn that does not start with `<think>` may still turn
    out to start with a thought, when `</think>` arrives. `finish` returns the result, which does not depend on where
    the text was split.
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
        """Characters that were looked at so far; a measure of work."""
        return self._scanned + self._content_parser.num_scanned

    def feed(self, delta: str) -> list[TextDelta]:
        """Read more text and return what is new of each part. Half of a surrogate pair, which no file can hold, is replaced."""
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
            held = self._num_held(text)
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
        """Return the parsed content and the thought before it. Nothing may be fed afterwards."""
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
        """The text after the thought; empty when the turn is longer than the limit."""
        text = "".join(self._text)
        is_split = self._has_thought_ended and self._format.separates_thoughts
        return text[self._thought_chars + len(END_THINK) :] if is_split else text

    def _new_content_parser(self) -> StreamParser:
        return self._format.syntax.parser(self._format.max_calls_per_turn)

    def _num_held(self, text: str) -> int:
        """Return how much of the end may be the start of a tag."""
        start = text.lstrip()
        if not self._has_started and len(start) < len(THINK) and THINK.startswith(start):
            return len(start)
        return held_back(text, (END_THINK,))

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


def _as_written(part: Part) -> Part | str | WrittenCall:
    """Return a part of a backend in the form in which a parser returns it."""
    if isinstance(part, ToolCall):
        return WrittenCall(part.name, part.arguments)
    return part.text if isinstance(part, Text) else part


def _misplaced(parts: Sequence[Part]) -> str:
    """Return an error message when text follows a call."""
    first = next((n for n, one in enumerate(parts) if isinstance(one, ToolCall)), len(parts))
    after = parts[first:]
    if any(isinstance(one, Text) and one.text.strip() for one in after):
        return "a call must end the turn; write no text after it"
    return ""
