r"""Is an answer right? Typed comparison, without a judge model.

Training pays for what stands in the last balanced `\boxed{}` (`grade_trace`). Evaluation reads a model's last message
wherever its answer stands (`grade_reply`, `answers`). An answer that is missing is `unparsed`: it counts as wrong and is shown
apart.

Departures from the released scorer, on purpose: no parsing of words as products of symbols ("no" is not "on"), no first
capital letter that comes along, no negative marks. `released` says what that scorer would have said.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.extraction import answer_of
from pixel_reasoner.scoring.numbers import plain, quantity, unwrapped

ANLS_THRESHOLD = 0.5
RELAXED_ERROR = 0.05
"""relative error that relaxed accuracy allows (ChartQA, arXiv 2203.10244, section 5.1)"""


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


class Scorer(StrEnum):
    """Who compares."""

    TYPED = "typed"
    """this module: each benchmark's own definition"""
    HARNESS = "harness"
    """the same, but ANLS and relaxed accuracy as lmms-eval and VLMEvalKit compute them, for comparison with their numbers"""
    RELEASED = "released"
    """the scorer in Pixel Reasoner's released code, faults included (`released`)"""


def grade(answer: str | None, question: Question, scorer: Scorer = Scorer.TYPED) -> Grade | None:
    """Compare an answer with those that are accepted; the best one counts. None if none is known.

    >>> q = Question(id="1", text="?", media=(), answer=("4",), answer_type=AnswerType.NUMBER)
    >>> grade("4.0", q).outcome, grade(None, q).outcome
    (<Outcome.CORRECT: 'correct'>, <Outcome.UNPARSED: 'unparsed'>)
    """
    if not question.answer:
        return None
    if answer is None or not answer.strip():
        return Grade(Outcome.UNPARSED, 0.0)
    if scorer is Scorer.RELEASED:
        return grade_released(f"\\boxed{{{answer}}}", question)
    harness = scorer is Scorer.HARNESS
    score = max(_score(answer, gold, question, harness) for gold in question.answer)
    right = score > 0 if question.answer_type is AnswerType.ANLS else score == 1
    return Grade(Outcome.CORRECT if right else Outcome.WRONG, score)


def grade_trace(trace: Trace) -> Grade | None:
    r"""The grade of what a trace put into `\boxed{}`: what training pays for."""
    return grade(trace.answer, trace.question)


def grade_reply(trace: Trace, scorer: Scorer = Scorer.TYPED) -> Grade | None:
    """The grade of a trace's last message, wherever its answer stands: what evaluation counts."""
    if scorer is Scorer.RELEASED:
        said = "\n".join(turn.text for turn in trace.turns)
        return grade_released(said, trace.question) if trace.question.answer else None
    return grade(answer_of(trace), trace.question, scorer)


def grade_released(said: str, question: Question) -> Grade:
    """The grade that the released scorer gives a whole response."""
    from pixel_reasoner.scoring.upstream import rule_reward

    reward = rule_reward(said, question.answer)
    if reward < 0:
        return Grade(Outcome.UNPARSED, 0.0)
    return Grade(Outcome.CORRECT if reward > 0.5 else Outcome.WRONG, float(reward > 0.5))


def is_right(trace: Trace) -> bool:
    """Whether a trace's boxed answer is known to be right."""
    found = grade_trace(trace)
    return found is not None and found.outcome is Outcome.CORRECT


# --- whether it is right ---


def _score(answer: str, gold: str, question: Question, harness: bool) -> float:
    match question.answer_type:
        case AnswerType.CHOICE:
            return float(
                bool(_choices(answer, question.options) & _choices(gold, question.options))
            )
        case AnswerType.LIST:
            return float(_items(answer) == _items(gold))
        case AnswerType.ANLS:
            return anls(answer, gold, harness=harness)
        case AnswerType.RELAXED:
            return relaxed(answer, gold, harness=harness)
        case AnswerType.NUMBER | AnswerType.INTEGER:
            return float(_same_number(answer, gold, question))
        case AnswerType.TEXT:
            return float(_same_text(answer, gold))


def anls(answer: str, gold: str, *, harness: bool = False) -> float:
    """Normalised Levenshtein similarity where more than half is alike, else 0 (ST-VQA, arXiv 1905.13648, equation 1).

    Args:
        answer: a model's.
        gold: an accepted one.
        harness: as lmms-eval and VLMEvalKit have it: edits of the normalised texts over the length of the raw ones, and exactly
            one half counts.

    >>> anls("Paris", "paris"), anls("Rome", "Paris"), anls("47", "42"), anls("47", "42", harness=True)
    (1.0, 0.0, 0.0, 0.5)
    """
    told, known = (" ".join(text.lower().split()) for text in (answer, gold))
    if harness:
        length = max(len(answer.upper()), len(gold.upper()))
        similarity = 1 - (Levenshtein.distance(told, known) / length if length else 0.0)
        return similarity if similarity >= ANLS_THRESHOLD else 0.0
    similarity = Levenshtein.normalized_similarity(told, known)
    return similarity if similarity > ANLS_THRESHOLD else 0.0


