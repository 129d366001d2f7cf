r"""Typed comparison of an answer with the accepted answers, without a judge model.

Training rewards the content of the last balanced `\boxed{}` (`grade_trace`). Evaluation extracts the answer from the
model's last
message (`grade_reply`, `scoring.extraction`). A missing answer is `unparsed`: it counts as wrong and is reported
separately.

Deliberate departures from the upstream scorer: words are not parsed as products of symbols ("no" is not "on"), the
first
capital letter of a text is not an answer, and there are no negative scores. `scoring.upstream` computes the upstream
score.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.latex import latex_to_text
from pixel_reasoner.scoring.numbers import parse_number, strip_latex, stripped
from pixel_reasoner.scoring.options import options_stated, same_words
from pixel_reasoner.scoring.phrases import denies_existence
from pixel_reasoner.scoring.places import is_right_score, place_score

ANLS_THRESHOLD = 0.5
RELAXED_ERROR = 0.05
"""relative error that relaxed accuracy allows (ChartQA, arXiv 2203.10244, section 5.1)"""


class Outcome(StrEnum):
    """Result of a comparison."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    """no answer was found"""


class Grade(NamedTuple):
    """An outcome and a score in [0, 1]; a score between 0 and 1 occurs for ANLS, boxes and spans only."""

    outcome: Outcome
    score: float


class Scorer(StrEnum):
    """How answers are compared."""

    TYPED = "typed"
    """this module: the definition of each benchmark"""
    HARNESS = "harness"
    """typed, with ANLS and relaxed accuracy computed as in lmms-eval and VLMEvalKit, for comparison with their
    results"""
    RELEASED = "released"
    """upstream-compatible scorer: the scorer of Pixel Reasoner's code, with its faults (`scoring.upstream`)"""


def grade(answer: str | None, question: Question, scorer: Scorer = Scorer.TYPED) -> Grade | None:
    """Return the grade of an answer against the best accepted one; None if no accepted answer is known.

    >>> q = Question(id="1", text="?", media=(), answer=("4",), answer_type=AnswerType.NUMBER)
    >>> grade("4.0", q).outcome, grade(None, q).outcome
    (<Outcome.CORRECT: 'correct'>, <Outcome.UNPARSED: 'unparsed'>)
    """
    if not question.answer:
        return None
    if answer is None or not answer.strip():
        return Grade(Outcome.UNPARSED, 0.0)
    if scorer is Scorer.RELEASED:
        return grade_upstream(f"\\boxed{{{answer}}}", question)
    harness = scorer is Scorer.HARNESS
    score = max(_score(answer, gold, question, harness) for gold in question.answer)
    right = _is_right(score, question.answer_type)
    return Grade(Outcome.CORRECT if right else Outcome.WRONG, score)


def grade_trace(trace: Trace) -> Grade | None:
    r"""Return the grade of the `\boxed{}` answer of a trace. Training rewards this grade."""
    return grade(trace.answer, trace.question)


def grade_reply(trace: Trace, scorer: Scorer = Scorer.TYPED) -> Grade | None:
    """Return the grade of the answer in a trace's last message. Evaluation reports this grade."""
    if scorer is Scorer.RELEASED:
        response = "\n".join(turn.text for turn in trace.turns)
        return grade_upstream(response, trace.question) if trace.question.answer else None
    return grade(extract_trace_answer(trace), trace.question, scorer)


def grade_upstream(response: str, question: Question) -> Grade:
    """Return the grade of a whole response by the upstream scorer."""
    from pixel_reasoner.scoring.upstream import upstream_reward

    reward = upstream_reward(response, question.answer)
    if reward < 0:
        return Grade(Outcome.UNPARSED, 0.0)
    return Grade(Outcome.CORRECT if reward > 0.5 else Outcome.WRONG, float(reward > 0.5))


def is_right(trace: Trace) -> bool:
    """Return whether the boxed answer of a trace is known to be right."""
    found = grade_trace(trace)
    return found is not None and found.outcome is Outcome.CORRECT


# --- comparison ---

_PLACES = (AnswerType.POINT, AnswerType.BOXES, AnswerType.SPAN)


def _is_right(score: float, answer_type: AnswerType) -> bool:
    if answer_type in _PLACES:
        return is_right_score(score, answer_type)
    return score > 0 if answer_type is AnswerType.ANLS else score == 1


