"""Append-only JSONL file that contains only complete lines, even after a crash of its writer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Self

from pixel_reasoner.errors import OutputError, UsageError
from pixel_reasoner.files import atomic_path, cannot_write, reason
from pixel_reasoner.schema.record import VersionedRecord

_CHUNK_BYTES = 1 << 20


class Segment:
    r"""Append-only JSONL file of complete lines.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.jsonl"
    >>> _ = path.write_text('{"n": 1}\n{"n": ')
    >>> with Segment(path) as segment:
    ...     segment.append(b'{"n": 2}\n')
    9
    >>> path.read_text()
    '{"n": 1}\n{"n": 2}\n'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """bytes of complete lines"""
        self._file: FileIO

    def __enter__(self) -> Self:
        """Open the file for appending and drop an incomplete last line.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
            self.size = self._end_of_last_line()
            if self.size != self._file.seek(
                0, os.SEEK_END
            ):  # keep the modification time of a complete file
                self._file.truncate(self.size)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        # Unbuffered: a buffer would keep data that a full disk rejected and write it later.
        self._file = self.path.open("a+b", buffering=0)

    def _end_of_last_line(self) -> int:
        end = self._file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _CHUNK_BYTES)
            self._file.seek(start)
            newline = (self._file.read(end - start) or b"").rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def append(self, lines: bytes) -> int:
        """Append complete lines, all or none, and return the byte offset of the first.

        Raises:
            OutputError: the disk is full or gone.
        """
        offset, rest = self.size, lines
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(offset)
            raise OutputError(
                expected="room for one more record",
                got=f"{self.path}: {reason(error)}",
                fix="free some space and run the same command again; completed work is kept",
            ) from error
        self.size += len(lines)
        return offset

    def append_record(self, record: VersionedRecord) -> None:
        """Append one record as a line. Raises the errors of `append`."""
        self.append(record.to_line().encode() + b"\n")

    def truncate(self, size: int) -> None:
        """Truncate the file to a number of bytes.

        Raises:
            UsageError: the file is shorter.
            OutputError: the file cannot be written.
        """
        if self.size < size:
            raise UsageError(
                expected=f"at least {size} bytes in {self.path}, as recorded in its manifest",
                got=str(self.size),
                fix="delete the folder and start again",
            )
        if size == self.size:
            return
        try:
            self._file.truncate(size)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes of the file from `offset` on."""
        return os.pread(self._file.fileno(), length, offset)

    def rewrite(self, parts: Iterable[tuple[int, int]]) -> None:
        """Replace the content by a selection of its lines, each given as (offset, length).

        The new content is streamed to a temporary file, which is then renamed. A kill leaves either the old or the new file.

        Raises:
            OutputError: the file cannot be written; the old content stays.
        """
        size = 0
        with atomic_path(self.path) as part, part.open("wb", buffering=_CHUNK_BYTES) as file:
            for offset, length in parts:
                size += file.write(self.read(offset, length))
        self._file.close()
        self._open()
        self.size = size
