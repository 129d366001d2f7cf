"""Training batches of the vision tower. Each is a function of the random generator alone.

Character recognition needs far more examples than localisation, and a view contains few characters. So the first stages
draw pictures that are full of text, which take a few hundred steps to read, and the others add views of both worlds:

    characters   small characters alone: with words and large ones, a tower begins to read three times later
    print        characters of every height, words and numbers
    views        overviews, results of operations, crops of any size, frames; and text, against forgetting
    crowds       half of that, and new pictures full of shapes with small characters, the hardest of all
    sharpen      mostly such pictures, with smaller characters, at a third of the rate

A group of crops has a character in each, a picture of a crowd has 36, and the loss of a stage is a sum of means of groups: so
most of its gradient is the noise of few characters. `crowds` gains 6 points at 6 px in 1,500 steps; crowds alone gain as
much in 100. In `sharpen` all other groups have little weight.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.tiny.labels import (
    CELL_PX,
    GLYPH_IDS,
    IGNORE,
    LEGIBLE_PX,
    TEXT_LABELS,
    LabelledPicture,
    label_text,
    label_view,
    sparse_labels,
)
from pixel_reasoner.tiny.scene_cache import SceneCache
from pixel_reasoner.tiny.tower import EARLY_LOSS_WEIGHT
from pixel_reasoner.tiny.version_cache import drawn_crowd
from pixel_reasoner.tiny.views import NUM_RANDOM_CROPS, View
from pixel_reasoner.world.fonts import ink_on, scaled_font
from pixel_reasoner.world.scene import COLORS, DIGITS, FONTS, NUM_FRAMES, WORDS
from pixel_reasoner.world.v2.scene import CHARACTERS

COMPOSED_CELLS = 6
"""cells per side of a composed picture"""
LARGEST_PX = 56
"""height of the only character of a crop"""
TOWER_LR = 1.5e-3
SHARPENED_PX = (6, 6, 6, 7, 7, 8, 8, 9, 10, 12, 16)
"""heights of the characters of `sharpen`, the hardest ones most often"""
SHARPEN_WEIGHTS = MappingProxyType({"pictures": 0.06, "crops": 0.05, "frames": 0.02, "text": 0.08})
"""about the number of their characters, relative to those of crowds; ten times as much, and crowds hardly gain"""
_AMBIGUOUS = -200
"""mark of a cell with the centres of two characters: it gets no label"""

Batch = dict[str, list[LabelledPicture]]
"""Group -> its pictures. The loss is a sum of means of groups: text has ten times as many characters as crops have."""


def characters_batch(_: Callable[[], SceneCache], rng: random.Random) -> Batch:
    """Return a batch of the first stage: small characters alone. It needs no scenes."""
    return {"text": [_scattered_characters(rng, LEGIBLE_PX, 20) for _ in range(40)]}


def print_batch(_: Callable[[], SceneCache], rng: random.Random) -> Batch:
    """Return a batch of the second stage: characters of every height, words and numbers."""
    return {"text": _text(rng, 27, 13)}


def views_batch(views: Callable[[], SceneCache], rng: random.Random) -> Batch:
    """Return a batch of the third stage: views of both worlds, and text."""
    drawn = _views(views(), rng)
    return {name: _labelled(some) for name, some in drawn.items()} | {"text": _text(rng, 8, 4)}


def crowds_batch(views: Callable[[], SceneCache], rng: random.Random) -> Batch:
    """Return a batch of the fourth stage: half of one of the stage before, and crowds that no other step has."""
    halves = {name: _labelled(some[::2]) for name, some in _views(views(), rng).items()}
    halves["text"] = _text(rng, 8, 4)[::2]
    return halves | {"crowds": _labelled([drawn_crowd(rng) for _ in range(20)])}


def sharpen_batch(views: Callable[[], SceneCache], rng: random.Random) -> Batch:
    """Return a batch of the last stage: crowds with characters as small as they get, and a part of one of the third."""
    drawn = _views(views(), rng)
    return {
        "pictures": _labelled(drawn["pictures"][::4]),
        "crops": _labelled(drawn["crops"][::2]),
        "frames": _labelled(drawn["frames"][::4]),
        "text": _text(rng, 5, 2),
        "crowds": _labelled([drawn_crowd(rng, SHARPENED_PX) for _ in range(24)]),
    }


def _views(cache: SceneCache, rng: random.Random) -> dict[str, list[View]]:
    """Return views of both worlds in groups."""
    return {
        "pictures": _pictures(cache, rng),
        "crops": _crops(cache, rng),
        "frames": _frames(cache, rng),
    }


def _labelled(views: list[View]) -> list[LabelledPicture]:
    return [label_view(view) for view in views]


def _text(rng: random.Random, characters: int, words: int) -> list[LabelledPicture]:
    composed = [_scattered_characters(rng, LEGIBLE_PX, LARGEST_PX) for _ in range(characters)]
    return composed + [_scattered_words(rng) for _ in range(words)]


def _pictures(cache: SceneCache, rng: random.Random) -> list[View]:
    """Return overviews of pictures, crowds and pages."""
    pictures, versions = cache.scenes["attribute"], cache.versions
    views = [versions.picture(rng) for _ in range(16)]
    views += [versions.crowd(rng) for _ in range(5)]
    views += [cache.picture(rng.randrange(len(pictures))) for _ in range(5)]
    return views + [_page(cache, rng) for _ in range(4)]


def _crops(cache: SceneCache, rng: random.Random) -> list[View]:
    """Return results of `zoom_in`: around items of pictures, crowds and pages, and of any size at any place."""
    versions = cache.versions
    views = [versions.crop(rng) for _ in range(14)]
    views += [versions.crowd_crop(rng) for _ in range(5)]
    views += [versions.random_crop(rng) for _ in range(4)]
    views += [_crop(cache, rng) for _ in range(9)]
    views += [_page_crop(cache, rng) for _ in range(16)]
    return views + _random_crops(cache, rng, 2)


def _frames(cache: SceneCache, rng: random.Random) -> list[View]:
    """Return frames of overviews, and results of `select_frames`."""
    clips, versions = cache.scenes["video"], cache.versions
    views = [versions.frame(rng) for _ in range(20)]
    views += [cache.frame(rng.randrange(len(clips)), rng.randint(1, NUM_FRAMES)) for _ in range(8)]
    for _ in range(8):
        selected = _selected_frame(cache, rng)
        views.append(cache.frame(selected.scene.seed, selected.frame))
    views += [shift_view(versions.selected_frame(rng), rng) for _ in range(5)]
    return views + [shift_view(_selected_frame(cache, rng), rng) for _ in range(4)]


class TowerStage(NamedTuple):
    """One stage of the vision tower."""

    name: str
    """name of the log and checkpoint, and part of the random seed"""
    steps: int
    batch: Callable[[Callable[[], SceneCache], random.Random], Batch]
    lr: float = TOWER_LR
    weights: Mapping[str, float] = MappingProxyType({})
    """group -> weight of its loss, if not 1"""
    early_weight: float = EARLY_LOSS_WEIGHT
    """weight of the loss of the tokens of an earlier layer"""


TOWER_STAGES = (
    TowerStage("characters", 700, characters_batch),
    TowerStage("print", 800, print_batch),
    TowerStage("views", 3000, views_batch),
    TowerStage("crowds", 1500, crowds_batch),
    TowerStage("sharpen", 2000, sharpen_batch, TOWER_LR / 3, SHARPEN_WEIGHTS, 0.02),
)


def shift_view(view: View, rng: random.Random) -> View:
    """Augmentation: drop one row and one column of cells to shift all objects relative to the patch grid.

    There are fewer selected frames than crops, so the tower memorises them without shifts.
    """
    side = view.pixels.shape[0]
    end = side - CELL_PX
    left, top = rng.randrange(CELL_PX), rng.randrange(CELL_PX)
    x1, y1, x2, y2 = (at / side for at in (left, top, left + end, top + end))
    pixels = view.pixels[top : top + end, left : left + end]
    return view._replace(pixels=pixels, box=Box(x1, y1, x2, y2))


# --- composed pictures ---


def _scattered_words(rng: random.Random) -> LabelledPicture:
    """Return words and numbers in one font on one colour, with much more text than a crop of a page."""
    cells = COMPOSED_CELLS
    side, scale = cells * CELL_PX, 2
    color = rng.choice([*COLORS, None])
    ground = COLORS[color] if color else tuple(rng.randint(236, 255) for _ in range(3))
    canvas = Image.new("RGB", (side * scale, side * scale), ground)
    pen = ImageDraw.Draw(canvas)
    font = scaled_font(rng.randint(18, 36), rng.randrange(FONTS))
    ink = ink_on(color) if color else (40, 40, 40)
    labelled = {name: np.full((cells, cells), IGNORE) for name in TEXT_LABELS}
    taken: list[tuple[float, float]] = []
    for _ in range(20):
        x, y = rng.uniform(28, side - 28), rng.uniform(12, side - 12)
        if any(abs(x - u) < 60 and abs(y - v) < 26 for u, v in taken):
            continue
        taken.append((x, y))
        text = rng.choice(WORDS) if rng.random() < 0.6 else "".join(rng.choices(DIGITS, k=2))
        pen.text((x * scale, y * scale), text, font=font, fill=ink, anchor="mm")
        label_text(labelled, (int(y // CELL_PX), int(x // CELL_PX)), text)
    pixels = np.asarray(canvas.resize((side, side), Image.Resampling.LANCZOS))
    return LabelledPicture(pixels, sparse_labels(labelled, cells))


def _scattered_characters(rng: random.Random, smallest: float, largest: float) -> LabelledPicture:
    """Return characters of one height on one colour: a crop has one character, this picture has up to forty."""
    cells = COMPOSED_CELLS
    side, scale = cells * CELL_PX, 2
    color = rng.choice(list(COLORS))
    height = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    canvas = Image.new("RGB", (side * scale, side * scale), COLORS[color])
    pen = ImageDraw.Draw(canvas)
    font, ink = scaled_font(height * scale), ink_on(color)
    glyphs = np.full((cells, cells), IGNORE)
    step = max(height * rng.uniform(1.3, 2.0), CELL_PX * 0.9)
    shift_x, shift_y = rng.uniform(0, step), rng.uniform(0, step)
    jitter = (step - height) / 2
    for row in range(math.ceil(side / step) + 1):
        for column in range(math.ceil(side / step) + 1):
            x = column * step - shift_x + rng.uniform(-jitter, jitter)
            y = row * step - shift_y + rng.uniform(-jitter, jitter)
            glyph = rng.choice(CHARACTERS)
            pen.text((x * scale, y * scale), glyph, font=font, fill=ink, anchor="mm")
            at = int(y // CELL_PX), int(x // CELL_PX)
            if min(x, y) >= height / 2 and max(x, y) < side - height / 2:
                glyphs[at] = GLYPH_IDS[glyph] if glyphs[at] == IGNORE else _AMBIGUOUS
    glyphs[glyphs == _AMBIGUOUS] = IGNORE
    pixels = np.asarray(canvas.resize((side, side), Image.Resampling.LANCZOS))
    return LabelledPicture(pixels, sparse_labels({"glyph": glyphs}, cells))


# --- random views ---


def _crop(cache: SceneCache, rng: random.Random) -> View:
    index = rng.randrange(len(cache.scenes["attribute"]))
    return cache.crop(index, rng.randrange(len(cache.scenes["attribute"][index].items)))


def _selected_frame(cache: SceneCache, rng: random.Random) -> View:
    index = rng.randrange(len(cache.scenes["video"]))
    items = cache.scenes["video"][index].items
    item = rng.randrange(len(items))
    return cache.selected_frame(index, item, rng.randrange(len(items[item].frames)))


def _page(cache: SceneCache, rng: random.Random) -> View:
    return cache.page(rng.randrange(len(cache.scenes["infographic"])))


def _page_crop(cache: SceneCache, rng: random.Random) -> View:
    index = rng.randrange(len(cache.scenes["infographic"]))
    return cache.page_crop(index, rng.randrange(len(cache.scenes["infographic"][index].items)))


def _random_crops(cache: SceneCache, rng: random.Random, each: int) -> list[View]:
    """Return crops of any size: `each` crops per picture, and as many per page."""
    views = []
    for family in ("attribute", "infographic"):
        count = len(cache.scenes[family])
        views += [
            cache.random_crop(family, rng.randrange(count), rng.randrange(NUM_RANDOM_CROPS))
            for _ in range(each)
        ]
    return views
