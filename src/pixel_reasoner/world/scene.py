"""Content of a PixelWorld picture or clip: a pure function of (family, seed, parameters, version).

A scene is a description. `draw` renders it; `questions` generates questions with exact evidence.

    attribute    shapes that carry a letter or a digit
    relation     shapes that carry digits, for comparison or addition
    count        several shapes of one colour, some of which carry a digit
    infographic  a page with a heading, cards, bars, a line, a table and small print (`Page`)
    video        cards that are visible in some frames, and a moving ball

Families for single operations, which `all` does not contain (`operation_scenes`, `operation_questions`):

    turned       shapes whose characters are rotated by quarter turns
    faint        shapes whose characters have nearly the colour of their shape
    distance     shapes whose distances are compared
    crowd        many small shapes to count
    brief        cards that are visible between two sampled frames of a clip

Not covered: photographs, running text, occluded objects.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.record import Record
from pixel_reasoner.world.operation_scenes import BRIEF_FRAMES, brief_cards, operation_shapes
from pixel_reasoner.world.shapes import (
    COLORS as COLORS,
    DIGITS as DIGITS,
    LETTERS as LETTERS,
    MAX_SHAPES as MAX_SHAPES,
    NUM_FRAMES as NUM_FRAMES,
    SHAPES as SHAPES,
    Item as Item,
    shapes_at_places,
)

VERSION = 1
"""incremented when a seed gives another scene; results of two versions are not comparable"""

Family = Literal[
    "attribute",
    "relation",
    "count",
    "infographic",
    "video",
    "turned",
    "faint",
    "distance",
    "crowd",
    "brief",
]
FAMILIES: tuple[Family, ...] = ("attribute", "relation", "count", "infographic", "video")
"""families that `all` means"""
OPERATION_FAMILIES: tuple[Family, ...] = ("turned", "faint", "distance", "crowd", "brief")
"""families whose questions need an operation that is off by default"""
CLIP_FAMILIES: tuple[Family, ...] = ("video", "brief")

Split = Literal["train", "validation", "test"]
SPLITS: dict[Split, tuple[int, int]] = {
    "train": (0, 1_000_000),
    "validation": (1_000_000, 2_000_000),
    "test": (2_000_000, 3_000_000),
}
"""First seed and end (exclusive) of each split."""

WORDS = (
    *("Oslo", "Lima", "Bern", "Kyiv", "Doha", "Nuuk", "Suva", "Apia"),
    *("Cork", "Baku", "Lyon", "Pune", "Graz", "Metz", "Jena", "Vigo"),
)
"""Cities on pages. Their pairwise similarity is below one half, so ANLS never accepts one for another."""
BANDS = ("cards", "bars", "line", "table")
"""parts of a page; each page has three of the four, from top to bottom"""
FONTS = 3
"""number of fonts; a page uses one"""

MAX_CARDS = 3


class WorldParams(Record):
    """Parameters of a scene. Sizes are in pixels of the full-resolution picture or frame."""

    size_px: int
    """side of the square canvas"""
    detail_px: int
    """height of the characters that must be legible for questions that need an operation"""


DEFAULTS: dict[Family, WorldParams] = {
    family: WorldParams(size_px=320 if family in CLIP_FAMILIES else 1024, detail_px=16)
    for family in (*FAMILIES, *OPERATION_FAMILIES)
}
"""Sizes that fit the pixel budgets of the bundled model: a detail is less than 4 px high in its overview."""


class Ball(NamedTuple):
    """Ball that crosses a clip from one side to the other."""

    color: str
    y: float
    size: float
    rightwards: bool

    def x(self, frame: int, num_frames: int = NUM_FRAMES) -> float:
        """Return the x coordinate of the centre in a frame (from 1), fraction of the canvas."""
        progress = (frame - 0.5) / num_frames
        return 0.1 + 0.8 * (progress if self.rightwards else 1 - progress)


class Page(NamedTuple):
    """Layout of a page."""

    font: int
    heading: str
    bands: tuple[str, ...]
    """from top to bottom"""
    rising: bool
    """whether the line chart rises from left to right"""


class Scene(NamedTuple):
    """Content of one picture or clip."""

    family: Family
    seed: int
    params: WorldParams
    items: tuple[Item, ...]
    ball: Ball | None = None
    page: Page | None = None
    num_frames: int = NUM_FRAMES
    """frames of a clip"""

    @property
    def id(self) -> str:
        """Name of the media file, and prefix of the question ids."""
        return f"{self.family}-{self.seed}"

    def rng(self, purpose: str) -> random.Random:
        """Return a random generator that depends on the id of the scene and the purpose alone."""
        return random.Random(f"pixelworld/{VERSION}/{self.id}/{purpose}")


def make_scene(family: Family, seed: int, params: WorldParams | None = None) -> Scene:
    """Return the scene of a seed.

    Raises:
        UsageError: unknown family, or a detail too large for its shape.

    >>> make_scene("attribute", 7) == make_scene("attribute", 7)
    True
    """
    if family not in DEFAULTS:
        raise UsageError(
            expected=f"a family of PixelWorld: {', '.join(DEFAULTS)}",
            got=repr(family),
            fix="name one of these",
        )
    params = params or DEFAULTS[family]
    scene = Scene(family, seed, params, ())
    rng = scene.rng("scene")
    if family == "brief":
        scene = scene._replace(items=brief_cards(rng), ball=_ball(rng), num_frames=BRIEF_FRAMES)
    elif family in OPERATION_FAMILIES:
        scene = scene._replace(items=operation_shapes(family, rng))
    elif family == "video":
        scene = scene._replace(items=_cards(rng), ball=_ball(rng))
    elif family == "infographic":
        page = _page(rng)
        scene = scene._replace(items=tuple(_parts(rng, page)), page=page)
    else:
        scene = scene._replace(items=_SHAPES_OF[family](rng))
    smallest_px = min(item.size for item in scene.items) * params.size_px
    # Text on a page is wider than high.
    largest_px = smallest_px / (2 if scene.page is None else 3.6)
    if not 4 <= params.detail_px <= largest_px:
        raise UsageError(
            expected=f"a detail of 4 to {largest_px:.0f} px on a canvas of {params.size_px} px",
            got=f"{params.detail_px} px",
            fix="make the detail smaller or the canvas larger",
        )
    return scene


def split_seed(split: str, seed: int, index: int) -> int:
    """Return the seed of the `index`-th scene of a run that starts at number `seed` of a split.

    Raises:
        UsageError: unknown split, or a seed outside the split.

    >>> split_seed("test", 0, 5)
    2000005
    """
    if split not in SPLITS:
        raise UsageError(
            expected=f"a split: {', '.join(SPLITS)}", got=repr(split), fix="name one of these"
        )
    first, end = SPLITS[split]
    if not 0 <= seed + index < end - first:
        raise UsageError(
            expected=f"seed + count of at most {end - first:,} in split {split}",
            got=f"seed {seed}, question {index}",
            fix="choose a smaller seed or count",
        )
    return first + seed + index


def _any_shapes(rng: random.Random) -> tuple[Item, ...]:
    names = rng.sample([(c, s) for c in COLORS for s in SHAPES], rng.randint(3, MAX_SHAPES))
    return shapes_at_places(rng, names, LETTERS + DIGITS)


def _related_shapes(rng: random.Random) -> tuple[Item, ...]:
    names = rng.sample([(c, s) for c in COLORS for s in SHAPES], rng.randint(3, MAX_SHAPES))
    return shapes_at_places(rng, names, DIGITS)


def _counted_shapes(rng: random.Random) -> tuple[Item, ...]:
    """Return two or three shapes of one colour, any number of them with a digit, and shapes of other colours."""
    color, *others = rng.sample(sorted(COLORS), rng.randint(2, 4))
    alike = [(color, shape) for shape in rng.sample(SHAPES, rng.randint(2, 3))]
    names = alike + [(other, rng.choice(SHAPES)) for other in others]
    num_digits = rng.randint(0, len(alike))
    marks = [rng.choice(DIGITS if n < num_digits else LETTERS) for n in range(len(alike))]
    rng.shuffle(marks)
    mark = dict(zip(alike, marks, strict=True))
    rng.shuffle(names)
    items = shapes_at_places(rng, names, LETTERS + DIGITS)
    return tuple(i._replace(glyph=mark.get((i.color, i.shape), i.glyph)) for i in items)


_SHAPES_OF: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {
    "attribute": _any_shapes,
    "relation": _related_shapes,
    "count": _counted_shapes,
}


def _cards(rng: random.Random) -> tuple[Item, ...]:
    """Return cards that are visible one after another, with at least one frame between them."""
    colors = rng.sample(sorted(COLORS), rng.randint(1, MAX_CARDS))
    lengths = [rng.randint(1, 3) for _ in colors]
    spare = NUM_FRAMES - sum(lengths) - (len(lengths) - 1)
    cuts = sorted(rng.randint(0, spare) for _ in colors)
    items = []
    for index, (color, length) in enumerate(zip(colors, lengths, strict=True)):
        first = 1 + cuts[index] + sum(lengths[:index]) + index
        frames = tuple(range(first, first + length))
        x, y = (round(rng.uniform(0.25, 0.75), 4) for _ in range(2))
        items.append(Item(color, "card", x, y, 0.36, rng.choice(LETTERS + DIGITS), frames))
    return tuple(items)


def _ball(rng: random.Random) -> Ball:
    return Ball(
        color=rng.choice(sorted(COLORS)),
        y=round(rng.uniform(0.15, 0.85), 4),
        size=0.17,
        rightwards=rng.random() < 0.5,
    )


BAND_Y = (0.24, 0.49, 0.74)
"""centres of the bands of a page"""
_STEP = 0.2
"""distance between two parts of a band"""
_TEXT_SIDE = 0.065


def _page(rng: random.Random) -> Page:
    return Page(
        font=rng.randrange(FONTS),
        heading=rng.choice(WORDS),
        bands=tuple(rng.sample(BANDS, len(BAND_Y))),
        rising=rng.random() < 0.5,
    )


def _parts(rng: random.Random, page: Page) -> Iterator[Item]:
    """Yield the parts of a page that questions ask about, with the positions of their text."""
    for band, y in zip(page.bands, BAND_Y, strict=True):
        colors = rng.sample(sorted(COLORS), rng.randint(3, 4))
        width = _STEP * (len(colors) - 1)
        first = rng.uniform(0.14, 0.86 - width)
        for nth, (color, dy) in enumerate(
            zip(colors, _heights(rng, band, page, len(colors)), strict=True)
        ):
            kind = {"cards": "card", "bars": "bar", "line": "point", "table": "column"}[band]
            number = kind in ("card", "column")
            text = "".join(rng.choices(DIGITS, k=2)) if number else rng.choice(WORDS)
            x = round(first + nth * _STEP, 4)
            yield Item(color, kind, x, round(y + dy, 4), _TEXT_SIDE, text)
    yield Item("small", "print", rng.choice((0.2, 0.5, 0.8)), 0.945, _TEXT_SIDE, rng.choice(WORDS))


def _heights(rng: random.Random, band: str, page: Page, count: int) -> list[float]:
    """Return the distance of each part's text below the centre of its band."""
    if band == "bars":
        # One bar is clearly the tallest, so a question about it has one answer.
        heights = [
            rng.uniform(-0.045, -0.03),
            *(rng.uniform(0.005, 0.06) for _ in range(count - 1)),
        ]
        rng.shuffle(heights)
        return heights
    if band == "line":
        falling = [-0.045 + 0.09 * n / (count - 1) + rng.uniform(-0.01, 0.01) for n in range(count)]
        return falling[::-1] if page.rising else falling
    return [-0.01 if band == "table" else 0.0] * count
