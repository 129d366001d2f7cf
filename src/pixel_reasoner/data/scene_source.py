"""Source of the scenes of a synthesis run: PixelWorld of the version in its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pixel_reasoner.sources.pixelworld import PixelWorldSource, Selection, Unit as SceneUnit
from pixel_reasoner.sources.pixelworld2 import (
    WORLD,
    PixelWorld2Source,
    Unit as VersionUnit,
    overview_sides,
)

if TYPE_CHECKING:
    from pixel_reasoner.data.synth import SynthSettings

Unit = SceneUnit | VersionUnit
"""a scene of world 1, or a version of a scene of world 2"""


def scene_source(settings: SynthSettings) -> PixelWorldSource | PixelWorld2Source:
    """Return the source of a run: the training split, all families of a seed in turn, endless."""
    scenes: dict[str, Any] = {
        "families": settings.families,
        "split": "train",
        "seed": settings.seed,
        "count": None,
        "shard": settings.shard,
        "selection": Selection.SEVERAL,
        "per_scene": settings.per_scene,
        "overview_share": settings.text_share,
    }
    if settings.world_version != WORLD:
        return PixelWorldSource(**scenes)
    sides = overview_sides(settings.budgets)
    return PixelWorld2Source(**scenes, heights=settings.heights, **sides)
