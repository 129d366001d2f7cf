"""Call syntax of InternLM and Intern-S1: a JSON object with name and parameters between marks of a plug-in."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_arguments, dump_json
from pixel_reasoner.dialects.syntax.native import NativeSyntax, list_tools_in_own_words

_OPEN, _CLOSE = "<|action_start|><|plugin|>", "<|action_end|>"


def _write(calls: Sequence[WrittenCall], decimals: int) -> str:
    return "\n".join(
        f'{_OPEN}{{"name": {dump_json(call.name)}, "parameters": {dump_arguments(call, decimals)}}}{_CLOSE}'
        for call in calls
    )


INTERN = NativeSyntax(
    name="intern",
    open=_OPEN,
    close=_CLOSE,
    shape=f'{_OPEN}{{"name": ..., "parameters": {{...}}}}{_CLOSE}',
    forms=frozenset({Form.JSON, Form.PARAMETERS}),
    write=_write,
    reserved=(_CLOSE,),
    special_tokens=frozenset({"<|action_start|>", "<|plugin|>", _CLOSE}),
)

list_tools = list_tools_in_own_words(INTERN.shape)
