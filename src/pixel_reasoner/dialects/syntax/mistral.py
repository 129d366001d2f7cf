"""Call syntax of Mistral: `[TOOL_CALLS]name[ARGS]{...}`, and the older list of objects. Calls end with the turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pixel_reasoner.dialects.decoders import Form
from pixel_reasoner.dialects.syntax.base import WrittenCall, dump_arguments, dump_json
from pixel_reasoner.dialects.syntax.native import NativeSyntax

_MARKS = frozenset({"[TOOL_CALLS]", "[ARGS]"})


def _write(calls: Sequence[WrittenCall], decimals: int) -> str:
    return "".join(
        f"[TOOL_CALLS]{call.name}[ARGS]{dump_arguments(call, decimals)}" for call in calls
    )


def _write_list(calls: Sequence[WrittenCall], decimals: int) -> str:
    return f"[TOOL_CALLS] [{list_of_objects(calls, decimals)}]"


def list_of_objects(calls: Sequence[WrittenCall], decimals: int) -> str:
    """Return calls as objects with name and arguments, separated by commas.

    >>> list_of_objects([WrittenCall("f", {"a": 1})], 2)
    '{"name": "f", "arguments": {"a": 1}}'
    """
    return ", ".join(
        f'{{"name": {dump_json(call.name)}, "arguments": {dump_arguments(call, decimals)}}}'
        for call in calls
    )


MISTRAL = NativeSyntax(
    name="mistral",
    open="[TOOL_CALLS]",
    close="",
    shape='[TOOL_CALLS]name[ARGS]{"argument": value}',
    forms=frozenset({Form.NAMED, Form.LIST}),
    write=_write,
    reserved=("[TOOL_CALLS]",),
    special_tokens=_MARKS,
)

MISTRAL_LIST = replace(
    MISTRAL, shape='[TOOL_CALLS] [{"name": ..., "arguments": {...}}]', write=_write_list
)
"""tokenizers before version 11"""


def list_tools(tools: Sequence[dict[str, Any]], system: str = "") -> str:
    """Return a system message with the tools between the marks of the family, then the system text.

    >>> list_tools([{"type": "function"}], "Be brief.")
    '[AVAILABLE_TOOLS][{"type": "function"}][/AVAILABLE_TOOLS]Be brief.'
    """
    listed = json.dumps(list(tools), ensure_ascii=False)
    return f"[AVAILABLE_TOOLS]{listed}[/AVAILABLE_TOOLS]{system}"
