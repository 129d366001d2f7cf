"""Pictures embedded in data set files (bytes or base64), written to a folder and named by content hash."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixel_reasoner.files import write_bytes
from pixel_reasoner.schema.media_url import join_media
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.sources.rows import RowError


def save_picture(content: bytes, media: Path) -> MediaItem:
    """Write a picture to a folder, named by its content hash, and return its media item.

    Raises:
        RowError: not a picture.
    """
    from PIL import (
        Image,
        UnidentifiedImageError,
    )  # lazy: sources are listed without media libraries

    try:
        with Image.open(io.BytesIO(content)) as image:
            suffix = (image.format or "").lower()
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        if not isinstance(error, Image.DecompressionBombError):
            raise RowError(
                "not_a_picture", f"expected a picture; got {len(content)} other bytes"
            ) from error
        suffix = "img"
    path = media / f"{hashlib.sha256(content).hexdigest()[:20]}.{suffix}"
    if not path.exists():
        write_bytes(content, path)
    return MediaItem(kind="image", path=str(path))


def save_base64_picture(text: Any, media: Path) -> MediaItem:
    """Write a base64 picture, with or without `data:image/...;base64,`, and return its media item.

    Raises:
        RowError: not base64, or not a picture.
    """
    if not isinstance(text, str) or not text.strip():
        raise RowError("missing_picture", "no picture in the row")
    try:
        content = base64.b64decode(text.rpartition("base64,")[2].strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError("not_a_picture", f"no base64: {error}") from error
    return save_picture(content, media)


def save_cell_picture(cell: Any, media: Path) -> MediaItem:
    """Write the picture of a hub data set cell (bytes with a path, bytes, or base64) and return its media item.

    Raises:
        RowError: not a picture.
    """
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if isinstance(content, bytes):
        return save_picture(content, media)
    return save_base64_picture(content, media)


def load_picture(cell: Any, folder: Path | str, media: Path | None) -> MediaItem:
    """Return the picture of a cell: a path relative to `folder`, bytes, or `{bytes, path}` as in `datasets`.

    Args:
        cell: value of the row.
        folder: folder of the file, or the URL that paths are relative to.
        media: folder for bytes; None: only paths are accepted.

    Raises:
        RowError: neither a path nor a picture.
    """
    content, path = cell, cell
    if isinstance(cell, Mapping):
        content, path = cell.get("bytes"), cell.get("path")
    if isinstance(content, bytes) and media is not None:
        return save_picture(content, media)
    if isinstance(path, str) and path.strip():
        return MediaItem(kind="image", path=join_media(folder, path))
    shown = sorted(map(str, cell)) if isinstance(cell, Mapping) else f"{type(cell).__name__}"
    raise RowError("bad_medium", f"expected a path, or {{bytes, path}} with either; got {shown}")
