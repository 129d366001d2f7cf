"""Frames that hardly differ from others: they cost visual tokens and show nothing new."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageChops, ImageStat

THUMBNAIL_SIDE = 64
"""longest side of frames that are compared, pixels"""


def different_frames(thumbnails: Mapping[int, Image.Image], least: float) -> list[int]:
    """Return the frames whose mean difference to every kept frame before is at least `least`, of at most 1.

    Args:
        thumbnails: frame -> RGB picture; all have one size.
        least: smallest difference of two frames that are both kept.

    >>> black, grey = (Image.new("RGB", (8, 8), shade) for shade in ("black", "gray"))
    >>> different_frames({1: black, 2: black, 3: grey}, 0.1)
    [1, 3]
    """
    kept: list[int] = []
    for frame, image in thumbnails.items():
        if all(_difference(image, thumbnails[other]) >= least for other in kept):
            kept.append(frame)
    return kept


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two pictures of one size, as a share of the range of a pixel."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / (255 * len(means))
