r"""Is an answer right? Typed comparison, without a judge model.

The answer is what stands in the last balanced `\boxed{}`; an answer that is missing is `unparsed`, which counts
as wrong and is shown apart.

Departures from the released scorer, on purpose: no guess from unboxed text, no parsing of words as products of
symbols ("no" is not "on"), no negative marks.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from pixel_reasoner.trace import AnswerType, Question, Trace

ANLS_THRESHOLD = 0.5


class Outcome(StrEnum):
    """What became of an answer."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    """there is no answer"""


class Grade(NamedTuple):
    """An outcome and a score in [0, 1]; they differ for ANLS alone."""

    outcome: Outcome
    score: float


def grade(answer: str | None, question: Question) -> Grade | None:
    """Compare an answer with those that are accepted; the best one counts. None if none is known.

    >>> q = Question(id="1", text="?", media=(), answer=("4",), answer_type=AnswerType.NUMBER)
    >>> grade("4.0", q).outcome, grade(None, q).outcome
    (<Outcome.CORRECT: 'correct'>, <Outcome.UNPARSED: 'unparsed'>)
    """
    if not question.answer:
        return None
    if answer is None or not answer.strip():
        return Grade(Outcome.UNPARSED, 0.0)
    score = max(_score(answer, gold, question) for gold in question.answer)
    right = score >= (ANLS_THRESHOLD if question.answer_type is AnswerType.ANLS else 1.0)
    return Grade(Outcome.CORRECT if right else Outcome.WRONG, score)


def grade_trace(trace: Trace) -> Grade | None:
    """The grade of a trace's answer."""
    return grade(trace.answer, trace.question)


def is_right(trace: Trace) -> bool:
    """Whether a trace's answer is known to be right."""
    found = grade_trace(trace)
    return found is not None and found.outcome is Outcome.CORRECT


def _score(answer: str, gold: str, question: Question) -> float:
    match question.answer_type:
        case AnswerType.NUMBER if _number(gold) is not None:
            return float(_number(answer) == _number(gold))
        case AnswerType.CHOICE:
            return float(_choice(answer, question.options) == _plain(gold))
        case AnswerType.LIST:
            return float(_items(answer) == _items(gold))
        case AnswerType.ANLS:
            return anls(answer, gold)
        case AnswerType.TEXT | AnswerType.NUMBER:  # a number such as 1/2 or 12:30
            return float(_plain(answer) == _plain(gold))


def anls(answer: str, gold: str) -> float:
    """Normalised Levenshtein similarity, 0 below one half (InfographicsVQA).

    >>> anls("Paris", "paris"), anls("Rome", "Paris")
    (1.0, 0.0)
    """
    similarity = Levenshtein.normalized_similarity(
        " ".join(answer.lower().split()), " ".join(gold.lower().split())
    )
    return similarity if similarity >= ANLS_THRESHOLD else 0.0


def _plain(text: str) -> str:
    r"""Lower case, single spaces, no surrounding punctuation, no `\text{}`."""
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    return " ".join(text.lower().split()).strip(" .,;:!?'\"()[]$")


def _number(text: str) -> float | None:
    """The one number in a text, thousands separators aside; None when there is none or several."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.replace("−", "-"))
    found = re.findall(r"-?(?:\d+(?:\.\d+)?|(?<![\w.])\.\d+)", text)
    return float(found[0]) if len(found) == 1 else None


def _choice(text: str, options: dict[str, str]) -> str:
    """The letter that an answer names: the letter itself, `(A) red`, `A: red`, or the option's own text."""
    plain = _plain(text)
    named = {_plain(letter): _plain(option) for letter, option in options.items()}
    if plain in named:  # before the texts: an option may read "B"
        return plain
    for letter, option in named.items():
        if plain in (option, f"{letter} {option}"):
            return letter
    # No mere space after the letter: "a car" does not name A.
    letters = "".join(options) or "A-Z"
    match = re.match(rf"\(?([{letters}])(?:[).:]|$)", text.strip(), re.IGNORECASE)
    return match[1].lower() if match else plain


def _items(text: str) -> list[str]:
    """The items of a list, in order of the alphabet."""
    items = re.split(r",|;|\band\b", text.strip(" []"), flags=re.IGNORECASE)
    return sorted(_plain(item) for item in items if _plain(item))
