"""Options of strategies: `NAME:key=value,key=value`. The parameters of a strategy after its configuration are its options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pixel_reasoner.errors import UsageError

_NUM_ARGUMENTS = 3
"""question, scheduler, configuration"""


def default_options(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a strategy with their default values.

    >>> def vote(question, scheduler, config, k: int = 5): ...
    >>> default_options(vote)
    {'k': 5}
    """
    parameters = list(inspect.signature(function).parameters.values())[_NUM_ARGUMENTS:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        one.name: one.default
        for one in parameters
        if one.kind in named and one.default is not inspect.Parameter.empty
    }


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the options of `NAME:key=value,key=value`.

    Raises:
        UsageError: an option without a value, or one that is repeated.

    >>> split_options("majority_vote:k=8")
    ('majority_vote', {'k': '8'})
    """
    name, colon, rest = text.partition(":")
    options: dict[str, str] = {}
    for part in rest.split(",") if colon else ():
        key, sign, value = (one.strip() for one in part.partition("="))
        if not (key and sign and value) or key in options:
            raise UsageError(
                expected="a strategy as NAME or NAME:key=value,key=value with each key once",
                got=repr(text),
                fix=f"for example --strategy {name.strip() or 'majority_vote'}:k=8",
            )
        options[key] = value
    return name.strip(), options


def read_options(
    name: str, function: Callable[..., Any], given: Mapping[str, str]
) -> dict[str, Any]:
    """Return the given options of a strategy as values of their types.

    Raises:
        UsageError: an unknown option, or a value that is not allowed.
    """
    defaults = default_options(function)
    hints = get_type_hints(function, include_extras=True) if given else {}
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in defaults:
            known = ", ".join(defaults) or "it has none"
            near = difflib.get_close_matches(key, defaults, 1)
            raise UsageError(
                expected=f"an option of the strategy {name}: {known}",
                got=repr(key),
                fix=f"use {near[0]}" if near else "leave it out",
            )
        try:
            values[key] = TypeAdapter(hints.get(key, type(defaults[key]))).validate_python(text)
        except ValidationError as error:
            message = str(error.errors()[0]["msg"])
            raise UsageError(
                expected=f"the option {key} of the strategy {name}: {message[:1].lower()}{message[1:]}",
                got=repr(text),
                fix=f"for example {name}:{key}={defaults[key]}",
            ) from error
    return values


def canonical_text(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """Return a strategy as text, without options that have their default values.

    >>> def vote(question, scheduler, config, k: int = 5): ...
    >>> canonical_text("vote", vote, {"k": 5}), canonical_text("vote", vote, {"k": 8})
    ('vote', 'vote:k=8')
    """
    defaults = default_options(function)
    changed = [
        f"{key}={options[key]}"
        for key in defaults
        if key in options and options[key] != defaults[key]
    ]
    return f"{name}:{','.join(changed)}" if changed else name
