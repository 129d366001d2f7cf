"""Streaming parser of one turn: the thought, then content in the call syntax of a dialect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pixel_reasoner.dialects.parsed_turn import ParsedTurn
from pixel_reasoner.dialects.syntax.base import (
    MAX_TURN_CHARS,
    RawTurn,
    StreamParser,
    TextDelta,
    num_partial_tag_chars,
    too_long_message,
)
from pixel_reasoner.schema.events import PartKind
from pixel_reasoner.schema.trace import Part, Picture, Thought

if TYPE_CHECKING:
    from pixel_reasoner.dialects.parse import CallFormat

_SURROGATE = re.compile("[\ud800-\udfff]")


class TurnParser:
    """Streaming parser of one turn: the thought, then content in the call syntax.

    `feed` returns deltas for display. They are provisional: without `<think>` at the start, a later `</think>` can still
    turn the text before it into a thought. `finish` returns the result, which does not depend on how the text was split.
    """

    def __init__(self, call_format: CallFormat, pictures: Sequence[Picture] = ()) -> None:
        self._format = call_format
        self._tags = call_format.thought_tags
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
        self._starts_with_think = call_format.opens_thought
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
        thought, tag, rest = text.partition(self._tags.close)
        if not tag:
            held = self._num_partial_tag_chars(text)
            self._held = text[len(text) - held :]
            return self._provisional(text[: len(text) - held])
        self._held, self._has_thought_ended = "", True
        deltas = self._provisional(thought)
        self._thought_chars = self._num_chars - len(rest) - len(self._tags.close)
        self._scanned += self._content_parser.num_scanned
        self._content_parser = self._new_content_parser()
        return deltas + self._content_parser.feed(rest)

    def finish(self, *, strict: bool = True) -> ParsedTurn:
        """Return the parts of the turn."""
        raw, thoughts = self.split()
        convert = self._format.parsed_turn if strict else self._format.repaired_turn
        return convert(thoughts, raw, self.content, self._pictures)

    def split(self) -> tuple[RawTurn, list[Part]]:
        """Return the parsed content and the thought before it. Do not call `feed` afterwards."""
        if self._num_chars > MAX_TURN_CHARS:
            return RawTurn(problem=too_long_message()), []
        self._content_parser.feed(self._held)
        self._held = ""
        raw = self._content_parser.finish()
        thought = "".join(self._text)[: self._thought_chars]
        start = thought.lstrip()
        if start.startswith(self._tags.open):
            thought = start.removeprefix(self._tags.open)
        return raw, [Thought(thought=thought)] if thought.strip() else []

    @property
    def content(self) -> str:
        """Text after the thought; empty if the turn is longer than the limit."""
        text = "".join(self._text)
        is_split = self._has_thought_ended and self._format.separates_thoughts
        return text[self._thought_chars + len(self._tags.close) :] if is_split else text

    def _new_content_parser(self) -> StreamParser:
        return self._format.syntax.parser(self._format.max_calls_per_turn)

    def _num_partial_tag_chars(self, text: str) -> int:
        """Return the number of characters at the end that may start a tag."""
        start, tag = text.lstrip(), self._tags.open
        if not self._has_started and len(start) < len(tag) and tag.startswith(start):
            return len(start)
        return num_partial_tag_chars(text, (self._tags.close,))

    def _provisional(self, piece: str) -> list[TextDelta]:
        """Return deltas of text that may belong to a thought."""
        if not self._has_started and piece.strip():
            self._has_started = True
            has_tag = piece.lstrip().startswith(self._tags.open)
            self._starts_with_think |= has_tag
            if has_tag:
                self._content_parser.feed(piece)
                piece = piece.lstrip().removeprefix(self._tags.open)
                return [TextDelta(PartKind.THOUGHT, piece)] if piece else []
        deltas = self._content_parser.feed(piece)
        if self._starts_with_think:
            return [TextDelta(PartKind.THOUGHT, piece)] if piece else []
        return deltas
