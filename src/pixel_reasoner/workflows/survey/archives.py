"""Media in untrusted zip files. They are copied to a content-addressed store, so names in the archive never become paths."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pixel_reasoner.errors import InputError, one_line
from pixel_reasoner.files import reason
from pixel_reasoner.media.store import MediaStore
from pixel_reasoner.schema.settings import MediaLimits

MAX_RATIO = 200
"""bytes of a file per compressed byte; media hardly shrink at all"""
MIN_BOMB_BYTES = 10_000_000
"""smaller files are read at any ratio"""
MAX_MEMBERS = 1_000_000
_CHUNK_BYTES = 1 << 20


class Member(NamedTuple):
    """One file of a zip file."""

    name: str
    path: Path | None = None
    """of its copy; None with an error"""
    error: str = ""


def zip_members(
    path: Path, suffixes: Collection[str], store: MediaStore, limits: MediaLimits
) -> Iterator[Member]:
    """Yield the files of a zip file that have one of some suffixes, in its order, each after it was copied.

    Args:
        path: of the zip file.
        suffixes: in lower case, with the dot.
        store: receives the copies.
        limits: on the bytes of each file.

    Raises:
        InputError: not a zip file, or more than `MAX_MEMBERS` files.
        OutputError: the store cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise InputError(
                    expected=f"a zip file of at most {MAX_MEMBERS:,} files",
                    got=f"{path}: {len(members):,}",
                    fix="unpack it, and give the folder",
                )
            for member in members:
                name = _member_path(member)
                is_hidden = any(
                    part.startswith((".", "__MACOSX")) and part != ".." for part in name.parts
                )
                if not member.is_dir() and not is_hidden and name.suffix.lower() in suffixes:
                    yield _copied(archive, member, store, limits)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        if isinstance(error, InputError) or not isinstance(error, OSError | zipfile.BadZipFile):
            raise
        raise InputError(
            expected="a zip file",
            got=f"{path}: {reason(error)}",
            fix="unpack it, and give the folder",
        ) from error


def _copied(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, store: MediaStore, limits: MediaLimits
) -> Member:
    problem = _problem(member, limits)
    if problem:
        return Member(member.filename, error=problem)
    try:
        with archive.open(member) as file:
            content = file.read(member.file_size + 1)
    except (
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
    ) as error:
        return Member(
            member.filename,
            error=f"expected a readable file in the zip file; got {one_line(error)}",
        )
    if len(content) > member.file_size:
        return Member(
            member.filename, error="expected the size that the zip file states; got more bytes"
        )
    suffix = PurePosixPath(member.filename).suffix.lower()
    return Member(member.filename, store.path(store.put(content, suffix)))


def _member_path(member: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(member.filename.replace("\\", "/"))  # Windows programs write backslashes


def _problem(member: zipfile.ZipInfo, limits: MediaLimits) -> str:
    """Return why a file is not unpacked; empty if it is."""
    name = _member_path(member)
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        return "expected a path inside the zip file; got one that leaves it"
    if member.flag_bits & 1:
        return "expected a zip file without a password; got one with a password. Fix: unpack it, and give the folder"
    max_bytes = min(limits.max_bytes, limits.max_picture_bytes)
    if member.file_size > max_bytes:
        return f"expected at most {max_bytes:,} bytes; got {member.file_size:,}. Fix: unpack it, and give the folder"
    ratio = member.file_size / max(1, member.compress_size)
    if member.file_size > MIN_BOMB_BYTES and ratio > MAX_RATIO:
        return (
            f"expected at most {MAX_RATIO} bytes per compressed byte; got {ratio:,.0f} (a zip bomb?). Fix: unpack it if "
            "you trust it, and give the folder"
        )
    return ""
