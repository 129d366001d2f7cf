"""Decoder of nearly valid JSON in calls, where one meaning is certain.

The order is JSON, JSON without trailing commas, literals of Python, typographic quotes as delimiters. Each step applies to
the whole value, and strings are never changed. Code is never executed, and incomplete values are never completed.
"""

from __future__ import annotations

import ast
import contextlib
import re
from typing import Any, NamedTuple

from pixel_reasoner.dialects.syntax.base import MAX_BRACKETS, dump_json, load_json
from pixel_reasoner.schema.repairs import RepairKind

MAX_CALL_CHARS = 10_000
"""Maximum length of a call that is repaired. Usual calls have 100 characters."""

_STRING = r'"(?:[^"\\]++|\\.)*+"?'
_TOKEN = re.compile(rf"{_STRING}|'(?:[^'\\]++|\\.)*+'?|“[^“”]*+”?|[\[{{(\])}}]", re.DOTALL)
_COMMA = re.compile(rf"({_STRING})|,(?=\s*+[\]}}])", re.DOTALL)
_PYTHON = re.compile(
    r"""(?:\s++|[\[\](){},:]|[-+]?\d[\d.]*+(?:[eE][-+]?\d++)?|True\b|False\b|None\b"""
    r"""|'(?:[^'\\\n]++|\\[\\'"nrtbfu])*+'|"(?:[^"\\\n]++|\\[\\'"nrtbfu])*+")*+""",
)
"""tokens of literals: no names, operators, prefixes or unknown escapes"""
_CURLY = re.compile(r"“([^“”\"\\]*+)”")


class Decoded(NamedTuple):
    """Value, and the repairs that it required."""

    value: Any
    kinds: tuple[RepairKind, ...] = ()


class CutOffError(ValueError):
    """Value without an end."""


def value_end(text: str, start: int) -> int:
    """Return the index after the balanced object, list or string that starts at an index.

    Raises:
        CutOffError: it does not end.
        ValueError: it is nested too deeply.

    >>> value_end('{"a": "}"} x', 0)
    10
    """
    text, depth = text[start : start + MAX_CALL_CHARS], 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] in "[{(":
            depth += 1
            if depth > MAX_BRACKETS:
                raise ValueError("too many brackets")
        elif token[0] in "]})":
            depth -= 1
        elif len(token) < 2 or token[-1] != {"“": "”"}.get(token[0], token[0]):
            break
        if depth <= 0:
            return start + match.end()
    raise CutOffError("it does not end")


def decode_json(text: str) -> Decoded:
    """Return the value of JSON or nearly valid JSON.

    Raises:
        ValueError: no certain value; the message is a short reason.

    >>> decode_json("{'a': (1, None)}")
    Decoded(value={'a': [1, None]}, kinds=(<RepairKind.PYTHON_LITERAL: 'python_literal'>,))
    >>> decode_json('[1, 2,]').value
    [1, 2]
    """
    if len(text) > MAX_CALL_CHARS:
        raise ValueError(f"more than {MAX_CALL_CHARS} characters")
    if text.count("[") + text.count("{") + text.count("(") > MAX_BRACKETS:
        raise ValueError("too many brackets")
    try:
        return Decoded(load_json(text))
    except ValueError as error:
        reason = error
    curly = _straight_quotes(text)
    attempts = (
        (_without_commas(text), (RepairKind.TRAILING_COMMA,)),
        (curly, (RepairKind.TYPOGRAPHIC_QUOTES,)),
        (_without_commas(curly), (RepairKind.TYPOGRAPHIC_QUOTES, RepairKind.TRAILING_COMMA)),
    )
    for number, (attempt, kinds) in enumerate(attempts):
        try:
            return Decoded(load_json(attempt), kinds)
        except ValueError:
            pass
        if number == 0:
            with contextlib.suppress(ValueError):
                return Decoded(_literal(text), (RepairKind.PYTHON_LITERAL,))
    raise reason


def _without_commas(text: str) -> str:
    """Return JSON without commas before a closing bracket, outside of strings."""
    return _COMMA.sub(lambda match: match[1] or "", text)


def _straight_quotes(text: str) -> str:
    """Return JSON with typographic quotes replaced, if they delimit strings and no straight quote does."""
    return text if '"' in text else _CURLY.sub(r'"\1"', text)


def _literal(text: str) -> Any:
    """Return the value of a literal of Python in the types of JSON.

    Raises:
        ValueError: not a literal, or of another type.
    """
    if _PYTHON.fullmatch(text) is None:
        raise ValueError("not a literal")
    try:
        value = _as_json(ast.literal_eval(text.strip()))
        return load_json(dump_json(value))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("not a literal") from error


def _as_json(value: Any) -> Any:
    """Convert tuples to lists.

    Raises:
        TypeError: a type that JSON does not have.
    """
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key is no string")
        return {key: _as_json(one) for key, one in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(type(value).__name__)
