"""Checks of what other packages register: each error says what is missing, and in which item.

REWARDS = Registry[TraceReward]("reward", check=is_function("reward", "trace"))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pixel_reasoner.errors import PluginError
from pixel_reasoner.registry import Check


def is_instance(kind: str, expected: Any, made_by: str) -> Check:
    """Return a check that an item is an instance of a class and has the name under which it is registered.

    Args:
        kind: what an item is called in messages.
        expected: the class; its values have an attribute `name`.
        made_by: how an item is made, for messages.
    """

    def check(name: str, item: Any) -> None:
        if not isinstance(item, expected):
            raise PluginError(
                expected=f"the {kind} {name!r} as a value of {expected.__name__}",
                got=described(item),
                fix=f"name what {made_by} returns",
            )
        is_named(kind, name, item.name)

    return check


def is_named(kind: str, name: str, own: str) -> None:
    """Raise an error unless an item has the name under which it is registered.

    Raises:
        PluginError: it has another one.
    """
    if own != name:
        raise PluginError(
            expected=f"a {kind} with the name of its entry point, {name!r}",
            got=f"the name {own!r}",
            fix="give both the same name: traces record it",
        )


def is_function(kind: str, *parameters: str) -> Check:
    """Return a check that an item can be called with some positional arguments.

    >>> is_function("reward", "trace")("short", lambda: 0.0)
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.PluginError: expected the reward 'short' as a function of (trace); got the function <lambda>() at <doctest pixel_reasoner.plugin_checks.is_function[0]>:1. Fix: correct its parameters
    """

    def check(name: str, item: Any) -> None:
        expected = f"the {kind} {name!r} as a function of ({', '.join(parameters)})"
        if not callable(item):
            raise PluginError(expected=expected, got=described(item), fix="name a function")
        try:
            signature = inspect.signature(item)
        except (TypeError, ValueError):  # of a function in C
            return
        try:
            signature.bind(*parameters)
        except TypeError as error:
            raise PluginError(
                expected=expected, got=described(item), fix="correct its parameters"
            ) from error

    return check


def is_class(kind: str, base: type, attributes: Sequence[str], methods: Sequence[str]) -> Check:
    """Return a check that an item is a class with some attributes, and methods that differ from those of a base.

    Args:
        kind: what an item is called in messages.
        base: class whose methods raise `NotImplementedError`.
        attributes: of the class, not empty.
        methods: of the class.
    """

    def check(name: str, item: Any) -> None:
        expected = f"the {kind} {name!r} as a class"
        if not isinstance(item, type):
            raise PluginError(expected=expected, got=described(item), fix="name a class")
        missing = [one for one in attributes if not getattr(item, one, None)]
        missing += [
            f"{one}()"
            for one in methods
            if getattr(item, one, None) in (None, getattr(base, one, None))
        ]
        if missing:
            raise PluginError(
                expected=f"{expected} with {', '.join((*attributes, *(f'{m}()' for m in methods)))}",
                got=f"{described(item)} without {', '.join(missing)}",
                fix=f"add {missing[0]}",
            )

    return check


def has_attributes(kind: str, name: str, item: Any, attributes: Sequence[str]) -> None:
    """Raise an error unless an object has some attributes.

    Raises:
        PluginError: one of them is missing.
    """
    missing = [one for one in attributes if not hasattr(item, one)]
    if missing:
        raise PluginError(
            expected=f"the {kind} {name!r} with {', '.join(attributes)}",
            got=f"{described(item)} without {', '.join(missing)}",
            fix=f"add {missing[0]}",
        )


def described(item: Any) -> str:
    """Return what an item is and where it is defined, for messages.

    >>> described(3)
    'a value of int'
    """
    if isinstance(item, type):
        return f"the class {item.__name__} of {item.__module__}"
    if inspect.isfunction(item):
        return f"the function {item.__name__}{_parameters(item)} at {place(item)}"
    return f"a value of {type(item).__name__}"


def place(function: Callable[..., Any]) -> str:
    """Return file and line of a function; empty where Python does not know them."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _parameters(function: Callable[..., Any]) -> str:
    return f"({', '.join(inspect.signature(function).parameters)})"
