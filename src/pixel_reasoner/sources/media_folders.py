"""Rows of data sets name media only below the folder of the data set, and below folders that the user allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.question import Question, restrict_media
from pixel_reasoner.sources.rows import Row, SkippedRow


def data_folders(data: Path) -> list[Path]:
    """Return the folders that the media of a data set are in: its own, or that of its file.

    A download of the hub is a folder of links to `blobs` next to `snapshots`, which is allowed too.
    """
    folder = data if data.is_dir() else data.parent
    is_snapshot = folder.parent.name == "snapshots"
    return [folder, folder.parent.parent / "blobs"] if is_snapshot else [folder]


def restricted_row(question: Question, folders: Sequence[Path]) -> Row:
    """Return a question whose media are read only below some folders, or the reason why it names others."""
    from pixel_reasoner.media.access import check_access

    restricted = restrict_media(question, folders)
    try:
        for item in restricted.media:
            check_access(item)
    except InputError as error:
        return SkippedRow(question.id, "outside_media", f"{error.got}; {error.fix}")
    return restricted
