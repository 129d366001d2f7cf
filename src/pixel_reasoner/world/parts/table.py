"""Recognition of annotated photographs by their content, for scripted models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.world.parts.rows import THUMBNAILS_FILE, PartRow, read_parts
from pixel_reasoner.world.thumbnails import MAX_DISTANCE, THUMBNAIL_PX, nearest, thumbnail

_MAX_ASPECT_ERROR = 0.15
"""sides of an overview are multiples of up to 32 pixels"""


class PartTable:
    """Annotated photographs of folders that `world parts` wrote."""

    def __init__(self, *folders: Path) -> None:
        """Read the rows and thumbnails.

        Raises:
            InputError: a missing file, or a line that is not a row.
        """
        self.rows: list[PartRow] = []
        tables = []
        for folder in folders:
            self.rows += read_parts(folder)
            tables.append(_read_thumbnails(folder / THUMBNAILS_FILE))
        self._thumbnails = np.concatenate(tables).astype(np.float32)
        if len(self._thumbnails) != len(self.rows):
            raise InputError(
                expected=f"one thumbnail for each of the {len(self.rows)} rows",
                got=f"{len(self._thumbnails)}",
                fix="render the folder again with `pixel-reasoner world parts`",
            )

    def recognise(self, picture: Image.Image) -> PartRow | None:
        """Return the row of a photograph, at any size; None for other pictures, such as a crop."""
        wanted = THUMBNAIL_PX[0] / THUMBNAIL_PX[1]
        if abs(picture.width / picture.height / wanted - 1) > _MAX_ASPECT_ERROR:
            return None
        index, distance = nearest(thumbnail(picture), self._thumbnails)
        return self.rows[index] if distance <= MAX_DISTANCE else None


def _read_thumbnails(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    try:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise InputError(
            expected="thumbnails written by `pixel-reasoner world parts`",
            got=f"{path}: {error}",
            fix="render the folder again",
        ) from error
