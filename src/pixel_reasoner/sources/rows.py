"""What readers of data sets share: a row that gives a seed, or the reason why not.

A reader yields a `Question`, or a `SkippedRow` with a word to count by. Whatever goes wrong while one row is read
stays with that row (`try_build`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pixel_reasoner.errors import InputError, packages_of
from pixel_reasoner.files import reason
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import Question


class SkippedRow(NamedTuple):
    """A row that gives no seed."""

    where: str
    reason: str
    """a word to count by"""
    detail: str = ""


Row = Question | SkippedRow


class RowError(Exception):
    """A row that cannot be used: a word to count by, and what was expected and came."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def try_build(where: str, build: Callable[[], Question]) -> Row:
    """What a row gives: a question, or the reason why not."""
    try:
        return build()
    except RowError as error:
        return SkippedRow(where, error.reason, str(error))
    except ValidationError as error:
        first = error.errors()[0]
        return SkippedRow(where, "bad_value", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        return SkippedRow(where, "bad_value", f"{type(error).__name__}: {error}")


def box_of_px(numbers: Any, size: tuple[int, int]) -> Box:
    """A box in pixels as shares of a picture.

    >>> box_of_px([10, 20, 30, 40], (100, 200))
    Box(x1=0.1, y1=0.1, x2=0.3, y2=0.2)
    """
    try:
        return Box.of(number / side for number, side in zip(numbers, (*size, *size), strict=True))
    except (BoxError, TypeError, ValueError) as error:
        told = f"expected x1 y1 x2 y2 inside {size[0]} x {size[1]} px; got {numbers}"
        raise RowError("bad_box", told) from error


def with_options(question: str, options: Mapping[str, str]) -> str:
    r"""A question followed by its options, one a line.

    >>> with_options("Which colour?", {"A": "red", "B": "blue"})
    'Which colour?\nA. red\nB. blue'
    """
    return "\n".join([question, *(f"{letter}. {text}" for letter, text in options.items())])


# --- files ---


def data_files(data: Path, pattern: str) -> list[Path]:
    """The files of a data set: those of a folder that match, or the one that was named.

    Raises:
        InputError: there are none.
    """
    files = [data] if data.is_file() else sorted(data.glob(pattern))
    if not files:
        raise InputError(
            expected=f"a folder with {pattern}",
            got=f"{data}: {'none in it' if data.is_dir() else 'no such folder'}",
            fix="give the folder of the data set with --data",
        )
    return files


def has_keys(row: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    """Make sure of the keys of a row.

    Raises:
        RowError: some are missing; tells those that were found.
    """
    if missing := [name for name in wanted if name not in row]:
        told = (
            f"expected {' '.join(wanted)}; no {' '.join(missing)} among {' '.join(map(str, row))}"
        )
        raise RowError("missing_keys", told)


def json_object(text: str) -> dict[str, Any]:
    """A text as a JSON object.

    Raises:
        RowError: it is something else.
    """
    try:
        row = json.loads(text)
    except ValueError as error:
        raise RowError("not_json", str(error)) from error
    if not isinstance(row, dict):
        raise RowError("not_json", f"expected an object; got {type(row).__name__}")
    return row


def json_objects(path: Path, chunk: int = 1 << 16) -> Iterator[dict[str, Any]]:
    """The objects of a JSON file that is one long list, one at a time.

    Raises:
        InputError: it is something else.
    """
    decoder, text, end = json.JSONDecoder(), "", False
    try:
        with path.open(encoding="utf-8") as file:
            if file.read(1) != "[":
                raise ValueError("it does not begin with [")
            while True:
                text = text.lstrip(" \t\r\n,")
                if text.startswith("]"):
                    return
                try:
                    item, length = decoder.raw_decode(text)
                except ValueError:
                    if end:
                        raise
                    more = file.read(chunk)
                    text, end = text + more, not more
                    continue
                if not isinstance(item, dict):
                    raise ValueError(f"an item is no object but {type(item).__name__}")
                yield item
                text = text[length:]
    except (OSError, ValueError) as error:
        raise InputError(
            expected=f"{path} as a JSON list of objects",
            got=reason(error),
            fix="download the file again",
        ) from error


def parquet_rows(
    path: Path, needed: tuple[str, ...], also: tuple[str, ...] = (), at_once: int = 256
) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, some at a time in memory.

    Args:
        path: the file.
        needed: columns that it has to have.
        also: columns that are read if it has them.
        at_once: rows in memory.

    Raises:
        InputError: no parquet file, or one without a needed column (those it has are named).
        UsageError: pyarrow is not installed.
    """
    with packages_of("train", "read parquet files"):
        from pyarrow import parquet
    try:
        # Through a small buffer: a row group of large pictures is then not in memory twice.
        file = parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, ValueError) as error:
        raise InputError(
            expected="a parquet file", got=f"{path}: {reason(error)}", fix="download it again"
        ) from error
    found = file.schema_arrow.names
    if missing := [name for name in needed if name not in found]:
        raise InputError(
            expected=f"{path} with {', '.join(needed)}",
            got=f"no {', '.join(missing)} among {', '.join(found)}",
            fix="give the files of this data set",
        )
    columns = [*needed, *(name for name in also if name in found)]
    for batch in file.iter_batches(batch_size=at_once, columns=columns):
        yield from batch.to_pylist()
