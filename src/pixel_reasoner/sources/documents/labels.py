"""Candidates about labels and tables: what belongs to a name on the page.

key_value   a label with a colon, and what follows in its line
next_to     a label, and the text to its right or behind dots
cell        a cell of a table, by the names of its row and column
title       the largest text of a page
"""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence

from pixel_reasoner.media.page_text import Word, join_words
from pixel_reasoner.sources.documents.candidates import (
    MAX_ANSWER_WORDS,
    MAX_LABEL_WORDS,
    Candidate,
    Page,
    is_answer,
    is_quotable,
    num_words,
    one_place,
)
from pixel_reasoner.sources.documents.lines import Line
from pixel_reasoner.sources.documents.tables import find_tables

_MIN_ALIGNED = 3
"""lines that start at one place, so that they are a column of values"""
_TITLE_RATIO = 1.5
"""least height of a title, as a multiple of the median line"""
_MIN_TITLE_LEAD = 1.15
"""least height of a title, as a multiple of the second highest line"""


def key_values(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield labels with a colon. The value is in the same line, or at the start of a column of values."""
    values = _columns_of_values(page)
    for row in page.rows:
        for line, following in zip(row, [*row[1:], None], strict=True):
            if not line.is_clean:
                continue
            split = _colon(line.words)
            if split is None:
                continue
            key, value = line.words[:split], line.words[split:]
            if not value and following in values and following.is_clean:
                value = following.words
            label = join_words(list(key)).rstrip(":： ")
            if not is_answer(value) or not page.is_anchor(label):
                continue
            question = rng.choice(
                (
                    f'What stands after "{label}:" in the same line?',
                    f'Which text follows "{label}:" in its line?',
                    f'What is given for "{label}"?',
                )
            )
            finding = f'"{label}" is followed by {{answer}}'
            yield one_place("key_value", question, key, value, f'the text after "{label}"', finding)


def _colon(words: Sequence[Word]) -> int | None:
    """Return the number of words up to a colon that ends a label; None if there is no label."""
    for number, word in enumerate(words, start=1):
        if word.text.endswith((":", "：")):
            is_label = num_words(words[:number]) <= MAX_LABEL_WORDS and any(
                one.isalpha() for one in words[0].text
            )
            return number if is_label else None
    return None


def next_to(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield labels with a value at the end of their line, behind dots or in a column of values."""
    values = _columns_of_values(page)
    for row in page.rows:
        if len(row) != 2 or not all(line.is_clean for line in row):
            continue
        label, value = row
        if not (value.follows_leader or value in values) or _colon(label.words) is not None:
            continue  # a label with a colon is one of `key_values`
        text = label.text.rstrip(":： ")
        if num_words(label.words) > MAX_LABEL_WORDS or not is_answer(value.words):
            continue
        if not page.is_anchor(text) or not any(one.isalpha() for one in text):
            continue
        question = rng.choice(
            (
                f'What stands in the same line as "{text}", at its end?',
                f'Which text ends the line that starts with "{text}"?',
            )
            if value.follows_leader
            else (
                f'What stands to the right of "{text}" in the same line?',
                f'Which text is in the same line as "{text}", to its right?',
            )
        )
        finding = f'in the line of "{text}" stands {{answer}}'
        yield one_place(
            "next_to", question, label.words, value.words, f'the line of "{text}"', finding
        )


def _columns_of_values(page: Page) -> set[Line]:
    """Return the short lines that are second in their row, one below the other. A column of running text is none."""
    columns: defaultdict[float, list[Line]] = defaultdict(list)
    for row in page.rows:
        if len(row) == 2:
            columns[round(row[1].box.x1, 2)].append(row[1])
    return {
        line
        for lines in columns.values()
        for line in lines
        if len(lines) >= _MIN_ALIGNED
        and statistics.median(num_words(one.words) for one in lines) <= MAX_ANSWER_WORDS
    }


def cells(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield cells of tables whose row and column have a name of their own."""
    for table in find_tables(page.lines):
        names = [row[0].text for row in table.rows]
        for row in table.rows:
            name = row[0].text
            if names.count(name) > 1 or not is_quotable(name) or not row[0].is_clean:
                continue
            if num_words(row[0].words) > MAX_LABEL_WORDS or not page.words.has_once(name):
                continue
            for heading, cell in zip(table.headings[1:], row[1:], strict=True):
                column = heading.text
                if not (cell.is_clean and heading.is_clean and is_quotable(column)):
                    continue
                if not is_answer(cell.words):
                    continue
                question = rng.choice(
                    (
                        f'In the table, what stands in the row "{name}" and the column "{column}"?',
                        f'What is the value of "{column}" for "{name}" in the table?',
                    )
                )
                finding = f'the cell of "{name}" and "{column}" has {{answer}}'
                subject = f'the cell of "{name}" and "{column}"'
                yield one_place("cell", question, row[0].words, cell.words, subject, finding)


def titles(page: Page, rng: random.Random) -> Iterator[Candidate]:
    """Yield the largest text of a page, if there is one that is much larger than the others."""
    if len(page.lines) < 4:
        return
    heights = sorted((line.height for line in page.lines), reverse=True)
    tallest = max(page.lines, key=lambda line: line.height)
    is_largest = (
        heights[0] >= _MIN_TITLE_LEAD * heights[1]
        and heights[0] >= _TITLE_RATIO * heights[len(heights) // 2]
    )
    if not is_largest or not tallest.is_clean or not is_answer(tallest.words):
        return
    question = rng.choice(
        (
            "What does the largest text on the page say?",
            "Which words are printed largest on the page?",
        )
    )
    yield one_place(
        "title", question, [], tallest.words, "the largest text", "the largest text says {answer}"
    )
