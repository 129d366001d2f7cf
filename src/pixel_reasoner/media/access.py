"""Access control for media files named by untrusted files.

A file that names media, such as `traces.jsonl`, may be untrusted. Its media must be below its own folder or below
folders that the user allowed (`schema.question.restrict_media`). Media that a user names directly are not restricted.
URLs are always restricted to the prefixes that the user allowed (`schema.media_url`), also URLs that the user names.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.media_url import allowed_media_urls, check_url, is_below, is_url
from pixel_reasoner.schema.question import MediaItem


def check_access(item: MediaItem) -> None:
    """Raise an error unless a media item, and every file of a folder of frames, is below an allowed folder.

    Links are resolved first, so neither `..` nor a link can leave the allowed folders.

    Raises:
        InputError: the file is outside of the allowed folders, or a URL is not below an allowed prefix.
    """
    if is_url(item.path):
        _check_url_access(item)
        return
    if item.allowed_folders is None:
        return
    allowed = {_real_path(folder) for folder in item.allowed_folders if not is_url(folder)}
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


def _check_url_access(item: MediaItem) -> None:
    check_url(item.path)
    prefixes = (*filter(is_url, item.allowed_folders or ()), *allowed_media_urls())
    if not any(is_below(item.path, prefix) for prefix in prefixes):
        folder = item.path.rpartition("/")[0]
        raise InputError(
            expected=f"media in {_shown(prefixes)}" if prefixes else "a local file",
            got=f"{item.path}, a URL that is not allowed",
            fix=f"add --media-url {folder}/ (in Python: allow_media_urls) if you trust the file that names it",
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
