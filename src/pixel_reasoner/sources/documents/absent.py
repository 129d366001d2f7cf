"""Phrases that are not on a page: the answer is "no", and the evidence is all of the page's text, in a few regions."""

from __future__ import annotations

import random
from collections.abc import Iterator

from pixel_reasoner.media.page_text import enclosing_box, join_words
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType
from pixel_reasoner.sources.documents.candidates import (
    Candidate,
    Page,
    Part,
    is_quotable,
)
from pixel_reasoner.sources.documents.legibility import Legibility
from pixel_reasoner.sources.documents.sentences import occurs_question

GRIDS = ((1, 2), (2, 2), (2, 3))
"""columns and rows of the regions, from few to many"""
MIN_LINES = 4
_MAX_PHRASES = 4
_MAX_TRIES = 12


def absent_candidates(
    page: Page, legibility: Legibility, rng: random.Random
) -> Iterator[Candidate]:
    """Yield phrases that differ from one of the page in a word. None if its text is too small for six regions."""
    regions = scan_regions(page, legibility)
    if not regions:
        return
    height = min(line.height for line in page.lines)
    for text in _absent_phrases(page, rng):
        last = f'there is no "{text}" here either, so the page does not have these words'
        findings = [f'there is no "{text}" in this part'] * (len(regions) - 1) + [last]
        parts = tuple(
            Part(f"part {number} of the text", finding, box, box, height)
            for number, (box, finding) in enumerate(zip(regions, findings, strict=True), start=1)
        )
        yield Candidate("occurs", occurs_question(text, rng), "no", AnswerType.TEXT, parts)


def scan_regions(page: Page, legibility: Legibility) -> list[Box]:
    """Return the fewest regions that cover the text of a page and show it legibly; none if six are not enough."""
    if len(page.lines) < MIN_LINES:
        return []
    area = enclosing_box([line.box for line in page.lines])
    height = min(line.height for line in page.lines)
    for columns, rows in GRIDS:
        boxes = [
            Box((column) / columns, row / rows, (column + 1) / columns, (row + 1) / rows).within(
                area
            )
            for row in range(rows)
            for column in range(columns)
        ]
        if all(legibility.in_crop(page.text.size_px, box, height) for box in boxes):
            return boxes
    return []


def _absent_phrases(page: Page, rng: random.Random) -> Iterator[str]:
    """Yield phrases of three words, two of them neighbours on the page, that are not on the page."""
    lines = [line for line in page.clean_lines if len(line.words) > 3]
    words = sorted({w.text for line in lines for w in line.words if w.text.isalpha()})
    if not lines or len(words) < 2:
        return
    found: set[str] = set()
    for _ in range(_MAX_TRIES):
        line = rng.choice(lines)
        at = rng.randrange(len(line.words) - 2)
        three = list(line.words[at : at + 3])
        three[1] = three[1]._replace(text=rng.choice(words))
        text = join_words(three)
        is_phrase = text[0].isalnum() and text[-1].isalnum() and is_quotable(text)
        if is_phrase and text not in found and page.words.count(text) == 0:
            found.add(text)
            yield text
        if len(found) == _MAX_PHRASES:
            return
