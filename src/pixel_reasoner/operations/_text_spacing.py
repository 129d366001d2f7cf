"""Blanks of a recognized line, from the widths of the gaps between its characters.

A gap is the longest run of columns without ink between the centres of two characters. If the gaps of a line are of two
clearly different widths, the wide ones are blanks. Otherwise the blanks of the recognizer are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

_INK_SHARE = 0.3
"""minimum difference to the background, as a share of the largest difference of the line"""
_MIN_RATIO = 1.45
"""minimum ratio of the narrowest blank and the widest gap within a word"""
_MIN_BLANK = 0.11
"""minimum width of a blank, as a share of the height of the line's boxes"""
_MAX_LETTER_GAP = 0.6
"""maximum width of a gap within a word, likewise; wider gaps are always blanks"""
_BEARING = 0.07
"""blank edge of a character of `_NARROW` in fonts whose digits have one width, likewise"""
_NARROW = frozenset("1:.,;!'|")


class Character(NamedTuple):
    """A recognized character with its box in pixels."""

    text: str
    left: float
    right: float
    top: float
    bottom: float

    @property
    def centre(self) -> float:
        """Horizontal centre."""
        return (self.left + self.right) / 2


def spaced_text(text: str, characters: Sequence[Character], grey: Any) -> str:
    """Return the text of a line with the blanks that its gaps show.

    Args:
        text: of the recognizer.
        characters: of the line without blanks, in order.
        grey: the picture as an array (height, width).
    """
    words = "".join(text.split())
    if len(characters) < 3 or "".join(one.text for one in characters) != words:
        return text
    height = sum(one.bottom - one.top for one in characters) / len(characters)
    gaps = [
        max(0.0, gap - _BEARING * height * ((one.text in _NARROW) + (other.text in _NARROW)))
        for gap, one, other in zip(
            _gaps(characters, grey), characters, characters[1:], strict=False
        )
    ]
    threshold = _threshold(gaps, height)
    if threshold is None:
        return text
    parts = [characters[0].text]
    for one, gap in zip(characters[1:], gaps, strict=True):
        parts += [" ", one.text] if gap >= threshold else [one.text]
    return "".join(parts)


def _gaps(characters: Sequence[Character], grey: Any) -> list[int]:
    """Return the width of the gap after each character but the last, in pixels."""
    top = max(0, round(min(one.top for one in characters)))
    bottom = max(top + 1, round(max(one.bottom for one in characters)))
    line = grey[top:bottom].astype(int)
    left, right = round(characters[0].left), round(characters[-1].right)
    inside = line[:, max(0, left) : max(left + 1, right)]
    background = int(sorted(inside.ravel().tolist())[inside.size // 2])
    difference = abs(line - background)
    strongest = int(abs(inside - background).max()) if inside.size else 0
    has_ink = (difference > max(8, _INK_SHARE * strongest)).any(axis=0).tolist()
    return [
        _longest_run(has_ink[max(0, round(one.centre)) : round(other.centre) + 1])
        for one, other in itertools.pairwise(characters)
    ]


def _longest_run(has_ink: list[bool]) -> int:
    longest = current = 0
    for one in has_ink:
        current = 0 if one else current + 1
        longest = max(longest, current)
    return longest


def _threshold(gaps: Sequence[float], height: float) -> float | None:
    """Return the width from which gaps are blanks; None if the widths are not clearly of two kinds.

    >>> _threshold([1, 0, 2, 1, 5, 1], 12.0), _threshold([1, 2, 3, 2, 3], 12.0)
    (5, None)
    """
    widths = sorted(set(gaps))
    best: tuple[float, float] | None = None
    for narrow, wide in itertools.pairwise(widths):
        ratio = (wide + 0.5) / (narrow + 0.5)
        possible = wide >= _MIN_BLANK * height and narrow <= _MAX_LETTER_GAP * height
        if possible and ratio >= _MIN_RATIO and (best is None or ratio > best[0]):
            best = ratio, wide
    return None if best is None else best[1]
