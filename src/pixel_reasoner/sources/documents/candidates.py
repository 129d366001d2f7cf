"""Candidate questions about the text of a page. Every anchor occurs once, so an answer can be found and is unique.

`labels`, `sentences` and `absent` have the kinds. The wording is English; anchors and answers are in the script of the page.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from pixel_reasoner.media.page_text import (
    PageText,
    Word,
    enclosing_box,
    is_spaceless,
    join_words,
)
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType
from pixel_reasoner.sources.documents.lines import Line, page_lines
from pixel_reasoner.sources.documents.phrases import PageWords
from pixel_reasoner.sources.documents.tables import rows_of_lines

MAX_LABEL_WORDS = 6
MAX_ANSWER_WORDS = 6
MAX_ANSWER_CHARS = 60
_PLAIN_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,6})?")
_UNQUOTABLE = re.compile(r"[\"“”„«»{}\\$^_~`|<>]")
_BRACKETS = (("(", ")"), ("[", "]"), ("（", "）"), ("「", "」"))
SENTENCE_END = ".,;:!?。，；：！？、"


class Part(NamedTuple):
    """Place that answers a question, or a part of it."""

    subject: str
    finding: str
    box: Box
    """what the question names and what answers it"""
    answer_box: Box
    """what answers it"""
    height: float
    """of its text, as a fraction of the page"""


class Candidate(NamedTuple):
    """Question about one page, before it is known whether its text is legible."""

    kind: str
    question: str
    answer: str
    answer_type: AnswerType
    parts: tuple[Part, ...]
    """places to look at, in this order"""


class Page:
    """Lines, tables and words of a page."""

    def __init__(self, text: PageText) -> None:
        self.text = text
        self.lines = page_lines(text)
        self.words = PageWords(text.words, self.lines)

    @cached_property
    def clean_lines(self) -> list[Line]:
        """Lines that questions may be about."""
        return [line for line in self.lines if line.is_clean]

    @cached_property
    def rows(self) -> list[list[Line]]:
        """Lines of each row."""
        return rows_of_lines(self.lines)

    def is_anchor(self, text: str) -> bool:
        """Return whether a text can be quoted in a question and occurs once."""
        return is_quotable(text) and self.words.has_once(text)


def is_quotable(text: str) -> bool:
    """Return whether a text has a letter or digit, and no sign that quotation or an answer would change.

    >>> is_quotable("Invoice no."), is_quotable('the "new" one'), is_quotable("—")
    (True, False, False)
    """
    return any(one.isalnum() for one in text) and not _UNQUOTABLE.search(text)


# --- parts of a candidate ---


def _answer_type(answer: str) -> AnswerType:
    return AnswerType.NUMBER if _PLAIN_NUMBER.fullmatch(answer) else AnswerType.TEXT


def is_answer(words: Sequence[Word]) -> bool:
    """Return whether words are a short answer that is whole: no hyphenation, no open bracket."""
    text = join_words(list(words))
    return (
        len(words) > 0
        and num_words(words) <= MAX_ANSWER_WORDS
        and len(text) <= MAX_ANSWER_CHARS
        and is_quotable(text)
        and not any(word.ends_in_hyphen for word in words)
        and not text.endswith(("-", "‐"))
        and all(text.count(one) == text.count(other) for one, other in _BRACKETS)
    )


def num_words(words: Sequence[Word]) -> int:
    """Return a number of words; four characters of a script without spaces count as two words."""
    spaceless = sum(is_spaceless(word.text[:1]) for word in words)
    return len(words) - spaceless // 2


def words_box(words: Sequence[Word]) -> Box:
    """Return the box around words."""
    return enclosing_box([word.box for word in words])


def words_height(words: Sequence[Word]) -> float:
    """Return the height of the smallest word, as a fraction of the page."""
    return min(word.box.y2 - word.box.y1 for word in words)


def one_place(
    kind: str,
    question: str,
    anchor: Sequence[Word],
    answer: Sequence[Word],
    subject: str,
    finding: str,
) -> Candidate:
    """Return a candidate with one place. `{answer}` in the finding is the answer."""
    text = join_words(list(answer)).strip(SENTENCE_END + " ") or join_words(list(answer))
    part = Part(
        subject,
        finding.format(answer=text),
        words_box([*anchor, *answer]),
        words_box(answer),
        words_height(answer),
    )
    return Candidate(kind, question, text, _answer_type(text), (part,))


def find_anchor(
    page: Page, words: Sequence[Word], rng: random.Random, start: int | None = None
) -> tuple[int, int] | None:
    """Return the range of the shortest phrase of three words or more that occurs once; None if there is none."""
    starts = [start] if start is not None else rng.sample(range(len(words)), min(4, len(words)))
    for begin in starts:
        for end in range(begin + 3, min(begin + 10, len(words) + 1)):
            quoted = words[begin:end]
            if num_words(quoted) < 3 or any(word.ends_in_hyphen for word in quoted):
                continue
            starts_and_ends_a_word = quoted[0].text[0].isalnum() and quoted[-1].text[-1].isalnum()
            if starts_and_ends_a_word and page.is_anchor(join_words(list(quoted))):
                return begin, end
    return None
