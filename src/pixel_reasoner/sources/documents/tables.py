"""Tables of a page: consecutive rows with as many lines, one below the other, under a row of headings."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from pixel_reasoner.sources.documents.lines import Line

MIN_ROWS = 3
"""with the headings"""
MAX_CELL_WORDS = 5
"""median of a column; columns of running text have more"""
_MAX_ROW_GAP = 3.0
"""distance of two rows, as a multiple of their height"""


class Table(NamedTuple):
    """Table with headings."""

    headings: tuple[Line, ...]
    rows: tuple[tuple[Line, ...], ...]
    """rows of cells; the first cell of each names the row"""


def rows_of_lines(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the lines of each row of the page."""
    return [list(row) for _, row in groupby(lines, key=lambda line: line.row)]


def find_tables(lines: Sequence[Line]) -> Iterator[Table]:
    """Yield the tables of a page whose first row is certainly one of headings: words above numbers."""
    block: list[list[Line]] = []
    for row in [*rows_of_lines(lines), []]:
        if block and not _continues(block, row):
            yield from _table(block)
            block = []
        if len(row) > 1:
            block.append(row)


def _continues(block: list[list[Line]], row: list[Line]) -> bool:
    """Return whether a row has a cell below each one of a block, and is close to it."""
    first, last = block[0], block[-1]
    if len(row) != len(first):
        return False
    height = statistics.median(line.height for line in row)
    if row[0].box.y1 - last[0].box.y2 > _MAX_ROW_GAP * height:
        return False
    return all(_is_aligned(line, other) for line, other in zip(row, first, strict=True))


def _is_aligned(one: Line, other: Line) -> bool:
    """Return whether two lines overlap in most of the shorter one's width, or have an edge or the middle in common."""
    width = min(one.box.x2 - one.box.x1, other.box.x2 - other.box.x1)
    shared = min(one.box.x2, other.box.x2) - max(one.box.x1, other.box.x1)
    return shared >= 0.5 * width


def _table(block: list[list[Line]]) -> Iterator[Table]:
    if len(block) < MIN_ROWS:
        return
    headings, *rows = block
    columns = list(zip(*rows, strict=True))
    if any(_median_words(column) > MAX_CELL_WORDS for column in columns):
        return
    is_named = all(_has_letter(line) and not _has_digit(line) for line in headings)
    has_numbers = any(all(map(_has_digit, column)) for column in columns[1:])
    texts = [line.text.casefold() for line in headings]
    if is_named and has_numbers and len(set(texts)) == len(texts):
        yield Table(tuple(headings), tuple(map(tuple, rows)))


def _median_words(column: Sequence[Line]) -> float:
    return statistics.median(len(line.words) for line in column)


def _has_letter(line: Line) -> bool:
    return any(one.isalpha() for one in line.text)


def _has_digit(line: Line) -> bool:
    return any(one.isdigit() for one in line.text)