def relaxed(answer: str, gold: str, *, harness: bool = False) -> float:
    """1 for a number within 5 % of the accepted one or, where one of the two is none, for the same text (ChartQA).

    Args:
        answer: a model's.
        gold: the accepted one.
        harness: as lmms-eval has it: no separators, units or words beside a number; only `%`, and an accepted 0 is a text.

    >>> relaxed("$1,040", "1000"), relaxed("1,040", "1000", harness=True), relaxed("52 %", "0.5")
    (1.0, 0.0, 1.0)
    """
    if harness:
        told_number, known_number = _harness_number(answer), _harness_number(gold)
        if told_number is not None and known_number:
            change = abs(told_number - known_number) / abs(known_number)
            return float(change <= RELAXED_ERROR)
        return float(answer.lower() == gold.lower())
    told, known = quantity(answer), quantity(gold)
    if told is None or known is None:
        return float(_same_text(answer, gold))
    if told.unit == known.unit or "%" not in (told.unit, known.unit):
        values = told.value, known.value
    else:
        values = told.share, known.share
    return float(abs(values[0] - values[1]) <= RELAXED_ERROR * abs(values[1]))


def _harness_number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


# --- texts ---


def _same_text(answer: str, gold: str) -> bool:
    told, known = plain(answer), plain(gold)
    if told == known:
        return True
    if known in ("yes", "no"):  # "Yes, it is."
        first, _, rest = told.partition(" ")
        return first.rstrip(",.;:") == known and not {"yes", "no"} & set(rest.split())
    without = re.compile(r"^(?:a|an|the) (?=\S)")
    return without.sub("", told) == without.sub("", known)


def _items(text: str) -> list[str]:
    """The items of a list, in order of the alphabet. A comma within a number divides nothing."""
    items = re.split(
        r",(?!(?<=\d,)\d{3}(?!\d))|;|\n|\band\b", text.strip(" []"), flags=re.IGNORECASE
    )
    return sorted(plain(item) for item in items if plain(item))


def _choices(text: str, options: dict[str, str]) -> set[str]:
    """The letters that an answer may mean: the letter itself, `(A) red`, `A: red`, `option A`, or the option's own text."""
    told = plain(text)
    named = {plain(letter): plain(option) for letter, option in options.items()}
    if told in named or not told:  # before the texts: an option may read "B"
        return {told}
    letters = "".join(options) or "A-Z"
    if len(set(re.findall(rf"\(([{letters}])\)", text, re.IGNORECASE))) > 1:
        return set()
    same = {letter for letter, option in named.items() if told in (option, f"{letter} {option}")}
    if same:
        return same
    # No mere space after the letter: "a car" does not name A.
    match = re.match(
        rf"\W*(?:(?:option|choice|letter)\s+)?\(?([{letters}])(?:[).:]|\s*$|\s+[-–—]\s|,\s+(?:since|because|as|so)\b)",
        unwrapped(text),
        re.IGNORECASE,
    ) or re.fullmatch(rf"(?:option|choice|letter) \(?([{letters}])\)?", told, re.IGNORECASE)
    if match:
        return {match[1].lower()}
    return {letter for letter, option in named.items() if option and _same_text(told, option)}


def option_meant(answer: str, options: dict[str, str]) -> str | None:
    """The letter of the one option that an answer means; None where it means none or several.

    >>> colours = {"A": "red", "B": "blue"}
    >>> option_meant("(B) blue", colours), option_meant("Red.", colours), option_meant("green", colours)
    ('B', 'A', None)
    """
    meant = [letter for letter in options if letter.lower() in _choices(answer, options)]
    return meant[0] if len(meant) == 1 else None


def _same_number(answer: str, gold: str, question: Question) -> bool:
    """Equal values; a unit that both name is the same, and a percent sign is not made up."""
    known = quantity(gold)
    if known is None:  # a number such as 1/2 or 12:30
        return _same_text(answer, gold)
    told = quantity(answer)
    if told is None or told.value != known.value:
        return False
    if told.unit == "%" and not known.unit:
        return bool(re.search(r"%|percent|share|rate", question.text, re.IGNORECASE))
    return not (told.unit and known.unit) or told.unit == known.unit
