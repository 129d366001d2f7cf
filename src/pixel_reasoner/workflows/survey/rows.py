"""Folder of a table that grows: rows and traces are appended as they finish, and a killed run is resumed.

    DIR/spec.json             everything that determines the rows; another run in the same folder is rejected
    DIR/rows.jsonl            one row per line; the last row of an id counts; sorted when the run is complete
    DIR/traces.jsonl          the traces of all rows (`runs.store`); `pixel-reasoner report DIR` shows them
    DIR/rows.csv, .parquet    the complete table (`tables`)
    DIR/.store/rows.db        offset and position of each row; derived from rows.jsonl, rebuilt if it does not match

Memory does not depend on the number of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import check_settings, write_or_check_settings
from pixel_reasoner.runs.lock import STORE, FolderLock
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.runs.store import RunStore
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.strict_json import parse_json
from pixel_reasoner.workflows.survey.row_index import RowIndex, RowSummary
from pixel_reasoner.workflows.survey.tables import write_csv, write_parquet

ROWS, SPEC = "rows.jsonl", "spec.json"
ID, ERROR = "id", "error"
"""columns that every row has: a unique id, and None or the reason for which the row failed"""
POSITION = "position"
"""key in rows.jsonl with the place of a row in the complete table; no column of the table"""


class RowWriter:
    r"""Writer of rows with any fields, and of their traces.

    Rows are dicts of JSON values with the keys `id` and `error`. A row with an error is not done: the next run with the same
    settings replaces it.

    Args:
        folder: of the run; created if it does not exist.
        settings: everything that determines the rows, as JSON values.
        traces: whether traces are written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run"
    >>> with RowWriter(folder, {"spec": 1}) as rows:
    ...     rows.append({"id": "b", "answer": "red", "error": None}, position=1)
    ...     rows.append({"id": "a", "answer": None, "error": "no such file"}, position=0)
    >>> with RowWriter(folder, {"spec": 1}) as rows:
    ...     rows.is_done("b"), rows.is_done("a"), rows.get("b")["answer"]
    ...     rows.append({"id": "a", "answer": "blue", "error": None}, position=0)
    ...     [path.name for path in rows.complete()]
    (True, False, 'red')
    ['rows.jsonl', 'rows.csv']
    >>> (folder / "rows.csv").read_bytes()
    b'\xef\xbb\xbfid,answer,error\r\na,blue,\r\nb,red,\r\n'
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, traces: bool = True) -> None:
        self.folder = Path(folder)
        # Round trip through JSON: a tuple becomes a list.
        self._settings = dict(json.loads(json.dumps(settings)))
        self._segment = Segment(self.folder / ROWS)
        self._store = RunStore(self.folder, settings=self._settings) if traces else None
        self._index: RowIndex
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Lock the folder, check its settings, and drop an incomplete last row.

        Raises:
            UsageError: the folder contains a run with other settings.
            OutputError: the folder cannot be written, or another process writes to it.
            InputError: a line is not a row (with its number).
        """
        with ExitStack() as opened:
            opened.enter_context(FolderLock(self.folder))
            write_or_check_settings(self.folder / SPEC, self._settings)
            opened.enter_context(self._segment)
            if self._store is not None:
                opened.enter_context(self._store)
            self._index = RowIndex(self.folder / STORE / "rows.db", self._segment, _summary)
            opened.callback(self._index.close)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        """Close all files and release the lock."""
        self._opened.__exit__(kind, *details)

    # --- rows ---

    def is_done(self, id_: str) -> bool:
        """Return whether the folder has a row of this id without an error."""
        place = self._index.find(id_)
        return place is not None and not place.is_failed

    def get(self, id_: str) -> dict[str, Any] | None:
        """Return the row of an id; None if there is none."""
        place = self._index.find(id_)
        return place and _row(self._segment.read(place.offset, place.length))

    def append(
        self, row: Mapping[str, Any], traces: Sequence[Trace] = (), position: int | None = None
    ) -> None:
        """Append a row and its traces. It replaces the row of the same id.

        Args:
            row: JSON values with the keys `id` and `error`.
            traces: of the row, one per sample.
            position: place of the row in the complete table; by default the order of `append`.

        Raises:
            OutputError: the disk is full or gone.
        """
        # The traces come first: a row whose traces are missing would never be asked again.
        if self._store is not None:
            for trace in traces:
                self._store.append(trace)
        placed = {**row, **({} if position is None else {POSITION: position})}
        line = json.dumps(placed, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        offset = self._segment.append(line)
        self._index.add(RowSummary(row[ID], position, row[ERROR] is not None), offset, len(line))

    def append_traces(self, traces: Iterable[Trace]) -> None:
        """Append traces whose rows are appended later. Each replaces the trace of the same question and sample.

        Raises:
            OutputError: the disk is full or gone.
        """
        assert self._store is not None, "a folder with traces"
        for trace in traces:
            self._store.append(trace)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in the order of the table, with one in memory at a time."""
        for place in self._index.places():
            yield _row(self._segment.read(place.offset, place.length))

    def discard_failed(self) -> None:
        """Drop the rows with an error, before a run that tries them again.

        Raises:
            OutputError: the disk is full or gone.
        """
        self._index.discard_failed()

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._index.count()

    @property
    def num_failed(self) -> int:
        """Number of rows with an error."""
        return self._index.count(is_failed=True)

    def complete(self, *, parquet: bool = False) -> list[Path]:
        """Sort the rows and traces, write the table in all formats, and return the paths.

        Args:
            parquet: whether rows.parquet is written too; requires pyarrow.

        Raises:
            OutputError: a file cannot be written; the rows are kept.
            UsageError: pyarrow is not installed.
        """
        self._index.rewrite()
        if self._store is not None:
            self._store.index.set_questions((id_, "") for id_ in self._index.ids())
            self._store.complete()
        paths = [self.folder / ROWS, self.folder / "rows.csv"]
        write_csv(self.rows, paths[1])
        if parquet:
            paths.append(self.folder / "rows.parquet")
            write_parquet(self.rows, paths[2])
        return paths


def load_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a folder or of its rows.jsonl, in the order of the file.

    Raises:
        InputError: no such file, or a line that is not a row (with its number).
    """
    file = path / ROWS if path.is_dir() else path
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield _row(line)
                except ValueError as error:
                    raise InputError(
                        expected="a row as a JSON object per line",
                        got=f"{file}, line {number}: {error}",
                        fix="delete the line",
                    ) from error
    except OSError as error:
        raise InputError(
            expected="a folder with rows.jsonl",
            got=f"{file}: {error.strerror}",
            fix="check the path",
        ) from error


def check_row_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that the run in a folder, if any, has these settings. Writes nothing.

    Raises:
        UsageError: the folder contains a run with other settings.
    """
    check_settings(folder / SPEC, dict(json.loads(json.dumps(settings))))


def _row(line: bytes) -> dict[str, Any]:
    """Return the row in a line, without its position."""
    row = _parsed(line)
    row.pop(POSITION, None)
    return row


def _summary(line: bytes) -> RowSummary:
    row = _parsed(line)
    return RowSummary(row[ID], row.get(POSITION), row.get(ERROR) is not None)


def _parsed(line: bytes) -> dict[str, Any]:
    row = parse_json(line)
    if not isinstance(row, dict) or not isinstance(row.get(ID), str):
        raise ValueError("not an object with an id")
    return row
