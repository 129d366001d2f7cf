"""Parsed turn: thoughts, text and calls, the answer, errors and repairs."""

from __future__ import annotations

from pixel_reasoner.dialects.arguments import CallError
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.repairs import Repair
from pixel_reasoner.schema.trace import CallErrorKind, Part, ToolCall


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
        return bool(self.calls) or any(
            error.kind != CallErrorKind.THOUGHT_ONLY for error in self.errors
        )

    @property
    def has_only_thought(self) -> bool:
        """Whether the turn was found to contain only a thought; never in a strict parse."""
        return any(error.kind == CallErrorKind.THOUGHT_ONLY for error in self.errors)

    @property
    def error(self) -> CallError | None:
        """The first error; None without errors."""
        return next(iter(self.errors), None)

    @property
    def call(self) -> ToolCall | None:
        """The first parsed call; None if there is none."""
        return next(iter(self.calls), None)
