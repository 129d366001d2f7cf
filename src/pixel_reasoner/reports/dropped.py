"""Rows of a data set without a trace: `dropped.jsonl` of `pixel-reasoner synth`, counted by reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.strict_json import parse_json

DROPPED = "dropped.jsonl"
MAX_EXAMPLES = 3
_MAX_DETAIL_CHARS = 300


class DroppedReason(NamedTuple):
    """Rows that were dropped for one reason."""

    reason: str
    num_rows: int
    examples: tuple[str, ...]
    """ids or places of the first rows"""
    detail: str
    """of the first row"""


class DroppedRows:
    """Counts of dropped rows by reason. Only the first rows of each reason are kept."""

    def __init__(self) -> None:
        self._found: dict[str, DroppedReason] = {}

    def add(self, reason: str, where: str, detail: str) -> None:
        """Count a row."""
        known = self._found.get(reason, DroppedReason(reason, 0, (), detail[:_MAX_DETAIL_CHARS]))
        examples = (*known.examples, where)[:MAX_EXAMPLES]
        self._found[reason] = known._replace(num_rows=known.num_rows + 1, examples=examples)

    @property
    def count(self) -> int:
        """Number of dropped rows."""
        return sum(one.num_rows for one in self._found.values())

    def __iter__(self) -> Iterator[DroppedReason]:
        """Yield the reasons, the most frequent first."""
        yield from sorted(self._found.values(), key=lambda one: (-one.num_rows, one.reason))


def read_dropped(folder: Path) -> DroppedRows:
    """Return the dropped rows of a run; none if there is no list.

    Raises:
        InputError: a line that cannot be read.
    """
    found = DroppedRows()
    path = folder / DROPPED
    if not path.exists():
        return found
    for number, line in numbered_lines(path, f"a {DROPPED} written by `pixel-reasoner synth`"):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise _broken(path, number, str(error)) from error
        if not isinstance(row, dict) or not isinstance(row.get("reason"), str):
            raise _broken(path, number, "not an object with a reason")
        found.add(row["reason"], str(row.get("where", "")), str(row.get("detail", "")))
    return found


def _broken(path: Path, number: int, problem: str) -> InputError:
    return InputError(
        expected="one JSON object per dropped row",
        got=f"{path}, line {number}: {problem}",
        fix="delete this line",
    )
