"""Thumbnails by which a scripted model recognises the pictures that it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_PX = (64, 48)
"""width and height"""
MAX_DISTANCE = 4.0
"""mean difference, in grey levels, up to which two thumbnails are of one picture"""


def thumbnail(picture: Image.Image) -> NDArray[np.float16]:
    """Return a picture as 48 x 64 grey levels.

    It hardly depends on the size of the picture, so a photograph and its overview have about the same thumbnail.
    """
    grey = picture.convert("RGB").resize(THUMBNAIL_PX, Image.Resampling.BOX, reducing_gap=None)
    levels: NDArray[np.float32] = np.asarray(grey, np.float32).mean(axis=2)
    return levels.astype(np.float16)


def nearest(picture: NDArray[np.float16], table: NDArray[np.float32]) -> tuple[int, float]:
    """Return the index of the most similar thumbnail of a table, and its mean difference in grey levels."""
    differences = np.abs(table - picture.astype(np.float32))
    distances = differences.mean(axis=(1, 2))
    index = int(distances.argmin())
    return index, float(distances[index])
