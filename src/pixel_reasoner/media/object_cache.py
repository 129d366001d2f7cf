"""Local copies of objects: bounded, least recently used first out, shared by processes.

Each copy is one file, named by the hash of URL and version, so that a changed object is another file and no name contains a URL.
A video may be a sparse copy, of which some ranges are present: `<name>` with holes, and `<name>.ranges`. A copy in use is
locked (shared `flock`) and never removed; the lock of a killed process ends with it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import output_errors
from pixel_reasoner.media.object_store import OBJECTS, ObjectStore, RemoteObject

FOLDER_VARIABLE = "PIXEL_REASONER_MEDIA_CACHE"
SIZE_VARIABLE = "PIXEL_REASONER_MEDIA_CACHE_GB"
DEFAULT_CACHE_BYTES = 10 * 10**9
_PART = ".part"
_RANGES = ".ranges"
_ABANDONED_AFTER_S = 3600
_FILL_AFTER_EVICTION = 0.9
"""share of the cache that is full after copies were removed: each removal lists the whole folder"""
_NUM_VERSIONS = 3
"""attempts to read an object that changes while it is read"""
_MAX_LOCKS = 64

Range = tuple[int, int]
"""first byte, and the byte after the last one"""


class _Copy(NamedTuple):
    path: Path
    num_bytes: int
    used_ns: int


class ObjectCache:
    """Folder of local copies of at most `max_bytes`. All methods are thread-safe and safe between processes."""

    def __init__(self, root: Path, max_bytes: int, store: ObjectStore = OBJECTS) -> None:
        """Create the folder if it does not exist.

        Raises:
            OutputError: the folder cannot be created.
        """
        self.root = root
        self.max_bytes = max_bytes
        self.store = store
        with output_errors(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def whole(self, one: RemoteObject, suffix: str) -> Iterator[Path]:
        """Yield the path of a complete copy, which is not removed until the end of the `with` block.

        Args:
            one: the object.
            suffix: file name extension with its dot.

        Raises:
            InputError: the object is truncated, changed, removed, or larger than the cache.
            StorageError: the store does not answer, or rejects the credentials.
            OutputError: the cache cannot be written.
        """
        path = self._path(one, suffix)
        while (descriptor := _shared_lock(path)) is None:
            with self._locked(one):
                if not path.exists():
                    self._download(one, path)
        try:
            yield path
        finally:
            os.close(descriptor)

    @contextmanager
    def sparse(self, one: RemoteObject, suffix: str) -> Iterator[SparseCopy]:
        """Yield a copy of which ranges can be read. It is not removed until the end of the `with` block.

        For arguments and errors see `whole`.
        """
        path = self._path(one, f".sparse{suffix}")
        while (descriptor := _shared_lock(path)) is None:
            with self._locked(one), output_errors(path):
                if not path.exists():
                    self._make_room(0)
                    path.parent.mkdir(exist_ok=True)
                    _ranges_path(path).unlink(missing_ok=True)
                    part = _part_path(path)
                    with part.open("wb") as file:
                        file.truncate(one.num_bytes)
                    part.replace(path)
        try:
            yield SparseCopy(self, one, path)
        finally:
            os.close(descriptor)

    @property
    def num_bytes(self) -> int:
        """Total size of all copies in bytes, without holes."""
        return sum(copy.num_bytes for copy in self._copies())

    def _path(self, one: RemoteObject, suffix: str) -> Path:
        return self.root / one.version[:2] / f"{one.version}{suffix}"

    def _download(self, one: RemoteObject, path: Path) -> None:
        for _ in range(_NUM_VERSIONS):
            self._make_room(one.num_bytes, one.url)
            part = _part_path(path)
            try:
                with output_errors(path):
                    path.parent.mkdir(exist_ok=True)
                    with part.open("wb") as file:
                        for content in self.store.parts(one):
                            file.write(content)
                if self.store.check_version(one):
                    part.replace(path)
                    return
            finally:
                part.unlink(missing_ok=True)
        raise _changed(one)

    @contextmanager
    def _locked(self, one: RemoteObject) -> Iterator[None]:
        """Hold the lock for writing copies of an object. Some objects share a lock."""
        with _file_lock(self.root / f"{int(one.version[:8], 16) % _MAX_LOCKS:02}.lock"):
            yield

    def _make_room(self, new_bytes: int, url: str = "") -> None:
        """Remove copies that were not used for the longest time until `new_bytes` fit.

        Raises:
            InputError: the object is larger than the cache.
        """
        if new_bytes > self.max_bytes:
            raise InputError(
                expected=f"an object of at most {self.max_bytes:,} bytes, the size of the media cache",
                got=f"{url}: {new_bytes:,} bytes",
                fix=f"raise {SIZE_VARIABLE}",
            )
        with _file_lock(self.root / "room.lock") as descriptor, output_errors(self.root):
            total = _read_number(descriptor) + new_bytes
            if total > self.max_bytes:
                total = self._evict(new_bytes) + new_bytes
            os.pwrite(descriptor, f"{total:<20}".encode(), 0)

    def _evict(self, new_bytes: int) -> int:
        """Remove copies until new ones fit, and more, so that the next ones fit too. Returns the size of the others."""
        copies = sorted(self._copies(), key=lambda copy: copy.used_ns)
        total = sum(copy.num_bytes for copy in copies)
        if total + new_bytes <= self.max_bytes:
            return total
        most = max(0, int(_FILL_AFTER_EVICTION * self.max_bytes) - new_bytes)
        for copy in copies:
            if total <= most:
                break
            if _remove_unused(copy.path):
                total -= copy.num_bytes
        return total

    def _copies(self) -> Iterator[_Copy]:
        for path in self.root.glob("??/*"):
            try:
                found = path.stat()
            except FileNotFoundError:  # another process removed it
                continue
            if path.name.endswith(_PART) and time.time() - found.st_mtime > _ABANDONED_AFTER_S:
                path.unlink(missing_ok=True)  # of a process that was killed
            elif not path.name.endswith((_PART, _RANGES)):
                num_bytes = min(found.st_size, 512 * found.st_blocks)
                yield _Copy(path, num_bytes, found.st_atime_ns)


class SparseCopy:
    """Copy of an object of which some ranges are present; the rest of the file is a hole of zeros."""

    def __init__(self, cache: ObjectCache, one: RemoteObject, path: Path) -> None:
        self.path = path
        self._cache = cache
        self._one = one

    @property
    def present(self) -> tuple[Range, ...]:
        """Ranges that are present, ascending and disjoint."""
        try:
            found = json.loads(_ranges_path(self.path).read_text())
        except FileNotFoundError:
            return ()
        return tuple((start, end) for start, end in found)

    def add(self, ranges: Sequence[Range]) -> None:
        """Read ranges of the object, except those that are present.

        Raises:
            InputError: the object is truncated, changed or removed.
            StorageError: the store does not answer, or rejects the credentials.
            OutputError: the cache cannot be written.
        """
        with self._cache._locked(self._one):
            present = self.present
            missing = subtract_ranges(merge_ranges(ranges), present)
            if not missing:
                return
            self._cache._make_room(sum(end - start for start, end in missing), self._one.url)
            with output_errors(self.path), self.path.open("r+b") as file:
                for start, end in missing:
                    file.seek(start)
                    for content in self._cache.store.parts(self._one, start, end):
                        file.write(content)
            if not self._cache.store.check_version(self._one):
                raise _changed(self._one)
            with output_errors(self.path):
                part = _part_path(self.path)
                part.write_text(json.dumps(merge_ranges([*present, *missing])))
                part.replace(_ranges_path(self.path))

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes of a range. For errors see `add`."""
        self.add([(start, end)])
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)


