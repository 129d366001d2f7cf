"""Text recognition in pictures by RapidOCR (extra `ocr`), on the CPU with models of its package: nothing is downloaded.

Its models are for Chinese and Latin scripts. One engine per process, one thread: parallel work is done in processes.

Not covered
    tilted and vertical lines: they are left out.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pixel_reasoner.errors import require_extra
from pixel_reasoner.media.page_text import (
    GreyPixels,
    PageText,
    TextOrigin,
    Word,
    clean_text,
    is_spaceless,
)
from pixel_reasoner.schema.geometry import Box

MAX_SIDE_PX = 2_000
"""longer side of the picture that is searched; RapidOCR shrinks larger ones by itself"""
PREVIEW_PX = 1_000
_MAX_TILT = math.radians(8)
_PADDING = 0.08
"""margin around a recognized word, as a fraction of its height; boxes of the engine cut letters"""
_lock = Lock()
Quad = Sequence[Sequence[float]]
"""four corners in pixels, clockwise from the upper left"""


class RecognizedWord(NamedTuple):
    """Word, or one character of a script without spaces, in a picture."""

    text: str
    score: float
    """confidence in [0, 1]"""
    box: Box


def is_ocr_installed() -> bool:
    """Return whether the packages of the extra `ocr` are installed. Nothing is imported."""
    return all(importlib.util.find_spec(name) for name in ("rapidocr", "onnxruntime"))


def read_lines(image: Image.Image) -> list[list[RecognizedWord]]:
    """Return the upright lines of text in a picture, each with its words from left to right.

    Args:
        image: RGB. One that is larger than `MAX_SIDE_PX` is scaled down.

    Raises:
        UsageError: the extra `ocr` is not installed.
    """
    engine = _engine()
    scale = min(1.0, MAX_SIDE_PX / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    shown = image.convert("RGB")
    shown = shown if shown.size == size else shown.resize(size, Image.Resampling.LANCZOS)
    with _lock:  # the engine keeps arguments of a call
        result = engine(shown, return_word_box=True)
    if result.boxes is None:
        return []
    lines = (
        [_word(*word, size) for word in line if _is_upright(word[2])]
        for line in result.word_results
    )
    return [words for line in lines if (words := [one for one in line if one is not None])]


def recognized_text(image: Image.Image) -> PageText:
    """Return the text of a picture as that of a page.

    Raises:
        UsageError: the extra `ocr` is not installed.
    """
    words = tuple(word for line in read_lines(image) for word in _page_words(line))
    return PageText(words, image.size, preview(image), TextOrigin.OCR)


def preview(image: Image.Image) -> GreyPixels:
    """Return a small grey copy of a picture."""
    small = image.convert("L")
    small.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return np.asarray(small)


@lru_cache(maxsize=1)
def _engine() -> Any:
    with require_extra("ocr", "read text in pictures"):
        import onnxruntime  # noqa: F401 - RapidOCR names it only when it is called
        from rapidocr import RapidOCR
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.max_side_len": MAX_SIDE_PX,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _is_upright(quad: Quad | None) -> bool:
    if quad is None:
        return False
    (left, top), (right, end) = quad[0], quad[1]
    return right > left and abs(math.atan2(end - top, right - left)) <= _MAX_TILT


def _word(text: str, score: float, quad: Quad, size: tuple[int, int]) -> RecognizedWord | None:
    """Return a word with its box in fractions of the picture; None for an empty one."""
    xs, ys = zip(*quad, strict=True)
    pad = _PADDING * (max(ys) - min(ys))
    x1, x2 = max(0.0, (min(xs) - pad) / size[0]), min(1.0, (max(xs) + pad) / size[0])
    y1, y2 = max(0.0, (min(ys) - pad) / size[1]), min(1.0, (max(ys) + pad) / size[1])
    text = clean_text(text.strip())
    if not text or not (x1 < x2 and y1 < y2):
        return None
    return RecognizedWord(text, float(score), Box(x1, y1, x2, y2))


def _page_words(line: list[RecognizedWord]) -> Iterator[Word]:
    """Yield the words of a line. Boxes that overlap are separated in the middle."""
    end, last = 0.0, ""
    for number, word in enumerate(line):
        x1 = max(word.box.x1, end)
        follows = line[number + 1].box.x1 if number + 1 < len(line) else 1.0
        x2 = min(word.box.x2, max((word.box.x2 + follows) / 2, x1))
        if x1 >= x2:
            x1, x2 = word.box.x1, word.box.x2
        is_spaced = not (is_spaceless(last[-1:] or " ") or is_spaceless(word.text[0]))
        yield Word(word.text, Box(x1, word.box.y1, x2, word.box.y2), is_spaced, word.score)
        end, last = x2, word.text
