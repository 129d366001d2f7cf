"""Access check: rows may name media only below the data set's folder and below allowed folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.question import Question, restrict_media
from pixel_reasoner.sources.rows import Row, SkippedRow


def data_folders(data: Path) -> list[Path]:
    """Return the folders that contain the media of a data set: its own folder, or the folder of its file.

    A download from the hub is a folder of links to `blobs` next to `snapshots`, which is also allowed.
    """
    folder = data if data.is_dir() else data.parent
    is_snapshot = folder.parent.name == "snapshots"
    return [folder, folder.parent.parent / "blobs"] if is_snapshot else [folder]


def restricted_row(question: Question, folders: Sequence[Path]) -> Row:
    """Return a question restricted to media below some folders, or the reason for rejecting it."""
    from pixel_reasoner.media.access import check_access

    restricted = restrict_media(question, folders)
    try:
        for item in restricted.media:
            check_access(item)
    except InputError as error:
        return SkippedRow(question.id, "outside_media", f"{error.got}; {error.fix}")
    return restricted
