"""Which questions of a generated scene are selected."""

from __future__ import annotations

from enum import StrEnum

ALL_FAMILIES = ("attribute", "relation", "count", "infographic", "video")
"""families of PixelWorld 1"""


class Selection(StrEnum):
    """Which questions of a scene are selected."""

    OWN = "own"
    """the question that belongs to the scene's seed"""
    ONE = "one"
    """one question, an overview question with probability `overview_share`"""
    SEVERAL = "several"
    """up to `per_scene` questions, about `overview_share` of them overview questions"""
