"""Files that clients of the MCP server may read: those below the folders of `--root`.

A name is resolved with all its links first and must be below a folder. The file is then opened folder by folder without
following links (`O_NOFOLLOW`), so a link that is created between both steps has no effect. Messages contain the name that
the client gave and the names of the folders, but no other path.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from mcp.server.mcpserver.exceptions import ToolError

from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import path_exists, reason
from pixel_reasoner.media.folders import natural_key
from pixel_reasoner.media.images import PICTURE_SUFFIXES
from pixel_reasoner.text import visible

MAX_NAME_CHARS = 4096
MAX_DATA_BYTES = 16 * 2**20
"""size of a picture in a data: URL"""
_MAX_SHOWN_CHARS = 100
_CHUNK_BYTES = 2**20
_DATA_URL = re.compile(r"data:(image/[\w.+-]{1,40})?(?:;[\w=.-]{1,40})*;base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:blob|javascript):|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_NO_LINKS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Location(NamedTuple):
    """File or folder below one of the allowed folders, without links."""

    root: Path
    parts: tuple[str, ...]
    name: str
    """name that the client gave, for messages"""

    @property
    def suffix(self) -> str:
        """Extension of the file name with its dot, in lower case; empty without one."""
        return Path(self.parts[-1]).suffix.lower() if self.parts else ""

    def child(self, name: str) -> str:
        """Return the path of a file in this folder."""
        return str(self.root.joinpath(*self.parts, name))


class MediaFolders:
    """Folders whose files may be read.

    >>> import tempfile; root = Path(tempfile.mkdtemp()) / "photos"; root.mkdir()
    >>> _ = (root / "a.png").write_bytes(b"pixels")
    >>> folders = MediaFolders([root])
    >>> with folders.open(folders.locate("photos/a.png")) as file:
    ...     file.read()
    b'pixels'
    >>> folders.locate("../a.png")
    Traceback (most recent call last):
        ...
    mcp.server.mcpserver.exceptions.ToolError: '../a.png' is outside of the folders that this server reads; give a file in photos
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        """Resolve the folders.

        Raises:
            UsageError: one of them is not a folder.
        """
        for root in roots:
            if not root.is_dir():
                why = "which is a file" if root.exists() else "which does not exist"
                raise UsageError(
                    expected="--root with a folder", got=f"{root}, {why}", fix="check the path"
                )
        self.roots = tuple(dict.fromkeys(root.resolve() for root in roots))

    @property
    def names(self) -> str:
        """Names of the folders, for messages; no paths."""
        return " or ".join(root.name or str(root) for root in self.roots)

    def locate(self, name: str) -> Location:
        """Return the location of a file or folder. A relative name is searched in every allowed folder.

        Raises:
            ToolError: an address, or a name outside of the folders; the same message whether the file exists or not.
        """
        self._check_name(name)
        inside: list[Location] = []
        for path in self._candidates(name):
            try:
                real = Path(os.path.realpath(path))
            except (OSError, ValueError) as error:
                raise ToolError(
                    f"{shown(name)} is not a name of a file: {reason(error)}"
                ) from error
            root = next((one for one in self.roots if one in (real, *real.parents)), None)
            if root is not None:
                inside.append(Location(root, real.relative_to(root).parts, name))
        if not inside:
            raise ToolError(
                f"{shown(name)} is outside of the folders that this server reads; "
                f"give a file in {self.names}"
            )
        return next((one for one in inside if _exists(one)), inside[0])

    @contextmanager
    def open(self, location: Location) -> Iterator[BinaryIO]:
        """Open a regular file for reading.

        Raises:
            ToolError: there is none, or it cannot be read.
        """
        with _descriptor(location) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ToolError(f"{shown(location.name)} is not a regular file")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                yield file

    def is_folder(self, location: Location) -> bool:
        """Return whether the location is a folder.

        Raises:
            ToolError: there is no such file or folder, or it cannot be read.
        """
        with _descriptor(location) as descriptor:
            return stat.S_ISDIR(os.fstat(descriptor).st_mode)

    def picture_names(self, folder: Location) -> list[str]:
        """Return the names of the picture files in a folder, in natural order.

        Raises:
            ToolError: the folder cannot be read.
        """
        with _descriptor(folder) as descriptor:
            names = os.listdir(descriptor)  # noqa: PTH208 - a path could have become a link
        pictures = (one for one in names if Path(one).suffix.lower() in PICTURE_SUFFIXES)
        return sorted((one for one in pictures if not one.startswith(".")), key=natural_key)

    def _check_name(self, name: str) -> None:
        """Raise an error for addresses and names that no file can have."""
        if name[:5].lower() == "file:":
            raise ToolError(f"{shown(name)}: file: URLs are not read; give the path of the file")
        if _ADDRESS.match(name):
            raise ToolError(
                f"{shown(name)}: addresses are not loaded; give a file, or the picture as a "
                "data:image/...;base64, URL"
            )
        if not name.strip() or "\0" in name or len(name) > MAX_NAME_CHARS:
            raise ToolError(f"{shown(name)} is not a name of a file")
        if not self.roots:
            raise ToolError(
                f"{shown(name)} cannot be read: this server was started without a folder. Ask the user to add "
                "--root DIR to its options, or give the picture as a data:image/...;base64, URL"
            )

    def _candidates(self, name: str) -> Iterator[Path]:
        path = Path(name).expanduser() if name.startswith("~/") else Path(name)
        if path.is_absolute():
            yield path
            return
        for root in self.roots:
            yield root / path
            if len(path.parts) > 1 and path.parts[0] == root.name:
                yield root.joinpath(*path.parts[1:])
            elif path.parts == (root.name,):
                yield root


