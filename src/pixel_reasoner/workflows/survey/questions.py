"""Questions of a survey: their file in TOML, the question for one medium, and the typed answer.

unsure = 0.6                  # default for all questions

[[question]]
id = "rust"
text = "Is there rust on the part?"
type = "yes_no"               # yes_no, choice, number, count or text

[[question]]
id = "where"
text = "Where is the rust?"
type = "choice"
choices = ["edge", "surface"]
when = "rust == yes"          # asked only then
region = [0.0, 0.5, 1.0, 1.0] # the lower half: x1, y1, x2, y2 as fractions of the picture
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, MediaItem, Question
from pixel_reasoner.scoring.grading import matching_option
from pixel_reasoner.scoring.numbers import parse_number
from pixel_reasoner.sources.rows import with_options
from pixel_reasoner.workflows.survey.engine import canonical_answer

Value = str | int | float
"""a typed answer: `yes` or `no`, a choice, a number, a text"""
DEFAULT_UNSURE = 0.6


class AnswerKind(StrEnum):
    """Type of an answer."""

    YES_NO = "yes_no"
    CHOICE = "choice"
    NUMBER = "number"
    COUNT = "count"
    """a whole number from 0"""
    TEXT = "text"


NUMERIC = (AnswerKind.NUMBER, AnswerKind.COUNT)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
OPERATORS = tuple(_COMPARE)


@dataclass(frozen=True)
class Condition:
    """Condition on the answer to an earlier question.

    >>> Condition("count", ">=", 3).holds(4), str(Condition("rust", "==", "yes"))
    (True, 'rust == yes')
    """

    question: str
    operator: str
    value: Value

    def holds(self, answer: Value) -> bool:
        """Return whether an answer meets the condition. Texts are compared without regard to case."""
        one, other = (
            value.casefold() if isinstance(value, str) else value for value in (answer, self.value)
        )
        return _COMPARE[self.operator](one, other)

    def __str__(self) -> str:
        value = f"{self.value:g}" if isinstance(self.value, int | float) else self.value
        return f"{self.question} {self.operator} {value}"


@dataclass(frozen=True, kw_only=True)
class SurveyQuestion:
    """One question of a survey."""

    id: str
    text: str
    type: AnswerKind = AnswerKind.TEXT
    choices: tuple[str, ...] = ()
    when: Condition | None = None
    """None: always asked"""
    region: Box | None = None
    """part of the picture that the question is about; None for all of it"""
    unsure: float = DEFAULT_UNSURE
    """an answer with less agreement is unsure"""

    def for_media(self, id_: str, items: Sequence[MediaItem]) -> Question:
        """Return the question about media.

        >>> one = SurveyQuestion(id="rust", text="Is there rust?", type=AnswerKind.YES_NO)
        >>> one.for_media("a.png:rust", ()).text
        'Is there rust? Answer yes or no.'
        """
        options = dict(zip(string.ascii_uppercase, self.choices, strict=False))
        return Question(
            id=id_,
            text=with_options(f"{self.text}{_INSTRUCTIONS.get(self.type, '')}", options),
            media=tuple(one.model_copy(update={"region": self.region}) for one in items),
            answer_type=_ANSWER_TYPES.get(self.type, AnswerType.TEXT),
            options=options,
            category=self.id,
        )

    def value(self, answer: str) -> Value | None:
        """Return the typed answer in a text; None if it has another type.

        >>> one = SurveyQuestion(id="n", text="How many?", type=AnswerKind.COUNT)
        >>> one.value("three dogs"), one.value("2.5"), one.value("many")
        (3, None, None)
        """
        if self.type is AnswerKind.YES_NO:
            return yes_or_no(answer)
        if self.type is AnswerKind.CHOICE:
            options = dict(zip(string.ascii_uppercase, self.choices, strict=False))
            letter = matching_option(answer, options)
            return None if letter is None else options[letter]
        if self.type is AnswerKind.TEXT:
            return " ".join(answer.split()) or None
        number = parse_number(answer)
        if number is None:
            return None
        if self.type is AnswerKind.NUMBER:
            return number.value
        is_count = number.value >= 0 and number.value == int(number.value)
        return int(number.value) if is_count else None

    def canonical(self, answer: str, question: Question) -> str | None:
        """Return the form in which equal answers are equal texts; None for an answer of another type."""
        value = self.value(answer)
        if value is None:
            return None
        return canonical_answer(answer, question) if self.type is AnswerKind.TEXT else str(value)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that determines the answers, as JSON values."""
        return {
            "id": self.id,
            "text": self.text,
            "type": str(self.type),
            "choices": list(self.choices),
            "when": None if self.when is None else str(self.when),
            "region": None if self.region is None else list(self.region),
            "unsure": self.unsure,
        }


_INSTRUCTIONS = {
    AnswerKind.YES_NO: " Answer yes or no.",
    AnswerKind.NUMBER: " Answer with a number.",
    AnswerKind.COUNT: " Answer with a whole number.",
}
_ANSWER_TYPES = {
    AnswerKind.CHOICE: AnswerType.CHOICE,
    AnswerKind.NUMBER: AnswerType.NUMBER,
    AnswerKind.COUNT: AnswerType.INTEGER,
}
_WORD = re.compile(r"[^\W\d_]+")
_YES, _NO = frozenset({"yes", "true", "y"}), frozenset({"no", "false", "none", "n"})


def yes_or_no(answer: str) -> str | None:
    """Return `yes` or `no` if an answer begins with such a word, else None.

    >>> yes_or_no("Yes, at the edge."), yes_or_no("**No**"), yes_or_no("perhaps")
    ('yes', 'no', None)
    """
    found = _WORD.search(answer)
    word = found[0].casefold() if found else ""
    if word in _YES:
        return "yes"
    return "no" if word in _NO else None
