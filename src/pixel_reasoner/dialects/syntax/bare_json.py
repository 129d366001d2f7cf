"""Call syntax without names: a JSON object of arguments between tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixel_reasoner.dialects.syntax.base import (
    OPERATION_KEY,
    CallSyntaxError,
    StreamParser,
    WrittenCall,
    dump_arguments,
    load_json,
)
from pixel_reasoner.dialects.syntax.tagged import TaggedParser, TagGrammar


@dataclass(frozen=True, kw_only=True)
class BareJsonSyntax:
    """JSON arguments between tags. Operations that are new to the family are named by `OPERATION_KEY`.

    >>> syntax = BareJsonSyntax(open="<do>", close="</do>", shape="{...}", implied=frozenset({"bbox_2d"}))
    >>> syntax.encode([WrittenCall("bbox_2d", {"bbox_2d": [0, 0.5, 1, 1]})], decimals=3)
    '<do>{"bbox_2d": [0, 0.500, 1, 1]}</do>'
    >>> syntax.encode([WrittenCall("rotate", {"degrees": 90})])
    '<do>{"operation": "rotate", "degrees": 90}</do>'
    """

    open: str
    close: str
    shape: str
    implied: frozenset[str]
    """operation names that the arguments imply, so that they are not written"""
    has_names: bool = False

    @property
    def special_tokens(self) -> frozenset[str]:
        """Return the tags. They are special tokens in some tokenizers."""
        return frozenset({self.open, self.close})

    def encode(self, calls: Sequence[WrittenCall], decimals: int = 2) -> str:
        """Return the concatenated text of calls."""
        return "\n".join(self._encode(call, decimals) for call in calls)

    def parser(self, max_calls: int = 1) -> StreamParser:
        """Return a parser that accepts at most this many calls."""
        misplaced = (
            f"a call must end the turn with {self.close}; "
            f"write {self.open}, one JSON object, {self.close}"
        )
        grammar = TagGrammar(self.open, self.close, self._decode, misplaced)
        return TaggedParser(grammar, max_calls)

    def _encode(self, call: WrittenCall, decimals: int) -> str:
        if call.name not in self.implied:
            rounded = tuple(call.arguments) if call.rounded is None else call.rounded
            named = {OPERATION_KEY: call.name, **call.arguments}
            call = WrittenCall(call.name, named, rounded)
        return f"{self.open}{dump_arguments(call, decimals)}{self.close}"

    def _decode(self, body: str) -> list[WrittenCall]:
        try:
            value = load_json(body)
        except ValueError as error:
            raise CallSyntaxError(
                f"the call is not valid JSON ({error}); write {self.shape}"
            ) from error
        if not isinstance(value, dict):
            raise CallSyntaxError(f"the call is not an object; write {self.shape}")
        return [WrittenCall(None, value)]
