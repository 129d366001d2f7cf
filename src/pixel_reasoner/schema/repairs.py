"""Repairs of malformed calls, as traces record them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pixel_reasoner.schema.record import Record


class RepairKind(StrEnum):
    """Kind of repair of a malformed call. Every kind has one certain meaning."""

    ARGUMENTS_AS_STRING = "arguments_as_string"
    ARGUMENT_NAME = "argument_name"
    BOX_AS_STRING = "box_as_string"
    CALL_IN_THOUGHT = "call_in_thought"
    CLAMPED_BOX = "clamped_box"
    CODE_FENCE = "code_fence"
    END_TAG = "end_tag"
    MISSING_ARGUMENT = "missing_argument"
    NEIGHBOUR_SYNTAX = "neighbour_syntax"
    NESTED_BOX = "nested_box"
    PYTHON_LITERAL = "python_literal"
    QUOTED_CALL = "quoted_call"
    REJECTED_BY_SERVER = "rejected_by_server"
    SEVERAL_CALLS = "several_calls"
    TEXT_AFTER_CALL = "text_after_call"
    TRAILING_COMMA = "trailing_comma"
    TYPOGRAPHIC_QUOTES = "typographic_quotes"
    UNCLOSED_THOUGHT = "unclosed_thought"
    VALUE_TYPE = "value_type"


EXPLANATIONS: dict[RepairKind, str] = {
    RepairKind.ARGUMENTS_AS_STRING: "the arguments were a string that contains a JSON object",
    RepairKind.ARGUMENT_NAME: "the box had another name: bbox, box, box_2d, bbox_2d",
    RepairKind.BOX_AS_STRING: "the box was a text of four numbers",
    RepairKind.CALL_IN_THOUGHT: "a call in a later, closed thought was ignored",
    RepairKind.CLAMPED_BOX: "a box was clamped to the picture",
    RepairKind.CODE_FENCE: "the call was in a code fence",
    RepairKind.END_TAG: "the end tag of a complete call was missing, truncated or repeated",
    RepairKind.MISSING_ARGUMENT: "the number of the picture was missing, and there was one picture",
    RepairKind.NEIGHBOUR_SYNTAX: "the call was complete in the syntax of another family",
    RepairKind.NESTED_BOX: "the box was in a list, or was two corners",
    RepairKind.PYTHON_LITERAL: "the call was a literal of Python, not JSON",
    RepairKind.QUOTED_CALL: "a call that words quote was ignored",
    RepairKind.REJECTED_BY_SERVER: "the server could not parse the call, and returned its text in an error",
    RepairKind.SEVERAL_CALLS: "only the first valid calls of the turn were executed",
    RepairKind.TEXT_AFTER_CALL: "text followed the call",
    RepairKind.TRAILING_COMMA: "a comma preceded a closing bracket",
    RepairKind.TYPOGRAPHIC_QUOTES: "typographic quotes delimited the strings",
    RepairKind.UNCLOSED_THOUGHT: "a complete call ended a thought without an end tag",
    RepairKind.VALUE_TYPE: "a number or a list was a text; the schema states the type",
}
"""what was wrong, for reports and docs"""

NOT_REJECTED_STRICTLY = frozenset({RepairKind.CLAMPED_BOX, RepairKind.UNCLOSED_THOUGHT})
"""kinds that a strict run accepts too: the tool of the family clamps, and a call may follow an open thought"""


def num_malformed_calls(repairs: Iterable[Repair]) -> int:
    """Return the number of calls with a repair without which a strict run rejects them."""
    return len({one.call for one in repairs if one.kind not in NOT_REJECTED_STRICTLY})


class Repair(Record):
    """Repaired mistake of a model, which is not an error."""

    kind: Annotated[RepairKind | str, Field(union_mode="left_to_right")]
    call: int
    """index among the calls of the turn, from 0"""
    argument: str = ""
    """argument name of this project; empty for the form of the call"""
