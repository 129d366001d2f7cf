"""Content-addressed store of media files.

A file is stored once, under the SHA-256 of its content: `<root>/ab/abcdef….png`. Writes are atomic, so several
processes may share a folder. The total size is bounded: least recently used files are removed first, except pinned files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import output_errors, reason
from pixel_reasoner.schema.record import Record

_CHUNK_BYTES = 2**20
_PARTIAL_SUFFIX = ".part"
_ABANDONED_AFTER_S = 24 * 3600
"""age after which a partial file is considered abandoned"""


class MediaRef(Record):
    """Reference to a stored file by its content."""

    sha256: str
    num_bytes: int
    suffix: str = ""
    """file name extension with its dot, for programs that require one"""


class _Stored(NamedTuple):
    path: Path
    num_bytes: int
    used_ns: int


class MediaStore:
    """Content-addressed folder of media files. All methods are thread-safe.

    >>> store = MediaStore(Path(tempfile.mkdtemp()))
    >>> ref = store.put(b"pixels", suffix=".png")
    >>> store.put(b"pixels", suffix=".png") == ref, store.path(ref).read_bytes()
    (True, b'pixels')
    """

    def __init__(self, root: Path, max_bytes: int = 2**36) -> None:
        """Create the folder if it does not exist.

        Args:
            root: the folder; it should contain nothing else.
            max_bytes: maximum total size of all files.

        Raises:
            OutputError: the folder cannot be created.
        """
        self.root = root
        self.max_bytes = max_bytes
        self._lock = Lock()
        self._pins: Counter[str] = Counter()
        with output_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
        self._num_bytes = sum(one.num_bytes for one in self._files())

    def put(self, content: bytes | Path, suffix: str | None = None) -> MediaRef:
        """Store content and return its reference. Existing content is not written again.

        Args:
            content: bytes, or the path of a file to copy.
            suffix: file name extension with its dot; by default the extension of the file.

        Raises:
            InputError: the file cannot be read, or is larger than the store.
            OutputError: the store cannot be written.
        """
        if isinstance(content, Path):
            suffix = content.suffix.lower() if suffix is None else suffix
        with self._partial_copy(content) as (partial, sha256, num_bytes):
            ref = MediaRef(sha256=sha256, num_bytes=num_bytes, suffix=suffix or "")
            target = self._path(ref)
            with self._lock, output_errors(target):
                if target.exists():
                    _mark_used(target)
                else:
                    target.parent.mkdir(exist_ok=True)
                    partial.replace(target)
                    self._num_bytes += num_bytes
                self._evict(keep=target)
        return ref

    def path(self, ref: MediaRef) -> Path:
        """Return the path of stored content and update its time of last use.

        Raises:
            InputError: it is not stored or was evicted.
        """
        path = self._path(ref)
        try:
            _mark_used(path)
        except OSError as error:
            raise InputError(
                expected=f"stored media {ref.sha256[:12]}",
                got=f"{path}: {reason(error)}",
                fix="store the file again; the store evicts files that were not used for a long time",
            ) from error
        return path

    def get(self, ref: MediaRef) -> bytes:
        """Return stored content.

        Raises:
            InputError: it is not stored or was evicted.
        """
        return self.path(ref).read_bytes()

    @contextmanager
    def pin(self, ref: MediaRef) -> Iterator[Path]:
        """Yield the path of stored content and protect it from eviction until the end of the `with` block.

        Raises:
            InputError: it is not stored.
        """
        with self._lock:
            path = self.path(ref)
            self._pins[ref.sha256] += 1
        try:
            yield path
        finally:
            with self._lock:
                self._pins[ref.sha256] -= 1
                self._evict()

    def __contains__(self, ref: MediaRef) -> bool:
        return self._path(ref).exists()

    def __len__(self) -> int:
        return sum(1 for _ in self._files())

    @property
    def num_bytes(self) -> int:
        """Total size of all files in bytes, without recent changes by other processes."""
        return self._num_bytes

    def _path(self, ref: MediaRef) -> Path:
        return self.root / ref.sha256[:2] / f"{ref.sha256}{ref.suffix}"

    def _files(self) -> Iterator[_Stored]:
        for path in self.root.glob("??/*"):
            try:
                found = path.stat()
            except FileNotFoundError:  # another process removed it
                continue
            yield _Stored(path, found.st_size, found.st_atime_ns)

    def _remove_abandoned(self) -> None:
        """Remove partial files of processes that were killed."""
        for path in self.root.glob(f"*{_PARTIAL_SUFFIX}"):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                path.unlink(missing_ok=True)

    def _evict(self, keep: Path | None = None) -> None:
        """Remove least recently used files until the store is within its maximum size."""
        if self._num_bytes <= self.max_bytes:
            return
        files = sorted(self._files(), key=lambda one: one.used_ns)
        self._num_bytes = sum(one.num_bytes for one in files)
        for one in files:
            if self._num_bytes <= self.max_bytes:
                return
            if one.path != keep and not self._pins[one.path.name[:64]]:
                one.path.unlink(missing_ok=True)
                self._num_bytes -= one.num_bytes

    @contextmanager
    def _partial_copy(self, content: bytes | Path) -> Iterator[tuple[Path, str, int]]:
        """Yield a temporary file in the store with the content, its SHA-256 and its size."""
        with output_errors(self.root):
            descriptor, name = tempfile.mkstemp(suffix=_PARTIAL_SUFFIX, dir=self.root)
        partial = Path(name)
        try:
            with output_errors(partial), os.fdopen(descriptor, "wb") as file:
                sha256, num_bytes = self._write(content, file)
            yield partial, sha256, num_bytes
        finally:
            partial.unlink(missing_ok=True)

    def _write(self, content: bytes | Path, file: BinaryIO) -> tuple[str, int]:
        digest, num_bytes = hashlib.sha256(), 0
        for chunk in _chunks(content):
            num_bytes += len(chunk)
            if num_bytes > self.max_bytes:
                name = content if isinstance(content, Path) else "content"
                raise InputError(
                    expected=f"a file of at most {self.max_bytes:,} bytes",
                    got=f"{name}: more",
                    fix="give a smaller file, or raise max_bytes of the store",
                )
            digest.update(chunk)
            file.write(chunk)
        return digest.hexdigest(), num_bytes


def _mark_used(path: Path) -> None:
    """Update the access time. The modification time stays: caches of decoded media compare it (`MediaCache`)."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    try:
        with content.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, ValueError) as error:
        raise InputError(
            expected="a readable file",
            got=f"{content}: {reason(error)}",
            fix="check the path",
        ) from error
