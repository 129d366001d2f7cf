"""Box coordinate systems: fractions, thousandths, pixels, and the order of the corners.

In this project a box is in fractions of a picture, x before y. `write` rounds to the nearest unit of the grid of the
family, so no side moves by more than half a unit, and puts the numbers in the order of the family. `read` is the exact
inverse. A box thinner than a unit may become empty and is then rejected. Neither unit nor order is ever inferred from the
numbers: [0, 0, 1, 1] is a box in every grid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pixel_reasoner.schema.geometry import Box, BoxError, Size


class CornerOrder(StrEnum):
    """Order of the four numbers of a box."""

    XYXY = "xyxy"
    YXYX = "yxyx"

    @property
    def names(self) -> str:
        """Names of the numbers in this order.

        >>> CornerOrder.YXYX.names
        '[y1, x1, y2, x2]'
        """
        first = "x1, y1, x2, y2" if self is CornerOrder.XYXY else "y1, x1, y2, x2"
        return f"[{first}]"

    def swap(self, numbers: Sequence[Any]) -> list[Any]:
        """Convert four numbers between this order and x before y, in either direction."""
        x1, y1, x2, y2 = numbers
        return [x1, y1, x2, y2] if self is CornerOrder.XYXY else [y1, x1, y2, x2]

    def swap_pairs(self, numbers: Sequence[Any]) -> list[Any]:
        """Convert pairs of coordinates between this order and x before y, in either direction."""
        if self is CornerOrder.XYXY:
            return list(numbers)
        return [numbers[at ^ 1] for at in range(len(numbers))]

    def rename(self, description: str) -> str:
        """Return a description of coordinates with x before y, such as `[x1, y1, x2, y2]`, in this order.

        >>> CornerOrder.YXYX.rename("points as [x, y], a line as [x1, y1, x2, y2]")
        'points as [y, x], a line as [y1, x1, y2, x2]'
        """
        if self is CornerOrder.XYXY:
            return description
        return re.sub(r"x(\d?), y(\d?)", r"y\2, x\1", description)


@dataclass(frozen=True, kw_only=True)
class BoxCoordinates:
    """Coordinate system of boxes of a family.

    >>> THOUSANDTHS.write([0.25, 0.5, 0.7504, 1.0], (640, 480))
    [250, 500, 750, 1000]
    >>> PIXELS.read([160, 240, 480, 480], (640, 480))
    [0.25, 0.5, 0.75, 1.0]
    >>> THOUSANDTHS_YX.write([0.25, 0.5, 0.75, 1.0], (640, 480))
    [500, 250, 1000, 750]
    """

    words: str
    """description of the numbers"""
    per_side: int | None
    """units per side; None for one unit per pixel of the resized picture in the prompt"""
    decimals: int = 0
    clamps: bool = False
    """whether finite numbers beyond the border are clamped, as in the tool of the family, or rejected"""
    max_clamp: float = math.inf
    """distance from the border up to which numbers are clamped, as a fraction of the side; farther ones have another unit"""
    unit: str = ""
    """name of the unit in error messages"""
    order: CornerOrder = CornerOrder.XYXY
    """order of the four numbers"""

    def sides(self, seen_px: Size | None) -> tuple[int, int] | None:
        """Return the units of the width and the height of a picture; None if they depend on an unknown size."""
        return (self.per_side, self.per_side) if self.per_side else seen_px

    def step(self, seen_px: Size) -> float:
        """Return the grid spacing on the shorter side, as a fraction of the picture."""
        sides = self.sides(seen_px)
        assert sides is not None, "a picture has a size"
        return float(10**-self.decimals / min(sides))

    def slack(self, seen_px: Size) -> float:
        """Return the maximum rounding error of a box on whole hundredths, as a fraction of the picture."""
        exact = self.per_side is not None and self.per_side * 10**self.decimals % 100 == 0
        return 0.0 if exact else self.step(seen_px) / 2

    def write(self, numbers: Any, seen_px: Size | None) -> Any:
        """Convert fractions to numbers of the family. Anything but four finite numbers is returned unchanged."""
        sides = self.sides(seen_px)
        if sides is None or not _is_four_numbers(numbers):
            return numbers
        scaled = [value * side for value, side in zip(numbers, sides * 2, strict=True)]
        scaled = self.order.swap(scaled)
        return [round(value, self.decimals) if self.decimals else round(value) for value in scaled]

    def read(self, numbers: Any, seen_px: Size | None) -> Any:
        """Convert numbers of the family to fractions. Anything but four finite numbers is returned unchanged."""
        sides = self.sides(seen_px)
        if sides is None or not _is_four_numbers(numbers):
            return numbers
        numbers = numbers if self.order is CornerOrder.XYXY else self.order.swap(numbers)
        if sides == (1, 1) and not self.clamps:
            return numbers
        pairs = list(zip(numbers, sides * 2, strict=True))
        if self.clamps:
            pairs = [(min(max(value, 0), side), side) for value, side in pairs]
        return [value / side for value, side in pairs]

    def write_list(self, values: Any, seen_px: Size | None) -> Any:
        """Convert lists of alternating x and y, such as points, boxes or segments. Anything else is returned unchanged.

        >>> THOUSANDTHS.write_list([[0.25, 0.5], [1, 0]], None)
        [[250, 500], [1000, 0]]
        >>> THOUSANDTHS_YX.write_list([[0.25, 0.5], [1, 0]], None)
        [[500, 250], [0, 1000]]
        """
        sides = self.sides(seen_px)
        if sides is None or not _is_list_of_pairs(values):
            return values
        digits = self.decimals or None
        scaled = [
            [round(value * sides[at % 2], digits) for at, value in enumerate(one)] for one in values
        ]
        return [self.order.swap_pairs(one) for one in scaled]

    def read_list(self, values: Any, seen_px: Size | None) -> Any:
        """Convert lists of alternating x and y to fractions; the inverse of `write_list`."""
        sides = self.sides(seen_px)
        if sides is None or not _is_list_of_pairs(values):
            return values
        found = []
        for one in values:
            numbers = self.order.swap_pairs(one)
            pairs = [(value, sides[at % 2]) for at, value in enumerate(numbers)]
            if self.clamps:
                pairs = [(min(max(value, 0), side), side) for value, side in pairs]
            found.append([value / side for value, side in pairs])
        return found

    def invalid_list_reason(self, values: Any, seen_px: Size) -> str | None:
        """Return the error message for coordinates outside of the picture, in units of the family; None for valid ones."""
        sides = self.sides(seen_px)
        assert sides is not None, "a picture has a size"
        if not _is_list_of_pairs(values):
            return None
        far = self.max_clamp if self.clamps else 0.0
        for one in values:
            for at, value in enumerate(self.order.swap_pairs(one)):
                side = sides[at % 2]
                if not -far * side <= value <= (1 + far) * side:
                    name = "xy"[at % 2]
                    return f"{name}={value:g} in {one!s:.60} is outside [0, {side:g}]; give {self.words}"
        return None

    def is_clamped(self, numbers: Any, seen_px: Size | None) -> bool:
        """Return whether `read` clamps any of four finite numbers.

        >>> THOUSANDTHS.is_clamped([0, 0, 1200, 500], None), FRACTIONS.is_clamped([0, 0, 1.5, 1], None)
        (True, False)
        """
        sides = self.sides(seen_px)
        if not self.clamps or sides is None:
            return False
        ordered = self.order.swap(numbers)
        return any(not 0 <= value <= side for value, side in zip(ordered, sides * 2, strict=True))

    def invalid_reason(self, numbers: Any, seen_px: Size) -> str | None:
        """Return the error message for an invalid box, in units of the family; None for a valid box or non-numbers."""
        sides = self.sides(seen_px)
        assert sides is not None, "a picture has a size"
        if not isinstance(numbers, list) or not all(_is_number(value) for value in numbers):
            return None
        given = numbers
        if len(numbers) == 4:
            numbers = self.order.swap(numbers)
        if self.clamps and _is_four_numbers(numbers):
            if self._is_far_outside(numbers, sides):
                return f"box {given!s:.80} is outside of the picture; give {self.order.names} in {self.words}"
            numbers = [
                min(max(value, 0), side) for value, side in zip(numbers, sides * 2, strict=True)
            ]
        try:
            Box.of(map(_bounded, numbers), sides, self.unit)
        except BoxError as error:
            return str(error).replace(CornerOrder.XYXY.names, self.order.names)
        return None

    def _is_far_outside(self, numbers: Sequence[float], sides: tuple[int, int]) -> bool:
        """Return whether a number is farther from the picture than `max_clamp`."""
        most = 1 + self.max_clamp
        pairs = zip(numbers, sides * 2, strict=True)
        return any(not -self.max_clamp * side <= value <= most * side for value, side in pairs)


FRACTIONS = BoxCoordinates(
    words="fractions of the picture, two decimals", per_side=1, decimals=2, unit="normalised "
)
THOUSANDTHS = BoxCoordinates(
    words="0 to 1000 on either side, whole numbers", per_side=1000, clamps=True, max_clamp=0.02
)
THOUSANDTHS_YX = replace(
    THOUSANDTHS,
    words="0 to 1000 on either side, whole numbers, y before x",
    order=CornerOrder.YXYX,
)
NINES = replace(THOUSANDTHS, words="0 to 999 on either side, whole numbers", per_side=999)
FINE_FRACTIONS = replace(FRACTIONS, words="fractions of the picture, three decimals", decimals=3)
PIXELS = BoxCoordinates(
    words="pixels of the picture as the model sees it",
    per_side=None,
    clamps=True,
    max_clamp=0.02,
    unit="pixels ",
)
CLAMPED_PIXELS = replace(PIXELS, max_clamp=math.inf)
"""pixels for families whose tool clamps every box"""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bounded(value: float) -> float:
    """Clip an integer to the range of a float."""
    if isinstance(value, float) or abs(value) < 2**53:
        return value
    return math.inf if value > 0 else -math.inf


def _is_four_numbers(numbers: Any) -> bool:
    """Return whether these are four finite numbers in the range of a float."""
    return (
        isinstance(numbers, list | tuple)
        and len(numbers) == 4
        and all(_is_number(value) and math.isfinite(_bounded(value)) for value in numbers)
    )


def _is_list_of_pairs(values: Any) -> bool:
    """Return whether these are lists of an even number of finite numbers."""
    return isinstance(values, list | tuple) and all(
        isinstance(one, list | tuple)
        and len(one) % 2 == 0
        and all(_is_number(value) and math.isfinite(_bounded(value)) for value in one)
        for one in values
    )
