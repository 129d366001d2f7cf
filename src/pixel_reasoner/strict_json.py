"""Bounded JSON parser for input from files, servers and models."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_DIGITS = 1000
"""Digits of an integer if numbers beyond the range of a float are allowed."""
MAX_DEPTH = 64
"""Nesting depth of lists and objects. The deepest value in this project's own files has about ten levels."""

# The closing quote is optional so that an unterminated string is one token and the scan stays linear.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]+|\\.)*"?|[\[{\]}]', re.DOTALL)
# Fewer digits and a smaller exponent cannot exceed the range of a float.
_MAY_OVERFLOW = re.compile(r"\d{200}|[eE]\+?\d{3}")
# Two patterns, because one with an alternative takes 14 ms per MB.
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(text: str | bytes, max_depth: int = MAX_DEPTH, *, is_finite: bool = True) -> Any:
    r"""Return a JSON value that can be serialized again: bounded depth, finite numbers, valid Unicode.

    Time and memory are proportional to the length of the text.

    Args:
        text: JSON, with or without a byte-order mark.
        max_depth: nesting depth of lists and objects.
        is_finite: whether `NaN`, `Infinity` and numbers beyond the range of a float are errors. Otherwise they become nan,
            infinity, and integers of at most 1,000 digits.

    Raises:
        ValueError: invalid input; the message is a short reason.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> for text in ("[[1]]", "1e999", "NaN", r'"\ud800"'):
    ...     try:
    ...         parse_json(text, max_depth=1)
    ...     except ValueError as error:
    ...         print(error)
    nested more than 1 levels deep
    the number 1e999 is out of range
    NaN is not JSON
    half of a surrogate pair is not Unicode text
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    text = text.removeprefix("\ufeff")
    _check_depth(text, max_depth)
    hooks: dict[str, Any] = {}
    if is_finite:
        hooks["parse_constant"] = _reject_constant
    if _MAY_OVERFLOW.search(text):  # only then: a hook costs a Python call per number
        hooks |= {
            "parse_int": _finite_int if is_finite else _bounded_int,
            "parse_float": _finite_float if is_finite else float,
        }
    value = json.loads(text, **hooks)
    if _ESCAPED_SURROGATE.search(text) or (not text.isascii() and _SURROGATE.search(text)):
        _check_unicode(value)
    return value


def _check_depth(text: str, max_depth: int) -> None:
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > max_depth:
                raise ValueError(f"nested more than {max_depth} levels deep")
        elif match[0] in "]}":
            depth -= 1


def _check_unicode(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair is not Unicode text") from error


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {_shortened(digits)} is out of range")
    return value


def _finite_int(digits: str) -> int:
    if math.isinf(float(digits)):
        raise ValueError(f"the number {_shortened(digits)} is out of range")
    return int(digits)


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the number {_shortened(digits)} is out of range")
    return int(digits)


def _shortened(digits: str) -> str:
    return digits if len(digits) <= 20 else f"{digits[:17]}..."
