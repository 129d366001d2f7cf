"""Checks of the operations of a run before it starts: known names, installed packages, and calls that the dialect can write."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.dialects.expressible import can_express
from pixel_reasoner.errors import UsageError
from pixel_reasoner.operations.registry import OperationSet
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS


def usable_operations(dialect: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of operations that a run with a dialect can use, each once.

    Args:
        dialect: name of the dialect.
        names: of the operations.

    Raises:
        UnknownNameError: an unregistered name; the message lists the nearest names.
        UsageError: a package that an operation needs is missing, or the dialect cannot write its calls.

    >>> usable_operations("compact", ["zoom_in", "mark", "zoom_in"])
    ('zoom_in', 'mark')
    """
    found = OperationSet.of(names)
    for spec in found:
        if spec.name not in DEFAULT_OPERATIONS:
            spec.check_available()
            if not _is_expressible(dialect, spec.name):
                raise _inexpressible(dialect, spec.name)
    return found.names


@cache
def _is_expressible(dialect: str, operation: str) -> bool:
    return can_express(get_dialect(dialect), operation)


def _inexpressible(dialect: str, operation: str) -> UsageError:
    return UsageError(
        expected=f"operations whose calls the dialect {dialect} can write",
        got=operation,
        fix="leave it out, or name another --dialect",
    )
