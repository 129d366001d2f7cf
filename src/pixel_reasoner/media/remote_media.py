"""Media in object stores: local copies for the decoders, which never open a URL.

Pictures are read as a whole. Of a long video only the index and the packets of the sampled frames are read, unless these are
most of the file. This process reads the store; decoding workers receive the path of a copy, and neither a network nor credentials.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.access import check_access
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.media.object_cache import media_cache, merge_ranges
from pixel_reasoner.media.object_store import RemoteObject
from pixel_reasoner.media.sampling import Frame
from pixel_reasoner.media.sparse_videos import SPARSE_SUFFIXES, Range, index_ranges
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import MediaLimits

SPARSE_MIN_BYTES = 8_000_000
"""smaller videos are read as a whole: one request"""
SPARSE_MAX_SHARE = 0.5
"""share of a video that the sampled frames may need; above it the whole video is read"""
SPARSE_MAX_GAP_BYTES = 2**17
"""unneeded bytes that are read rather than sending another request"""
_MAX_AGE_S = 1.0
"""age of a reply about the version of an object: opening media asks once"""
_MAX_STEPS = 3
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


def remote_version(item: MediaItem) -> str:
    """Return a value that changes with the content of an object.

    Raises:
        InputError: the URL is not allowed, or there is no such object.
        StorageError: the store does not answer, or rejects the credentials.
    """
    check_access(item)
    return media_cache().store.find(item.path).version


def object_names(url: str) -> list[str]:
    """Return the URLs of all objects below a URL that the user named.

    Raises:
        InputError: nothing is there.
        StorageError: the store does not answer, or rejects the credentials.
    """
    return media_cache().store.names(url)


def find_object(item: MediaItem, limits: MediaLimits) -> RemoteObject | None:
    """Return the current version of the object of a media item; None for a local file.

    Raises:
        InputError: the URL is not allowed, no such object, or one that is empty or too large.
        StorageError: the store does not answer, or rejects the credentials.
    """
    return _find(item, limits) if is_url(item.path) else None


@contextmanager
def local_item(
    item: MediaItem, limits: MediaLimits, known: RemoteObject | None = None
) -> Iterator[MediaItem]:
    """Yield a media item with the path of a local copy; a local item as it is. Errors in the `with` block name the URL.

    Args:
        item: with a path or a URL.
        limits: on the bytes of an object.
        known: version of the object that was found before; None for the current one.

    Raises:
        InputError: the URL is not allowed, no such object, or one that is empty, truncated or too large.
        StorageError: the store does not answer, or rejects the credentials.
    """
    if not is_url(item.path):
        yield item
        return
    one = known or _find(item, limits)
    with media_cache().whole(one, _suffix(item.path)) as path, _naming_url(path, item.path):
        yield _with_path(item, path)


def shown_name(note: str, here: MediaItem, item: MediaItem) -> str:
    """Return a note with the name of the object in place of the name of its copy."""
    return note.replace(Path(here.path).name, item.path.rpartition("/")[2])


def remote_frames(
    item: MediaItem,
    limits: MediaLimits,
    decoder: MediaDecoder,
    indices: tuple[int, ...] = (),
) -> list[Frame]:
    """Return sampled frames of a video in an object store.

    Raises:
        InputError: the URL is not allowed, no such object, or an unusable video.
        StorageError: the store does not answer, or rejects the credentials.
    """
    if item.kind == "frames":
        raise InputError(
            expected="a video or pictures in an object store",
            got=f"{item.path} as a folder of frames",
            fix="name the pictures one by one, or join them to a video",
        )
    one = _find(item, limits)
    suffix = _suffix(item.path)
    if one.num_bytes >= SPARSE_MIN_BYTES and suffix in SPARSE_SUFFIXES:
        frames = _sparse_frames(item, limits, decoder, indices, one)
        if frames:
            return frames
    with local_item(item, limits, one) as here:
        return decoder.frames(here, limits, indices)


def _sparse_frames(
    item: MediaItem,
    limits: MediaLimits,
    decoder: MediaDecoder,
    indices: tuple[int, ...],
    one: RemoteObject,
) -> list[Frame]:
    """Return sampled frames from a copy of a part of a video; none if the whole video is needed."""
    cache = media_cache()
    with (
        cache.sparse(one, _suffix(item.path)) as copy,
        _naming_url(copy.path, item.path),
    ):
        needed = index_ranges(lambda start, end: _block(copy.read, one, start, end), one.num_bytes)
        for _ in range(_MAX_STEPS):
            if needed is None or not _is_inside(needed, one.num_bytes):
                return []
            ranges = merge_ranges(needed, SPARSE_MAX_GAP_BYTES)
            if sum(end - start for start, end in ranges) > SPARSE_MAX_SHARE * one.num_bytes:
                return []
            copy.add(ranges)
            here = _with_path(item, copy.path)
            frames, needed = decoder.sparse_frames(here, limits, indices, copy.present)
            if frames and needed is not None:
                return frames
    return []


def _is_inside(ranges: Sequence[Range], num_bytes: int) -> bool:
    """Return whether ranges, which a decoder named, are in the object."""
    return all(0 <= start < end <= num_bytes for start, end in ranges)


def _block(read: Callable[[int, int], bytes], one: RemoteObject, start: int, end: int) -> bytes:
    """Return the bytes of a range. At least a block is read, because the next headers are often near."""
    content = read(start, min(one.num_bytes, max(end, start + 2**16)))
    return content[: end - start]


def _find(item: MediaItem, limits: MediaLimits) -> RemoteObject:
    """Return the current version of an object within the limit of bytes."""
    check_access(item)
    one = media_cache().store.find(item.path, _MAX_AGE_S)
    is_picture = item.kind == "image"
    most = min(limits.max_bytes, limits.max_picture_bytes) if is_picture else limits.max_bytes
    if not 0 < one.num_bytes <= most:
        name = "max_picture_bytes" if is_picture and most < limits.max_bytes else "max_bytes"
        raise InputError(
            expected=f"an object of 1 to {most:,} bytes",
            got=f"{item.path}: {f'{one.num_bytes:,} bytes' if one.num_bytes else 'an empty object'}",
            fix=f"make it smaller, or raise the limit ({name}) for files that you trust"
            if one.num_bytes
            else "upload it again",
        )
    return one


def _suffix(url: str) -> str:
    """Return the suffix of a URL if it is harmless in a file name, in lower case."""
    suffix = Path(url.rpartition("/")[2]).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def _with_path(item: MediaItem, path: Path) -> MediaItem:
    """Return an unrestricted item of a copy: access to the URL was checked."""
    return MediaItem.model_validate({**item.model_dump(), "path": str(path)})


@contextmanager
def _naming_url(path: Path, url: str) -> Iterator[None]:
    """Replace the path of a copy by the URL in errors."""
    try:
        yield
    except InputError as error:
        if str(path) not in error.got:
            raise
        raise type(error)(
            expected=error.expected, got=error.got.replace(str(path), url), fix=error.fix
        ) from error
