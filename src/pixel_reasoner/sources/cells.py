"""Parsing of row values: missing values, texts, numbers, answers, options, placeholders of pictures.

A value is parsed completely or raises a `RowError` with its key. A missing value (null, NaN, a blank text) is never a
text.
"""

from __future__ import annotations

import ast
import json
import math
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pixel_reasoner.sources.rows import RowError

LETTERS = string.ascii_uppercase
_MISSING_REASONS = {
    **dict.fromkeys(("question", "query", "problem", "text"), "no_question"),
    **dict.fromkeys(("answer", "answers", "label", "solution", "short_answer"), "no_answer"),
}
"""key -> skip reason of a row without a value; `missing_value` for all others"""
_PLACEHOLDER = r"<(?:image|video)>"
_OUTER_PLACEHOLDERS = re.compile(
    rf"\A\s*(?:{_PLACEHOLDER}\s*)+|(?:\s*{_PLACEHOLDER})+[ \t]*(?=\s*\Z|\nA\. )"
)
_NUMBERED_PLACEHOLDER = re.compile(r"<(?:image|video)[ _]?(\d{1,4})>")


# --- missing values ---


def is_missing(value: Any) -> bool:
    """Return whether a value is null, NaN or a blank text.

    >>> [is_missing(value) for value in (None, float("nan"), " ", 0, "None", [])]
    [True, True, True, False, False, False]
    """
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def missing_value_error(name: str) -> RowError:
    """Return the error for a row without a value under a key."""
    reason = _MISSING_REASONS.get(name, "missing_value")
    return RowError(reason, f"{name}: expected a value; got none")


def check_values(row: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check that a row has values under all keys.

    Raises:
        RowError: a key or its value is missing.
    """
    names = tuple(names)
    if absent := [name for name in names if name not in row]:
        found = " ".join(map(str, row))
        detail = f"expected {' '.join(names)}; no {' '.join(absent)} among {found}"
        raise RowError("missing_keys", detail)
    for name in names:
        if is_missing(row[name]):
            raise missing_value_error(name)


# --- texts and numbers ---


def parse_text(value: Any, name: str) -> str:
    """Return a text or a number as text.

    Raises:
        RowError: it is missing or of another type: the `str` of a list, an object or a boolean is not accepted.

    >>> parse_text(3, "answer"), parse_text("None", "answer")
    ('3', 'None')
    """
    if is_missing(value):
        raise missing_value_error(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError("bad_value", f"{name}: expected a text; got {_shown(value)}")
    if isinstance(value, float) and math.isinf(value):
        raise RowError("bad_value", f"{name}: expected a text or a finite number; got {value}")
    try:
        text = str(value)  # ValueError: a whole number of more than 4,300 digits
        text.encode()
    except ValueError as error:
        raise RowError("bad_value", f"{name}: {error}") from error
    return text


def optional_text(value: Any, name: str) -> str:
    """Return a text; empty for a missing value.

    Raises:
        RowError: neither a text nor a number.
    """
    return "" if is_missing(value) else parse_text(value, name)


def parse_number(value: Any, name: str) -> float:
    """Return a finite number.

    Raises:
        RowError: not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RowError("bad_value", f"{name}: expected a number; got {_shown(value)}")
    return float(value)


def parse_whole_number(value: Any, name: str) -> int:
    """Return a whole number.

    Raises:
        RowError: not a whole number.
    """
    number = parse_number(value, name)
    if not number.is_integer():
        raise RowError("bad_value", f"{name}: expected a whole number; got {_shown(value)}")
    return int(number)


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:80]}"


# --- answers ---


def parse_answers(value: Any, name: str = "answer") -> tuple[str, ...]:
    """Return the accepted answers of a cell: a value, or a list of them.

    Raises:
        RowError: no answer, a missing item in a list, or a value that is neither a text nor a number.
    """
    if not isinstance(value, list | tuple):
        return (parse_text(value, name),)
    if not value:
        raise missing_value_error(name)
    return tuple(parse_text(one, f"{name} {n} of {len(value)}") for n, one in enumerate(value, 1))


def parse_list(cell: str) -> list[Any] | None:
    r"""Return the list that a text encodes as JSON or as a Python literal; None for any other text.

    >>> parse_list("['Exit', 'EXIT door']"), parse_list('["it", null]'), parse_list("[unclear]")
    (['Exit', 'EXIT door'], ['it', None], None)
    """
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value if isinstance(value, list) else None
    return None


# --- options ---


