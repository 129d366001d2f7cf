"""Question files for evaluation and RL, in every supported format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixel_reasoner.sources.base import open_source
from pixel_reasoner.sources.rows import Row, skip_unanswered
from pixel_reasoner.sources.tables import is_released, is_saved_dataset


def read_questions(
    path: Path, folder: Path | None = None, media_root: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a file or folder. Rows without an answer are skipped, because they cannot be rewarded.

    Args:
        path: PixelReasoner-RL-Data (Parquet), or own rows: JSONL, Parquet, or a saved `datasets` data set.
        folder: pictures embedded in the files are written to `media` in it; None: in the folder of the files.
        media_root: URL that relative media paths of own rows are relative to; None: the folder of the file.

    Raises:
        InputError: the path does not exist, or contains no file of questions.
    """
    name = "jsonl"
    if is_saved_dataset(path):
        name = "parquet"
    elif path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet"))):
        name = "pixel_reasoner_rl" if is_released(path) else "parquet"
    options = {} if media_root is None else {"media_root": media_root}
    source = open_source(name, data=path, **options)
    return skip_unanswered(source.questions(folder or (path if path.is_dir() else path.parent)))
