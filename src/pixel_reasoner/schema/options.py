"""Validation of keyword arguments of public functions against a `TypedDict`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pixel_reasoner.errors import UsageError


def valid_options(kind: type, options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Validate options and convert them to their declared types. Missing options stay missing.

    Args:
        kind: a `TypedDict` that forbids other keys.
        options: keyword arguments of a call.
        what: name of an option in error messages.

    Raises:
        UsageError: an unknown option or an invalid value.

    >>> from pydantic import PositiveInt, with_config
    >>> from typing_extensions import TypedDict
    >>> Options = with_config(extra="forbid")(TypedDict("Options", {"count": PositiveInt}, total=False))
    >>> valid_options(Options, {"count": 3}, "an option")
    {'count': 3}
    >>> valid_options(Options, {"count": 0}, "an option")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected a valid count; got 0: input should be greater than 0. Fix: correct the value
    """
    try:
        return dict(_adapter(kind).validate_python(dict(options)))
    except ValidationError as error:
        first = error.errors()[0]
    name = str(first["loc"][0])
    names = sorted(kind.__annotations__)
    if name not in names:
        near = get_close_matches(name, names, 1) or [f"one of {', '.join(names)}"]
        raise UsageError(expected=what, got=repr(name), fix=f"use {near[0]}")
    raise UsageError(
        expected=f"a valid {name}",
        got=f"{first['input']!r}: {first['msg'].lower()}",
        fix="correct the value",
    )


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
