"""Files of PixelWorld: pictures, clips, and `questions.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.world.draw import write_media
from pixel_reasoner.world.questions import build_question
from pixel_reasoner.world.scene import (
    CLIP_FAMILIES,
    DEFAULTS,
    Family,
    Scene,
    WorldParams,
    make_scene,
    split_seed,
)

MEDIA = "media"
"""folder of media files, next to `questions.jsonl`"""


def scenes(
    family: Family, split: str, seed: int, count: int, params: WorldParams | None = None
) -> list[Scene]:
    """Return `count` scenes of a split, starting at number `seed`.

    Raises:
        UsageError: unknown family or split, or seeds outside the split.
    """
    if count < 1:
        raise UsageError(expected="a count of 1 or more", got=str(count), fix="ask for more")
    split_seed(split, seed, count - 1)
    return [make_scene(family, split_seed(split, seed, n), params) for n in range(count)]


def render(scenes: list[Scene], folder: Path) -> Iterator[Question]:
    """Write the media file of each scene into `folder/media` and yield its question. Existing files are kept.

    Paths in questions are relative to the folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    for scene in scenes:
        media_item = build_media_item(scene)
        if not (folder / media_item.path).exists():
            write_media(scene, folder / media_item.path)
        yield build_question(scene, media_item)


def build_media_item(scene: Scene) -> MediaItem:
    """Return the media item of a scene, with a relative path."""
    if scene.family in CLIP_FAMILIES:
        return MediaItem(kind="video", path=f"{MEDIA}/{scene.id}.mp4")
    return MediaItem(kind="image", path=f"{MEDIA}/{scene.id}.png")


def overview_detail_px(
    family: Family, budgets: PixelBudgets, params: WorldParams | None = None
) -> float:
    """Return the height of the decisive character in the overview, in pixels. Below about 4 it is illegible.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> overview_detail_px("attribute", COMPACT.budgets)
    16.0
    """
    params = params or DEFAULTS[family]
    budget = budgets.frame if family in CLIP_FAMILIES else budgets.picture
    _, height = fit_size((params.size_px, params.size_px), budget, budgets.multiple)
    return params.detail_px * height / params.size_px
