"""Content of a PixelWorld 2 scene: a pure function of (family, seed, twin, crowding).

The height of the evidence does not enter, so the same scene exists at every height. Twins share everything but one
detail (two exchanged ones in `where`, `moments` and `relation`), and their answers differ.

    attribute  a character on a named shape, or none
    relation   digits on two shapes: which is larger, or their sum
    count      how many shapes of a colour carry a digit
    where      position of the shape that carries a character, or none
    parts      boxes of all parts whose character is not the required one, or none
    video      a character on a card that appears in some frames, or none
    moments    frames in which a card shows a character, or none

Distractors: grey characters next to the shapes, marks that are no characters, shapes that nobody asks about.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.world.scene import COLORS, DIGITS, LETTERS, NUM_FRAMES, SHAPES, Item
from pixel_reasoner.world.v2.params import CLIPS, FAMILIES, VERSION, Family, Params, Twin

CHARACTERS = LETTERS + DIGITS
BLANK = "≡"
"""mark of a shape without a character: three bars with about as much ink as a letter"""
MISSING_SHARE = 0.25
"""share of scenes in which what is asked for is missing in one twin"""


class Loose(NamedTuple):
    """Grey character on the background, a distractor."""

    x: float
    y: float
    glyph: str


class Content(NamedTuple):
    """Shapes of a scene, and what the question asks for."""

    items: tuple[Item, ...]
    """in reading order"""
    targets: tuple[int, ...]
    """indices of the items that the question is about"""
    wanted: str = ""
    """character that is searched for (`where`, `parts`, `moments`); kind of comparison (`relation`)"""
    answer_items: tuple[int, ...] = ()
    """indices of the items that are the answer (`where`, `parts`)"""


class Scene(NamedTuple):
    """One picture or clip of the world: content, twin and sizes."""

    family: Family
    seed: int
    twin: Twin
    params: Params
    content: Content
    loose: tuple[Loose, ...] = ()

    @property
    def id(self) -> str:
        """Name that all heights and both twins share."""
        return f"w2-{self.family}-{self.seed}"

    @property
    def name(self) -> str:
        """Name of the media file, without suffix."""
        sizes = f"{self.params.size_px}-{self.params.overview_px}"
        return f"{self.id}-{sizes}-{self.params.evidence_px}px-{self.twin}"

    @property
    def items(self) -> tuple[Item, ...]:
        """The shapes, cards or parts."""
        return self.content.items

    def rng(self, purpose: str) -> random.Random:
        """Return a random generator that depends on the id of the scene and the purpose alone."""
        return random.Random(f"pixelworld/{VERSION}/{self.id}/{purpose}")


def make_scene(family: Family, seed: int, params: Params, twin: Twin = "a") -> Scene:
    """Return the scene of a seed.

    Raises:
        UsageError: an unknown family.

    >>> params = Params(size_px=1024, overview_px=192, evidence_px=3)
    >>> first, second = (make_scene("attribute", 7, params, twin) for twin in ("a", "b"))
    >>> sum(one != other for one, other in zip(first.items, second.items, strict=True))
    1
    """
    if family not in FAMILIES:
        raise UsageError(
            expected=f"a family of PixelWorld {VERSION}: {', '.join(FAMILIES)}",
            got=repr(family),
            fix="name one of these",
        )
    scene = Scene(family, seed, twin, params, Content((), ()))
    rng = scene.rng("scene/crowded" if params.is_crowded else "scene")
    both = _CONTENT[family](rng, params)
    content = both[twin == "b"]
    # Loose characters never repeat a character of the scene, so they cannot be taken for an answer.
    used = {item.glyph for one in both for item in one.items} | set(both[0].wanted)
    loose = () if family in CLIPS else _loose(rng, content.items, sorted(set(CHARACTERS) - used))
    return scene._replace(content=content, loose=loose)


# --- places ---


def _places(rng: random.Random, count: int, apart: float) -> list[tuple[float, float]]:
    """Return centres that are at least `apart` apart in x or in y, in reading order."""
    places: list[tuple[float, float]] = []
    num_tries = 0
    edge = 0.5 * apart + 0.01
    while len(places) < count:
        x, y = round(rng.uniform(edge, 1 - edge), 4), round(rng.uniform(edge, 1 - edge), 4)
        if all(max(abs(x - u), abs(y - v)) >= apart for u, v in places):
            places.append((x, y))
        num_tries += 1
        if num_tries % 400 == 0:  # the current placement may leave no room
            places.clear()
    return sorted(places, key=lambda place: (int(place[1] / apart), place[0]))


def _side(rng: random.Random, params: Params) -> float:
    """Return the side of a shape: wide enough for a character of the largest height."""
    return rng.uniform(0.036, 0.046) if params.is_crowded else rng.uniform(0.150, 0.165)


def _shapes(
    rng: random.Random, names: Sequence[tuple[str, str]], glyphs: Sequence[str], params: Params
) -> tuple[Item, ...]:
    """Return shapes at random places, in reading order."""
    apart = 0.07 if params.is_crowded else 0.21
    places = _places(rng, len(names), apart)
    return tuple(
        Item(color, shape, x, y, _side(rng, params), glyph)
        for (color, shape), (x, y), glyph in zip(names, places, glyphs, strict=True)
    )


def _names(rng: random.Random, params: Params) -> list[tuple[str, str]]:
    count = rng.randint(12, 18) if params.is_crowded else rng.randint(3, 5)
    return rng.sample([(color, shape) for color in COLORS for shape in SHAPES], count)


def _loose(rng: random.Random, items: Sequence[Item], glyphs: Sequence[str]) -> tuple[Loose, ...]:
    """Return grey characters beside the shapes."""
    found: list[Loose] = []
    for _ in range(40):
        x, y = round(rng.uniform(0.05, 0.95), 4), round(rng.uniform(0.05, 0.95), 4)
        margin = 0.02 if items and items[0].size < 0.1 else 0.06
        if all(
            max(abs(x - item.x), abs(y - item.y)) > item.size / 2 + margin for item in items
        ) and all(max(abs(x - one.x), abs(y - one.y)) > 0.1 for one in found):
            found.append(Loose(x, y, rng.choice(glyphs)))
        if len(found) == 4:
            break
    return tuple(found)


def _changed(items: tuple[Item, ...], index: int, glyph: str) -> tuple[Item, ...]:
    """Return the items with another character on one of them."""
    return (*items[:index], items[index]._replace(glyph=glyph), *items[index + 1 :])


def _either(rng: random.Random, one: Content, other: Content) -> tuple[Content, Content]:
    """Return twins in random order."""
    return (one, other) if rng.random() < 0.5 else (other, one)


def _two_glyphs(rng: random.Random, glyphs: Sequence[str]) -> tuple[str, str]:
    """Return two different characters; sometimes the second is missing."""
    first, second = rng.sample(sorted(glyphs), 2)
    return first, BLANK if rng.random() < MISSING_SHARE else second


# --- families of pictures ---


def _attribute(rng: random.Random, params: Params) -> tuple[Content, Content]:
    names = _names(rng, params)
    glyphs = [rng.choice((*CHARACTERS, *BLANK * 4)) for _ in names]
    items = _shapes(rng, names, glyphs, params)
    target = rng.randrange(len(items))
    first, second = _two_glyphs(rng, CHARACTERS)
    one, other = (Content(_changed(items, target, g), (target,)) for g in (first, second))
    return _either(rng, one, other)


def _relation(rng: random.Random, params: Params) -> tuple[Content, Content]:
    names = _names(rng, params)
    items = _shapes(rng, names, [rng.choice(DIGITS) for _ in names], params)
    first, second = rng.sample(range(len(items)), 2)
    fixed = rng.choice(DIGITS[1:-1])
    smaller = rng.choice([d for d in DIGITS if d < fixed])
    larger = rng.choice([d for d in DIGITS if d > fixed])
    items = _changed(items, second, fixed)
    kind = rng.choice(("larger", "sum"))
    one, other = (
        Content(_changed(items, first, digit), (first, second), kind) for digit in (smaller, larger)
    )
    return _either(rng, one, other)


def _count(rng: random.Random, params: Params) -> tuple[Content, Content]:
    """Return shapes of one colour, some with a digit; one more digit in one twin."""
    color, *others = rng.sample(sorted(COLORS), 4)
    num_alike = rng.randint(6, 9) if params.is_crowded else rng.randint(2, 3)
    num_others = rng.randint(6, 9) if params.is_crowded else rng.randint(1, 2)
    # Few names: in a crowd several shapes have the same colour and shape.
    shapes = rng.sample(SHAPES, len(SHAPES)) * 3
    names = [(color, shape) for shape in shapes[:num_alike]]
    names += [(rng.choice(others), rng.choice(SHAPES)) for _ in range(num_others)]
    rng.shuffle(names)
    items = _shapes(rng, names, [rng.choice(CHARACTERS) for _ in names], params)
    alike = [n for n, item in enumerate(items) if item.color == color]
    num_digits = rng.randint(0, num_alike - 1)
    order = rng.sample(alike, num_alike)
    for n, index in enumerate(order):
        items = _changed(items, index, rng.choice(DIGITS if n < num_digits else LETTERS))
    more = _changed(items, order[num_digits], rng.choice(DIGITS))
    return _either(rng, *(Content(one, tuple(alike)) for one in (items, more)))


def _where(rng: random.Random, params: Params) -> tuple[Content, Content]:
    names = _names(rng, params)
    wanted, *rest = rng.sample(CHARACTERS, len(names) + 1)
    glyphs = rest[: len(names)]
    items = _shapes(rng, names, glyphs, params)
    target, other = rng.sample(range(len(items)), 2)
    everything = tuple(range(len(items)))

    def content(place: int) -> Content:
        return Content(_changed(items, place, wanted), everything, wanted, (place,))

    if rng.random() < MISSING_SHARE:
        return _either(rng, content(target), Content(items, everything, wanted))
    # Exchanged characters: the same characters at two places, so their number gives nothing away.
    exchanged = _changed(_changed(items, target, items[other].glyph), other, wanted)
    return _either(rng, content(target), Content(exchanged, everything, wanted, (other,)))


def _parts(rng: random.Random, params: Params) -> tuple[Content, Content]:
    """Return equal parts in a grid; in one twin one more of them has a wrong character."""
    color, shape = rng.choice(sorted(COLORS)), rng.choice(("square", "circle"))
    columns, rows = (4, 3) if params.is_crowded else (2, 2)
    size = _side(rng, params) * (1.5 if params.is_crowded else 1.2)
    wanted, wrong, more_wrong = rng.sample(CHARACTERS, 3)
    items = tuple(
        Item(
            color,
            shape,
            round((column + rng.uniform(0.35, 0.65)) / columns, 4),
            round((row + rng.uniform(0.35, 0.65)) / rows, 4),
            size,
            wanted,
        )
        for row in range(rows)
        for column in range(columns)
    )
    order = rng.sample(range(len(items)), len(items))
    num_wrong = rng.randint(0, 1)
    for index in order[:num_wrong]:
        items = _changed(items, index, wrong)
    more = _changed(items, order[num_wrong], more_wrong)
    everything = tuple(range(len(items)))
    one, other = (
        Content(kept, everything, wanted, tuple(sorted(order[:number])))
        for kept, number in ((items, num_wrong), (more, num_wrong + 1))
    )
    return _either(rng, one, other)


# --- clips ---


def _video(rng: random.Random, params: Params) -> tuple[Content, Content]:
    """Return cards that are visible one after another, with at least one frame between them."""
    del params
    colors = rng.sample(sorted(COLORS), rng.randint(2, 3))
    lengths = [rng.randint(1, 3) for _ in colors]
    spare = NUM_FRAMES - sum(lengths) - (len(lengths) - 1)
    cuts = sorted(rng.randint(0, spare) for _ in colors)
    items = []
    for n, (color, length) in enumerate(zip(colors, lengths, strict=True)):
        first = 1 + cuts[n] + sum(lengths[:n]) + n
        x, y = (round(rng.uniform(0.25, 0.75), 4) for _ in range(2))
        frames = tuple(range(first, first + length))
        items.append(Item(color, "card", x, y, 0.36, rng.choice(CHARACTERS), frames))
    target = rng.randrange(len(items))
    glyphs = _two_glyphs(rng, CHARACTERS)
    one, other = (Content(_changed(tuple(items), target, g), (target,)) for g in glyphs)
    return _either(rng, one, other)


def _moments(rng: random.Random, params: Params) -> tuple[Content, Content]:
    """Return one card that shows three characters in turn; the wanted one at another time in the other twin."""
    del params
    color = rng.choice(sorted(COLORS))
    x, y = (round(rng.uniform(0.3, 0.7), 4) for _ in range(2))
    cuts = sorted(rng.sample(range(4, NUM_FRAMES - 3), 2))
    while cuts[1] - cuts[0] < 3:
        cuts = sorted(rng.sample(range(4, NUM_FRAMES - 3), 2))
    bounds = (1, *(cut + 1 for cut in cuts), NUM_FRAMES + 1)
    wanted, *rest = rng.sample(CHARACTERS, 4)

    def content(glyphs: Sequence[str]) -> Content:
        items = tuple(
            Item(color, "card", x, y, 0.36, glyph, tuple(range(bounds[n], bounds[n + 1])))
            for n, glyph in enumerate(glyphs)
        )
        shown = tuple(n for n, glyph in enumerate(glyphs) if glyph == wanted)
        return Content(items, (0, 1, 2), wanted, shown)

    place, other = rng.sample(range(3), 2)
    glyphs = [wanted if n == place else rest[n] for n in range(3)]
    second = list(glyphs)
    if rng.random() < MISSING_SHARE:
        second[place] = rest[place]
    else:
        second[place], second[other] = second[other], second[place]
    return _either(rng, content(glyphs), content(second))


_CONTENT: dict[str, Callable[[random.Random, Params], tuple[Content, Content]]] = {
    "attribute": _attribute,
    "relation": _relation,
    "count": _count,
    "where": _where,
    "parts": _parts,
    "video": _video,
    "moments": _moments,
}


def padded_box(item: Item) -> Box:
    """Return the region of an item, inside the picture."""
    box = item.box
    return Box(max(0.0, box.x1), max(0.0, box.y1), min(1.0, box.x2), min(1.0, box.y2))
