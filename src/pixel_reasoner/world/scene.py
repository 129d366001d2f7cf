"""What is in a PixelWorld picture or clip: a pure function of (family, seed, parameters, version).

A scene is a plain description; `draw` turns it into pixels, `questions` into questions with exact evidence.

    attribute    shapes that carry a letter or a digit
    relation     shapes that carry digits, to be compared or added
    count        several shapes of one colour, some of which carry a digit
    infographic  a page with a heading, cards, bars, a line, a table and small print (`Page`)
    video        cards that show for some frames, and a ball that crosses them

Does not cover: photographs, running text, objects that hide one another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.record import Record

VERSION = 1
"""Raised whenever the same seed would give another scene, so that figures of two versions are not compared."""

Family = Literal["attribute", "relation", "count", "infographic", "video"]
FAMILIES: tuple[Family, ...] = ("attribute", "relation", "count", "infographic", "video")

Split = Literal["train", "validation", "test"]
SPLITS: dict[Split, tuple[int, int]] = {
    "train": (0, 1_000_000),
    "validation": (1_000_000, 2_000_000),
    "test": (2_000_000, 3_000_000),
}
"""First seed and end (exclusive) of each split."""

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
"""Characters that are hard to tell from one another (O and 0, I and 1, S and 5, ...) are left out."""
WORDS = (
    *("Oslo", "Lima", "Bern", "Kyiv", "Doha", "Nuuk", "Suva", "Apia"),
    *("Cork", "Baku", "Lyon", "Pune", "Graz", "Metz", "Jena", "Vigo"),
)
"""Cities on pages. No two are alike by half, so that none is right for another by ANLS."""
BANDS = ("cards", "bars", "line", "table")
"""what a page may show from top to bottom; three of the four"""
FONTS = 3
"""of pages; a page is set in one"""

NUM_FRAMES = 16
MAX_SHAPES = 6
MAX_CARDS = 3


class WorldParams(Record):
    """The knobs of a scene. Sizes are in pixels of the full-resolution picture or frame."""

    size_px: int
    """side of the square canvas"""
    detail_px: int
    """height of the characters that answer the questions that need a look"""


DEFAULTS: dict[Family, WorldParams] = {
    family: WorldParams(size_px=320 if family == "video" else 1024, detail_px=16)
    for family in FAMILIES
}
"""Sizes that fit the embedded model's pixel budgets: a detail is under 4 px high in its overview."""


class Item(NamedTuple):
    """A shape of a picture, a card of a clip or a part of a page, with what is written on it."""

    color: str
    shape: str
    x: float
    """centre, share of the canvas"""
    y: float
    size: float
    """diameter or side, share of the canvas; on a page the side of a square around what is written"""
    glyph: str
    """a character; on a page a number or a word"""
    frames: tuple[int, ...] = ()
    """numbers of the frames that show it, from 1; empty in a picture"""

    @property
    def name(self) -> str:
        """As questions call it: `red circle`, `blue card`."""
        return f"{self.color} {self.shape}"

    @property
    def box(self) -> Box:
        """The region that it covers."""
        half = self.size / 2
        return Box(self.x - half, self.y - half, self.x + half, self.y + half)


class Ball(NamedTuple):
    """The ball that crosses a clip from one side to the other."""

    color: str
    y: float
    size: float
    rightwards: bool

    def x(self, frame: int) -> float:
        """Centre in a frame (from 1), share of the canvas."""
        way = (frame - 0.5) / NUM_FRAMES
        return 0.1 + 0.8 * (way if self.rightwards else 1 - way)


class Page(NamedTuple):
    """How a page is set."""

    font: int
    heading: str
    bands: tuple[str, ...]
    """from top to bottom"""
    rising: bool
    """whether its line rises from left to right"""


class Scene(NamedTuple):
    """Everything that is in one picture or clip."""

    family: Family
    seed: int
    params: WorldParams
    items: tuple[Item, ...]
    ball: Ball | None = None
    page: Page | None = None

    @property
    def id(self) -> str:
        """A name for files and questions."""
        return f"{self.family}-{self.seed}"

    def rng(self, purpose: str) -> random.Random:
        """Random numbers that depend on the scene's name and the purpose alone."""
        return random.Random(f"pixelworld/{VERSION}/{self.id}/{purpose}")


