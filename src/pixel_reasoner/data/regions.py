"""Regions of synthesized calls: the evidence with a margin, wider ones, and boxes in crops, on whole hundredths."""

from __future__ import annotations

import random
from typing import NamedTuple

from pixel_reasoner.dialects import Dialect
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.operations.zoom import ceil_to_step, expand_box, floor_to_step
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudgets

STEP = 0.01
"""resolution of box coordinates in calls: two decimals"""


class ExpertConfig(NamedTuple):
    """Dialect and pixel budgets of the traces, and size of zoomed regions."""

    dialect: Dialect
    budgets: PixelBudgets
    margin: float = 0.25
    """margin around the evidence on every side, as a fraction of the evidence's width and height"""
    min_side: float = 0.12
    """minimum width and height of a zoomed region, as a fraction of the picture"""
    operations: tuple[str, ...] = DEFAULT_OPERATIONS
    """names of the enabled operations"""
    names_pictures: bool = False
    """whether the words name the picture among several, and a mistake may be a zoom into another one"""

    @property
    def model(self) -> ScriptedModel:
        """Scripted model with this dialect and these budgets."""
        return ScriptedModel([""], dialect=self.dialect.name, budgets=self.budgets)


class NoTrace(Exception):
    """A question has no trace of a kind. `reason` is a short name for counts."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def zoom_box(evidence_box: Box, config: ExpertConfig) -> Box:
    """Return the region to zoom into: the evidence with a margin, inside the picture, rounded to hundredths.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> zoom_box(Box(0.0, 0.5, 0.1, 0.6), ExpertConfig(COMPACT, COMPACT.budgets))
    Box(x1=0.0, y1=0.48, x2=0.15, y2=0.63)
    """
    return expand_box(evidence_box, config.margin, config.min_side)


def wider_box(close: Box, rng: random.Random) -> Box:
    """Return a region, two to three times as wide and high, that contains another and is not the whole picture."""
    sides = []
    for low, high in ((close.x1, close.x2), (close.y1, close.y2)):
        side = min((high - low) * rng.uniform(2, 3), 0.9)
        if side < 1.5 * (high - low):
            raise NoTrace("no_room_for_a_wider_region")
        start = rng.uniform(max(0.0, high - side), min(low, 1 - side))
        sides.append((floor_to_step(start), ceil_to_step(start + side)))
    (x1, x2), (y1, y2) = sides
    return Box(x1, y1, x2, y2)


def box_in_crop(outer: Box, box: Box) -> Box:
    """Return a box of the picture in coordinates of an enclosing crop, rounded outwards: the inverse of `Box.within`."""
    x1, y1, x2, y2 = box.relative_to(outer)
    return Box(
        max(0.0, floor_to_step(x1)),
        max(0.0, floor_to_step(y1)),
        min(1.0, ceil_to_step(x2)),
        min(1.0, ceil_to_step(y2)),
    )
