"""Text layer of a PDF page by pypdfium2 (extra `workflows`): words with boxes on the rendered page.

PDFium returns characters in points of the unrotated, uncropped page. `FPDF_PageToDevice` converts them, so `/Rotate`, `CropBox`
and `UserUnit` are applied as in rendering. The order of characters is that of the file; callers sort by place.

Not covered
    text that is not upright on the rendered page: vertical labels, pages that were scanned upside down. It is left out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pixel_reasoner.media.documents import Passwords, open_page, render_size
from pixel_reasoner.media.page_text import (
    PageText,
    TextOrigin,
    Word,
    clean_text,
    is_right_to_left,
    is_spaceless,
)
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.settings import MediaLimits

MAX_CHARACTERS = 50_000
"""of one page; a page of a newspaper has some 20,000"""
PREVIEW_PX = 1_000
"""longer side of the grey copy: text of 10 points on A4 is 12 pixels high"""
_DEVICE = 1 << 20
"""size of the page in the units of `FPDF_PageToDevice`, which returns whole numbers"""
_POINTS = 1000
_HYPHENS = (0x2, 0xFFFE, 0xAD)
"""PDFium's marks of a hyphen at the end of a line, and the soft hyphen"""
_MAX_GAP = 0.9
"""gap between the characters of a word, as a multiple of the height; a larger one ends the word"""
_Array = np.ndarray[Any, np.dtype[np.float64]]


class _Characters(NamedTuple):
    """Characters of a page."""

    codes: list[int]
    boxes: _Array  # (N, 4): x1, y1, x2, y2 in fractions of the rendered page
    aspect: float
    """width of the page, divided by its height"""


def text_layer(
    path: Path, limits: MediaLimits, page: int | None = None, passwords: Passwords = ()
) -> PageText:
    """Return the words in the text layer of a page. A scanned page has none.

    Args:
        path: of the PDF.
        limits: on bytes, pixels and memory.
        page: from 1; None for the first.
        passwords: of protected files.

    Raises:
        InputError: not a PDF, no such page, more than `MAX_CHARACTERS`, or a password is needed.
    """
    with open_page(path, limits, page, passwords) as opened:
        size, scale = render_size(opened, limits)
        characters = _characters(opened)
        small = min(scale, PREVIEW_PX * scale / max(size))
        bitmap = opened.render(scale=small, grayscale=True, may_draw_forms=True)
        preview = np.asarray(bitmap.to_pil().convert("L"))
    return PageText(tuple(_words(characters)), size, preview, TextOrigin.LAYER)


def _characters(page: Any) -> _Characters:
    from pypdfium2 import raw

    text = page.get_textpage()
    try:
        count = text.count_chars()
        if count > MAX_CHARACTERS:
            raise ValueError(f"{count:,} characters on one page, more than {MAX_CHARACTERS:,}")
        points = np.empty((count, 4))
        codes = [raw.FPDFText_GetUnicode(text, number) for number in range(count)]
        loose = raw.FS_RECTF()
        edges = [ctypes.c_double() for _ in range(4)]  # left, right, bottom, top
        for number in range(count):
            raw.FPDFText_GetLooseCharBox(text, number, loose)
            box = loose.left, loose.bottom, loose.right, loose.top
            if not (box[0] < box[2] and box[1] < box[3]):  # fonts without metrics
                raw.FPDFText_GetCharBox(text, number, *edges)
                box = edges[0].value, edges[2].value, edges[1].value, edges[3].value
            points[number] = box
    finally:
        text.close()
    width, height = page.get_size()
    return _Characters(codes, _on_page(page, points), width / height)


def _on_page(page: Any, points: _Array) -> _Array:
    """Return boxes in fractions of the rendered page, from boxes in points of the file."""
    from pypdfium2 import raw

    def device(x: float, y: float) -> _Array:
        at = ctypes.c_int(), ctypes.c_int()
        raw.FPDF_PageToDevice(page, 0, 0, _DEVICE, _DEVICE, 0, x, y, *at)
        return np.array([one.value / _DEVICE for one in at])

    origin = device(0, 0)
    per_x, per_y = ((device(*end) - origin) / _POINTS for end in ((_POINTS, 0), (0, _POINTS)))
    corners = [
        origin + points[:, [x]] * per_x + points[:, [y]] * per_y for x, y in ((0, 1), (2, 3))
    ]
    return np.hstack([np.minimum(*corners), np.maximum(*corners)])


def _words(characters: _Characters) -> Iterator[Word]:
    """Yield the words that are inside the page and upright."""
    start, is_spaced = 0, True
    codes, boxes = characters.codes, characters.boxes
    glue = _continues(characters)
    for number, code in enumerate(codes):
        character = chr(code) if 0 < code < 0x110000 else "\ufffd"
        is_space = character.isspace() and code not in _HYPHENS
        if number > start and (is_space or not glue[number]):
            yield from _word(characters, start, number, is_spaced)
            is_spaced = boxes[number][0] - boxes[number - 1][2] > 0.15 * _height(boxes[number])
            start = number
        if is_space:
            start, is_spaced = number + 1, True
    if start < len(codes):
        yield from _word(characters, start, len(codes), is_spaced)


def _height(box: _Array) -> float:
    return float(box[3] - box[1])


def _continues(characters: _Characters) -> list[bool]:
    """Return for each character whether it may belong to the word of the character before it."""
    boxes, codes = characters.boxes, characters.codes
    if len(boxes) < 2:
        return [False] * len(boxes)
    heights = np.maximum(boxes[:, 3] - boxes[:, 1], 1e-9)
    gap = np.maximum(boxes[1:, 0] - boxes[:-1, 2], boxes[:-1, 0] - boxes[1:, 2])
    middle = (boxes[:, 1] + boxes[:, 3]) / 2
    near = (gap * characters.aspect < _MAX_GAP * heights[1:]) & (
        np.abs(np.diff(middle))
        < 0.25 * np.maximum(heights[1:], heights[:-1])  # a raised number is no part of a word
    )
    spaceless = [is_spaceless(chr(code)) if 0 < code < 0x110000 else False for code in codes]
    pairs = zip(near.tolist(), spaceless, spaceless[1:], strict=False)
    return [False, *(is_near and not (one or other) for is_near, one, other in pairs)]


def _word(characters: _Characters, start: int, end: int, is_spaced: bool) -> Iterator[Word]:
    """Yield the word of a range of characters, unless it is not visible as upright text."""
    codes, boxes = characters.codes[start:end], characters.boxes[start:end]
    has_box = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    ends_in_hyphen = codes[-1] in _HYPHENS
    text = "".join(
        chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
        for code in codes
        if code not in _HYPHENS
    )
    text = clean_text(text)
    if not text or not has_box.any() or not _is_upright(text, boxes[has_box], characters.aspect):
        return
    x1, y1 = np.maximum(boxes[has_box, :2].min(axis=0), 0.0).tolist()
    x2, y2 = np.minimum(boxes[has_box, 2:].max(axis=0), 1.0).tolist()
    if x1 < x2 and y1 < y2:
        yield Word(text, Box(x1, y1, x2, y2), is_spaced, 1.0, ends_in_hyphen)


def _is_upright(text: str, boxes: _Array, aspect: float) -> bool:
    """Return whether the characters of a word go on in the direction of its script."""
    if len(boxes) < 2:
        return True
    along_x, along_y = (boxes[-1, :2] - boxes[0, :2]) * (aspect, 1.0)
    is_rtl = is_right_to_left(text)
    return abs(along_x) >= abs(along_y) and (is_rtl or along_x >= 0)
