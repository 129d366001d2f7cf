"""Fingerprints of the source rows of a synthesis run: a run is not mixed from two versions of a data set.

`.store/rows.txt` has one line for each unit of the run, in order, and a last line `end` if the run used all units. When the run is resumed or given again, the units of the
source are compared with these lines. The file is a segment of the run's store, so that it is truncated to the last
checkpoint together with the traces.

A run of an older version has no such lines. It is resumed without the comparison.

Not covered
    content of pictures and videos: as in an evaluation, only their names are compared.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from pixel_reasoner.errors import UsageError
from pixel_reasoner.runs.lock import STORE
from pixel_reasoner.runs.store import RunStore
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.rows import SkippedRow
from pixel_reasoner.sources.units import SourceUnit

_Result = TypeVar("_Result")
ROWS = f"{STORE}/rows.txt"
_LINE_BYTES = 17
_END = "end"


class SourceRows:
    """Source rows of a run in progress.

    Args:
        store: open store of the run. Without the segment `ROWS` nothing is compared or recorded.
        num_known: number of units that the run contains.
    """

    def __init__(self, store: RunStore, num_known: int) -> None:
        self._folder, self._num_known = store.folder, num_known
        segment = store.segments.get(ROWS)
        has_all_lines = segment is not None and segment.size == num_known * _LINE_BYTES
        self._segment = segment if has_all_lines else None
        self._waiting: deque[str] = deque()
        """fingerprints of units in progress"""
        self._has_ended = False

    def after_known(self, units: Iterator[Any]) -> Iterator[Any]:
        """Return the units after those that the run contains.

        Raises:
            UsageError: the source no longer has these units.
        """
        if self._segment is None:
            return islice(units, self._num_known, None)
        for number, known in enumerate(_fingerprints(self._folder), start=1):
            _check(next(units, None), known, number, self._num_known, self._folder)
        return self._fingerprinted(units)

    def _fingerprinted(self, units: Iterator[Any]) -> Iterator[Any]:
        """Yield units and note their fingerprints for `record`."""
        for unit in units:
            self._waiting.append(unit_fingerprint(unit))
            yield unit
        self._has_ended = True

    def record(self, results: Iterable[_Result]) -> Iterator[_Result]:
        """Yield the results of units in order, and record the fingerprint of each unit.

        Raises:
            OutputError: the disk is full or gone.
        """
        for result in results:
            if self._segment is not None:
                self._segment.append(f"{self._waiting.popleft()}\n".encode())
            yield result
        if self._segment is not None and self._has_ended:
            self._segment.append(f"{_END}\n".encode())


def check_complete(units: Iterable[Any], out: Path) -> None:
    """Check that the source still has the rows of a complete run.

    Raises:
        UsageError: it has other rows.
    """
    path = out / ROWS
    num_known, has_end = divmod(path.stat().st_size if path.exists() else 0, _LINE_BYTES)
    if not num_known:
        return
    pairs = zip_longest(units, _fingerprints(out))
    for number, (unit, known) in enumerate(pairs, start=1):
        if known is None and not has_end:
            return
        _check(unit, known, number, num_known, out)


def unit_fingerprint(unit: Any) -> str:
    """Return the fingerprint of a unit: 16 hexadecimal digits.

    >>> unit_fingerprint(SkippedRow("line 7", "not_json")) == unit_fingerprint(SkippedRow("line 7", "bad_value"))
    False
    """
    content = [_content(row) for row in (unit if isinstance(unit, list) else [unit])]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _content(row: Any) -> Any:
    if isinstance(row, SourceUnit):
        return _content(row.unit)
    if isinstance(row, SkippedRow):
        return [row.where, row.reason]
    if not isinstance(row, Question):
        return row
    content = row.model_dump(mode="json")
    for item in content["media"]:
        item["path"] = Path(item["path"]).name  # the run and its data may be moved
    return content


def _check(unit: Any, known: str | None, number: int, num_known: int, out: Path) -> None:
    if unit is not None and known == unit_fingerprint(unit):
        return
    if unit is None:
        change = f"{number - 1} rows where there were {num_known} or more"
    elif known is None:
        change = f"one more row, {_name(unit)}"
    else:
        change = f"another row {number}: {_name(unit)} was changed, added or moved"
    raise UsageError(
        expected=f"the same data as when the traces in {out} were written",
        got=change,
        fix="use another --out, or delete this folder to start again",
    )


def _name(unit: Any) -> str:
    row = unit[0] if isinstance(unit, list) and unit else unit
    row = row.unit if isinstance(row, SourceUnit) else row
    names = (getattr(row, name, None) for name in ("id", "where", "name"))
    return str(next(filter(None, names), "one of a group"))


def _fingerprints(out: Path) -> Iterator[str]:
    with (out / ROWS).open() as file:
        for line in file:
            if line != f"{_END}\n":
                yield line.strip()
