"""Which dialect a model uses, from its name, its config and its chat template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum


class MatchConfidence(IntEnum):
    """Match confidence. The most specific match wins."""

    NONE = 0
    FAMILY = 1
    """the config, or without one the name, is that of a family"""
    TEMPLATE = 2
    """the chat template contains the dialect's own words"""
    CHECKPOINT = 3
    """the name is that of a checkpoint that was trained in the dialect"""


@dataclass(frozen=True, kw_only=True)
class ModelMatch:
    """Models that use a dialect.

    >>> qwen = ModelMatch(model_types=("qwen3_vl",), family=r"qwen3-?vl")
    >>> qwen.confidence("Qwen/Qwen3-VL-8B-Instruct", "", "").name, qwen.confidence("model", "qwen3_vl", "").name
    ('FAMILY', 'FAMILY')
    """

    model_types: tuple[str, ...] = ()
    """`model_type` of their configs; a model with a config of another type does not match"""
    family: str = ""
    """pattern of the names of a family, for models without a config"""
    template: str = ""
    """words of their chat templates"""
    checkpoints: str = ""
    """pattern of the names of checkpoints: their configs are those of the models they were trained from"""

    def confidence(self, name: str, model_type: str, template: str) -> MatchConfidence:
        """Return how confidently a model matches.

        Args:
            name: of the model; its folder or hub id.
            model_type: of its config; empty when there is none.
            template: its chat template; empty when there is none.
        """
        if self.model_types and model_type and model_type not in self.model_types:
            return MatchConfidence.NONE
        if self.checkpoints and _is_named(self.checkpoints, name):
            return MatchConfidence.CHECKPOINT
        if self.template and self.template in template:
            return MatchConfidence.TEMPLATE
        known = model_type in self.model_types if model_type else _is_named(self.family, name)
        return MatchConfidence.FAMILY if self.family and known else MatchConfidence.NONE


NO_MATCH = ModelMatch()
"""for a dialect that is named explicitly, or is the fallback, and never recognised"""

FALLBACK = "plain"
"""dialect of models that match no other"""

_NO_NAMES = re.compile(r"checkpoint-?\d*|model|weights|final|snapshots|[0-9a-f]{40}")


def _is_named(pattern: str, name: str) -> bool:
    """Return whether the last part of a path or hub id that is a name matches."""
    parts = [part for part in name.replace("\\", "/").split("/") if not _NO_NAMES.fullmatch(part)]
    return bool(parts) and re.search(pattern, parts[-1], re.IGNORECASE) is not None
