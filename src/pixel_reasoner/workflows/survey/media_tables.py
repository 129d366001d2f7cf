"""Tables with a column of media paths: CSV, TSV, JSONL and Parquet. One row is in memory at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import reason
from pixel_reasoner.sources.rows import RowError, json_object, parquet_rows

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
PATH_COLUMNS = ("path", "file", "filename", "image", "picture", "video", "media")
"""names of the column with the path, if none is given"""
ID_COLUMN = "id"
MAX_CELL_CHARS = 1_000_000


class TableRow(NamedTuple):
    """One row of a table."""

    id: str
    """the column `id`, or the file name and number of the row"""
    path: str = ""
    data: Mapping[str, Any] = {}
    """the other columns, as JSON values"""
    error: str | None = None


def table_rows(path: Path, column: str | None = None) -> Iterator[TableRow]:
    r"""Yield the rows of a table. A row without a usable path has an error.

    Args:
        path: of the file.
        column: with the paths of media, relative to the folder of the file; None: the first of `PATH_COLUMNS`.

    Raises:
        InputError: the file cannot be read, or it has no such column.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "parts.csv"
    >>> _ = path.write_text("id,file,line\n7,a.png,left\n8,,right\n")
    >>> [(row.id, row.path, row.data, row.error) for row in table_rows(path)]
    [('7', 'a.png', {'line': 'left'}, None), ('8', '', {'line': 'right'}, "expected a path in the column 'file'; got none")]
    """
    number = 0
    try:
        for number, fields in enumerate(_READERS[path.suffix.lower()](path), start=1):
            name = f"{path.name}#row={number}"
            if isinstance(fields, str):
                yield TableRow(name, error=fields)
                continue
            if number == 1 or column is None:
                column = _path_column(path, fields, column)
            yield _row(name, fields, column)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            expected="a readable table (CSV, TSV, JSONL or Parquet)",
            got=f"{path}, after row {number}: {reason(error)}",
            fix="save it again as UTF-8",
        ) from error
    if not number:
        raise InputError(
            expected="a table with rows", got=f"{path}, which has none", fix="add rows"
        )


def _row(name: str, fields: dict[str, Any], column: str) -> TableRow:
    id_ = fields.get(ID_COLUMN)
    data = {
        key: _json_value(value) for key, value in fields.items() if key not in (column, ID_COLUMN)
    }
    row = TableRow(name if id_ in (None, "") else str(id_), data=data)
    value = fields.get(column)
    if not isinstance(value, str) or not value.strip():
        got = "none" if value in (None, "") else repr(value)[:60]
        return row._replace(error=f"expected a path in the column {column!r}; got {got}")
    return row._replace(path=value.strip())


def _path_column(path: Path, fields: Mapping[str, Any], column: str | None) -> str:
    known = {name.casefold(): name for name in fields}
    wanted = PATH_COLUMNS if column is None else (column,)
    for name in wanted:
        if name in fields:
            return name
        if name.casefold() in known:
            return known[name.casefold()]
    raise InputError(
        expected=f"a column {' or '.join(wanted)} with the paths of media",
        got=f"{path} with {', '.join(map(str, fields))[:300]}",
        fix="name the column with --column",
    )


def _json_value(value: Any) -> Any:
    """Return a cell as a JSON value: dates as text, bytes and others not at all."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, list):
        return [_json_value(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _json_value(one) for key, one in value.items()}
    return None


# --- formats ---


def _csv_rows(path: Path) -> Iterator[dict[str, Any] | str]:
    # A larger cell is an error of the csv module.
    csv.field_size_limit(MAX_CELL_CHARS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(
            file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
        )
        names = next(reader, [])
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(names):
                yield f"expected {len(names)} cells as in the first line; got {len(cells)}"
            else:
                yield dict(zip(names, cells, strict=True))


def _jsonl_rows(path: Path) -> Iterator[dict[str, Any] | str]:
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                yield json_object(line.decode("utf-8-sig"))
            except (RowError, UnicodeDecodeError) as error:
                yield f"expected a JSON object per line; got {error}"


def _parquet_rows(path: Path) -> Iterator[dict[str, Any] | str]:
    yield from parquet_rows(path, (), None)


_READERS = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
