r"""Extraction of the final answer from a model reply, without a judge model.

Thoughts are ignored. Explicit statements are tried in this order:

1. the last balanced `\boxed{}`
2. the last `<answer>...</answer>`
3. the last value of `"answer"` in JSON
4. the words after the last "the answer is" or "Answer:"

The first statement that fits the question type is used: one option for a choice, one number for a number. If none fits,
the first
statement is the answer and counts as wrong. An announcement of two options or numbers ("7 or 8") is no answer. A reply
without
an explicit statement and without a tool call implies an answer by its only line or its last sentence:

- a choice: the only option named by its letter (`(C)`, `option C`, `C.`), or else by its text, and not negated ("not
red");
- a number: the only number, or the one after a result word ("in total", "so"); "no dogs" is 0 if the question is about
dogs;
- any other answer: a single line, or the quoted text in the last sentence ('It says "STOP"').

If a reply contains only thoughts, their statements are used. The first capital letter of a reply is never used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring import phrases
from pixel_reasoner.scoring.numbers import MAX_ANSWER_CHARS, parse_number
from pixel_reasoner.scoring.options import options_mentioned, options_stated


def extract_trace_answer(trace: Trace) -> str | None:
    """Return the recorded answer of a trace, or else the answer extracted from its last message."""
    if trace.answer is not None or trace.stop is not StopReason.NO_ANSWER or not trace.turns:
        return trace.answer
    return extract(trace.turns[-1].text, trace.question)


def extract(text: str, question: Question) -> str | None:
    r"""Return the answer in a message, or None. The search order is in the module docstring.

    Time is proportional to the length of the message.

    >>> colour = {"A": "red", "B": "blue", "C": "green"}
    >>> q = Question(id="1", text="?", media=(), answer_type=AnswerType.CHOICE, options=colour)
    >>> extract("Based on the zoomed crop, A is not it. The answer is (C).", q)
    'C'
    >>> extract("A look at the crop tells.\nThe glove is blue.", q)
    'B'
    >>> extract("A glove has a colour.\nBoth are seen.", q) is None
    True
    """
    message = phrases.split_thoughts(_BOX_VARIANTS.sub(_as_box, text))
    content = message.content or message.thought
    read = _READERS.get(question.answer_type, _TEXT_READER)
    statements = _statements(content)
    for statement in statements:
        fitting = read.stated(statement, question)
        if fitting is not None:
            return fitting
    if statements:
        first = statements[0]
        return (
            None if not first.is_final and read.is_ambiguous(first.text, question) else first.text
        )
    if phrases.has_call(content) or not message.content:
        return None
    return read.implied(content, question)


@dataclass(frozen=True)
class _Statement:
    """Text that a message states as its answer."""

    text: str
    is_final: bool
    """whether the text is the exact content of a box, tags or JSON"""
    has_decimal_comma: bool


@dataclass(frozen=True)
class _Reader:
    """Answer extraction for one answer type."""

    stated: Callable[[_Statement, Question], str | None]
    """statement -> the answer in it; None for another type"""
    implied: Callable[[str, Question], str | None]
    """message without a statement -> its implied answer"""
    is_ambiguous: Callable[[str, Question], bool] = lambda text, question: False
    """whether a statement names several answers"""


def _statements(text: str) -> list[_Statement]:
    found = []
    has_comma = phrases.uses_decimal_comma(text[-MAX_ANSWER_CHARS:])
    for find, is_final in _FINDERS:
        words = find(text)
        if words is not None and words.strip():
            is_short = is_final and len(words) <= MAX_ANSWER_CHARS
            inner = phrases.announced_answer(words) if is_short else None
            words = (inner or words).strip()
            found.append(
                _Statement(words if is_final else words[:MAX_ANSWER_CHARS], is_final, has_comma)
            )
    return found


BOXED = r"\boxed{"
_BRACES = re.compile(r"\\boxed\{|[{}]")
_ANSWER_TAGS = re.compile(r"<(/?)answer>", re.IGNORECASE)


def boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` whose braces balance, or None.

    >>> boxed(r"First \boxed{a}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    # One pass over the braces keeps the time linear for long texts with unbalanced braces.
    found: tuple[int, int] | None = None
    first = text.find(BOXED)
    if first < 0:
        return None
    open_braces: list[int] = []  # end of each `\boxed{` that is open, 0 for any other brace
    for match in _BRACES.finditer(text, first):
        if match[0] != "}":
            open_braces.append(match.end() if match[0] == BOXED else 0)
        elif open_braces and (start := open_braces.pop()):
            found = max(found or (0, 0), (start, match.start()))
    return text[found[0] : found[1]].strip() if found else None


def tagged(text: str) -> str | None:
    """Return the content of the last `<answer>...</answer>`, or None.

    >>> tagged("<answer>red</answer> no, <answer> blue </answer>")
    ' blue '
    """
    found, start = None, None
    for match in _ANSWER_TAGS.finditer(text):
        if match[1] and start is not None:
            found, start = text[start : match.start()], None
        elif not match[1] and start is None:
            start = match.end()
    return found


_FINDERS: tuple[tuple[Callable[[str], str | None], bool], ...] = (
    (boxed, True),
    (tagged, True),
    (phrases.json_answer, True),
    (phrases.announced_answer, False),
)
# `\b` becomes a backspace when a model's JSON is decoded twice.
_BOX_VARIANTS = re.compile(r"\\f?box(?:ed)?\s?\{|\x08oxed\s?\{|\\boxed\s([A-Za-z0-9])(?!\w)")


def _as_box(match: re.Match[str]) -> str:
    return f"{BOXED}{match[1]}}}" if match[1] else BOXED


# --- choices ---


def _stated_option(statement: _Statement, question: Question) -> str | None:
    options = question.options
    letters = {letter.lower(): letter for letter in options} or _LETTERS
    stated = options_stated(statement.text, options)
    named = [letters[letter] for letter in stated if letter in letters]
    if not statement.is_final and len(named) != 1:
        named = list(options_mentioned(statement.text, options))
    if len(named) != 1:
        return None
    return statement.text if statement.is_final else named[0]


def _implied_option(text: str, question: Question) -> str | None:
    sentence = text if _is_short_line(text) else phrases.last_sentence(text[-MAX_ANSWER_CHARS:])
    named = options_mentioned(sentence, question.options)
    return named.pop() if len(named) == 1 else None


def _is_short_line(text: str) -> bool:
    return "\n" not in text and len(text) <= MAX_ANSWER_CHARS


def _has_several_options(text: str, question: Question) -> bool:
    return len(options_mentioned(text, question.options)) > 1


_LETTERS = {letter.lower(): letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}

# --- numbers ---


def _stated_number(statement: _Statement, question: Question) -> str | None:
    text = statement.text
    if len(text) > MAX_ANSWER_CHARS:
        return None
    if statement.has_decimal_comma:
        text = phrases.with_decimal_points(text)
    if statement.is_final:
        return text if parse_number(text) is not None else None
    head = _CLAUSE_END.split(text, maxsplit=1)[0]
    for part in (head, text):
        if parse_number(part) is not None:
            return part.strip()
    return "0" if phrases.denies_existence(text, question.text) else None


# The number comes before its reason, a comma or a parenthesis; not before "(12)" after "twelve".
_CLAUSE_END = re.compile(r",\s|;|\s(?:because|since|as|porque|weil)\s|\s\((?!\s?\w+\s?\))|[，；因]")


def _implied_number(text: str, question: Question) -> str | None:
    text = text[-MAX_ANSWER_CHARS:].rpartition("\n")[2]
    if phrases.uses_decimal_comma(text):
        text = phrases.with_decimal_points(text)
    if phrases.denies_existence(text, question.text):
        return "0"
    for part in (text, *phrases.conclusions(text, question.text)):
        if parse_number(part) is not None:
            return part.strip()
    return None


def _has_several_numbers(text: str, question: Question) -> bool:
    del question
    return parse_number(text) is None and any(map(parse_number, _BETWEEN_ALTERNATIVES.split(text)))


_BETWEEN_ALTERNATIVES = re.compile(r"\b(?:or|to|and|oder|bis|o|u|y)\b|[-/或到~]", re.IGNORECASE)

# --- texts ---


def _stated_text(statement: _Statement, question: Question) -> str | None:
    del question
    return statement.text if statement.is_final else phrases.without_reason(statement.text)


def _implied_text(text: str, question: Question) -> str | None:
    del question
    found = phrases.quoted_text(phrases.last_sentence(text[-MAX_ANSWER_CHARS:]))
    if found is not None:
        return found
    return None if "\n" in text else text or None


_TEXT_READER = _Reader(_stated_text, _implied_text)
_NUMBER_READER = _Reader(_stated_number, _implied_number, _has_several_numbers)
_READERS = {
    AnswerType.CHOICE: _Reader(_stated_option, _implied_option, _has_several_options),
    AnswerType.NUMBER: _NUMBER_READER,
    AnswerType.INTEGER: _NUMBER_READER,
}
