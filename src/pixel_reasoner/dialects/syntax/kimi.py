"""Call syntax of Kimi K2.5: a section of calls, each with a numbered name and a JSON object between marks."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_arguments
from pixel_reasoner.dialects.syntax.native import NativeSyntax, list_tools_in_own_words

_OPEN, _CLOSE = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
_BEGIN, _ARGUMENTS, _END = (
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
)


def _write(calls: Sequence[WrittenCall], decimals: int) -> str:
    written = (
        f"{_BEGIN}functions.{call.name}:{number}{_ARGUMENTS}{dump_arguments(call, decimals)}{_END}"
        for number, call in enumerate(calls)
    )
    return f"{_OPEN}{''.join(written)}{_CLOSE}"


KIMI = NativeSyntax(
    name="kimi",
    open=_OPEN,
    close=_CLOSE,
    shape=f'{_OPEN}{_BEGIN}functions.name:0{_ARGUMENTS}{{"argument": value}}{_END}{_CLOSE}',
    forms=frozenset({Form.NAMED}),
    write=_write,
    reserved=(_CLOSE, _END),
    special_tokens=frozenset({_OPEN, _CLOSE, _BEGIN, _ARGUMENTS, _END}),
)
"""The number counts the calls of the turn. Reading ignores it."""

list_tools = list_tools_in_own_words(KIMI.shape)