def shown(name: str) -> str:
    r"""Return a name that a client gave, quoted and shortened, for a message.

    >>> shown("a\x00.png"), len(shown("a" * 1000))
    ("'a␀.png'", 103)
    """
    text = visible(name)
    return f"'{text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + '…'}'"


def _exists(location: Location) -> bool:
    return path_exists(location.root.joinpath(*location.parts))


@contextmanager
def _descriptor(location: Location) -> Iterator[int]:
    """Open a file or folder below its root. No component may be a link.

    Raises:
        ToolError: it cannot be opened.
    """
    opened: list[int] = []
    try:
        try:
            opened.append(os.open(location.root, _NO_LINKS | os.O_DIRECTORY))
            for part in location.parts[:-1]:
                opened.append(os.open(part, _NO_LINKS | os.O_DIRECTORY, dir_fd=opened[-1]))
            if location.parts:  # a pipe without a writer must not block
                last = _NO_LINKS | os.O_NONBLOCK
                opened.append(os.open(location.parts[-1], last, dir_fd=opened[-1]))
        except (OSError, ValueError) as error:
            raise ToolError(f"{shown(location.name)} cannot be read: {_reason(error)}") from error
        yield opened[-1]
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "no such file"
    return reason(error)


def data_content(url: str) -> bytes:
    r"""Return the content of a data: URL. Its length is checked before it is decoded.

    Raises:
        ToolError: no picture in base64, or too large.

    >>> data_content("data:image/png;base64,AAAA")
    b'\x00\x00\x00'
    """
    head = _DATA_URL.match(url, 0, 200)
    if head is None:
        raise ToolError("only data: URLs of pictures in base64 are read: data:image/png;base64,...")
    if len(url) - head.end() > 4 * MAX_DATA_BYTES // 3 + 4:
        raise ToolError(
            f"the data: URL is too long; give a picture of at most {MAX_DATA_BYTES:,} bytes, "
            "or the path of a file"
        )
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError("the data: URL is not valid base64") from error


def file_state(file: BinaryIO) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written: device, number, size, times."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def copy_bytes(file: BinaryIO, copy: IO[bytes], max_bytes: int) -> tuple[bytes, int]:
    """Copy a file. Returns the SHA-256 of its content and its size.

    Raises:
        ToolError: it grew beyond the limit, or the disk is full.
    """
    digest, num_bytes = hashlib.sha256(), 0
    try:
        while chunk := file.read(_CHUNK_BYTES):
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise ToolError(f"the file has more than {max_bytes:,} bytes")
            digest.update(chunk)
            copy.write(chunk)
    except OSError as error:
        raise ToolError(
            "the file cannot be copied: it cannot be read, or the disk is full"
        ) from error
    return digest.digest(), num_bytes
