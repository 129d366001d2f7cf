"""Regions of pictures that strategies look at: tiles, quadrants, places that differ, lines of text."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations._ocr import MAX_SIDE_PX, recognize
from pixel_reasoner.schema.geometry import WHOLE, Box

Place = tuple[int, Box]
"""number of a picture, and a region of it"""

_MAP_SIDE = 256
"""longest side of a picture in which places are searched, pixels"""
_BLUR_SHARE = 0.12
"""radius of the surroundings of a pixel, as a share of the longest side"""


def grid(side: float, overlap: float = 0.0, within: Box = WHOLE) -> list[Box]:
    """Return overlapping square tiles (in fractions) that cover a region, row by row.

    Args:
        side: of a tile, as a share of the sides of the region.
        overlap: least share of a tile that its neighbour repeats.
        within: the region.

    >>> [tuple(box) for box in grid(0.5)][:2]
    [(0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5)]
    >>> len(grid(0.5, 0.2)), len(grid(1.0))
    (9, 1)
    """
    count = 1
    while (count - 1) * side * (1 - overlap) + side < 1 - 1e-9:
        count += 1
    step = (1 - side) / (count - 1) if count > 1 else 0.0
    starts = [number * step for number in range(count)]
    return [_part(within, x, y, side) for y, x in itertools.product(starts, starts)]


def quadrants(within: Box, overlap: float) -> list[Box]:
    """Return the four quarters of a region. Neighbours share `overlap` of their sides."""
    side = 1 / (2 - overlap)
    return [_part(within, x, y, side) for y, x in itertools.product((0.0, 1 - side), repeat=2)]


def _part(within: Box, x: float, y: float, side: float) -> Box:
    width, height = within.x2 - within.x1, within.y2 - within.y1
    return Box(
        within.x1 + x * width,
        within.y1 + y * height,
        min(1.0, within.x1 + (x + side) * width),
        min(1.0, within.y1 + (y + side) * height),
    )


def centred(box: Box, side: float) -> Box:
    """Return a region around a box with at least a side length (in fractions), inside of the picture.

    >>> tuple(centred(Box(0.0, 0.4, 0.1, 0.5), 0.2))
    (0.0, 0.35, 0.2, 0.55)
    """
    x1, x2 = _span(box.x1, box.x2, side)
    y1, y2 = _span(box.y1, box.y2, side)
    return Box(x1, y1, x2, y2)


def _span(low: float, high: float, side: float) -> tuple[float, float]:
    length = min(1.0, max(side, high - low))
    start = min(max(0.0, (low + high - length) / 2), 1 - length)
    return round(start, 4), round(start + length, 4)


# --- places that differ ---


def different_places(context: MediaContext, number: int, limit: int, side: float) -> list[Box]:
    """Return the places of a picture that differ most from their surroundings, the largest difference first.

    Args:
        context: open media.
        number: of the picture.
        limit: number of places.
        side: of a region, as a share of the picture.
    """
    image = context.source_region(number, WHOLE, _MAP_SIDE).convert("RGB")
    difference = surround_difference(image)
    return [centred(box, side) for box in peaks(difference, limit)]


def surround_difference(image: Image.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return how much each pixel differs from its blurred surroundings, (height, width)."""
    radius = max(image.size) * _BLUR_SHARE
    around = np.asarray(image.filter(ImageFilter.BoxBlur(radius)), np.float32)
    difference = np.abs(np.asarray(image, np.float32) - around).max(axis=2)
    smooth = Image.fromarray(difference.astype(np.uint8)).filter(ImageFilter.BoxBlur(1))
    return np.asarray(smooth, np.float32)


def peaks(scores: np.ndarray[Any, np.dtype[np.float32]], limit: int) -> list[Box]:
    """Return boxes (in fractions) around the connected regions of large scores, the largest sum first.

    >>> scores = np.zeros((10, 10), np.float32)
    >>> scores[2:4, 5:7] = 9
    >>> [tuple(box) for box in peaks(scores, 3)]
    [(0.5, 0.2, 0.7, 0.4)]
    """
    threshold = scores.mean() + scores.std()
    is_left = scores > threshold
    height, width = scores.shape
    found: list[tuple[float, Box]] = []
    for row, column in zip(*np.nonzero(is_left), strict=True):
        if is_left[row, column]:
            rows, columns = _connected(is_left, int(row), int(column))
            box = Box(
                min(columns) / width,
                min(rows) / height,
                (max(columns) + 1) / width,
                (max(rows) + 1) / height,
            )
            found.append((float(scores[rows, columns].sum()), box))
    found.sort(key=lambda one: -one[0])
    return [box for _, box in found[:limit]]


def _connected(
    is_left: np.ndarray[Any, np.dtype[np.bool_]], row: int, column: int
) -> tuple[list[int], list[int]]:
    """Return the pixels that are connected to one, and clear them."""
    height, width = is_left.shape
    waiting, rows, columns = [(row, column)], list[int](), list[int]()
    is_left[row, column] = False
    while waiting:
        y, x = waiting.pop()
        rows.append(y)
        columns.append(x)
        for near_y, near_x in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near_y < height and 0 <= near_x < width and is_left[near_y, near_x]:
                is_left[near_y, near_x] = False
                waiting.append((near_y, near_x))
    return rows, columns


# --- lines of text ---


def text_places(context: MediaContext, number: int, limit: int, side: float) -> list[Box]:
    """Return the places of a picture that contain text, the most reliable reading first.

    Raises:
        UsageError: the extra `ocr` is not installed.
    """
    lines = recognize(context.source_region(number, WHOLE, MAX_SIDE_PX).convert("RGB"))
    lines.sort(key=lambda line: -line.score)
    return [centred(line.box, side) for line in lines[:limit]]
