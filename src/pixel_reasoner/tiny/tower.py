"""Stages 1 to 6: the vision tower learns to see and to read, from dense labels that PixelWorld knows.

Next-token loss alone does not teach a small tower from scratch to localise. So every visual token is asked what lies in
its cell: colour and shape of an item whose centre it holds, where in the cell, how large, which character
(where it is legible), the ball of a clip, and the token's own row and column. The probes are thrown away.

Reading needs far more examples than seeing, and a view holds one or two characters. So the second stage adds
mosaics: pictures whose every cell is a window around a character, cut from real crops and selected frames. The third
reads them as a rollout meets them: mostly across two or four cells, on a wide ground of one colour. The fourth reads
what operations return. The fifth adds pages: words and numbers in several fonts, and crops of any size; the sixth
goes on with what is written on them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional as F

from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.scene_cache import NUM_STRAYS, Gallery, View
from pixel_reasoner.world.fonts import font_of, ink_on
from pixel_reasoner.world.page import HEADING_Y
from pixel_reasoner.world.scene import (
    COLORS,
    DIGITS,
    FONTS,
    LETTERS,
    NUM_FRAMES,
    SHAPES,
    WORDS,
    Item,
)

CELL_PX = 32
"""side of the square of pixels behind one visual token"""
IGNORE = -100
LEGIBLE_PX = 6
"""a character less high than this in a view is not asked for"""

_COLOR = {name: number for number, name in enumerate(COLORS, start=1)}
_SHAPE = {
    name: number
    for number, name in enumerate((*SHAPES, "card", "bar", "point", "column", "print"), start=1)
}
_TWO = -200
_GLYPH = {glyph: number for number, glyph in enumerate(LETTERS + DIGITS)}

CLASSES = {
    "color": len(_COLOR) + 1,
    "shape": len(SHAPES) + 2,
    "glyph": len(_GLYPH),
    "ball": len(_COLOR) + 1,
    "row": 8,
    "col": 8,
}
"""what is asked of every token, with the number of answers; 0 is `none` for colour, shape and ball"""
_WORD = {word: number for number, word in enumerate(WORDS)}
PAGE_CLASSES = CLASSES | {
    "shape": len(_SHAPE) + 1,
    "word": len(_WORD),
    "tens": len(DIGITS),
    "ones": len(DIGITS),
}
"""the same with what is written on pages: words, and numbers of two digits"""
_WRITTEN = ("word", "tens", "ones")
PLACE = 3
"""offset in x and y within the cell, and size in cells: regressed where an item's centre lies"""


class Labels(NamedTuple):
    """What the tokens of one or more views are to answer."""

    classes: dict[str, torch.Tensor]
    """name -> (tokens,) int64, IGNORE where it is not asked"""
    place: torch.Tensor
    """(tokens, 3) float, of the item whose centre lies in the cell"""


class Seen(NamedTuple):
    """A picture and what its tokens are to answer."""

    pixels: np.ndarray
    labels: Labels


