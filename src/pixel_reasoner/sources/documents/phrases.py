"""Occurrences of phrases on a page, to ask only about phrases that occur once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pixel_reasoner.media.page_text import Word, is_spaceless, join_words
from pixel_reasoner.sources.documents.lines import Line

_TOKEN = re.compile(r"\w+")


def tokens(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation. A character of a script without spaces is a word.

    >>> tokens("Invoice no.: A-12 発票")
    ['invoice', 'no', 'a', '12', '発', '票']
    """
    found: list[str] = []
    for run in _TOKEN.findall(text.casefold()):
        if run.isascii() or not any(map(is_spaceless, run)):
            found.append(run)
        else:
            found += re.findall(r"[^\W\d_]|\d+", run) or list(run)
    return found


class PageWords:
    """All words of one or several pages, to count phrases in them: in the order of the file, and line by line.

    Words that are hidden count too, so that a phrase with a hidden copy is not asked about.
    """

    def __init__(self, words: Iterable[Word], lines: Sequence[Line]) -> None:
        in_rows = sorted(lines, key=lambda line: (line.row, line.place))
        parts = [
            join_words([word._replace(is_spaced=True) for word in words]),
            "\n".join(line.text for line in in_rows),
        ]
        self._streams = [f" {' '.join(tokens(part))} " for part in parts]

    def count(self, phrase: str) -> int:
        """Return how often a phrase occurs, ignoring case and punctuation; 0 for a phrase without a word."""
        wanted = tokens(phrase)
        if not wanted:
            return 0
        text = " ".join(wanted)
        return max(_count(stream, text) for stream in self._streams)

    def has_once(self, phrase: str) -> bool:
        """Return whether a phrase occurs exactly once."""
        return self.count(phrase) == 1


def _count(stream: str, text: str) -> int:
    """Return how often words occur in a stream of words. Occurrences may share a word."""
    count, at = 0, stream.find(f" {text} ")
    while at >= 0:
        count, at = count + 1, stream.find(f" {text} ", at + 1)
    return count
