"""Shapes of PixelWorld: colours, forms, characters, and places where no shape occludes another."""

from __future__ import annotations

import random
from typing import NamedTuple

from pixel_reasoner.schema.geometry import Box

NUM_FRAMES = 16
"""frames of a clip, and frames that are sampled by default"""
MAX_SHAPES = 6

COLORS = {
    "red": (214, 40, 40),
    "green": (38, 152, 66),
    "blue": (36, 84, 210),
    "yellow": (240, 200, 30),
    "purple": (136, 52, 168),
    "orange": (244, 124, 24),
}
SHAPES = ("circle", "square", "triangle", "diamond")
LETTERS = "ACEFHJKLMNPRTUXY"
DIGITS = "23456789"
"""Easily confused characters (O and 0, I and 1, S and 5, ...) are left out."""


class Item(NamedTuple):
    """A shape of a picture, a card of a clip or a part of a page, with its text."""

    color: str
    shape: str
    x: float
    """centre, fraction of the canvas"""
    y: float
    size: float
    """diameter or side, fraction of the canvas; on a page the side of a square around the text"""
    glyph: str
    """a character; on a page a number or a word"""
    frames: tuple[int, ...] = ()
    """numbers of the frames that contain it, from 1; empty for pictures"""
    quarter_turns: int = 0
    """clockwise rotation of the character"""
    contrast: float = 1.0
    """contrast of the character to its shape, as a share of that of black or white"""

    @property
    def name(self) -> str:
        """Name in questions: `red circle`, `blue card`."""
        return f"{self.color} {self.shape}"

    @property
    def box(self) -> Box:
        """Region that the item covers."""
        half = self.size / 2
        return Box(self.x - half, self.y - half, self.x + half, self.y + half)


def shapes_at_places(
    rng: random.Random, names: list[tuple[str, str]], glyphs: str
) -> tuple[Item, ...]:
    """Return shapes with these colours and forms at random places, each with a random character."""
    items = []
    for index, ((color, shape), (x, y)) in enumerate(
        zip(names, sample_places(rng, len(names)), strict=True)
    ):
        # One shape is clearly the largest, so a question about it has one answer.
        size = rng.uniform(0.150, 0.165) if index == 0 else rng.uniform(0.095, 0.115)
        items.append(Item(color, shape, x, y, size, rng.choice(glyphs)))
    rng.shuffle(items)
    return tuple(items)


def sample_places(rng: random.Random, count: int, apart: float = 0.2) -> list[tuple[float, float]]:
    """Return centres with a distance of at least `apart` in x or in y, so that no shape occludes another."""
    places: list[tuple[float, float]] = []
    num_tries = 0
    while len(places) < count:
        x, y = round(rng.uniform(0.1, 0.9), 4), round(rng.uniform(0.1, 0.9), 4)
        if all(max(abs(x - u), abs(y - v)) >= apart for u, v in places):
            places.append((x, y))
        num_tries += 1
        if num_tries % 200 == 0:  # the current placement may leave no room
            places.clear()
    return places
