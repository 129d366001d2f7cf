"""Tables in CSV and Parquet of rows with any fields, with one row in memory at a time.

| JSON value | CSV (RFC 4180, UTF-8 with a byte-order mark, CRLF) | Parquet |
| --- | --- | --- |
| null | empty | null |
| true, false | `true`, `false` | bool |
| integer, number | with a decimal point | int64, double |
| text | a text that a spreadsheet would execute (`=`, `+`, `-`, `@`) gets a leading `'` | string |
| list | JSON | list, if all elements have one type |
| object | JSON | string with JSON |
| column of mixed types | as above, each value by its type | string with JSON |
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import require_extra
from pixel_reasoner.files import atomic_path

Rows = Callable[[], Iterable[dict[str, Any]]]
"""returns the rows from the start; they are read twice"""
_BATCH_ROWS = 1_000
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")
_JSON = "json"


def columns_of(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the kind of each column in the order of first appearance.

    A kind is None (only nulls), `bool`, `int`, `float`, `str`, `json`, or a list with the kind of the elements.

    >>> columns_of([{"a": 1, "b": [1]}, {"a": 1.5, "b": [], "c": True}])
    {'a': 'float', 'b': ['int'], 'c': 'bool'}
    """
    kinds: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            kinds[name] = _join(kinds.get(name), _kind(value))
    return kinds


def _kind(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        kind: Any = None
        for one in value:
            kind = _join(kind, _kind(one))
        return _JSON if kind == _JSON else [kind]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return _JSON
    name = type(value).__name__
    return name if name in ("bool", "int", "float", "str") else _JSON


def _join(one: Any, other: Any) -> Any:
    """Return the kind for values of both kinds.

    >>> _join("int", "float"), _join(None, "str"), _join(["int"], [None]), _join("int", "str")
    ('float', 'str', ['int'], 'json')
    """
    if one is None or one == other:
        return other
    if other is None:
        return one
    if isinstance(one, list) and isinstance(other, list):
        inner = _join(one[0], other[0])
        return _JSON if inner == _JSON else [inner]
    return "float" if (one, other) in (("int", "float"), ("float", "int")) else _JSON


# --- CSV ---


def write_csv(rows: Rows, path: Path) -> None:
    """Write rows as CSV that a spreadsheet opens, atomically.

    Raises:
        OutputError: the path cannot be written.
    """
    names = list(columns_of(rows()))
    with atomic_path(path) as part, part.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows():
            writer.writerow([_cell(row.get(name)) for name in names])


def _cell(value: Any) -> str:
    """Return a value as a cell.

    >>> _cell("=1+1"), _cell(-1), _cell(True), _cell([1, 2]), _cell(None)
    ("'=1+1", '-1', 'true', '[1, 2]', '')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return json.dumps(value, ensure_ascii=False)


# --- Parquet ---


def write_parquet(rows: Rows, path: Path) -> None:
    """Write rows as Parquet, atomically.

    Raises:
        UsageError: pyarrow is not installed.
        OutputError: the path cannot be written.
    """
    with require_extra("workflows", "write Parquet files"):
        import pyarrow
        from pyarrow import parquet
    kinds = columns_of(rows())
    schema = pyarrow.schema([(name, _arrow_type(kind)) for name, kind in kinds.items()])
    with atomic_path(path) as part, parquet.ParquetWriter(part, schema) as writer:
        for batch in _batches(rows()):
            converted = [
                {name: _parquet_value(row.get(name), kind) for name, kind in kinds.items()}
                for row in batch
            ]
            writer.write_table(pyarrow.Table.from_pylist(converted, schema))


def _arrow_type(kind: Any) -> Any:
    import pyarrow

    if isinstance(kind, list):
        return pyarrow.list_(_arrow_type(kind[0]))
    names = {"bool": pyarrow.bool_, "int": pyarrow.int64, "float": pyarrow.float64}
    return names.get(kind, pyarrow.string)()


def _parquet_value(value: Any, kind: Any) -> Any:
    if kind == _JSON and value is not None:
        return json.dumps(value, ensure_ascii=False)
    return value


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    rows = iter(rows)
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch
