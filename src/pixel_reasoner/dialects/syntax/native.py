"""Call syntaxes between marks, read by the decoders that also read the calls of other families.

A syntax is a declaration: its marks, its form, and a function that writes calls. Strict parsing accepts a call only if its
decoder needs no repair and uses the whole text between the marks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pixel_reasoner.dialects.decoders import Form, Reader
from pixel_reasoner.dialects.syntax.base import (
    CallSyntaxError,
    StreamParser,
    WrittenCall,
    assert_expressible,
)
from pixel_reasoner.dialects.syntax.tagged import TaggedParser, TagGrammar
from pixel_reasoner.schema.repairs import EXPLANATIONS

WriteCalls = Callable[[Sequence[WrittenCall], int], str]
"""(calls, decimals of boxes) -> their text, with all marks"""


@dataclass(frozen=True, kw_only=True)
class NativeSyntax:
    """Calls between an opening and a closing mark, in a form of `decoders`."""

    name: str
    """in error messages to users"""
    open: str
    close: str
    """empty if calls end with the turn"""
    shape: str
    """form of a call with its marks"""
    forms: frozenset[Form]
    write: WriteCalls
    reserved: tuple[str, ...] = ()
    """marks that the texts of a call cannot contain, because the syntax has no escapes"""
    special_tokens: frozenset[str] = frozenset()
    """marks that decoding must keep, because some tokenizers treat them as special tokens"""
    opens_body: str = ""
    """end of `open` that belongs to the text of the calls"""
    has_names: bool = True

    def encode(self, calls: Sequence[WrittenCall], decimals: int = 2) -> str:
        """Return the text of calls.

        Raises:
            UsageError: a text of a call contains a mark of the syntax.
        """
        for call in calls:
            assert_expressible(self.name, call, self.reserved)
        return self.write(calls, decimals)

    def parser(self, max_calls: int = 1) -> StreamParser:
        """Return a parser that accepts at most this many calls."""
        end = f" with {self.close}" if self.close else ""
        misplaced = f"a call must end the turn{end}; write {self.shape}"
        return TaggedParser(TagGrammar(self.open, self.close, self._decode, misplaced), max_calls)

    def _decode(self, body: str) -> list[WrittenCall]:
        return decode_strictly(Reader(self.shape, True, forms=self.forms), self.opens_body + body)


def decode_strictly(reader: Reader, body: str) -> list[WrittenCall]:
    """Return the calls of a text that needs no repair.

    Raises:
        CallSyntaxError: it needs one, or other text follows.
    """
    start = len(body) - len(body.lstrip())
    found = reader.any_body(body, start)
    kinds = [*found.kinds, *(kind for call in found.calls for kind in call.kinds)]
    if kinds:
        raise reader.error(EXPLANATIONS[kinds[0]])
    if body[found.end :].strip():
        raise reader.error("the call is not valid (text after it)")
    if not found.calls:
        raise CallSyntaxError(f"the call is empty; write {reader.shape}")
    return [call.written for call in found.calls]


def signatures(tools: Sequence[dict[str, Any]]) -> str:
    """Return tool definitions as JSON, one a line.

    >>> signatures([{"type": "function"}])
    '{"type": "function"}'
    """
    return "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)


def list_tools_in_own_words(
    shape: str,
) -> Callable[[Sequence[dict[str, Any]], str], str]:
    """Return the function that lists tools for a family whose own text for tools is not published.

    >>> list_tools_in_own_words("[f(a=1)]")([{"type": "function"}], "Be brief.").splitlines()[:2]
    ['Be brief.', '']
    """

    def listed(tools: Sequence[dict[str, Any]], system: str = "") -> str:
        return (
            (f"{system}\n\n" if system else "")
            + f"# Tools\n\nYou can call these functions:\n<tools>\n{signatures(tools)}\n</tools>\n\n"
            + f"Write a call at the end of your turn, in this form:\n{shape}"
        )

    return listed
