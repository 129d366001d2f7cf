"""Temporary: the interfaces that the dialects and operations packages are about to provide."""

from __future__ import annotations

from typing import Any, NamedTuple

from pixel_reasoner.dialects import Answer, RejectedCall
from pixel_reasoner.schema.trace import ToolCall


class Exchange(NamedTuple):
    question: Any
    pictures: Any
    turns: Any
    num_pictures: int = 0


class CallError(NamedTuple):
    kind: Any
    message: str
    call: int | None = None


class ParsedTurn(NamedTuple):
    parts: tuple[Any, ...] = ()
    answer: str | None = None
    errors: tuple[CallError, ...] = ()

    @property
    def calls(self):
        return [one for one in self.parts if isinstance(one, ToolCall)]

    @property
    def executable_calls(self):
        return [] if self.errors else self.calls

    @property
    def has_attempted_call(self):
        return bool(self.calls or self.errors)


def parse(dialect, completion, pictures):
    said = dialect.parse(completion.text, pictures)
    if isinstance(said, Answer):
        return ParsedTurn(answer=said.text)
    if said is None:
        return ParsedTurn()
    if isinstance(said, RejectedCall):
        return ParsedTurn(
            (said.call,) if said.call else (), errors=(CallError(said.error, said.text),)
        )
    return ParsedTurn((said,))
