"""Pictures that show several regions in cells of the same size: pairs next to each other, four in a square.

A region fills its cell as far as its shape allows, on grey. The cells follow from the number of regions and the size of
the picture alone, so a box on such a picture can be mapped to the region that it is on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.settings import MAX_ENLARGED_PX, PixelBudget

GAP_PX = 8
"""pixels between two cells"""
GROUND = (127, 127, 127)
_MIN_FRACTION = 1e-6


class Place(NamedTuple):
    """Place of a region on a picture, in pixels."""

    left: int
    top: int
    size: Size


def num_columns(count: int) -> int:
    """Return the number of cells in a row.

    >>> [num_columns(count) for count in (1, 2, 3, 4, 6)]
    [1, 2, 2, 2, 3]
    """
    return math.ceil(math.sqrt(count))


def natural_size(sizes: Sequence[Size]) -> Size:
    """Return the (width, height) of a picture on which the largest region has its own size and the others fill their cells.

    >>> natural_size([(100, 100), (20, 40)])
    (208, 100)
    """
    longest = max(max(size) for size in sizes)
    width, height = (
        max(max(1, round(size[axis] * longest / max(size))) for size in sizes) for axis in (0, 1)
    )
    columns, rows = _grid(len(sizes))
    return columns * width + (columns - 1) * GAP_PX, rows * height + (rows - 1) * GAP_PX


def sheet_budget(budget: PixelBudget, count: int) -> PixelBudget:
    """Return the budget of a picture whose cells each have a budget."""
    return PixelBudget(
        min_px=min(budget.min_px * count, MAX_ENLARGED_PX), max_px=budget.max_px * count
    )


def places(sheet: Size, sizes: Sequence[Size]) -> list[Place]:
    """Return the place of each region, centred in its cell.

    Args:
        sheet: (width, height) of the picture.
        sizes: of the regions, of which only the shape matters.

    >>> places((208, 100), [(100, 100), (20, 40)])[1]
    Place(left=133, top=0, size=(50, 100))
    """
    columns, rows = _grid(len(sizes))
    cell = tuple(
        max(1, (side - (count - 1) * GAP_PX) // count)
        for side, count in zip(sheet, (columns, rows), strict=True)
    )
    found = []
    for number, size in enumerate(sizes):
        scale = min(most / side for most, side in zip(cell, size, strict=True))
        width, height = (
            max(1, min(most, round(side * scale))) for most, side in zip(cell, size, strict=True)
        )
        row, column = divmod(number, columns)
        left = column * (cell[0] + GAP_PX) + (cell[0] - width) // 2
        top = row * (cell[1] + GAP_PX) + (cell[1] - height) // 2
        found.append(Place(left, top, (width, height)))
    return found


def compose(sheet: Size, images: Sequence[Image.Image], where: Sequence[Place]) -> Image.Image:
    """Return the picture with each image at its place."""
    canvas = Image.new("RGB", sheet, GROUND)
    for image, place in zip(images, where, strict=True):
        canvas.paste(image, (place.left, place.top))
    return canvas


def region_at(box: Box, sheet: Size, where: Sequence[Place]) -> tuple[int, Box]:
    """Return the number of the region that a box is on, from 0, and the box in fractions of that region.

    The region is the one that contains most of the box; a part of the box beyond it is cut off.

    >>> region_at(Box(0.7, 0.1, 0.8, 0.3), (208, 100), places((208, 100), [(100, 100), (100, 100)]))[0]
    1
    """
    areas = [
        Box(
            one.left / sheet[0],
            one.top / sheet[1],
            (one.left + one.size[0]) / sheet[0],
            (one.top + one.size[1]) / sheet[1],
        )
        for one in where
    ]
    number = max(
        range(len(areas)), key=lambda n: (box.intersection(areas[n]), -_distance(box, areas[n]))
    )
    x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in box.relative_to(areas[number]))
    # A box beside the region keeps a valid shape; operations reject it as too small.
    x1, y1 = min(x1, 1 - _MIN_FRACTION), min(y1, 1 - _MIN_FRACTION)
    return number, Box(x1, y1, max(x2, x1 + _MIN_FRACTION), max(y2, y1 + _MIN_FRACTION))


def _grid(count: int) -> tuple[int, int]:
    columns = num_columns(count)
    return columns, math.ceil(count / columns)


def _distance(one: Box, other: Box) -> float:
    return math.dist(*(((b.x1 + b.x2) / 2, (b.y1 + b.y2) / 2) for b in (one, other)))
