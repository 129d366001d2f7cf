"""What is published about a model family: data for the documentation and for checks of its dialect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FamilyFacts:
    """Published facts about a family. Empty texts are unknown."""

    checkpoints: str = ""
    """examples"""
    visual_tokens: str = ""
    """how pictures become tokens"""
    sees_tiles: bool = False
    """whether a picture is cut into tiles, so that it has no single size and boxes cannot be in pixels"""
    calls: str = ""
    """source of the call syntax"""
    boxes: str = ""
    """source of the coordinates of boxes"""
    vllm_parsers: tuple[str, str] = ("", "")
    """parsers for `--tool-call-parser` and `--reasoning-parser` of vLLM"""


NO_FACTS = FamilyFacts()
