"""Types of argument values that a syntax writes as text: the schema of the operation decides, in this module only.

XML calls carry no types: `true`, `0.25` and `[1, 2]` arrive as text. A text becomes the value of the first type that the
schema allows and the text has, in the order null, integer, number, boolean, object, array, string. A text that has none of
the types stays a text, which the operation rejects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pixel_reasoner.dialects.loose_json import decode_json
from pixel_reasoner.schema.repairs import RepairKind

MAX_CHARS = 2000
"""longer texts are not typed"""
NO_VALUE = object()
"""result for a text that has none of the types"""

_NUMBER = re.compile(r"[-+]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][-+]?\d{1,3})?")
_INTEGER = re.compile(r"[-+]?\d{1,15}")
_BOOLEANS = {"true": True, "false": False}
_NULLS = frozenset({"null", "none"})
_ORDER = ("null", "integer", "number", "boolean", "object", "array", "string")


def allowed_types(schema: Mapping[str, Any]) -> list[str]:
    """Return the JSON types that a schema allows, in the order in which a text is tried; empty if it names none.

    >>> allowed_types({"anyOf": [{"type": "string"}, {"type": "null"}]}), allowed_types({"type": ["number", "integer"]})
    (['null', 'string'], ['integer', 'number'])
    """
    named = schema.get("type", ())
    found = {named} if isinstance(named, str) else set(named)
    for key in ("anyOf", "oneOf"):
        for one in schema.get(key, ()):
            found |= set(allowed_types(one))
    return [kind for kind in _ORDER if kind in found]


def typed_value(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the value of a text in the first type that the schema allows; the text itself if it has none of them.

    Lists and objects must be JSON or literals of Python; a looser form stays a text, which only a repair reads.

    >>> typed_value("[1, 2.5]", {"type": "array"}), typed_value("True", {"type": "boolean"})
    ([1, 2.5], True)
    >>> typed_value("12", {"type": "string"}), typed_value("twelve", {"type": "integer"})
    ('12', 'twelve')
    """
    if len(text) > MAX_CHARS:
        return text
    for kind in allowed_types(schema):
        value = text if kind == "string" else from_text(text.strip(), kind, is_strict=True)
        if value is not NO_VALUE:
            return value
    return text


def typed_arguments(
    arguments: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return arguments whose texts have the types of their schemas. Arguments without a schema are unchanged.

    >>> typed_arguments({"degrees": "90", "label": "7"}, {"degrees": {"type": "number"}})
    {'degrees': 90, 'label': '7'}
    """
    return {
        name: typed_value(value, schemas[name])
        if isinstance(value, str) and name in schemas
        else value
        for name, value in arguments.items()
    }


def from_text(text: str, kind: str, *, is_strict: bool = False) -> Any:
    """Return the value of a text without blanks around it in a JSON type; `NO_VALUE` if it has none.

    Unless `is_strict`, JSON may have mistakes with one certain meaning, and an array of numbers may be written without
    brackets, separated by commas or blanks.

    >>> from_text("1 2.5", "array"), from_text("none", "null"), from_text("25%", "number") is NO_VALUE
    ([1, 2.5], None, True)
    """
    if kind == "null":
        return None if text.lower() in _NULLS else NO_VALUE
    if kind == "integer":
        return int(text) if _INTEGER.fullmatch(text) else NO_VALUE
    if kind == "number":
        return _number(text) if _NUMBER.fullmatch(text) else NO_VALUE
    if kind == "boolean":
        return _BOOLEANS.get(text.lower(), NO_VALUE)
    if kind not in ("array", "object"):
        return NO_VALUE
    if kind == "array" and not text.startswith(("[", "(")):
        numbers = None if is_strict else numbers_in(text)
        return NO_VALUE if numbers is None else numbers
    try:
        value, kinds = decode_json(text)
    except ValueError:
        return NO_VALUE
    if is_strict and set(kinds) - {RepairKind.PYTHON_LITERAL}:
        return NO_VALUE
    return value if isinstance(value, list if kind == "array" else dict) else NO_VALUE


def numbers_in(text: str) -> list[Any] | None:
    """Return numbers that are separated by blanks or commas; None if the text contains anything else, or nothing.

    >>> numbers_in("1, 2.5 3"), numbers_in("25%, 50%")
    ([1, 2.5, 3], None)
    """
    words = [one for one in re.split(r"\s*,\s*|\s+", text) if one] if text else []
    if not words or not all(map(_NUMBER.fullmatch, words)):
        return None
    return [_number(one) for one in words]


def typed_items(values: Iterable[Any], kind: str) -> list[Any] | None:
    """Return a list whose texts have a type; None if there are none, or one of them has not.

    >>> typed_items(["1", 2], "integer"), typed_items([1, 2], "integer"), typed_items(["one"], "integer")
    ([1, 2], None, None)
    """
    given = list(values)
    typed = [from_text(one.strip(), kind) if isinstance(one, str) else one for one in given]
    changed = [new for new, old in zip(typed, given, strict=True) if isinstance(old, str)]
    return typed if changed and not any(one is NO_VALUE for one in changed) else None


def is_finite_number(value: Any) -> bool:
    """Return whether a value is a number of a box: finite, in a usual range, and no boolean."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e15 and math.isfinite(value)


def _number(text: str) -> int | float:
    return int(text) if _INTEGER.fullmatch(text) else float(text)
