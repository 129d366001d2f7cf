"""Contents of the families for single operations: turned and faint characters, distances, crowds, brief cards."""

from __future__ import annotations

import random
from collections.abc import Callable

from pixel_reasoner.world.shapes import (
    COLORS,
    DIGITS,
    LETTERS,
    MAX_SHAPES,
    NUM_FRAMES,
    SHAPES,
    Item,
    sample_places,
    shapes_at_places,
)

UPRIGHT_GLYPHS = "AEFHKNPRTXY24578"
"""characters none of which looks like another after quarter turns"""
BRIEF_FRAMES = 64
"""frames of a clip of `brief`, four times as many as are sampled by default"""
_GAP = BRIEF_FRAMES // NUM_FRAMES
_FAINT = (0.06, 0.1)
_CROWD = (8, 14)
_CROWD_DISTANCE = 0.14


def operation_shapes(family: str, rng: random.Random) -> tuple[Item, ...]:
    """Return the shapes of a picture of a family."""
    return _SHAPES_OF[family](rng)


def _turned(rng: random.Random) -> tuple[Item, ...]:
    names = rng.sample([(c, s) for c in COLORS for s in SHAPES], rng.randint(3, MAX_SHAPES))
    items = shapes_at_places(rng, names, UPRIGHT_GLYPHS)
    return tuple(item._replace(quarter_turns=rng.randint(1, 3)) for item in items)


def _faint(rng: random.Random) -> tuple[Item, ...]:
    names = rng.sample([(c, s) for c in COLORS for s in SHAPES], rng.randint(3, MAX_SHAPES))
    items = shapes_at_places(rng, names, LETTERS + DIGITS)
    return tuple(item._replace(contrast=round(rng.uniform(*_FAINT), 3)) for item in items)


def _distance(rng: random.Random) -> tuple[Item, ...]:
    names = rng.sample([(c, s) for c in COLORS for s in SHAPES], rng.randint(4, MAX_SHAPES))
    return shapes_at_places(rng, names, LETTERS + DIGITS)


def _crowd(rng: random.Random) -> tuple[Item, ...]:
    """Return many small shapes. Names may repeat: questions count them."""
    count = rng.randint(*_CROWD)
    colors = rng.sample(sorted(COLORS), rng.randint(2, 4))
    items = [
        Item(rng.choice(colors), rng.choice(SHAPES), x, y, round(rng.uniform(0.06, 0.075), 4), "")
        for x, y in sample_places(rng, count, _CROWD_DISTANCE)
    ]
    return tuple(items)


_SHAPES_OF: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {
    "turned": _turned,
    "faint": _faint,
    "distance": _distance,
    "crowd": _crowd,
}


def brief_cards(rng: random.Random) -> tuple[Item, ...]:
    """Return cards, each visible in some frames between two frames that are sampled by default."""
    colors = rng.sample(sorted(COLORS), 3)
    gaps = sorted(rng.sample(range(NUM_FRAMES - 1), len(colors)))
    items = []
    for color, gap in zip(colors, gaps, strict=True):
        # The frames of index 4 n + 2 are sampled, so numbers from 1 in between are 4 n + 4 to 4 n + 6.
        first = _GAP * gap + _GAP
        length = rng.randint(1, _GAP - 1)
        start = first + rng.randint(0, _GAP - 1 - length)
        frames = tuple(range(start, start + length))
        x, y = (round(rng.uniform(0.25, 0.75), 4) for _ in range(2))
        items.append(Item(color, "card", x, y, 0.36, rng.choice(LETTERS + DIGITS), frames))
    return tuple(items)
