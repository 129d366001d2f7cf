"""Boxes and sizes: normalised xyxy in [0, 1] of the source image, origin top left."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, Field

Size = tuple[int, int]
"""(width, height) in pixels."""
MAX_SIDE_PX = 2**20
_Side = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]
RecordedSize = tuple[_Side, _Side]
"""`Size` in a file"""


class BoxError(ValueError):
    """Invalid box. The message addresses the model: the invalid value and the allowed range."""


class Box(NamedTuple):
    """Region of a picture: normalised x1, y1, x2, y2 in [0, 1], origin top left.

    `Box.of` validates external numbers.

    >>> Box.of([0.25, 0.5, 0.75, 1.0]).area
    0.25
    >>> Box.of([0.5, 0.5, 0.25, 0.75])
    Traceback (most recent call last):
        ...
    pixel_reasoner.schema.geometry.BoxError: box is inverted: x1=0.5 must be less than x2=0.25; give [x1, y1, x2, y2]
    """

    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def of(
        cls,
        numbers: Iterable[float],
        per: tuple[float, float] = (1, 1),
        unit: str = "normalised ",
    ) -> Self:
        """Return a validated box.

        Args:
            numbers: x1, y1, x2, y2.
            per: width and height of the picture in the unit of these numbers.
            unit: name of the unit in error messages.

        Raises:
            BoxError: not four finite numbers, outside the picture, inverted or empty.

        >>> Box.of([160, 0, 640, 240], per=(640, 480))
        Box(x1=0.25, y1=0.0, x2=1.0, y2=0.5)
        """
        values = list(numbers)
        if len(values) != 4:
            raise BoxError(f"box needs 4 numbers [x1, y1, x2, y2], got {len(values)}")
        sides = (*per, *per)
        for name, value, side in zip(cls._fields, values, sides, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BoxError(f"box {name}={value!r} is not a number; give [x1, y1, x2, y2]")
            if not math.isfinite(value):
                raise BoxError(
                    f"box {name}={value} is not a finite number; give numbers in [0, {side:g}]"
                )
            if not 0 <= value <= side:
                raise BoxError(
                    f"box {name}={value:g} is outside [0, {side:g}]; give {unit}[x1, y1, x2, y2]"
                )
        for low, high, first, second in (
            ("x1", "x2", values[0], values[2]),
            ("y1", "y2", values[1], values[3]),
        ):
            if first == second:
                raise BoxError(
                    f"box is empty: {low}={first:g} equals {high}; give [x1, y1, x2, y2]"
                )
            if first > second:
                raise BoxError(
                    f"box is inverted: {low}={first:g} must be less than {high}={second:g}; "
                    "give [x1, y1, x2, y2]"
                )
        return cls(*(float(value) / side for value, side in zip(values, sides, strict=True)))

    @property
    def area(self) -> float:
        """Fraction of the picture, in [0, 1]."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def intersection(self, other: Box) -> float:
        """Return the area of the intersection with another box of the same picture.

        >>> WHOLE.intersection(Box(0.5, 0.5, 1, 1))
        0.25
        """
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(0.0, width) * max(0.0, height)

    def within(self, outer: Box) -> Box:
        """Convert this box from coordinates of the region `outer` to coordinates of the whole picture.

        >>> Box(0.5, 0.5, 1, 1).within(Box(0.5, 0, 1, 0.5))
        Box(x1=0.75, y1=0.25, x2=1.0, y2=0.5)
        """
        width, height = outer.x2 - outer.x1, outer.y2 - outer.y1
        return Box(
            outer.x1 + self.x1 * width,
            outer.y1 + self.y1 * height,
            min(1.0, outer.x1 + self.x2 * width),
            min(1.0, outer.y1 + self.y2 * height),
        )

    def relative_to(self, outer: Box) -> Box:
        """Return this box of the whole picture in coordinates of the region `outer`; the inverse of `within`.

        A box that reaches beyond the region gets coordinates beyond [0, 1].

        >>> Box(0.75, 0.25, 1.0, 0.5).relative_to(Box(0.5, 0, 1, 0.5))
        Box(x1=0.5, y1=0.5, x2=1.0, y2=1.0)
        """
        width, height = outer.x2 - outer.x1, outer.y2 - outer.y1
        return Box(
            (self.x1 - outer.x1) / width,
            (self.y1 - outer.y1) / height,
            (self.x2 - outer.x1) / width,
            (self.y2 - outer.y1) / height,
        )


WHOLE = Box(0.0, 0.0, 1.0, 1.0)
_ROUNDING = 1e-6
"""tolerance by which a nested box may exceed its picture"""


def _checked_box(box: Box) -> Box:
    low, high = -_ROUNDING, 1 + _ROUNDING
    if not (low <= box.x1 < box.x2 <= high and low <= box.y1 < box.y2 <= high):  # nan is neither
        raise ValueError("must be [x1, y1, x2, y2] in [0, 1] with x1 < x2 and y1 < y2")
    return box


RecordedBox = Annotated[Box, AfterValidator(_checked_box)]
"""`Box` in a file"""

_Fraction = Annotated[float, Field(ge=0, le=1)]
RecordedPoint = tuple[_Fraction, _Fraction]
"""(x, y) in a file, in fractions of a picture"""
RecordedSegment = tuple[_Fraction, _Fraction, _Fraction, _Fraction]
"""both ends (x1, y1, x2, y2) of a line in a file, in fractions of a picture"""