class Probes(nn.Module):
    """Linear read-outs of visual tokens, thrown away after the stage."""

    def __init__(self, width: int, classes: dict[str, int] = CLASSES) -> None:
        super().__init__()
        self.classes = classes
        self.read = nn.Linear(width, sum(classes.values()) + PLACE)

    def forward(self, tokens: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """(tokens, width) -> logits by name and (tokens, 3) places."""
        parts = self.read(tokens).split([*self.classes.values(), PLACE], dim=-1)
        return dict(zip(self.classes, parts[:-1], strict=True)), parts[-1]


def labels_of(view: View) -> Labels:
    """The dense labels of one view, tokens row by row."""
    cells = view.pixels.shape[0] // CELL_PX
    classes = {name: np.zeros((cells, cells), np.int64) for name in PAGE_CLASSES}
    classes["row"][:] = np.arange(cells)[:, None]
    classes["col"][:] = np.arange(cells)[None, :]
    for name in ("glyph", *_WRITTEN):
        classes[name][:] = IGNORE
    place = np.zeros((cells, cells, PLACE), np.float32)
    for item in visible_items(view):
        x, y = position(view, item)
        if 0 <= x < 1 and 0 <= y < 1:
            at = row, col = int(y * cells), int(x * cells)
            size = item.size / (view.box.x2 - view.box.x1) * cells
            classes["color"][at] = _COLOR.get(item.color, 0)
            classes["shape"][at] = _SHAPE[item.shape]
            place[at] = x * cells - col, y * cells - row, size
            if detail_px(view) >= LEGIBLE_PX:
                _label_text(classes, at, item.glyph)
    page = view.scene.page
    if page is not None and view.box == WHOLE:
        _label_text(classes, (int(HEADING_Y * cells), cells // 2), page.heading)
    ball = view.scene.ball
    if ball is not None:
        x, y = within(view.box, ball.x(view.frame), ball.y)
        if 0 <= x < 1 and 0 <= y < 1:
            classes["ball"][int(y * cells), int(x * cells)] = _COLOR[ball.color]
    flat = {name: torch.from_numpy(grid.reshape(-1)) for name, grid in classes.items()}
    return Labels(flat, torch.from_numpy(place.reshape(-1, PLACE)))


def _label_text(classes: dict[str, np.ndarray], at: tuple[int, int], text: str) -> None:
    """What is written around the middle of a cell: a character, a number of two digits or a word."""
    if text in _WORD:
        classes["word"][at] = _WORD[text]
    elif len(text) == 2:
        classes["tens"][at], classes["ones"][at] = (DIGITS.index(digit) for digit in text)
    else:
        classes["glyph"][at] = _GLYPH[text]


def visible_items(view: View) -> list[Item]:
    """The items that a view's picture or frame holds, inside the region or not."""
    return [item for item in view.scene.items if not item.frames or view.frame in item.frames]


def position(view: View, item: Item) -> tuple[float, float]:
    """An item's centre as shares of the view."""
    return within(view.box, item.x, item.y)


def within(box: Box, x: float, y: float) -> tuple[float, float]:
    """A point of the scene as shares of a region; outside of it, below 0 or above 1."""
    return (x - box.x1) / (box.x2 - box.x1), (y - box.y1) / (box.y2 - box.y1)


def detail_px(view: View) -> float:
    """How high a character is in the view."""
    params = view.scene.params
    return params.detail_px * view.pixels.shape[0] / (params.size_px * (view.box.x2 - view.box.x1))


def sample_views(gallery: Gallery, rng: random.Random) -> list[View]:
    """A mixed batch of overviews, crops, frames with a card and without, selected frames."""
    pictures, clips = gallery.scenes["attribute"], gallery.scenes["video"]
    views = [gallery.picture(rng.randrange(len(pictures))) for _ in range(32)]
    views += [_any_crop(gallery, rng) for _ in range(32)]
    views += [
        gallery.frame(rng.randrange(len(clips)), rng.randint(1, NUM_FRAMES)) for _ in range(24)
    ]
    for _ in range(24):
        shown = _any_selected(gallery, rng)
        views.append(gallery.frame(shown.scene.seed, shown.frame))
    return views + [_any_selected(gallery, rng) for _ in range(12)]


def seeing_batch(gallery: Gallery, rng: random.Random) -> list[Seen]:
    """A batch of the first stage: views with all their labels."""
    return [Seen(view.pixels, labels_of(view)) for view in sample_views(gallery, rng)]


def reading_batch(gallery: Gallery, rng: random.Random) -> list[Seen]:
    """A batch of the second stage: mosaics, and half a batch of the first so that nothing is forgotten."""
    return seeing_batch(gallery, rng)[::2] + [_mosaic(gallery, rng) for _ in range(24)]


def focusing_batch(gallery: Gallery, rng: random.Random) -> list[Seen]:
    """A batch of the third stage: carpets, what operations return, and a quarter of a first-stage batch."""
    views = [_any_crop(gallery, rng) for _ in range(16)]
    views += [_any_selected(gallery, rng) for _ in range(10)]
    seen = [Seen(view.pixels, labels_of(view)) for view in views]
    return seeing_batch(gallery, rng)[::4] + seen + [_carpet(gallery, rng) for _ in range(24)]


def looking_batch(gallery: Gallery, rng: random.Random) -> list[Seen]:
    """A batch of the fourth stage: as the third, but mostly what operations return."""
    views = [_any_crop(gallery, rng) for _ in range(44)]
    views += [_any_selected(gallery, rng) for _ in range(14)]
    views += [shifted(_any_selected(gallery, rng), rng) for _ in range(14)]
    seen = [Seen(view.pixels, labels_of(view)) for view in views]
    return seeing_batch(gallery, rng)[::4] + seen + [_carpet(gallery, rng) for _ in range(3)]


def paging_batch(gallery: Gallery, rng: random.Random) -> list[Seen]:
    """A batch of the fifth stage: pages, lettering, crops of any size, and some of what was learned before."""
    views = [_any_page(gallery, rng) for _ in range(12)]
    views += [_any_page_crop(gallery, rng) for _ in range(28)]
    views += _any_strays(gallery, rng, 8)
    views += sample_views(gallery, rng)[::12]
    views += [_any_crop(gallery, rng) for _ in range(12)]
    views += [shifted(_any_selected(gallery, rng), rng) for _ in range(8)]
    seen = [Seen(view.pixels, labels_of(view)) for view in views]
    return seen + [_lettering(rng) for _ in range(20)] + [_carpet(gallery, rng)]


def printing_batch(gallery: Gallery, rng: random.Random) -> list[Seen]:
    """A batch of the sixth stage: as the fifth, but mostly what is written on pages."""
    views = [_any_page_crop(gallery, rng) for _ in range(48)]
    views += _any_strays(gallery, rng, 6)
    views += [_any_page(gallery, rng) for _ in range(4)]
    views += sample_views(gallery, rng)[::16]
    views += [_any_crop(gallery, rng) for _ in range(8)]
    views += [shifted(_any_selected(gallery, rng), rng) for _ in range(6)]
    seen = [Seen(view.pixels, labels_of(view)) for view in views]
    return seen + [_lettering(rng) for _ in range(24)]


def _any_strays(gallery: Gallery, rng: random.Random, each: int) -> list[View]:
    """Crops of any size: so many of pictures, and as many of pages."""
    views = []
    for family in ("attribute", "infographic"):
        count = len(gallery.scenes[family])
        views += [
            gallery.stray(family, rng.randrange(count), rng.randrange(NUM_STRAYS))
            for _ in range(each)
        ]
    return views


def _any_page(gallery: Gallery, rng: random.Random) -> View:
    return gallery.page(rng.randrange(len(gallery.scenes["infographic"])))


def _any_page_crop(gallery: Gallery, rng: random.Random) -> View:
    index = rng.randrange(len(gallery.scenes["infographic"]))
    return gallery.page_crop(index, rng.randrange(len(gallery.scenes["infographic"][index].items)))


def _lettering(rng: random.Random, cells: int = 6) -> Seen:
    """Words and numbers in one font on one colour, many more than a page's crop shows."""
    side, scale = cells * CELL_PX, 2
    color = rng.choice([*COLORS, None])
    ground = COLORS[color] if color else tuple(rng.randint(236, 255) for _ in range(3))
    canvas = Image.new("RGB", (side * scale, side * scale), ground)
    pen = ImageDraw.Draw(canvas)
    font = font_of(rng.randint(18, 36), rng.randrange(FONTS))
    ink = ink_on(color) if color else (40, 40, 40)
    asked = {name: np.full((cells, cells), IGNORE) for name in _WRITTEN}
    taken: list[tuple[float, float]] = []
    for _ in range(20):
        x, y = rng.uniform(28, side - 28), rng.uniform(12, side - 12)
        if any(abs(x - u) < 60 and abs(y - v) < 26 for u, v in taken):
            continue
        taken.append((x, y))
        text = rng.choice(WORDS) if rng.random() < 0.6 else "".join(rng.choices(DIGITS, k=2))
        pen.text((x * scale, y * scale), text, font=font, fill=ink, anchor="mm")
        _label_text(asked, (int(y // CELL_PX), int(x // CELL_PX)), text)
    return Seen(
        np.asarray(canvas.resize((side, side), Image.Resampling.LANCZOS)), _only(asked, cells)
    )


def shifted(view: View, rng: random.Random) -> View:
    """A view without one row and one column of cells, so that all in it lies elsewhere in the cells.

    There are fewer selected frames than crops, and without shifts they are learned by heart.
    """
    side = view.pixels.shape[0]
    end = side - CELL_PX
    left, top = rng.randrange(CELL_PX), rng.randrange(CELL_PX)
    x1, y1, x2, y2 = (at / side for at in (left, top, left + end, top + end))
    pixels = view.pixels[top : top + end, left : left + end]
    return view._replace(pixels=pixels, box=Box(x1, y1, x2, y2))


def _carpet(gallery: Gallery, rng: random.Random, cells: int = 6) -> Seen:
    """Windows around characters on one colour, side by side, shifted so that most lie across cells.

    In a mosaic a cell's colour tells which patches belong together; here, as on a real shape, only their places do.
    """
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
            view = _any_of_color(gallery, rng, color)
            x, y = (rng.uniform(12, CELL_PX - 12) for _ in range(2))
            glyph, window = _window(view, CELL_PX, x, y)
            top, left = row * CELL_PX, col * CELL_PX
            canvas[top : top + CELL_PX, left : left + CELL_PX] = window
            at = int((top + y - shift_y) // CELL_PX), int((left + x - shift_x) // CELL_PX)
            if min(at) >= 0 and max(at) < cells:
                # Two middles in one cell: neither is asked for.
                glyphs[at] = _GLYPH[glyph] if glyphs[at] == IGNORE else _TWO
    glyphs[glyphs == _TWO] = IGNORE
    end = cells * CELL_PX
    pixels = canvas[shift_y : shift_y + end, shift_x : shift_x + end]
    return Seen(pixels, _only({"glyph": glyphs}, cells))


def _only(asked: dict[str, np.ndarray], cells: int) -> Labels:
    """Labels that ask for little more than a token's row and column."""
    grid = {name: np.full((cells, cells), IGNORE) for name in PAGE_CLASSES}
    grid["row"][:], grid["col"][:] = np.arange(cells)[:, None], np.arange(cells)[None, :]
    grid |= asked
    classes = {name: torch.from_numpy(answers.reshape(-1)) for name, answers in grid.items()}
    return Labels(classes, torch.full((cells * cells, PLACE), float("nan")))


def _any_of_color(gallery: Gallery, rng: random.Random, color: str) -> View:
    while True:
        view = _any_crop(gallery, rng) if rng.random() < 0.6 else _any_selected(gallery, rng)
        if view.item is not None and view.item.color == color:
            return view


def _window(view: View, size: int, x: float, y: float) -> tuple[str, np.ndarray]:
    """A square of pixels in which the middle of the view's character lies at (x, y), as far as the view's edge allows."""
    assert view.item is not None, "crops and selected frames are views of an item"
    side = view.pixels.shape[0]
    left, top = (
        min(max(round(at * side - inside), 0), side - size)
        for at, inside in zip(position(view, view.item), (x, y), strict=True)
    )
    return view.item.glyph, view.pixels[top : top + size, left : left + size]


def _mosaic(gallery: Gallery, rng: random.Random, cells: int = 6) -> Seen:
    """Windows around characters, side by side: a character, its colour and the place are asked in each."""
    pixels = np.empty((cells, CELL_PX, cells, CELL_PX, 3), np.uint8)
    glyphs, colors = (np.empty((cells, cells), np.int64) for _ in range(2))
    for row in range(cells):
        for col in range(cells):
            view = _any_crop(gallery, rng) if rng.random() < 0.6 else _any_selected(gallery, rng)
            assert view.item is not None, "crops and selected frames are views of an item"
            x, y = (rng.uniform(5, CELL_PX - 5) for _ in range(2))
            glyph, pixels[row, :, col] = _window(view, CELL_PX, x, y)
            glyphs[row, col], colors[row, col] = _GLYPH[glyph], _COLOR[view.item.color]
    labels = _only({"glyph": glyphs, "color": colors}, cells)
    return Seen(pixels.reshape(cells * CELL_PX, cells * CELL_PX, 3), labels)


def _any_crop(gallery: Gallery, rng: random.Random) -> View:
    index = rng.randrange(len(gallery.scenes["attribute"]))
    return gallery.crop(index, rng.randrange(len(gallery.scenes["attribute"][index].items)))


def _any_selected(gallery: Gallery, rng: random.Random) -> View:
    index = rng.randrange(len(gallery.scenes["video"]))
    items = gallery.scenes["video"][index].items
    item = rng.randrange(len(items))
    return gallery.selected_frame(index, item, rng.randrange(len(items[item].frames)))


def shrink_tokens(visual: Any, factor: float = 1 / 8) -> None:
    """Scale what a tower puts out, by its last weights.

    The probes let visual tokens grow to a norm of forty. What the language model writes to a token of that norm is
    lost: a frame would not learn its number.
    """
    with torch.no_grad():
        for merger in (visual.merger, *visual.deepstack_merger_list):
            merger.linear_fc2.weight.mul_(factor)
            merger.linear_fc2.bias.mul_(factor)


def embed(visual: nn.Module, image_processor: Any, pictures: Sequence[np.ndarray]) -> Any:
    """The tower's output for pictures: `pooler_output` and `deepstack_features`, one picture after the other."""
    images = [torch.tensor(pixels).permute(2, 0, 1) for pixels in pictures]
    inputs = image_processor(images=images, return_tensors="pt")
    inputs = inputs.to(next(visual.parameters()).device)
    return visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"], return_dict=True)


def seeing_loss(
    probes: dict[str, Probes], visual: nn.Module, image_processor: Any, batch: list[Seen]
) -> tuple[torch.Tensor, Metrics]:
    """How badly the tokens answer, and the share of right answers by question.

    Both outputs of the tower are asked: the final tokens and, with less weight, those of the earlier layer that
    the language model also receives.
    """
    device = next(visual.parameters()).device
    target = Labels(
        {
            name: torch.cat([s.labels.classes[name] for s in batch]).to(device)
            for name in probes["final"].classes
        },
        torch.cat([s.labels.place for s in batch]).to(device),
    )
    with torch.autocast(device.type, torch.bfloat16):
        out = embed(visual, image_processor, [seen.pixels for seen in batch])
    final, metrics = _answers(probes["final"], out.pooler_output, target)
    early, _ = _answers(probes["early"], out.deepstack_features[0], target)
    return final + 0.3 * early, metrics


def _answers(probes: Probes, tokens: torch.Tensor, target: Labels) -> tuple[torch.Tensor, Metrics]:
    logits, place = probes(tokens.float())
    loss, metrics = torch.zeros((), device=tokens.device), {}
    for name, answers in target.classes.items():
        asked = answers != IGNORE
        if not asked.any():
            continue
        each = F.cross_entropy(logits[name], answers, ignore_index=IGNORE, reduction="none")
        loss = loss + each[asked].mean()
        told = asked
        if name in ("color", "shape", "ball"):
            # Most cells are empty: without a share of their own, the few with an item would hardly count.
            told = answers > 0
            loss = loss + each[told].mean()
        right = logits[name][told].argmax(-1) == answers[told]
        metrics[name] = right.float().mean().item()
    placed = target.classes["shape"] > 0
    error = (place[placed] - target.place[placed]).abs()
    metrics["offset"] = error[:, :2].mean().item()
    return loss + 4 * error.mean(), metrics
