"""Text of one page or picture, with the place of every word: the text layer of a PDF, or OCR.

    text = text_layer(path, limits, page=3)        # media.text_layer
    text = recognized_text(image)                  # media.ocr

Both give words in fractions of the upright page, as it is rendered for a model.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from pixel_reasoner.schema.geometry import Box, Size

GreyPixels = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
_LIGATURES = {
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "\ufb05": "st",
    "\ufb06": "st",
}
_SPACELESS_SCRIPTS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # CJK, kana, bopomofo, their punctuation
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFF9F),  # fullwidth forms, halfwidth kana
    (0x20000, 0x3FFFF),
)


class TextOrigin(StrEnum):
    """Where the text of a page comes from."""

    LAYER = "text layer"
    OCR = "ocr"


class Word(NamedTuple):
    """A word, or one character of a script without spaces between words."""

    text: str
    box: Box
    is_spaced: bool = True
    """whether a space is written before it, if it is not the first of its line"""
    score: float = 1.0
    """confidence of the recognition in [0, 1]; 1 for a text layer"""
    ends_in_hyphen: bool = False
    """whether it is the first part of a word that goes on in the next line"""


class PageText(NamedTuple):
    """Words of a page, in the order of its file, and a small grey copy of the page."""

    words: tuple[Word, ...]
    size_px: Size
    """(width, height) of the page as it is rendered for a model"""
    preview: GreyPixels
    """(height, width), to test whether words are visible"""
    origin: TextOrigin


def is_spaceless(character: str) -> bool:
    """Return whether a script has no spaces between words, so that its characters are words here.

    >>> [is_spaceless(one) for one in "aé漢ก:："]
    [False, False, True, True, False, True]
    """
    code = ord(character)
    return code >= 0x0E00 and any(low <= code <= high for low, high in _SPACELESS_SCRIPTS)


def is_right_to_left(text: str) -> bool:
    """Return whether most letters of a text are written from right to left.

    >>> is_right_to_left("שלום"), is_right_to_left("12 ab")
    (True, False)
    """
    if text.isascii():
        return False
    directions = [unicodedata.bidirectional(one) for one in text]
    return sum(one in ("R", "AL") for one in directions) > directions.count("L")


def clean_text(text: str) -> str:
    """Return a text in composed form, without ligatures. Exponents and fractions are kept.

    >>> clean_text("ﬁne e\u0301 10²")
    'fine é 10²'
    """
    if text.isascii():
        return text
    for one, letters in _LIGATURES.items():
        if one in text:
            text = text.replace(one, letters)
    return unicodedata.normalize("NFC", text)


def join_words(words: list[Word] | tuple[Word, ...]) -> str:
    """Return the text of words of one line.

    >>> at = Box(0, 0, 1, 1)
    >>> join_words([Word("No", at), Word("漢", at, False), Word("12", at)])
    'No漢 12'
    """
    parts = [
        (" " if word.is_spaced and number else "") + word.text for number, word in enumerate(words)
    ]
    return "".join(parts)


def enclosing_box(boxes: list[Box]) -> Box:
    """Return the smallest box around some boxes.

    >>> enclosing_box([Box(0, 0.5, 0.25, 1), Box(0.5, 0, 0.75, 0.5)])
    Box(x1=0, y1=0, x2=0.75, y2=1)
    """
    x1s, y1s, x2s, y2s = zip(*boxes, strict=True)
    return Box(min(x1s), min(y1s), max(x2s), max(y2s))
