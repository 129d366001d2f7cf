"""Dense labels of the vision tower: the targets that every visual token predicts about its cell.

Next-token loss alone does not train a small tower from scratch to localise. So every visual token predicts PixelWorld's
ground truth for its cell: colour and shape of an item whose centre is in the cell, offset in the cell, size, character
(if
legible), the ball of a clip, and the row and column of the token itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.tiny.views import View
from pixel_reasoner.world.page import HEADING_Y
from pixel_reasoner.world.scene import COLORS, DIGITS, LETTERS, SHAPES, WORDS, Item
from pixel_reasoner.world.v2 import READABLE_FROM_PX
from pixel_reasoner.world.v2.scene import BLANK

CELL_PX = 32
"""side in pixels of the square of one visual token"""
IGNORE = -100
"""label of a token that the loss ignores"""
LEGIBLE_PX = 6
"""minimum height of a labelled character, in pixels of the view"""
NUM_PLACE_VALUES = 3
"""offset in x and y within the cell, and size in cells: regressed if the cell contains the centre of an item"""

COLOR_IDS = {name: number for number, name in enumerate(COLORS, start=1)}
SHAPE_IDS = {
    name: number
    for number, name in enumerate((*SHAPES, "card", "bar", "point", "column", "print"), start=1)
}
GLYPH_IDS = {glyph: number for number, glyph in enumerate(LETTERS + DIGITS + BLANK)}
WORD_IDS = {word: number for number, word in enumerate(WORDS)}

CLASSES = {
    "color": len(COLOR_IDS) + 1,
    "shape": len(SHAPE_IDS) + 1,
    "glyph": len(GLYPH_IDS),
    "word": len(WORD_IDS),
    "tens": len(DIGITS),
    "ones": len(DIGITS),
    "legible": 2,
    "ball": len(COLOR_IDS) + 1,
    "row": 8,
    "col": 8,
}
"""Label -> number of classes; 0 is `none` for colour, shape and ball. `word`, `tens` and `ones` are the text of pages, and
`legible` is whether the character of an item can be read in this view."""
TEXT_LABELS = ("word", "tens", "ones")


class Labels(NamedTuple):
    """Labels of the tokens of one or more views."""

    classes: dict[str, torch.Tensor]
    """name -> (tokens,) int64, `IGNORE` for tokens without a label"""
    place: torch.Tensor
    """(tokens, 3) float, for the item whose centre is in the cell"""


class LabelledPicture(NamedTuple):
    """Picture of a batch, with the labels of its tokens."""

    pixels: np.ndarray
    labels: Labels


def label_view(view: View) -> LabelledPicture:
    """Return a view with all its labels."""
    return LabelledPicture(view.pixels, compute_labels(view))


def compute_labels(view: View) -> Labels:
    """Return the dense labels of one view, tokens row by row."""
    cells = view.pixels.shape[0] // CELL_PX
    classes = {name: np.zeros((cells, cells), np.int64) for name in CLASSES}
    classes["row"][:] = np.arange(cells)[:, None]
    classes["col"][:] = np.arange(cells)[None, :]
    for name in ("glyph", "legible", *TEXT_LABELS):
        classes[name][:] = IGNORE
    place = np.zeros((cells, cells, NUM_PLACE_VALUES), np.float32)
    for item in visible_items(view):
        _label_item(view, item, classes, place)
    page = getattr(view.scene, "page", None)
    if page is not None and view.box == WHOLE:
        label_text(classes, (int(HEADING_Y * cells), cells // 2), page.heading)
    ball = getattr(view.scene, "ball", None)
    if ball is not None:
        x, y = position_in(view.box, ball.x(view.frame), ball.y)
        if 0 <= x < 1 and 0 <= y < 1:
            classes["ball"][int(y * cells), int(x * cells)] = COLOR_IDS[ball.color]
    return Labels(_flattened(classes), torch.from_numpy(place.reshape(-1, NUM_PLACE_VALUES)))


def sparse_labels(labelled: dict[str, np.ndarray], cells: int) -> Labels:
    """Return labels of few kinds, each (cells, cells), plus row and column labels of every token."""
    classes = {name: np.full((cells, cells), IGNORE) for name in CLASSES}
    classes["row"][:], classes["col"][:] = np.arange(cells)[:, None], np.arange(cells)[None, :]
    classes |= labelled
    no_place = torch.full((cells * cells, NUM_PLACE_VALUES), float("nan"))
    return Labels(_flattened(classes), no_place)


def label_text(classes: dict[str, np.ndarray], at: tuple[int, int], text: str) -> None:
    """Set the labels of one cell for the text at its centre: a character, a number of two digits or a word."""
    if text in WORD_IDS:
        classes["word"][at] = WORD_IDS[text]
    elif len(text) == 2:
        classes["tens"][at], classes["ones"][at] = (DIGITS.index(digit) for digit in text)
    else:
        classes["glyph"][at] = GLYPH_IDS[text]


def _label_item(view: View, item: Item, classes: dict[str, np.ndarray], place: np.ndarray) -> None:
    cells = place.shape[0]
    x, y = position(view, item)
    if not (0 <= x < 1 and 0 <= y < 1):
        return
    at = row, col = int(y * cells), int(x * cells)
    size = item.size / (view.box.x2 - view.box.x1) * cells
    classes["color"][at] = COLOR_IDS.get(item.color, 0)
    classes["shape"][at] = SHAPE_IDS[item.shape]
    place[at] = x * cells - col, y * cells - row, size
    height = detail_px(view)
    classes["legible"][at] = height >= READABLE_FROM_PX
    if height >= LEGIBLE_PX:
        label_text(classes, at, item.glyph)


def _flattened(classes: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(grid.reshape(-1)) for name, grid in classes.items()}


def visible_items(view: View) -> list[Item]:
    """Return the items of a view's picture or frame, inside its region or not."""
    return [item for item in view.scene.items if not item.frames or view.frame in item.frames]


def position(view: View, item: Item) -> tuple[float, float]:
    """Return the centre of an item as fractions of the view."""
    return position_in(view.box, item.x, item.y)


def position_in(box: Box, x: float, y: float) -> tuple[float, float]:
    """Return a point of the scene as fractions of a region: below 0 or above 1 outside of it."""
    return (x - box.x1) / (box.x2 - box.x1), (y - box.y1) / (box.y2 - box.y1)


def detail_px(view: View) -> float:
    """Return the height of a character in pixels of the view."""
    params = view.scene.params
    return params.detail_px * view.pixels.shape[0] / (params.size_px * (view.box.x2 - view.box.x1))
