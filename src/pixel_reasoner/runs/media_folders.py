"""Trusted media folders of runs that this user wrote.

A run with external media, such as `eval vstar --data /data/vstar`, names media outside of its folder. An untrusted run
may do so too. To distinguish them, the command that writes a run notes its media folders in the state folder of the user
(`$XDG_STATE_HOME/pixel-reasoner`), one file per run. Without a note, because the run was moved or another user wrote it,
`--allow-media DIR` is required. URL prefixes that the command was allowed to read (`schema.media_url`) are noted too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.files import read_json_object, write_json
from pixel_reasoner.schema.media_url import allowed_media_urls, is_url
from pixel_reasoner.schema.question import MediaItem


def note_media_folders(run: Path, folders: Iterable[Path], urls: Iterable[str] = ()) -> None:
    """Add folders with media of a run, outside of the run folder, and the allowed URL prefixes to its note.

    If the note cannot be written, nothing happens and `--allow-media` is required later.
    """
    before, urls_before = noted_media_folders(run), noted_media_urls(run)
    real_run = run.resolve()
    real = {folder.resolve() for folder in folders}
    new = {folder for folder in real if not folder.is_relative_to(real_run)} - before
    new_urls = {*allowed_media_urls(), *urls} - {*urls_before}
    if new or new_urls:
        names = sorted(map(str, before | new))
        note: dict[str, Any] = {"run": str(real_run), "media_folders": names}
        if all_urls := sorted({*urls_before, *new_urls}):
            note["media_urls"] = all_urls
        with suppress(OutputError):
            write_json(note, _note_path(run))


def noted_media_folders(run: Path) -> set[Path]:
    """Return the noted media folders of a run."""
    return set(map(Path, _noted(run, "media_folders")))


def noted_media_urls(run: Path) -> tuple[str, ...]:
    """Return the noted URL prefixes of a run."""
    return tuple(filter(is_url, _noted(run, "media_urls")))


def allowed_places(run: Path, allow_media: Iterable[Path] = ()) -> tuple[Path | str, ...]:
    """Return the folders and URL prefixes from which a run may name media: its own, the noted ones, and `allow_media`."""
    return (run, *sorted(noted_media_folders(run)), *noted_media_urls(run), *allow_media)


def _noted(run: Path, key: str) -> list[str]:
    path = _note_path(run)
    if not path.exists():
        return []
    with suppress(InputError):
        found = read_json_object(path, "a note", "delete it").get(key)
        if isinstance(found, list):
            return [one for one in found if isinstance(one, str)]
    return []


def collect_folders(media: Iterable[MediaItem]) -> set[Path]:
    """Return the folders that contain the given media, without URLs.

    >>> sorted(collect_folders([MediaItem(kind="image", path="/a/b.png"), MediaItem(kind="frames", path="/c")]))
    [PosixPath('/a'), PosixPath('/c')]
    """
    paths = {(one.kind, one.path) for one in media if not is_url(one.path)}
    return {Path(path) if kind == "frames" else Path(path).parent for kind, path in paths}


def _note_path(run: Path) -> Path:
    root = os.environ.get("XDG_STATE_HOME")
    state = Path(root) if root else Path.home() / ".local" / "state"
    name = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:32]
    return state / "pixel-reasoner" / "media-folders" / f"{name}.json"
