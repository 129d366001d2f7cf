"""Access control for media files named by untrusted files.

A file that names media, such as `traces.jsonl`, may be untrusted. Its media must be below its own folder or below
folders that the user allowed (`schema.question.restrict_media`). Media that a user names directly are not restricted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.question import MediaItem


def check_access(item: MediaItem) -> None:
    """Raise an error unless a media item, and every file of a folder of frames, is below an allowed folder.

    Links are resolved first, so neither `..` nor a link can leave the allowed folders.

    Raises:
        InputError: the file is outside of the allowed folders.
    """
    if item.allowed_folders is None:
        return
    allowed = {_real_path(folder) for folder in item.allowed_folders}
    for path in _files(item):
        try:
            real = path.resolve()
        except (OSError, ValueError, RuntimeError):  # a NUL, a loop of links
            continue  # opening the file raises the error
        if allowed.isdisjoint((real, *real.parents)):
            raise InputError(
                expected=f"media in {_shown(item.allowed_folders)}",
                got=f"{path}, outside of these folders" + (f" ({real})" if real != path else ""),
                fix=f"add --allow-media {real.parent} if you trust the file that names it",
            )


def _files(item: MediaItem) -> Iterator[Path]:
    path = Path(item.path)
    yield path
    if item.kind == "frames":
        try:
            yield from (file for file in path.iterdir() if file.is_symlink())
        except (OSError, ValueError):  # no folder: opening it raises the error
            return


@lru_cache(maxsize=1024)
def _real_path(folder: str) -> Path:
    return Path(folder).resolve()


def _shown(folders: tuple[str, ...]) -> str:
    more = f" and {len(folders) - 3} more folders" if len(folders) > 3 else ""
    return ", ".join(folders[:3]) + more
