"""Training batches of the vision tower stages. Each is a function of the random generator alone.

Character recognition needs far more examples than localisation, and a view contains one or two characters. So later
stages add
composed pictures, cut from real crops and selected frames, or drawn:

    see    views of all kinds
    read   mosaics: every cell is a window around a character
    focus  scattered glyphs: windows across two or four cells, on one colour, as in a rollout
    look   mostly results of operations
    pages  pages, scattered words and numbers, crops of any size
    print  mostly text on pages
    sizes  PixelWorld 2: characters of every height, in overviews and in results of operations
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.tiny.labels import (
    CELL_PX,
    CLASSES,
    COLOR_IDS,
    GLYPH_IDS,
    IGNORE,
    PAGE_CLASSES,
    TEXT_LABELS,
    VERSION_CLASSES,
    LabelledPicture,
    label_text,
    label_view,
    position,
    sparse_labels,
)
from pixel_reasoner.tiny.scene_cache import SceneCache
from pixel_reasoner.tiny.views import NUM_RANDOM_CROPS, View
from pixel_reasoner.world.fonts import ink_on, scaled_font
from pixel_reasoner.world.scene import COLORS, DIGITS, FONTS, NUM_FRAMES, WORDS
from pixel_reasoner.world.v2.scene import CHARACTERS

COMPOSED_CELLS = 6
"""cells per side of a composed picture"""
_AMBIGUOUS = -200
"""mark of a cell with the centres of two characters: it gets no label"""

Batch = list[LabelledPicture]


def sample_views(cache: SceneCache, rng: random.Random) -> list[View]:
    """Return overviews, crops, frames with and without a card, and selected frames."""
    pictures, clips = cache.scenes["attribute"], cache.scenes["video"]
    views = [cache.picture(rng.randrange(len(pictures))) for _ in range(32)]
    views += [_crop(cache, rng) for _ in range(32)]
    views += [cache.frame(rng.randrange(len(clips)), rng.randint(1, NUM_FRAMES)) for _ in range(24)]
    for _ in range(24):
        selected = _selected_frame(cache, rng)
        views.append(cache.frame(selected.scene.seed, selected.frame))
    return views + [_selected_frame(cache, rng) for _ in range(12)]


def see_batch(cache: SceneCache, rng: random.Random) -> Batch:
    """Return a first-stage batch: views with all their labels."""
    return [label_view(view) for view in sample_views(cache, rng)]


def read_batch(cache: SceneCache, rng: random.Random) -> Batch:
    """Return a second-stage batch: mosaics, and half a first-stage batch against forgetting."""
    return see_batch(cache, rng)[::2] + [_mosaic(cache, rng) for _ in range(24)]


def focus_batch(cache: SceneCache, rng: random.Random) -> Batch:
    """Return a third-stage batch: scattered glyphs, results of operations, a quarter of a first-stage batch."""
    views = [_crop(cache, rng) for _ in range(16)]
    views += [_selected_frame(cache, rng) for _ in range(10)]
    labelled = [label_view(view) for view in views]
    return (
        see_batch(cache, rng)[::4] + labelled + [_scattered_glyphs(cache, rng) for _ in range(24)]
    )


def look_batch(cache: SceneCache, rng: random.Random) -> Batch:
    """Return a fourth-stage batch: like the third stage, but mostly results of operations."""
    views = [_crop(cache, rng) for _ in range(44)]
    views += [_selected_frame(cache, rng) for _ in range(14)]
    views += [shift_view(_selected_frame(cache, rng), rng) for _ in range(14)]
    labelled = [label_view(view) for view in views]
    return see_batch(cache, rng)[::4] + labelled + [_scattered_glyphs(cache, rng) for _ in range(3)]


def pages_batch(cache: SceneCache, rng: random.Random) -> Batch:
    """Return a fifth-stage batch: pages, scattered words, crops of any size, and examples of earlier stages."""
    views = [_page(cache, rng) for _ in range(12)]
    views += [_page_crop(cache, rng) for _ in range(28)]
    views += _random_crops(cache, rng, 8)
    views += sample_views(cache, rng)[::12]
    views += [_crop(cache, rng) for _ in range(12)]
    views += [shift_view(_selected_frame(cache, rng), rng) for _ in range(8)]
    labelled = [label_view(view) for view in views]
    return labelled + [_scattered_words(rng) for _ in range(20)] + [_scattered_glyphs(cache, rng)]


def print_batch(cache: SceneCache, rng: random.Random) -> Batch:
    """Return a sixth-stage batch: like the fifth stage, but mostly text on pages."""
    views = [_page_crop(cache, rng) for _ in range(48)]
    views += _random_crops(cache, rng, 6)
    views += [_page(cache, rng) for _ in range(4)]
    views += sample_views(cache, rng)[::16]
    views += [_crop(cache, rng) for _ in range(8)]
    views += [shift_view(_selected_frame(cache, rng), rng) for _ in range(6)]
    labelled = [label_view(view) for view in views]
    return labelled + [_scattered_words(rng) for _ in range(24)]


def sizes_batch(cache: SceneCache, rng: random.Random) -> Batch:
    """Return a seventh-stage batch: mostly PixelWorld 2, and examples of earlier stages."""
    versions = cache.versions
    drawn = (
        (versions.picture, 14),
        (versions.crowd, 10),
        (versions.crop, 14),
        (versions.crowd_crop, 6),
        (versions.random_crop, 4),
        (versions.frame, 24),
    )
    views = [draw(rng) for draw, count in drawn for _ in range(count)]
    views += [shift_view(versions.selected_frame(rng), rng) for _ in range(6)]
    views += [_page_crop(cache, rng) for _ in range(12)]
    views += [_page(cache, rng) for _ in range(2)]
    views += sample_views(cache, rng)[::16]
    views += [_crop(cache, rng) for _ in range(4)]
    views += [shift_view(_selected_frame(cache, rng), rng) for _ in range(2)]
    labelled = [label_view(view) for view in views]
    composed = [_scattered_characters(rng) for _ in range(30)]
    return labelled + composed + [_scattered_words(rng) for _ in range(6)]


class TowerStage(NamedTuple):
    """One stage of the vision tower."""

    name: str
    """name of the log and checkpoint, and part of the random seed"""
    steps: int
    batch: Callable[[SceneCache, random.Random], Batch]
    labels: str = "scenes"
    """name of the labels, in `LABELS`: stages with the same ones share their probes"""
    muon: bool = True


TOWER_STAGES = (
    TowerStage("see", 1400, see_batch, muon=False),
    TowerStage("read", 1200, read_batch, muon=False),
    TowerStage("focus", 1000, focus_batch),
    TowerStage("look", 1500, look_batch),
    TowerStage("pages", 1200, pages_batch, "pages"),
    TowerStage("print", 1000, print_batch, "pages"),
    TowerStage("sizes", 3000, sizes_batch, "versions"),
)
LABELS: dict[str, dict[str, int]] = {
    "scenes": CLASSES,
    "pages": PAGE_CLASSES,
    "versions": VERSION_CLASSES,
}
"""name -> label -> number of classes"""


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


def _mosaic(cache: SceneCache, rng: random.Random) -> LabelledPicture:
    """Return windows around characters, one per cell, labelled with the character and its colour."""
    cells = COMPOSED_CELLS
    pixels = np.empty((cells, CELL_PX, cells, CELL_PX, 3), np.uint8)
    glyphs, colors = (np.empty((cells, cells), np.int64) for _ in range(2))
    for row in range(cells):
        for col in range(cells):
            view = _crop_or_frame(cache, rng)
            assert view.item is not None, "crops and selected frames are views of an item"
            x, y = (rng.uniform(5, CELL_PX - 5) for _ in range(2))
            glyph, pixels[row, :, col] = _window(view, x, y)
            glyphs[row, col], colors[row, col] = GLYPH_IDS[glyph], COLOR_IDS[view.item.color]
    labels = sparse_labels({"glyph": glyphs, "color": colors}, cells)
    return LabelledPicture(pixels.reshape(cells * CELL_PX, cells * CELL_PX, 3), labels)


def _scattered_glyphs(cache: SceneCache, rng: random.Random) -> LabelledPicture:
    """Return windows around characters on one colour, shifted so that most extend over several cells.

    In a mosaic the colour of a cell shows which patches belong together. Here, as on a real shape, only their positions
    do.
    """
    cells = COMPOSED_CELLS
    color = rng.choice(list(COLORS))
    density = rng.random()
    canvas = np.empty(((cells + 1) * CELL_PX, (cells + 1) * CELL_PX, 3), np.uint8)
    canvas[:] = COLORS[color]
    shift_x, shift_y = rng.randrange(CELL_PX), rng.randrange(CELL_PX)
    glyphs = np.full((cells, cells), IGNORE)
    for row in range(cells + 1):
        for col in range(cells + 1):
            if rng.random() >= density:
                continue
            view = _view_of_color(cache, rng, color)
            x, y = (rng.uniform(12, CELL_PX - 12) for _ in range(2))
            glyph, window = _window(view, x, y)
            top, left = row * CELL_PX, col * CELL_PX
            canvas[top : top + CELL_PX, left : left + CELL_PX] = window
            at = int((top + y - shift_y) // CELL_PX), int((left + x - shift_x) // CELL_PX)
            if min(at) >= 0 and max(at) < cells:
                glyphs[at] = GLYPH_IDS[glyph] if glyphs[at] == IGNORE else _AMBIGUOUS
    glyphs[glyphs == _AMBIGUOUS] = IGNORE
    end = cells * CELL_PX
    pixels = canvas[shift_y : shift_y + end, shift_x : shift_x + end]
    return LabelledPicture(pixels, sparse_labels({"glyph": glyphs}, cells))


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


def _scattered_characters(
    rng: random.Random, smallest: float = 6, largest: float = 56
) -> LabelledPicture:
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


def _window(view: View, x: float, y: float) -> tuple[str, np.ndarray]:
    """Return the character of a view and one cell of pixels around it.

    The centre of the character is at (x, y) of the cell, as far as the view's edges allow.
    """
    assert view.item is not None, "crops and selected frames are views of an item"
    side = view.pixels.shape[0]
    left, top = (
        min(max(round(at * side - inside), 0), side - CELL_PX)
        for at, inside in zip(position(view, view.item), (x, y), strict=True)
    )
    return view.item.glyph, view.pixels[top : top + CELL_PX, left : left + CELL_PX]


# --- random views ---


def _crop(cache: SceneCache, rng: random.Random) -> View:
    index = rng.randrange(len(cache.scenes["attribute"]))
    return cache.crop(index, rng.randrange(len(cache.scenes["attribute"][index].items)))


def _selected_frame(cache: SceneCache, rng: random.Random) -> View:
    index = rng.randrange(len(cache.scenes["video"]))
    items = cache.scenes["video"][index].items
    item = rng.randrange(len(items))
    return cache.selected_frame(index, item, rng.randrange(len(items[item].frames)))


def _crop_or_frame(cache: SceneCache, rng: random.Random) -> View:
    return _crop(cache, rng) if rng.random() < 0.6 else _selected_frame(cache, rng)


def _view_of_color(cache: SceneCache, rng: random.Random, color: str) -> View:
    while True:
        view = _crop_or_frame(cache, rng)
        if view.item is not None and view.item.color == color:
            return view


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
