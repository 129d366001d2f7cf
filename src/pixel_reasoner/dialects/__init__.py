"""Dialects: prompt and call formats of model families, one file per family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixel_reasoner.dialects.arguments import CallError
from pixel_reasoner.dialects.base import Dialect, Exchange, Message
from pixel_reasoner.dialects.families.compact import COMPACT
from pixel_reasoner.dialects.families.pixel_reasoner import PIXEL_REASONER
from pixel_reasoner.dialects.families.plain import PLAIN
from pixel_reasoner.dialects.parsed_turn import ParsedTurn
from pixel_reasoner.dialects.registry import DIALECTS, call_marks, detect_dialect, get_dialect
from pixel_reasoner.schema.repairs import Repair, RepairKind
from pixel_reasoner.scoring.extraction import boxed

if TYPE_CHECKING:
    CALL_TAGS: list[tuple[str, str]]
    """Text before and after a call in any dialect, for the display of turns."""

__all__ = [
    "CALL_TAGS",
    "COMPACT",
    "DIALECTS",
    "PIXEL_REASONER",
    "PLAIN",
    "CallError",
    "Dialect",
    "Exchange",
    "Message",
    "ParsedTurn",
    "Repair",
    "RepairKind",
    "boxed",
    "call_marks",
    "detect_dialect",
    "get_dialect",
]


def __getattr__(name: str) -> Any:
    """Compute `CALL_TAGS` on first use, because it requires all dialects."""
    if name == "CALL_TAGS":
        tags = {(one.syntax.open, one.syntax.close) for _, one in DIALECTS.items()}
        return sorted(one for one in tags if one[0])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
