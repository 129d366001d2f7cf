r"""Extraction of the answer from a message, without a judge model.

The first that is found, in this order:

1. the last balanced `\boxed{}`
2. the last `<answer>...</answer>`
3. the words after the last "the answer is" or "Answer:"
4. a message of a single line
5. the last sentence

From the last two, a choice uses the only letter of an option (`(C)`, `option C`, `C.`), or else the only option whose text occurs; a
number uses the only number; any other answer uses a single line unchanged, and no last sentence. Otherwise the answer is unparsed.
The first capital letter of a message is never used.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.numbers import parse_number, words_of


def answer_of(trace: Trace) -> str | None:
    """Return the answer of a trace: the recorded one, or else one extracted from its last message."""
    if trace.answer is not None or trace.stop is not StopReason.NO_ANSWER or not trace.turns:
        return trace.answer
    return extract(trace.turns[-1].text, trace.question)


def extract(text: str, question: Question) -> str | None:
    r"""Return the answer in a message, in the order of this module; None when there is none.

    >>> colour = {"A": "red", "B": "blue", "C": "green"}
    >>> q = Question(id="1", text="?", media=(), answer_type=AnswerType.CHOICE, options=colour)
    >>> extract("Based on the zoomed crop, A is not it. The answer is (C).", q)
    '(C)'
    >>> extract("A look at the crop tells.\nThe glove is blue.", q)
    'B'
    >>> extract("A glove has a colour.\nBoth are seen.", q) is None
    True
    """
    text = text.rpartition("</think>")[2].strip()
    for find in (boxed, tagged, _announced, _single_line):
        found = find(text)
        if found is not None and found.strip():
            fitting = _NARROWED.get(question.answer_type) if find is _single_line else None
            return fitting(found, question) if fitting else found.strip()
    narrow = _NARROWED.get(question.answer_type)
    return narrow(_last_sentence(text), question) if narrow else None


BOXED = r"\boxed{"
_BRACES = re.compile(r"\\boxed\{|[{}]")
_ANSWER_TAGS = re.compile(r"<(/?)answer>", re.IGNORECASE)


def boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` whose braces balance, or None.

    >>> boxed(r"First \boxed{a}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    # One pass over the braces, so that a long text of unbalanced ones costs no more than another.
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


_ANNOUNCED = re.compile(
    r"\banswer(?:\s+(?:is|would be|should be|must be)\b\s*:?|\W{0,4}:)", re.IGNORECASE
)


def _announced(text: str) -> str | None:
    """Return the words after the last announcement, to the end of its sentence or line."""
    found = list(_ANNOUNCED.finditer(text))
    if not found:
        return None
    line = text[found[-1].end() :].strip().lstrip("*_: ").partition("\n")[0]
    # "3.5" and "a.m." do not end a sentence, nor does a full stop without a following capital.
    sentence = re.split(r"(?<=[^\d\s.][.!?])\s|(?<=\d[.!?])\s+(?=[A-Z])", line, maxsplit=1)[0]
    return sentence.rstrip(" .*_")


def _single_line(text: str) -> str | None:
    return None if "\n" in text else text


def _last_sentence(text: str) -> str:
    line = text.rstrip().rpartition("\n")[2]
    return re.split(r"(?<=[\w)\"'*][.!?])\s+(?=[A-Z(*])", line.strip())[-1]


def _letter_in(text: str, question: Question) -> str | None:
    """Return the only option that a sentence names by its letter, or else by its text."""
    letters = "".join(question.options) or "A-J"
    alone: re.Match[str] | None = re.fullmatch(rf"\W*([{letters}])\W*", text, re.IGNORECASE)
    if alone:
        return alone[1].upper()
    # Not any capital: "A look", "I see".
    signs = (
        rf"\(([{letters}])\)",
        rf"\b(?:option|choice|letter)\s+\(?([{letters}])\b",
        rf"^\W*([{letters}])[.:)]\s",
        rf"[\s*]([{letters}])\W*$",
    )
    named = {letter for sign in signs for letter in re.findall(sign, text)}
    if named:
        return named.pop() if len(named) == 1 else None
    options = {letter: words_of(option) for letter, option in question.options.items()}
    words = words_of(text)
    found = {letter: option for letter, option in options.items() if _within(option, words)}
    # "dark blue" contains "blue": the longer text is the option.
    longest = {
        option
        for option in found.values()
        if not any(option != other and _within(option, other) for other in found.values())
    }
    if len(longest) != 1:
        return None
    return next(letter for letter, option in found.items() if option in longest)


def _within(words: str, others: str) -> bool:
    return bool(words) and f" {words} " in f" {others} "


def _number_in(text: str, question: Question) -> str | None:
    """Return a sentence that contains exactly one number."""
    del question
    return text.strip() if parse_number(text) is not None else None


_NARROWED: dict[AnswerType, Callable[[str, Question], str | None]] = {
    AnswerType.CHOICE: _letter_in,
    AnswerType.NUMBER: _number_in,
    AnswerType.INTEGER: _number_in,
}
