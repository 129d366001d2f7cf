"""Which files may be read as media: those below the folders that a medium is restricted to.

A file that names media, such as `traces.jsonl`, may come from others. Its media are restricted to its own folder and to
folders that the user allowed (`schema.question.restrict_media`). Media that a user names directly are not restricted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.question import MediaItem


def check_access(item: MediaItem) -> None:
    """Raise an error unless a medium, and every file of a folder of frames, is below an allowed folder.

    Links are followed first, so that neither `..` nor a link leads out of the folders.

    Raises:
        InputError: it is elsewhere.
    """
    if item.allowed_folders is None:
        return
    allowed = {_real_path(folder) for folder in item.allowed_folders}
    for path in _files(item):
        try:
            real = path.resolve()
        except (OSError, ValueError, RuntimeError):  # a NUL, a loop of links
            continue  # opening it is an error as well
        if allowed.isdisjoint((real, *real.parents)):
            raise InputError(
                expected=f"media in {_shown(item.allowed_folders)}",
                got=f"{path}, which is elsewhere" + (f" ({real})" if real != path else ""),
                fix=f"add --allow-media {real.parent} if you trust what names this file",
            )


def _files(item: MediaItem) -> Iterator[Path]:
    path = Path(item.path)
    yield path
    if item.kind == "frames":
        try:
            yield from (file for file in path.iterdir() if file.is_symlink())
        except (OSError, ValueError):  # no folder: opening it is an error as well
            return


@lru_cache(maxsize=1024)
def _real_path(folder: str) -> Path:
    return Path(folder).resolve()


def _shown(folders: tuple[str, ...]) -> str:
    more = f" and {len(folders) - 3} more folders" if len(folders) > 3 else ""
    return ", ".join(folders[:3]) + more
