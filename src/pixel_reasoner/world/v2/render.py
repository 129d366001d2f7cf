"""Variants of PixelWorld 2 scenes (height and twin), and their media files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.world.render import MEDIA
from pixel_reasoner.world.scene import split_seed
from pixel_reasoner.world.v2.draw import write_media
from pixel_reasoner.world.v2.params import (
    CLIPS,
    HEIGHTS,
    TRAINING_HEIGHTS,
    TWINS,
    Family,
    Params,
    Twin,
    default_size_px,
)
from pixel_reasoner.world.v2.questions import build_question
from pixel_reasoner.world.v2.scene import Scene, make_scene


class Variants(NamedTuple):
    """Which versions of each scene are asked."""

    heights: tuple[int, ...] = HEIGHTS
    """heights of the evidence in the overview, in pixels"""
    twins: tuple[Twin, ...] = TWINS

    def check(self, split: str) -> None:
        """Raise an error for an unknown height or twin, or for the held-out height in the training split.

        Raises:
            UsageError: such a value.
        """
        allowed = TRAINING_HEIGHTS if split == "train" else HEIGHTS
        for name, values, known in (
            ("evidence heights", self.heights, allowed),
            ("twins", self.twins, TWINS),
        ):
            unknown = [value for value in values if value not in known]
            if unknown or not values:
                raise UsageError(
                    expected=f"{name} of the split {split}: {', '.join(map(str, known))}",
                    got=str(unknown[0]) if unknown else "none",
                    fix="name some of these",
                )


def make_scenes(  # noqa: PLR0913 - which scenes, and their sizes
    family: Family,
    split: str,
    seed: int,
    count: int,
    overview_px: int,
    *,
    size_px: int | None = None,
    variants: Variants | None = None,
) -> list[Scene]:
    """Return `count` scenes: all variants of a seed before the next seed.

    Args:
        family: a family of PixelWorld 2.
        split: train, validation or test.
        seed: number of the first seed within the split.
        count: number of scenes; each height and twin counts.
        overview_px: side of the overview of the model.
        size_px: side of the canvas; None: `default_size_px`.
        variants: heights and twins; None: all of the split.

    Raises:
        UsageError: unknown names, or sizes that do not fit.

    >>> [scene.params.evidence_px for scene in make_scenes("attribute", "test", 0, 3, 192)]
    [2, 2, 3]
    """
    if count < 1:
        raise UsageError(expected="a count of 1 or more", got=str(count), fix="ask for more")
    variants = variants or Variants(TRAINING_HEIGHTS if split == "train" else HEIGHTS)
    variants.check(split)
    size_px = size_px or default_size_px(family, overview_px)
    versions = list(itertools.product(variants.heights, variants.twins))
    num_seeds = -(-count // len(versions))
    split_seed(split, seed, num_seeds - 1)
    scenes = (
        make_scene(
            family,
            split_seed(split, seed, number),
            Params.of(size_px, overview_px, px),
            twin,
        )
        for number in range(num_seeds)
        for px, twin in versions
    )
    return list(itertools.islice(scenes, count))


def build_media_item(scene: Scene) -> MediaItem:
    """Return the media item of a scene, with a relative path."""
    if scene.family in CLIPS:
        return MediaItem(kind="video", path=f"{MEDIA}/{scene.name}.mp4")
    return MediaItem(kind="image", path=f"{MEDIA}/{scene.name}.png")


def render(scenes: Sequence[Scene], folder: Path) -> Iterator[Question]:
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
