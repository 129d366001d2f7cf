"""Outputs are never replaced silently."""

from __future__ import annotations

from pathlib import Path

from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import write_bytes


def check_new(path: Path, *, overwrite: bool) -> None:
    """Raise an error if a file exists.

    Raises:
        UsageError: it exists, and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise UsageError(
            expected="a new file",
            got=f"{path}, which exists",
            fix="use another --out, or give --overwrite",
        )


def write_new(path: Path, text: str, *, overwrite: bool) -> Path:
    """Write a file in UTF-8 and return its path. A file with the same content is left as it is.

    Raises:
        UsageError: a file with another content exists, and `overwrite` is False.
        OutputError: the path cannot be written.
    """
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return path
    check_new(path, overwrite=overwrite)
    write_bytes(content, path)
    return path