def merge_ranges(ranges: Sequence[Range], max_gap: int = 0) -> list[Range]:
    """Return ranges, ascending and disjoint; those with a gap of at most `max_gap` bytes become one.

    >>> merge_ranges([(5, 9), (0, 3), (3, 4)]), merge_ranges([(5, 9), (0, 3)], max_gap=2)
    ([(0, 4), (5, 9)], [(0, 9)])
    """
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1] + max_gap:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif end > start:
            merged.append((start, end))
    return merged


def subtract_ranges(ranges: Sequence[Range], present: Sequence[Range]) -> list[Range]:
    """Return the parts of ranges that are not in `present`. Both are ascending and disjoint.

    >>> subtract_ranges([(0, 10)], [(2, 4), (8, 20)])
    [(0, 2), (4, 8)]
    """
    missing: list[Range] = []
    for start, end in ranges:
        for first, last in present:
            if first >= end or last <= start:
                continue
            if first > start:
                missing.append((start, first))
            start = max(start, last)
        if start < end:
            missing.append((start, end))
    return missing


def media_cache() -> ObjectCache:
    """Return the cache of this process: the folder and the size are environment variables, which child processes inherit.

    Raises:
        UsageError: the size is not a number.
        OutputError: the folder cannot be created.
    """
    size = os.environ.get(SIZE_VARIABLE, "")
    try:
        max_bytes = int(float(size) * 10**9) if size else DEFAULT_CACHE_BYTES
    except (ValueError, OverflowError):
        max_bytes = 0
    if max_bytes <= 0:
        raise UsageError(
            expected=f"{SIZE_VARIABLE} with a number of GB above 0", got=size, fix="for example 10"
        )
    folder = os.environ.get(FOLDER_VARIABLE, "")
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return _cache(Path(folder) if folder else Path(home) / "pixel-reasoner" / "media", max_bytes)


@cache
def _cache(root: Path, max_bytes: int) -> ObjectCache:
    return ObjectCache(root, max_bytes)


def _shared_lock(path: Path) -> int | None:
    """Return a descriptor with a shared lock of a copy, and update its time of last use; None if there is no copy."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    found = os.fstat(descriptor)
    if not found.st_nlink:  # removed between the two calls
        os.close(descriptor)
        return None
    with suppress(OSError):  # a cache of another user
        os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
    return descriptor


def _remove_unused(path: Path) -> bool:
    """Remove a copy unless it is in use. Returns whether it was removed."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        path.unlink(missing_ok=True)
        _ranges_path(path).unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


@contextmanager
def _file_lock(path: Path) -> Iterator[int]:
    import fcntl  # not on Windows, where only this module needs it

    with output_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _read_number(descriptor: int) -> int:
    """Return the total size at the last change. It may be too large: a killed process reserved room that it did not use."""
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else 0


def _part_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}{_PART}")


def _ranges_path(path: Path) -> Path:
    return path.with_name(f"{path.name}{_RANGES}")


def _changed(one: RemoteObject) -> InputError:
    return InputError(
        expected="an object that does not change while it is read",
        got=f"{one.url}: it changed",
        fix="give the same command again when it is complete",
    )
