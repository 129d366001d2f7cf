"""Dialect detection from the name, the config and the chat template of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum


class MatchConfidence(IntEnum):
    """Match confidence. The most specific match wins."""

    NONE = 0
    FAMILY = 1
    """the config, or without one the name, matches a model family"""
    TEMPLATE = 2
    """the chat template contains text of the dialect"""
    CHECKPOINT = 3
    """the name matches a checkpoint trained on the dialect"""


@dataclass(frozen=True, kw_only=True)
class ModelMatch:
    """Models that use a dialect.

    >>> qwen = ModelMatch(model_types=("qwen3_vl",), family=r"qwen3-?vl")
    >>> qwen.confidence("Qwen/Qwen3-VL-8B-Instruct", "", "").name, qwen.confidence("model", "qwen3_vl", "").name
    ('FAMILY', 'FAMILY')
    """

    model_types: tuple[str, ...] = ()
    """`model_type` in their configs; a model with another type does not match"""
    own_types: tuple[str, ...] | None = None
    """those of `model_types` that suffice; None for all. The others need the template or the name of a checkpoint"""
    family: str = ""
    """pattern of family names, for models without a config"""
    template: str = ""
    """text in their chat templates"""
    checkpoints: str = ""
    """pattern of checkpoint names; needed because a fine-tuned checkpoint has the config of its base model"""

    def confidence(self, name: str, model_type: str, template: str) -> MatchConfidence:
        """Return the match confidence of a model.

        Args:
            name: folder or hub id of the model.
            model_type: `model_type` of its config; empty without a config.
            template: its chat template; empty without one.
        """
        if self.model_types and model_type and model_type not in self.model_types:
            return MatchConfidence.NONE
        if self.checkpoints and _is_named(self.checkpoints, name):
            return MatchConfidence.CHECKPOINT
        if self.template and self.template in template:
            return MatchConfidence.TEMPLATE
        types = self.model_types if self.own_types is None else self.own_types
        known = model_type in types if model_type else _is_named(self.family, name)
        return MatchConfidence.FAMILY if self.family and known else MatchConfidence.NONE


NO_MATCH = ModelMatch()
"""for a dialect that is never detected: it is selected by name or is the fallback"""

NO_CHAT = {
    "PaliGemma": ModelMatch(model_types=("paligemma",), family=r"paligemma"),
    "Florence-2": ModelMatch(model_types=("florence2",), family=r"florence-?_?2"),
    "DeepSeek-OCR": ModelMatch(
        model_types=("deepseek_ocr", "deepseek_ocr2", "deepseek_vl_ocr"), family=r"deepseek-?_?ocr"
    ),
}
"""families that are prompted by tasks, such as a caption, and have no turns"""


def family_without_chat(name: str, model_type: str) -> str | None:
    """Return the name of a model's family if it has no turns; otherwise None.

    >>> family_without_chat("google/paligemma2-3b-mix-448", ""), family_without_chat("Qwen3-VL-8B", "qwen3_vl")
    ('PaliGemma', None)
    """
    found = (key for key, one in NO_CHAT.items() if one.confidence(name, model_type, ""))
    return next(found, None)


FALLBACK = "plain"
"""dialect of models without a match"""

_NO_NAMES = re.compile(r"checkpoint-?\d*|model|weights|final|snapshots|[0-9a-f]{40}")


def _is_named(pattern: str, name: str) -> bool:
    """Return whether the last meaningful part of a path or hub id matches."""
    parts = [part for part in name.replace("\\", "/").split("/") if not _NO_NAMES.fullmatch(part)]
    return bool(parts) and re.search(pattern, parts[-1], re.IGNORECASE) is not None
