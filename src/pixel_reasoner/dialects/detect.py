"""Which dialect a model speaks, by what is known of it without asking: its name, its config, its chat template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum


class MatchConfidence(IntEnum):
    """How sure it is that a model speaks a dialect; more specific evidence beats less specific."""

    NONE = 0
    FAMILY = 1
    """its config, or without one its name, is that of a family"""
    TEMPLATE = 2
    """its chat template speaks the dialect"""
    CHECKPOINT = 3
    """its name is that of a checkpoint that was trained in the dialect"""


@dataclass(frozen=True, kw_only=True)
class ModelMatch:
    """Which models speak a dialect.

    >>> qwen = ModelMatch(model_types=("qwen3_vl",), family=r"qwen3-?vl")
    >>> qwen.evidence("Qwen/Qwen3-VL-8B-Instruct", "", "").name, qwen.evidence("model", "qwen3_vl", "").name
    ('FAMILY', 'FAMILY')
    """

    model_types: tuple[str, ...] = ()
    """`model_type` of their configs; a model with a config of another type is none of them"""
    family: str = ""
    """pattern of the names of a family, for models without a config to look at"""
    template: str = ""
    """words that stand in their chat templates"""
    checkpoints: str = ""
    """pattern of the names of checkpoints: their configs look like those of the models they were made from"""

    def evidence(self, name: str, model_type: str, template: str) -> MatchConfidence:
        """What speaks for a model being one of them.

        Args:
            name: of the model; its folder or hub id.
            model_type: of its config; empty if there is none to look at.
            template: its chat template; empty if there is none to look at.
        """
        if self.model_types and model_type and model_type not in self.model_types:
            return MatchConfidence.NONE
        if self.checkpoints and _named(self.checkpoints, name):
            return MatchConfidence.CHECKPOINT
        if self.template and self.template in template:
            return MatchConfidence.TEMPLATE
        known = model_type in self.model_types if model_type else _named(self.family, name)
        return MatchConfidence.FAMILY if self.family and known else MatchConfidence.NONE


NO_MATCH = ModelMatch()
"""a dialect that is named, or fallen back to, and never recognised"""

_NO_NAMES = re.compile(r"checkpoint-?\d*|model|weights|final|snapshots|[0-9a-f]{40}")


def _named(pattern: str, name: str) -> bool:
    """Whether the last part of a path or hub id that is a name fits."""
    parts = [part for part in name.replace("\\", "/").split("/") if not _NO_NAMES.fullmatch(part)]
    return bool(parts) and re.search(pattern, parts[-1], re.IGNORECASE) is not None
