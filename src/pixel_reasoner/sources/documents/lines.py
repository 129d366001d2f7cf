"""Lines of a page: words of equal height next to each other, without a large gap.

A row of the page has one line, or several where a gap separates columns or cells. Only visible words become part of a line:
text that is covered, or white on white, is not asked about.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pixel_reasoner.media.page_text import (
    GreyPixels,
    PageText,
    TextOrigin,
    Word,
    enclosing_box,
    is_right_to_left,
    join_words,
)
from pixel_reasoner.schema.geometry import Box

MIN_CONTRAST = 48
"""of grey values within the middle of a word; text that is fainter is not asked about"""
MIN_OCR_SCORE = 0.8
MAX_WORD_CHARS = 30
MAX_LINE_CHARS = 160
_MAX_GAP = 1.3
"""gap within a line, as a multiple of the height of its words"""
_MAX_SHIFT = 0.35
"""of the middle of a word against its row, as a multiple of the height"""
_LEADER = re.compile(r"[.·•…_\-–—]{3,}$|[.…]$")
_MOJIBAKE = re.compile(r"[ÃÂâ][\u0080-\u00bf€™œž]")
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f\ufffd\ue000-\uf8ff]")


@dataclass(frozen=True)
class Line:
    """Words of one line, in reading order."""

    words: tuple[Word, ...]
    row: int
    """number of the row of the page, from 0"""
    place: int
    """number among the lines of its row, in reading order"""
    is_last: bool
    """whether it is the last one of its row"""
    follows_leader: bool = False
    """whether dots lead to it from the line before it"""

    @cached_property
    def text(self) -> str:
        """Words with their spaces."""
        return join_words(self.words)

    @cached_property
    def box(self) -> Box:
        """Box around the words."""
        return enclosing_box([word.box for word in self.words])

    @cached_property
    def height(self) -> float:
        """Median height of a word, as a fraction of the page."""
        return statistics.median(word.box.y2 - word.box.y1 for word in self.words)

    @cached_property
    def is_clean(self) -> bool:
        """Whether questions may be asked about it: no unknown characters, no letter-spaced or endless text."""
        letters = sum(one.isalnum() for one in self.text)
        spaced = [word for word in self.words if word.is_spaced]
        is_split = len(spaced) > 3 and statistics.mean(len(one.text) for one in spaced) < 2
        return (
            not is_split
            and 2 * letters >= len(self.text.replace(" ", ""))
            and len(self.text) <= MAX_LINE_CHARS
            and all(len(word.text) <= MAX_WORD_CHARS for word in self.words)
            and all(word.score >= MIN_OCR_SCORE for word in self.words)
            and not self._is_cut
            and not (_UNREADABLE.search(self.text) or _MOJIBAKE.search(self.text))
        )

    @cached_property
    def _is_cut(self) -> bool:
        """Whether a recognized line has single characters, which OCR cuts off: `Capita l`, `11 5`."""
        single = (word.text for word in self.words if word.is_spaced and len(word.text) == 1)
        is_recognized = any(word.score < 1 for word in self.words)
        return is_recognized and any(one.isalnum() and one not in "aAI" for one in single)


def page_lines(page: PageText) -> list[Line]:
    """Return the visible lines of a page, from top to bottom, and in reading order within a row."""
    words = [
        word
        for word in _without_copies(page.words)
        if page.origin is TextOrigin.OCR or is_visible(word.box, page.preview)
    ]
    aspect = page.size_px[0] / page.size_px[1]
    lines: list[Line] = []
    for number, row in enumerate(_rows(words)):
        segments = list(_segments(row, aspect))
        for place, (segment, follows_leader) in enumerate(segments):
            is_last = place == len(segments) - 1
            lines.append(Line(tuple(segment), number, place, is_last, follows_leader))
    return lines


def is_visible(box: Box, preview: GreyPixels) -> bool:
    """Return whether the middle of a box has ink of enough contrast. A bar over a word hides it."""
    height, width = preview.shape
    top, bottom = (
        int((0.75 * box.y1 + 0.25 * box.y2) * height),
        int((0.25 * box.y1 + 0.75 * box.y2) * height),
    )
    left, right = int(box.x1 * width), int(box.x2 * width)
    middle = preview[top : max(bottom, top + 1) + 1, left : max(right, left + 1) + 1]
    return bool(middle.size) and int(middle.max()) - int(middle.min()) >= MIN_CONTRAST


def _without_copies(words: Iterable[Word]) -> Iterator[Word]:
    """Yield words. A copy of a word at the same place is left out: some files draw bold text twice."""
    known: dict[tuple[str, int, int], Word] = {}
    for word in words:
        for x in (round(word.box.x1 * 200), round(word.box.x1 * 200 + 0.5)):
            other = known.get((word.text, x, round(word.box.y1 * 200)))
            if other and other.box.intersection(word.box) > 0.6 * word.box.area:
                break
        else:
            known[word.text, round(word.box.x1 * 200), round(word.box.y1 * 200)] = word
            yield word


def _rows(words: Sequence[Word]) -> list[list[Word]]:
    """Return the rows of a page, from top to bottom."""
    rows: list[tuple[float, float, list[Word]]] = []  # middle, height, words
    for word in sorted(words, key=lambda one: one.box.y1 + one.box.y2):
        middle, height = (word.box.y1 + word.box.y2) / 2, word.box.y2 - word.box.y1
        for row_middle, row_height, members in reversed(rows[-4:]):
            if abs(middle - row_middle) <= _MAX_SHIFT * min(height, row_height):
                members.append(word)
                break
        else:
            rows.append((middle, height, [word]))
    return [members for _, _, members in rows]


def _segments(row: list[Word], aspect: float) -> Iterator[tuple[list[Word], bool]]:
    """Yield the words of each line of a row, and whether dots lead to it."""
    is_rtl = is_right_to_left("".join(word.text for word in row))
    ordered = sorted(row, key=lambda word: -word.box.x2 if is_rtl else word.box.x1)
    current: list[Word] = []
    end, after_leader, is_leader = 0.0, False, False
    for word in ordered:
        if _LEADER.fullmatch(word.text) and _is_leader(word, ordered):
            is_leader = True
            continue
        text = re.sub(r"[.·…]{4,}$", "", word.text)
        leads = text != word.text
        height = word.box.y2 - word.box.y1
        gap = (end - word.box.x2) if is_rtl else (word.box.x1 - end)
        if current and (is_leader or gap * aspect > _MAX_GAP * height):
            yield current, after_leader
            current, after_leader = [], is_leader
        if text:
            current.append(word._replace(text=text, box=_shortened(word, text, is_rtl)))
        end = word.box.x1 if is_rtl else word.box.x2
        is_leader = leads
    if current:
        yield current, after_leader


def _is_leader(word: Word, row: Sequence[Word]) -> bool:
    """Return whether a word of dots is part of a row of dots. A single dot is one only among others."""
    return len(word.text) > 1 or sum(one.text == word.text for one in row) > 3


def _shortened(word: Word, text: str, is_rtl: bool) -> Box:
    """Return the box of the first characters of a word."""
    share = len(text) / len(word.text)
    x1, y1, x2, y2 = word.box
    return (
        Box(x2 - share * (x2 - x1), y1, x2, y2)
        if is_rtl
        else Box(x1, y1, x1 + share * (x2 - x1), y2)
    )