def make_scene(family: Family, seed: int, params: WorldParams | None = None) -> Scene:
    """The scene of a seed.

    Raises:
        UsageError: unknown family, or a detail too large for its shape.

    >>> make_scene("attribute", 7) == make_scene("attribute", 7)
    True
    """
    if family not in FAMILIES:
        raise UsageError(
            expected=f"a family of PixelWorld: {', '.join(FAMILIES)}",
            got=repr(family),
            fix="name one of these",
        )
    params = params or DEFAULTS[family]
    scene = Scene(family, seed, params, ())
    rng = scene.rng("scene")
    if family == "video":
        scene = scene._replace(items=_cards(rng), ball=_ball(rng))
    elif family == "infographic":
        page = _page(rng)
        scene = scene._replace(items=tuple(_parts(rng, page)), page=page)
    else:
        scene = scene._replace(items=_SHAPES_OF[family](rng))
    smallest_px = min(item.size for item in scene.items) * params.size_px
    # What is written on a part of a page is wider than high.
    largest_px = smallest_px / (2 if scene.page is None else 3.6)
    if not 4 <= params.detail_px <= largest_px:
        raise UsageError(
            expected=f"a detail of 4 to {largest_px:.0f} px on a canvas of {params.size_px} px",
            got=f"{params.detail_px} px",
            fix="make the detail smaller or the canvas larger",
        )
    return scene


def split_seed(split: str, seed: int, index: int) -> int:
    """The scene seed of the `index`-th question of a run that starts at `seed` within a split.

    Raises:
        UsageError: unknown split, or outside the split.

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
    return _shapes(rng, names, LETTERS + DIGITS)


def _related_shapes(rng: random.Random) -> tuple[Item, ...]:
    names = rng.sample([(c, s) for c in COLORS for s in SHAPES], rng.randint(3, MAX_SHAPES))
    return _shapes(rng, names, DIGITS)


def _alike_shapes(rng: random.Random) -> tuple[Item, ...]:
    """Two or three shapes of one colour, any number of them with a digit, and others of other colours."""
    color, *others = rng.sample(sorted(COLORS), rng.randint(2, 4))
    alike = [(color, shape) for shape in rng.sample(SHAPES, rng.randint(2, 3))]
    names = alike + [(other, rng.choice(SHAPES)) for other in others]
    num_digits = rng.randint(0, len(alike))
    marks = [rng.choice(DIGITS if n < num_digits else LETTERS) for n in range(len(alike))]
    rng.shuffle(marks)
    mark = dict(zip(alike, marks, strict=True))
    rng.shuffle(names)
    items = _shapes(rng, names, LETTERS + DIGITS)
    return tuple(i._replace(glyph=mark.get((i.color, i.shape), i.glyph)) for i in items)


def _shapes(rng: random.Random, names: list[tuple[str, str]], glyphs: str) -> tuple[Item, ...]:
    items = []
    for index, ((color, shape), (x, y)) in enumerate(
        zip(names, _places(rng, len(names)), strict=True)
    ):
        # One shape is clearly the largest, so that asking for it has one answer.
        size = rng.uniform(0.150, 0.165) if index == 0 else rng.uniform(0.095, 0.115)
        items.append(Item(color, shape, x, y, size, rng.choice(glyphs)))
    rng.shuffle(items)
    return tuple(items)


_SHAPES_OF: dict[str, Callable[[random.Random], tuple[Item, ...]]] = {
    "attribute": _any_shapes,
    "relation": _related_shapes,
    "count": _alike_shapes,
}


def _places(rng: random.Random, count: int, apart: float = 0.2) -> list[tuple[float, float]]:
    """Centres that lie at least `apart` from one another in x or in y, so that no shape hides another."""
    places: list[tuple[float, float]] = []
    tries = 0
    while len(places) < count:
        x, y = round(rng.uniform(0.1, 0.9), 4), round(rng.uniform(0.1, 0.9), 4)
        if all(max(abs(x - u), abs(y - v)) >= apart for u, v in places):
            places.append((x, y))
        tries += 1
        if tries % 200 == 0:  # what is placed may leave no room: begin anew
            places.clear()
    return places


def _cards(rng: random.Random) -> tuple[Item, ...]:
    """Cards that show one after the other, with at least one frame without any between them."""
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
"""middles of a page's bands"""
_STEP = 0.2
"""from one part of a band to the next"""
_TEXT_SIDE = 0.065


def _page(rng: random.Random) -> Page:
    return Page(
        font=rng.randrange(FONTS),
        heading=rng.choice(WORDS),
        bands=tuple(rng.sample(BANDS, len(BAND_Y))),
        rising=rng.random() < 0.5,
    )


def _parts(rng: random.Random, page: Page) -> Iterator[Item]:
    """What can be asked for on a page, each where it is written."""
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
    """How far below the middle of its band each part is written."""
    if band == "bars":
        # One bar is clearly the tallest, so that asking for it has one answer.
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