def _score(answer: str, gold: str, question: Question, harness: bool) -> float:
    match question.answer_type:
        case AnswerType.CHOICE:
            return float(
                bool(
                    options_stated(answer, question.options)
                    & options_stated(gold, question.options)
                )
            )
        case AnswerType.LIST:
            return float(_items(answer) == _items(gold))
        case AnswerType.ANLS:
            return anls(answer, gold, harness=harness)
        case AnswerType.RELAXED:
            return relaxed(answer, gold, harness=harness)
        case AnswerType.NUMBER | AnswerType.INTEGER:
            return float(_same_number(answer, gold, question))
        case AnswerType.POINT | AnswerType.BOXES | AnswerType.SPAN:
            return place_score(answer, gold, question)
        case AnswerType.TEXT:
            return float(same_words(answer, gold))


def anls(answer: str, gold: str, *, harness: bool = False) -> float:
    """Return the normalised Levenshtein similarity if it is above one half, else 0 (ST-VQA, arXiv 1905.13648, equation 1).

    Args:
        answer: answer of the model.
        gold: accepted answer.
        harness: compute as lmms-eval and VLMEvalKit do: edits of the normalised texts over the length of the raw texts,
        and
            exactly one half counts.

    >>> anls("Paris", "paris"), anls("Rome", "Paris"), anls("47", "42"), anls("47", "42", harness=True)
    (1.0, 0.0, 0.0, 0.5)
    """
    if not harness:
        answer, gold = (latex_to_text(text) if "\\" in text else text for text in (answer, gold))
    given, known = (" ".join(text.lower().split()) for text in (answer, gold))
    if harness:
        length = max(len(answer.upper()), len(gold.upper()))
        similarity = 1 - (Levenshtein.distance(given, known) / length if length else 0.0)
        return similarity if similarity >= ANLS_THRESHOLD else 0.0
    similarity = Levenshtein.normalized_similarity(given, known)
    return similarity if similarity > ANLS_THRESHOLD else 0.0


def relaxed(answer: str, gold: str, *, harness: bool = False) -> float:
    """Return 1 for a number within 5 % of the accepted number, or for equal texts if one of the two is not a number (ChartQA).

    Args:
        answer: answer of the model.
        gold: accepted answer.
        harness: compute as lmms-eval does: a number has no separators, units or words, only `%`; an accepted 0 is a
        text.

    >>> relaxed("$1,040", "1000"), relaxed("1,040", "1000", harness=True), relaxed("52 %", "0.5")
    (1.0, 0.0, 1.0)
    """
    if harness:
        given_number, known_number = _harness_number(answer), _harness_number(gold)
        if given_number is not None and known_number:
            change = abs(given_number - known_number) / abs(known_number)
            return float(change <= RELAXED_ERROR)
        return float(answer.lower() == gold.lower())
    given, known = parse_number(answer), parse_number(gold)
    if given is None or known is None:
        return float(same_words(answer, gold))
    if given.unit == known.unit or "%" not in (given.unit, known.unit):
        values = given.value, known.value
    else:
        values = given.share, known.share
    return float(abs(values[0] - values[1]) <= RELAXED_ERROR * abs(values[1]))


def _harness_number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


# --- texts ---


def _items(text: str) -> list[str]:
    """Return the items of a list in alphabetical order. A comma within a number does not separate items."""
    items = re.split(
        r",(?!(?<=\d,)\d{3}(?!\d))|[;、\n]|\band\b",
        strip_latex(text).strip(" []{}"),
        flags=re.IGNORECASE,
    )
    return sorted(filter(None, map(stripped, items)))


def matching_option(answer: str, options: dict[str, str]) -> str | None:
    """Return the letter of the only option that an answer names; None for none or several.

    >>> colours = {"A": "red", "B": "blue"}
    >>> matching_option("(B) blue", colours), matching_option("Red.", colours), matching_option("green", colours)
    ('B', 'A', None)
    """
    named = [letter for letter in options if letter.lower() in options_stated(answer, options)]
    return named[0] if len(named) == 1 else None


def _same_number(answer: str, gold: str, question: Question) -> bool:
    """Return whether values are equal. Units are compared if both have one.

    A percentage equals a number without unit if it is the same share, or if the question asks for a percentage.
    """
    known = parse_number(gold)
    if known is None:  # a number such as 12:30
        return same_words(answer, gold)
    given = parse_number(answer)
    if given is None:
        return known.value == 0 and denies_existence(answer, question.text)
    if given.unit == "%" and not known.unit and _is_equal(given.share, known.value):
        return True
    if not _is_equal(given.value, known.value):
        return False
    if given.unit == "%" and not known.unit:
        return bool(re.search(r"%|percent|share|rate", question.text, re.IGNORECASE))
    return not (given.unit and known.unit) or given.unit == known.unit


def _is_equal(value: float, other: float) -> bool:
    """Return whether two numbers are equal up to the rounding of a product or quotient."""
    return math.isclose(value, other, rel_tol=1e-15)
