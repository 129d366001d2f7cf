"""Regions of zooms in expert traces that are larger than the right one."""

from __future__ import annotations

import random

from pixel_reasoner.operations.zoom import ceil_to_step, floor_to_step
from pixel_reasoner.schema.geometry import Box


def wider_box(close: Box, rng: random.Random) -> Box | None:
    """Return a region, two to three times as wide and high, that contains another and is not the whole picture.

    Returns:
        None if the picture has no room for it.

    >>> wide = wider_box(Box(0.4, 0.4, 0.6, 0.6), random.Random(0))
    >>> wide.intersection(Box(0.4, 0.4, 0.6, 0.6)) > 0.0399, wider_box(Box(0, 0, 0.7, 0.7), random.Random(0))
    (True, None)
    """
    sides = []
    for low, high in ((close.x1, close.x2), (close.y1, close.y2)):
        side = min((high - low) * rng.uniform(2, 3), 0.9)
        if side < 1.5 * (high - low):
            return None
        start = rng.uniform(max(0.0, high - side), min(low, 1 - side))
        sides.append((floor_to_step(start), ceil_to_step(start + side)))
    (x1, x2), (y1, y2) = sides
    return Box(x1, y1, x2, y2)


def box_in_crop(outer: Box, box: Box) -> Box:
    """Return a box of the picture in coordinates of an enclosing crop, rounded outwards: the inverse of `Box.within`.

    >>> box_in_crop(Box(0.5, 0.5, 1.0, 1.0), Box(0.6, 0.6, 0.75, 0.75))
    Box(x1=0.2, y1=0.2, x2=0.5, y2=0.5)
    """
    x1, y1, x2, y2 = box.relative_to(outer)
    return Box(
        max(0.0, floor_to_step(x1)),
        max(0.0, floor_to_step(y1)),
        min(1.0, ceil_to_step(x2)),
        min(1.0, ceil_to_step(y2)),
    )
