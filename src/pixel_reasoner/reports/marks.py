"""Marks in strips and animations: numbered boxes, numbers of steps, ticks and crosses, with smooth edges.

The colours of steps are those of Okabe and Ito, which people with colour blindness can distinguish. Every coloured mark
has a number or a word too, so a grey copy contains the same information.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import NamedTuple

from PIL import Image, ImageDraw

from pixel_reasoner.reports.typesetting import INK, PAPER, Style, Typesetter
from pixel_reasoner.schema.geometry import Box, Size

COLORS = ("#0072b2", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00", "#009e73")
"""colours of steps, repeated cyclically"""
RIGHT, WRONG = "#007a5a", "#b54a00"
_MIN_BOX_PX = 10
"""smaller boxes are drawn at this size, so that they are visible"""
_OVERSAMPLING = 4


class BoxMark(NamedTuple):
    """Numbered box on a picture."""

    box: Box
    """in fractions of the picture"""
    step: int


def step_color(step: int) -> str:
    """Return the colour of a step and its boxes.

    >>> step_color(1) == step_color(len(COLORS) + 1)
    True
    """
    return COLORS[(step - 1) % len(COLORS)]


def draw_boxes(image: Image.Image, marks: Sequence[BoxMark], typesetter: Typesetter) -> None:
    """Draw numbered boxes into a picture, with a white edge so that they are visible on every background."""
    pen = ImageDraw.Draw(image)
    line = max(3, typesetter.font_px // 5)
    corners = [_corners(mark.box, image.size, line + 1) for mark in marks]
    for mark, box in zip(marks, corners, strict=True):
        pen.rectangle(_grown(box, line), outline=PAPER, width=line + 4)
        pen.rectangle(_grown(box, line - 2), outline=step_color(mark.step), width=line)
    taken: list[tuple[float, ...]] = [tuple(box) for box in corners]
    for mark, box in zip(marks, corners, strict=True):
        radius = badge_radius(mark.step, typesetter.font_px)
        x, y = _badge_place(box, radius, image.size, taken)
        taken.append((x - radius, y - radius, x + radius, y + radius))
        draw_badge(image, (x, y), mark.step, typesetter)


def draw_badge(
    image: Image.Image, at: tuple[float, float], step: int, typesetter: Typesetter
) -> None:
    """Draw the number of a step in a disc of its colour, around a point."""
    font_px, color = typesetter.font_px, step_color(step)
    radius, half_height = badge_radius(step, font_px), badge_radius(1, font_px)
    edge = max(2, font_px // 10)
    for grown, fill in ((edge, PAPER), (0, color)):
        draw_disc(image, at, (radius + grown, half_height + grown), fill)
    text = Style(font_px, is_bold=True, color=ink_on(color))
    typesetter.draw_centred(ImageDraw.Draw(image), at, f"{step}", text)


def badge_radius(step: int, font_px: int) -> int:
    """Return half of the width of the disc of a step."""
    return round(font_px * (0.72 + 0.3 * (len(str(step)) - 1)))


def ink_on(color: str) -> str:
    """Return the colour of text on a colour: the one of black and white with more contrast.

    >>> ink_on("#0072b2"), ink_on("#e69f00")
    ('#ffffff', '#1b1f24')
    """
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def _corners(box: Box, size: Size, edge_px: int) -> tuple[float, float, float, float]:
    """Return a box in pixels of a picture, at least large enough to be seen, with room for its line inside of the picture."""
    result: list[float] = []
    for low, high, side in ((box.x1, box.x2, size[0]), (box.y1, box.y2, size[1])):
        start, end = (min(max(value, 0.0), 1.0) * side for value in (low, high))
        missing = max(0.0, _MIN_BOX_PX - (end - start)) / 2
        first, last = edge_px, side - 1 - edge_px
        if last - first < _MIN_BOX_PX:
            first, last = 0, side - 1
        start = min(max(start - missing, first), max(first, last - _MIN_BOX_PX))
        result += [start, max(start + 1, min(end + missing, last))]
    return result[0], result[2], result[1], result[3]


def _grown(box: tuple[float, float, float, float], by: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left - by, top - by, right + by, bottom + by


def _badge_place(
    box: tuple[float, float, float, float],
    radius: int,
    size: Size,
    taken: Iterable[tuple[float, ...]],
) -> tuple[float, float]:
    """Return a place for the number of a box: outside of the box at a corner, and not on another mark if possible."""
    left, top, right, bottom = box
    gap = radius + radius // 2
    outside = [
        *product((left + radius, right - radius), (top - gap, bottom + gap)),
        *product((left - gap, right + gap), (top + radius, bottom - radius)),
        (left + gap, top + gap),
    ]
    taken = list(taken)

    def num_overlaps(at: tuple[float, float]) -> int:
        x, y = at
        return sum(
            x + radius > one[0]
            and x - radius < one[2]
            and y + radius > one[1]
            and y - radius < one[3]
            for one in taken
        )

    inside = [
        (
            min(max(x, radius + 2), size[0] - radius - 2),
            min(max(y, radius + 2), size[1] - radius - 2),
        )
        for x, y in outside
    ]
    return min(inside, key=num_overlaps)


# --- shapes ---


def draw_disc(
    image: Image.Image, at: tuple[float, float], radii: tuple[float, float], color: str
) -> None:
    """Draw a disc, or a longer shape with round ends, around a point."""
    (x, y), (across, down) = at, radii

    def shape(pen: ImageDraw.ImageDraw, scale: int) -> None:
        pen.rounded_rectangle(
            (0, 0, 2 * across * scale - 1, 2 * down * scale - 1), down * scale, 255
        )

    paint_shape(image, (x - across, y - down, x + across, y + down), color, shape)


def draw_lines(
    image: Image.Image, points: Sequence[tuple[float, float]], color: str, width_px: float
) -> None:
    """Draw connected lines with round ends."""
    left, top = (min(one[axis] for one in points) - width_px for axis in (0, 1))
    right, bottom = (max(one[axis] for one in points) + width_px for axis in (0, 1))

    def shape(pen: ImageDraw.ImageDraw, scale: int) -> None:
        moved = [((x - left) * scale, (y - top) * scale) for x, y in points]
        pen.line(moved, 255, round(width_px * scale), joint="curve")
        for point in (moved[0], moved[-1]):
            pen.circle(point, width_px * scale / 2, 255)

    paint_shape(image, (left, top, right, bottom), color, shape)


def draw_tick(image: Image.Image, at: tuple[float, float], radius: float) -> None:
    """Draw a tick on a disc around a point."""
    draw_disc(image, at, (radius, radius), RIGHT)
    _draw_stroke(image, at, radius, ((-0.42, 0.04), (-0.12, 0.36), (0.44, -0.32)))


def draw_cross(image: Image.Image, at: tuple[float, float], radius: float) -> None:
    """Draw a cross on a disc around a point."""
    draw_disc(image, at, (radius, radius), WRONG)
    for side in (-1, 1):
        _draw_stroke(image, at, radius, ((-0.36, -0.36 * side), (0.36, 0.36 * side)))


def _draw_stroke(
    image: Image.Image,
    at: tuple[float, float],
    radius: float,
    stroke: Sequence[tuple[float, float]],
) -> None:
    """Draw a white line, given in radii from a point."""
    points = [(at[0] + dx * radius, at[1] + dy * radius) for dx, dy in stroke]
    draw_lines(image, points, PAPER, radius / 4.5)


def paint_shape(
    image: Image.Image,
    box: tuple[float, float, float, float],
    color: str,
    shape: Callable[[ImageDraw.ImageDraw, int], None],
) -> None:
    """Paint a shape into a picture. It is drawn in white on black at several times its size, because Pillow draws hard edges."""
    left, top = round(box[0]), round(box[1])
    size = max(1, math.ceil(box[2] - box[0])), max(1, math.ceil(box[3] - box[1]))
    mask = Image.new("L", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING))
    shape(ImageDraw.Draw(mask), _OVERSAMPLING)
    image.paste(color, (left, top), mask.resize(size, Image.Resampling.BOX))


SIGNS = {"right": (draw_tick, RIGHT), "wrong": (draw_cross, WRONG)}
"""outcome -> its sign and the colour of its word"""
