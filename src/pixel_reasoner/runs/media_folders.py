"""Trusted media folders of runs that this user wrote.

A run with external media, such as `eval vstar --data /data/vstar`, names media outside of its folder. An untrusted run
may do so too. To distinguish them, the command that writes a run notes its media folders in the state folder of the user
(`$XDG_STATE_HOME/pixel-reasoner`), one file per run. Without a note, because the run was moved or another user wrote it,
`--allow-media DIR` is required.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.files import read_json_object, write_json
from pixel_reasoner.schema.question import MediaItem


def note_media_folders(run: Path, folders: Iterable[Path]) -> None:
    """Add folders with media of a run, outside of the run folder, to its note.

    If the note cannot be written, nothing happens and `--allow-media` is required later.
    """
    before = noted_media_folders(run)
    real_run = run.resolve()
    real = {folder.resolve() for folder in folders}
    new = {folder for folder in real if not folder.is_relative_to(real_run)} - before
    if new:
        names = sorted(map(str, before | new))
        with suppress(OutputError):
            write_json({"run": str(real_run), "media_folders": names}, _note_path(run))


def noted_media_folders(run: Path) -> set[Path]:
    """Return the noted media folders of a run."""
    path = _note_path(run)
    if not path.exists():
        return set()
    with suppress(InputError):
        folders = read_json_object(path, "a note", "delete it").get("media_folders")
        if isinstance(folders, list):
            return {Path(folder) for folder in folders if isinstance(folder, str)}
    return set()


def collect_folders(media: Iterable[MediaItem]) -> set[Path]:
    """Return the folders that contain the given media.

    >>> sorted(collect_folders([MediaItem(kind="image", path="/a/b.png"), MediaItem(kind="frames", path="/c")]))
    [PosixPath('/a'), PosixPath('/c')]
    """
    paths = {(one.kind, one.path) for one in media}
    return {Path(path) if kind == "frames" else Path(path).parent for kind, path in paths}


def _note_path(run: Path) -> Path:
    root = os.environ.get("XDG_STATE_HOME")
    state = Path(root) if root else Path.home() / ".local" / "state"
    name = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:32]
    return state / "pixel-reasoner" / "media-folders" / f"{name}.json"
