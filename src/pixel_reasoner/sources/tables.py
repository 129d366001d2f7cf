"""Own rows in Parquet files, or in a saved `datasets` data set (`save_to_disk`).

The columns are the keys of `sources.jsonl`. A column of `datasets.Image` has `{bytes, path}`: the bytes are written to
the media
folder, named by content hash. Null in an optional column is a missing key.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pixel_reasoner.errors import InputError, require_extra
from pixel_reasoner.files import reason
from pixel_reasoner.sources.base import MEDIA, SOURCES
from pixel_reasoner.sources.jsonl import OwnRows, question_of_row
from pixel_reasoner.sources.rows import Row, data_files, parquet_columns, parquet_rows, try_build

_RELEASED_COLUMNS = {"question", "image", "answer", "qid", "is_video"}
_ROWS_AT_ONCE = 16
"""small, because a row may contain large pictures"""


class TableSource(OwnRows):
    """Own rows: a Parquet file, all of a folder, or a saved `datasets` data set."""

    name: ClassVar[str] = "parquet"
    summary: ClassVar[str] = "own rows: Parquet files, or a saved `datasets` data set"

    def read(self, folder: Path) -> Iterator[Row]:
        """Yield the rows of all files."""
        if is_saved_dataset(self.data):
            yield from self._rows(self.data, _saved_rows(self.data), folder)
            return
        for path in data_files(self.data, "*.parquet"):
            needed = () if "text" in parquet_columns(path) else ("question", "answer")
            yield from self._rows(path, parquet_rows(path, needed, None, _ROWS_AT_ONCE), folder)

    def _rows(self, path: Path, rows: Iterator[dict[str, Any]], folder: Path) -> Iterator[Row]:
        for number, row in enumerate(rows, start=1):
            build = partial(
                question_of_row,
                row,
                self.media_root or path.parent,
                name=f"{path.stem}-{number}",
                units=self.units_of_rows,
                pictures=folder / MEDIA,
            )
            yield try_build(f"{path.name}, row {number}", build)


SOURCES.register(TableSource.name, TableSource)


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is a data set saved by `datasets`."""
    return any((path / name).exists() for name in ("state.json", "dataset_dict.json"))


def is_released(path: Path) -> bool:
    """Return whether Parquet files have the columns of PixelReasoner-RL-Data instead of own rows."""
    columns = set(parquet_columns(data_files(path, "*.parquet")[0]))
    return bool({"qid", "is_video"} & columns) or columns <= _RELEASED_COLUMNS


def _saved_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a saved data set; pictures are not decoded.

    Raises:
        InputError: it cannot be loaded, or it has several splits.
    """
    with require_extra("train", "read saved data sets"):
        from datasets import DatasetDict, load_from_disk
    try:
        dataset = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            expected="a data set saved by `datasets`",
            got=f"{folder}: {reason(error)}",
            fix="save it again with save_to_disk",
        ) from error
    if isinstance(dataset, DatasetDict):
        raise InputError(
            expected="one split of a data set",
            got=f"{folder} with {', '.join(dataset)}",
            fix=f"give --data {folder / next(iter(dataset), 'SPLIT')}",
        )
    for table in dataset.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
        yield from table.to_pylist()