def letter_options(options: Iterable[Any]) -> dict[str, str]:
    """Return options by letter; the letter of `(A) red` and `A. red` is removed.

    Raises:
        RowError: an option is missing, or there are more options than letters.

    >>> letter_options(["(A) red", "(B) blue"]), letter_options(["red", "A. blue"])
    ({'A': 'red', 'B': 'blue'}, {'A': 'red', 'B': 'A. blue'})
    """
    texts = [parse_text(one, f"option {n}").strip() for n, one in enumerate(options, 1)]
    if len(texts) > len(LETTERS):
        raise RowError("bad_options", f"expected at most {len(LETTERS)} options; got {len(texts)}")
    marked = [re.match(rf"\(?{LETTERS[n]}[).:]\s*", text) for n, text in enumerate(texts)]
    if texts and all(marked):
        texts = [text[mark.end() :] for text, mark in zip(texts, marked, strict=True) if mark]
    return dict(zip(LETTERS, texts, strict=False))


def parse_options(value: Any) -> dict[str, str]:
    r"""Return the options of an own row: a dict of letter -> text, a list of texts, or lines `A. red`.

    Trailing letters without a text are ignored: Arrow gives every row the letters of all rows.

    Raises:
        RowError: an option is missing, a key is not a letter, or a line has no letter.

    >>> parse_options("A. red\nB. blue") == parse_options(["red", "blue"]) == parse_options({"A": "red", "B": "blue"})
    True
    """
    if is_missing(value):
        return {}
    if isinstance(value, str):
        return _options_of_lines(value)
    if isinstance(value, list):
        return letter_options(value)
    if not isinstance(value, Mapping):
        raise RowError("bad_options", f"expected letter -> text, or a list; got {_shown(value)}")
    items = sorted((parse_text(key, "option").strip().upper(), one) for key, one in value.items())
    if wrong := [key for key, _ in items if key not in LETTERS or len(key) != 1]:
        raise RowError("bad_options", f"expected the letters A, B, ... as keys; got {wrong[0]}")
    while items and is_missing(items[-1][1]):
        items.pop()
    return {letter: parse_text(one, f"option {letter}") for letter, one in items}


def _options_of_lines(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        found = re.fullmatch(r"\s*\(?([A-Z])[).:]\s*(.+?)\s*", line)
        if found is None or found[1] in options:
            raise RowError("bad_options", f"expected lines `A. text`, a letter each; got {line!r}")
        options[found[1]] = found[2]
    return options


def parse_letter(
    answer: Any, options: Mapping[str, str], given: Literal["letter", "text", "either"] = "either"
) -> str:
    """Return the option letter of an accepted answer: a letter, `(B)`, the text of an option, or both.

    Args:
        answer: answer of the row.
        options: options of the row.
        given: how to interpret an answer that is both a letter and the text of another option. With `text` it is never
        a letter.

    Raises:
        RowError: the answer is not among the options, or it matches two of them.

    >>> parse_letter("B", {"A": "B", "B": "C"}, "letter"), parse_letter("B", {"A": "B", "B": "C"}, "text")
    ('B', 'A')
    """
    text = parse_text(answer, "answer").strip()
    letter = text.strip("().: ").upper()
    is_letter = letter in options and given != "text"
    if is_letter and given == "letter":
        return letter
    found = {letter} if is_letter else set()
    both = re.fullmatch(r"\(?([A-Z])[).:]\s*(.+)", text, re.DOTALL)
    for name, option in options.items():
        texts = {text.lower(), both[2].strip().lower() if both and both[1] == name else ""}
        if option.strip().lower() in texts - {""}:
            found.add(name)
    if len(found) == 1:
        return found.pop()
    listed = ", ".join(f"{name}. {option}" for name, option in options.items())
    if found:
        raise RowError("ambiguous_answer", f"{text!r} is {' and '.join(sorted(found))} of {listed}")
    raise RowError("answer_not_among_options", f"expected one of {listed}; got {text!r}")


# --- placeholders ---


def strip_placeholders(text: str, num_media: int) -> str:
    r"""Return a question without `<image>` and `<video>` before and after it, because the prompt shows media before the question.

    Raises:
        RowError: the number of placeholders is not the number of media, one is inside the text, or its number is too
        large.

    >>> strip_placeholders("<image>\nWhich?", 1), strip_placeholders("Is <image 1> red?", 1)
    ('Which?', 'Is <image 1> red?')
    """
    numbers = [int(number) for number in _NUMBERED_PLACEHOLDER.findall(text)]
    count = len(re.findall(_PLACEHOLDER, text))
    if count not in (0, num_media) or any(not 1 <= number <= num_media for number in numbers):
        got = f"{count} placeholders" if count not in (0, num_media) else f"numbers {numbers}"
        raise RowError(
            "bad_placeholder", f"expected one <image> for each of {num_media}; got {got}"
        )
    if not count:
        return text
    text = _OUTER_PLACEHOLDERS.sub("", text)
    if re.search(_PLACEHOLDER, text):
        detail = (
            f"expected <image> before or after the question; got {text[:80]!r}. Write `image 1`"
        )
        raise RowError("bad_placeholder", detail)
    return text
