"""Streaming parser of calls between an opening and a closing tag, for any text between the tags."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from pixel_reasoner.dialects.syntax.base import (
    MAX_BRACKETS,
    MAX_TURN_CHARS,
    CallSyntaxError,
    RawTurn,
    TextDelta,
    WrittenCall,
    num_partial_tag_chars,
    several_calls_message,
    too_long_message,
)
from pixel_reasoner.schema.events import PartKind


class TagGrammar(NamedTuple):
    """Tags of a syntax, and decoder of the text between them."""

    open: str
    close: str
    """closing tag; empty if a call ends with the turn"""
    decode: Callable[[str], list[WrittenCall]]
    """text between the tags -> calls; raises CallSyntaxError"""
    misplaced: str
    """error message for a call that does not end the turn"""


class TaggedParser:
    """Streaming parser of one turn in a syntax with tags.

    Calls must end the turn; otherwise the turn is rejected. Each character is scanned once, except possible tags that are
    split between two pieces.
    """

    def __init__(self, grammar: TagGrammar, max_calls: int = 1) -> None:
        self.grammar = grammar
        self.max_calls = max_calls
        self.num_scanned = 0
        self._tags = (grammar.open, grammar.close) if grammar.close else (grammar.open,)
        self._pattern = _pattern(self._tags)
        self._held = ""
        """suffix of the text so far that may start a tag"""
        self._num_chars = 0
        self._text: list[str] = []
        """pieces of text before the first call"""
        self._bodies: list[list[str]] = []
        """text pieces of each call"""
        self._num_brackets = 0
        """number of brackets in the last call"""
        self._num_opens = 0
        self._is_open = False
        self._is_misplaced = False
        """whether other text follows a call"""

    def feed(self, delta: str) -> list[TextDelta]:
        """Parse more text and return the text deltas whose part is certain."""
        self._num_chars += len(delta)
        if not delta or self._num_chars > MAX_TURN_CHARS:
            return []
        text, position = self._held + delta, 0
        self.num_scanned += len(text)
        deltas: list[TextDelta] = []
        for match in self._pattern.finditer(text):
            self._take(text[position : match.start()], deltas)
            self._take_tag(match[0], deltas)
            position = match.end()
        rest = text[position:]
        held = num_partial_tag_chars(rest, self._tags)
        self._held = rest[len(rest) - held :]
        self._take(rest[: len(rest) - held], deltas)
        return deltas

    def finish(self) -> RawTurn:
        """Return the text and the calls, or the reason for which the turn is rejected."""
        self._take(self._held, [])
        self._held = ""
        if self._num_chars > MAX_TURN_CHARS:
            return RawTurn(problem=too_long_message())
        text = "".join(self._text)
        if not self._num_opens:
            return RawTurn(parts=(text,))
        if self._num_opens > self.max_calls:
            return self._reject_several_calls(self._num_opens)
        if self._is_misplaced or (self._is_open and self.grammar.close):
            return RawTurn(problem=self.grammar.misplaced, num_calls=self._num_opens)
        try:
            calls = [call for body in self._bodies for call in self.grammar.decode("".join(body))]
        except CallSyntaxError as error:
            return RawTurn(problem=str(error), num_calls=self._num_opens)
        if len(calls) > self.max_calls:
            return self._reject_several_calls(len(calls))
        return RawTurn(parts=(text, *calls), num_calls=len(calls))

    def _reject_several_calls(self, count: int) -> RawTurn:
        return RawTurn(problem=several_calls_message(count, self.max_calls), num_calls=count)

    def _take_tag(self, tag: str, deltas: list[TextDelta]) -> None:
        if tag == self.grammar.open:
            # A call inside another is an error, unless the syntax has no closing tag.
            self._is_misplaced |= self._is_open and bool(self.grammar.close)
            self._num_opens += 1
            self._is_open, self._num_brackets = True, 0
            if self._num_opens <= self.max_calls:
                self._bodies.append([])
        elif self._is_open:
            self._is_open = False
        else:
            self._take(tag, deltas)

    def _take(self, piece: str, deltas: list[TextDelta]) -> None:
        if not piece:
            return
        if not self._num_opens:
            self._text.append(piece)
            deltas.append(TextDelta(PartKind.TEXT, piece))
        elif not self._is_open:
            self._is_misplaced |= not piece.isspace()
        else:
            self._take_body(piece)
            deltas.append(TextDelta(PartKind.CALL, piece))

    def _take_body(self, piece: str) -> None:
        """Append a piece of a call until it exceeds `MAX_BRACKETS`; the decoder then rejects the call."""
        if self._num_opens > self.max_calls or self._num_brackets > MAX_BRACKETS:
            return
        self._num_brackets += piece.count("[") + piece.count("{")
        self._bodies[-1].append(piece)


@cache
def _pattern(tags: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern that finds all tags in one pass."""
    is_ambiguous = any(one is not other and one.startswith(other) for one in tags for other in tags)
    assert not is_ambiguous, f"one tag starts with the other: {tags}"
    return re.compile("|".join(map(re.escape, tags)))
