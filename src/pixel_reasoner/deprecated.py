"""Renamed commands, options and config keys. An old name works until `removed_in`, with a warning.

Add one line to `RENAMED` for every rename. Removed functions and classes use `typing_extensions.deprecated` (PEP 702).
The policy is in `docs/versioning.md`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pixel_reasoner.errors import UsageError

Kind = Literal["command", "option", "key"]


class RenamedWarning(FutureWarning):
    """An old name was used. Python shows a `FutureWarning` by default; the command line prints it as one line."""


class Renamed(NamedTuple):
    """One rename."""

    kind: Kind
    where: str
    """where the name is used: parent command (`""`, `train`), command (`eval`, `train sft`), or class of a table (`SftRun`)"""
    old: str
    new: str
    removed_in: str
    """version that no longer accepts the old name, such as `0.3.0`"""


RENAMED: tuple[Renamed, ...] = ()


def new_name(kind: Kind, where: str, name: str) -> str:
    """Return the present name of a command, option or key, and warn if `name` is an old one."""
    for one in RENAMED:
        if (one.kind, one.where, one.old) == (kind, where, name):
            message = f"{one.old} is now {one.new}; {one.old} will be removed in {one.removed_in}"
            warnings.warn(message, RenamedWarning, stacklevel=2)
            return one.new
    return name


def new_arguments(command: str, arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with present names of options. Arguments after `--` are left alone.

    >>> new_arguments("eval", ["vstar", "--count=3", "--", "--count"])
    ['vstar', '--count=3', '--', '--count']
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    renamed = []
    for argument in arguments[:end]:
        option, equals, value = argument.partition("=")
        renamed.append(f"{new_name('option', command, option)}{equals}{value}")
    return [*renamed, *arguments[end:]]


def new_keys(where: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of a config file with present keys.

    Raises:
        UsageError: the table has both the old and the new name of a key.

    >>> new_keys("SftRun", {"model": "tiny"})
    {'model': 'tiny'}
    """
    renamed: dict[str, Any] = {}
    for old, value in table.items():
        new = new_name("key", where, old)
        if new in renamed or (new != old and new in table):
            raise UsageError(
                expected=f"{new} once", got=f"{new} and its old name {old}", fix=f"remove {old}"
            )
        renamed[new] = value
    return renamed
