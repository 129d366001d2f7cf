"""Call syntax of Phi-4: `functools` and a JSON list of objects. Calls end with the turn."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall
from pixel_reasoner.dialects.syntax.mistral import list_of_objects
from pixel_reasoner.dialects.syntax.native import NativeSyntax, list_tools_in_own_words


def _write(calls: Sequence[WrittenCall], decimals: int) -> str:
    return f"functools[{list_of_objects(calls, decimals)}]"


FUNCTOOLS = NativeSyntax(
    name="functools",
    open="functools[",
    opens_body="[",
    close="",
    shape='functools[{"name": ..., "arguments": {...}}]',
    forms=frozenset({Form.LIST}),
    write=_write,
    reserved=("functools[",),
)

list_tools = list_tools_in_own_words(FUNCTOOLS.shape)
