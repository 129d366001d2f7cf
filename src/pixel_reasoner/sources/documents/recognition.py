"""Text of pictures by OCR, with a box for every word. It needs the extra `ocr`; its models are for Chinese and Latin scripts.

Not covered
    tilted and vertical lines: they are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.page_text import (
    GreyPixels,
    PageText,
    TextOrigin,
    Word,
    clean_text,
    is_spaceless,
)
from pixel_reasoner.operations import _ocr
from pixel_reasoner.schema.geometry import Box, Size

PREVIEW_PX = 1_000
_MAX_LINE_ASPECT = 1.5
"""height of a line with several characters, divided by its width; a higher one is vertical"""
_PADDING = 0.08
"""margin around a recognized word, as a fraction of its height; boxes of characters cut their edges"""


@functools.cache
def is_ocr_installed() -> bool:
    """Return whether the packages of the extra `ocr` are installed. Nothing is imported."""
    try:
        _ocr.check_installed()
    except UsageError:
        return False
    return True


def recognized_text(image: Image.Image) -> PageText:
    """Return the text of a picture (RGB) as that of a page. A large picture is scaled down before.

    Raises:
        UsageError: the extra `ocr` is not installed.
    """
    scale = min(1.0, _ocr.MAX_SIDE_PX / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    shown = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    words = tuple(word for line in _ocr.recognize(shown) for word in _words(line, size))
    return PageText(words, image.size, preview(image), TextOrigin.OCR)


def preview(image: Image.Image) -> GreyPixels:
    """Return a small grey copy of a picture."""
    small = image.convert("L")
    small.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return np.asarray(small)


def _words(line: _ocr.Line, size: Size) -> Iterator[Word]:
    """Yield the words of a line. A character of a script without spaces is a word."""
    width, height = (line.box.x2 - line.box.x1) * size[0], (line.box.y2 - line.box.y1) * size[1]
    if len(line.text) > 1 and height > _MAX_LINE_ASPECT * width:
        return
    edges = _edges(line)
    at = 0
    pad = _PADDING * height / size[0]
    last = " "
    for part in line.text.split():
        is_spaced = True
        for run in _runs(part):
            x1, x2 = edges[at][0], edges[at + len(run) - 1][1]
            at += len(run)
            text = clean_text(run)
            x1, x2 = max(0.0, x1 - pad), min(1.0, x2 + pad)
            if x1 < x2:
                is_spaced = is_spaced or (last == ":" and run[0].isalnum())
                is_spaced = is_spaced and not (is_spaceless(last) and is_spaceless(run[0]))
                box = Box(x1, line.box.y1, x2, line.box.y2)
                yield Word(text, box, is_spaced, line.score)
            is_spaced, last = False, run[-1]


def _runs(text: str) -> Iterator[str]:
    """Yield the parts of a word: each character of a script without spaces, what is between them, and a label with its colon.

    OCR often leaves out the space after a colon.

    >>> list(_runs("A4漢字12")), list(_runs("Total:12")), list(_runs("12:30"))
    (['A4', '漢', '字', '12'], ['Total:', '12'], ['12:30'])
    """
    start = 0
    for number, character in enumerate(text):
        if (
            character == ":"
            and number
            and text[number - 1].isalpha()
            and text[number + 1 :][:1].isalnum()
        ):
            yield text[start : number + 1]
            start = number + 1
        if is_spaceless(character):
            if start < number:
                yield text[start:number]
            yield character
            start = number + 1
    if start < len(text):
        yield text[start:]


def _edges(line: _ocr.Line) -> Sequence[tuple[float, float]]:
    """Return the left and right edge of each character that is no blank, as fractions of the picture."""
    if len(line.edges) == len("".join(line.text.split())):
        return line.edges
    step = (line.box.x2 - line.box.x1) / max(1, len(line.text))  # unknown: characters of one width
    places = [number for number, one in enumerate(line.text) if not one.isspace()]
    return [(line.box.x1 + step * at, line.box.x1 + step * (at + 1)) for at in places]
