"""How a model family is offered operations, calls them and is answered. One file a dialect."""

from collections.abc import Mapping
from typing import Any

from pixel_reasoner.dialects.base import Answer, Dialect, Message, RejectedCall
from pixel_reasoner.dialects.compact import COMPACT
from pixel_reasoner.dialects.deepeyes import DEEPEYES
from pixel_reasoner.dialects.detect import MatchConfidence
from pixel_reasoner.dialects.mini_o3 import MINI_O3
from pixel_reasoner.dialects.pixel_reasoner import PIXEL_REASONER
from pixel_reasoner.dialects.plain import PLAIN
from pixel_reasoner.dialects.qwen2_5_vl import QWEN2_5_VL
from pixel_reasoner.dialects.qwen3_vl import QWEN3_VL
from pixel_reasoner.errors import UsageError
from pixel_reasoner.scoring.extraction import boxed

DIALECTS = {
    dialect.name: dialect
    for dialect in (COMPACT, PIXEL_REASONER, QWEN3_VL, QWEN2_5_VL, DEEPEYES, MINI_O3, PLAIN)
}

CALL_TAGS = sorted({(dialect.calls.open, dialect.calls.close) for dialect in DIALECTS.values()})
"""what stands around a call, in any dialect: for whoever shows texts to people"""

__all__ = [
    "CALL_TAGS",
    "COMPACT",
    "DIALECTS",
    "PIXEL_REASONER",
    "PLAIN",
    "Answer",
    "Dialect",
    "Message",
    "RejectedCall",
    "boxed",
    "detect_dialect",
    "get_dialect",
]


def get_dialect(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UsageError: there is none.

    >>> get_dialect("compact").padding
    0.0
    """
    if name not in DIALECTS:
        raise UsageError(
            expected=f"a dialect: {', '.join(DIALECTS)}", got=repr(name), fix="name one of these"
        )
    return DIALECTS[name]


def detect_dialect(
    name: str, config: Mapping[str, Any] | None = None, template: str | None = None
) -> Dialect:
    """The dialect that a model speaks, by the most specific evidence there is; `plain` where there is none.

    Args:
        name: of the model: its folder or hub id.
        config: its `config.json`, if it can be had.
        template: its chat template, if it can be had.

    Raises:
        UsageError: two dialects fit equally well.

    >>> detect_dialect("models/Qwen3-VL-8B-Instruct", {"model_type": "qwen3_vl"}).name
    'qwen3_vl'
    >>> detect_dialect("TIGER-Lab/PixelReasoner-RL-v1", {"model_type": "qwen2_5_vl"}).name
    'pixel_reasoner'
    >>> detect_dialect("gpt-9").name
    'plain'
    """
    model_type = str((config or {}).get("model_type") or "")
    found = {
        key: one.speakers.evidence(name, model_type, template or "")
        for key, one in DIALECTS.items()
    }
    best = max(found.values())
    fitting = [key for key, evidence in found.items() if evidence is best]
    if best is MatchConfidence.NONE:
        return PLAIN
    if len(fitting) > 1:
        raise UsageError(
            expected="a model that speaks one dialect",
            got=f"{name}, which fits {' and '.join(fitting)} equally well",
            fix=f"name one: --dialect {fitting[0]}, or in the folder's pixel_reasoner.json",
        )
    return DIALECTS[fitting[0]]
