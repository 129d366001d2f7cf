r"""Formats of an answer: `\boxed{...}` or `<answer>...</answer>`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pixel_reasoner.scoring.extraction import boxed, tagged


@dataclass(frozen=True, kw_only=True)
class AnswerFormat:
    r"""Writer and extractor of answers.

    >>> BOXED.write("red"), TAGGED.find("<answer> red </answer>")
    ('\\boxed{red}', 'red')
    """

    open: str
    close: str
    find: Callable[[str], str | None]
    """text -> last answer in it, or None"""

    def write(self, answer: str) -> str:
        """Return the text of an answer."""
        return f"{self.open}{answer}{self.close}"


def _find_tagged(text: str) -> str | None:
    r"""Return the last answer between tags. Some models write `<answer>\boxed{B}</answer>`."""
    found = tagged(text)
    if found is None:
        return None
    inner = boxed(found)
    return found.strip() if inner is None else inner


BOXED = AnswerFormat(open="\\boxed{", close="}", find=boxed)
TAGGED = AnswerFormat(open="<answer>", close="</answer>", find=_find_tagged)
