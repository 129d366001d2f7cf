"""Transforms `draw_marks` and `draw_segments`: numbered points and boxes, and numbered lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pixel_reasoner.media.transforms import transform
from pixel_reasoner.schema.geometry import Box

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""of marks, repeated; people with colour blindness can distinguish them"""
MAX_ITEMS = 200
_EDGE = "#ffffff"
_MIN_FONT_PX, _FONT_SHARE = 12, 16
_MIN_LINE_PX, _LINE_SHARE = 2, 120
Coordinates = list[list[float]]


def _check(length: Callable[[int], bool], items: Any, numbers: Any) -> None:
    """Raise `ValueError` unless arguments, for example from a file, can be drawn."""
    if not isinstance(items, list | tuple) or len(items) > MAX_ITEMS:
        raise ValueError(f"must be a list of at most {MAX_ITEMS} coordinates")
    for one in items:
        is_list = isinstance(one, list | tuple) and length(len(one))
        if not is_list or not all(
            isinstance(v, int | float) and math.isfinite(v) and abs(v) <= MAX_ITEMS for v in one
        ):
            raise ValueError(f"{one!s:.60} are no coordinates")
    if numbers is not None and (
        not isinstance(numbers, list | tuple)
        or len(numbers) != len(items)
        or not all(isinstance(one, int) and 0 <= one <= 10**6 for one in numbers)
    ):
        raise ValueError("must have one number per item")


def _marks_box(box: Box, marks: Coordinates, numbers: list[int] | None = None) -> Box:
    _check(lambda count: count in (2, 4), marks, numbers)
    return box


def _segments_box(box: Box, segments: Coordinates, numbers: list[int] | None = None) -> Box:
    _check(lambda count: count == 4, segments, numbers)
    return box


def _marks_of_crop(box: Box, marks: Coordinates, numbers: list[int] | None = None) -> Any:
    found = _of_crop(box, marks, numbers)
    return {"marks": [one for _, one in found], "numbers": [number for number, _ in found]}


def _segments_of_crop(box: Box, segments: Coordinates, numbers: list[int] | None = None) -> Any:
    found = _of_crop(box, segments, numbers)
    return {"segments": [one for _, one in found], "numbers": [number for number, _ in found]}


def _of_crop(
    box: Box, items: Coordinates, numbers: list[int] | None
) -> list[tuple[int, list[float]]]:
    """Return the items that a crop shows a part of, in its coordinates, with their numbers."""
    sides = ((box.x1, box.x2 - box.x1), (box.y1, box.y2 - box.y1))
    found = []
    for number, one in zip(_numbers(items, numbers), items, strict=True):
        moved = [(value - sides[at % 2][0]) / sides[at % 2][1] for at, value in enumerate(one)]
        xs, ys = moved[0::2], moved[1::2]
        if min(xs) <= 1 and max(xs) >= 0 and min(ys) <= 1 and max(ys) >= 0:
            found.append((number, [round(value, 6) for value in moved]))
    return found


def _numbers(items: Sequence[Any], numbers: Sequence[int] | None) -> list[int]:
    return list(numbers) if numbers is not None else list(range(1, len(items) + 1))


@transform(source_box=_marks_box, of_crop=_marks_of_crop)
def draw_marks(
    image: Image.Image, marks: Coordinates, numbers: list[int] | None = None
) -> Image.Image:
    """Return the picture with numbered points [x, y] and boxes [x1, y1, x2, y2], in fractions."""
    pen = _Pen(image)
    for number, one in zip(_numbers(marks, numbers), marks, strict=True):
        at = pen.pixels(one)
        if len(at) == 2:
            pen.point(number, at[0], at[1])
        else:
            pen.box(number, at)
    return pen.canvas


@transform(source_box=_segments_box, of_crop=_segments_of_crop)
def draw_segments(
    image: Image.Image, segments: Coordinates, numbers: list[int] | None = None
) -> Image.Image:
    """Return the picture with numbered lines [x1, y1, x2, y2], in fractions."""
    pen = _Pen(image)
    for number, one in zip(_numbers(segments, numbers), segments, strict=True):
        pen.segment(number, pen.pixels(one))
    return pen.canvas


class _Pen:
    """Draws on a copy of a picture, with a white edge so that marks are visible on every background."""

    def __init__(self, image: Image.Image) -> None:
        self.canvas = image.copy()
        self._pen = ImageDraw.Draw(self.canvas)
        shorter = min(image.size)
        self._line = max(_MIN_LINE_PX, round(shorter / _LINE_SHARE))
        self._font_px = max(_MIN_FONT_PX, round(shorter / _FONT_SHARE))
        self._font = ImageFont.load_default(size=self._font_px)

    def pixels(self, fractions: Sequence[float]) -> list[float]:
        """Return fractions of the picture in pixels."""
        return [value * self.canvas.size[at % 2] for at, value in enumerate(fractions)]

    def point(self, number: int, x: float, y: float) -> None:
        """Draw a point, with its number to the upper right."""
        radius = 1.5 * self._line
        for grown, color in ((self._line / 2 + 1, _EDGE), (0, _color(number))):
            reach = radius + grown
            self._pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)
        offset = radius + 0.6 * self._font_px
        self._label(number, x + offset, y - offset)

    def box(self, number: int, at: Sequence[float]) -> None:
        """Draw a box, with its number at the upper left corner."""
        left, top, right, bottom = at
        for grown, width, color in ((1, self._line + 2, _EDGE), (0, self._line, _color(number))):
            edges = (left - grown, top - grown, right + grown, bottom + grown)
            self._pen.rectangle(edges, outline=color, width=width)
        self._label(number, left, top)

    def segment(self, number: int, at: Sequence[float]) -> None:
        """Draw a line with bars at its ends, and its number at the middle."""
        x1, y1, x2, y2 = at
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        bar = 3 * self._line
        dx, dy = -(y2 - y1) / length * bar, (x2 - x1) / length * bar
        strokes = [(x1, y1, x2, y2)]
        strokes += [(x - dx, y - dy, x + dx, y + dy) for x, y in ((x1, y1), (x2, y2))]
        for width, color in ((self._line + 2, _EDGE), (self._line, _color(number))):
            for stroke in strokes:
                self._pen.line(stroke, fill=color, width=width)
        self._label(number, (x1 + x2) / 2, (y1 + y2) / 2)

    def _label(self, number: int, x: float, y: float) -> None:
        """Draw a number on a disc, moved into the picture."""
        half_height = 0.6 * self._font_px
        half_width = half_height + 0.25 * self._font_px * (len(str(number)) - 1)
        width, height = self.canvas.size
        x = min(max(x, half_width + 1), max(width - half_width - 2, half_width + 1))
        y = min(max(y, half_height + 1), max(height - half_height - 2, half_height + 1))
        edges = (x - half_width, y - half_height, x + half_width, y + half_height)
        self._pen.rounded_rectangle(edges, half_height, fill=_color(number), outline=_EDGE)
        self._pen.text((x, y), str(number), font=self._font, fill=_EDGE, anchor="mm")


def _color(number: int) -> str:
    return COLORS[(number - 1) % len(COLORS)]
