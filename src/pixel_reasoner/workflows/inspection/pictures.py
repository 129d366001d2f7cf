"""Pictures as arrays: reading, working size, hashes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pixel_reasoner.errors import require_extra
from pixel_reasoner.schema.geometry import Size

Array: TypeAlias = "np.ndarray[Any, Any]"
Matrix: TypeAlias = "np.ndarray[Any, Any]"

MAX_WORKING_PX = 4_000_000
"""pixels of the picture that is compared, unless the smallest defect needs more"""
MIN_DEFECT_WORKING_PX = 3.0
"""longest side of the smallest defect that is found, in pixels of the working picture"""
_CHUNK_BYTES = 1 << 20
_STRIP_ROWS = 64
"""rows whose intermediate results fit into the cache of a processor"""


def opencv() -> Any:
    """Return the module `cv2`, with one thread: photos are inspected in parallel.

    Raises:
        UsageError: it is not installed.
    """
    with require_extra("workflows", "compare pictures"):
        import cv2
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    return cv2


def working_scale(size: Size, smallest_px: float | None) -> float:
    """Return the factor from the photo to the picture that is compared, at most 1.

    Args:
        size: of the photo.
        smallest_px: longest side of the smallest defect, in pixels of the photo; None for the default.

    >>> working_scale((1000, 1000), None), working_scale((4000, 3000), None), working_scale((4000, 3000), 4)
    (1.0, 0.5, 0.75)
    """
    if smallest_px is not None:
        return min(1.0, MIN_DEFECT_WORKING_PX / smallest_px)
    # Whole pixels are averaged: faster, and the same at every place.
    return 1 / math.ceil(math.sqrt(size[0] * size[1] / MAX_WORKING_PX))


def detectable_px(scale: float) -> float:
    """Return the longest side of the smallest defect that a working picture shows, in pixels of the photo.

    >>> detectable_px(0.5)
    6.0
    """
    return math.ceil(10 * MIN_DEFECT_WORKING_PX / scale) / 10


def resized(picture: Array, scale: float) -> Array:
    """Return a picture scaled down by a factor, each pixel the mean of its area."""
    if scale >= 1:
        return picture
    height, width = picture.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    found: Array = opencv().resize(picture, size, interpolation=opencv().INTER_AREA)
    return found


def strips(height: int) -> Iterator[slice]:
    """Yield the rows of a picture in strips. Chains of operations on strips take a third of the time of those on whole pictures.

    >>> list(strips(100))
    [slice(0, 64, None), slice(64, 128, None)]
    """
    return (slice(top, top + _STRIP_ROWS) for top in range(0, height, _STRIP_ROWS))


def scaling(source: Size, target: Size) -> Matrix:
    """Return the matrix from pixel centres of one size of a picture to those of another."""
    x, y = target[0] / source[0], target[1] / source[1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]], dtype=float)


def size_of(picture: Array) -> Size:
    """Return (width, height)."""
    return picture.shape[1], picture.shape[0]


def file_sha256(path: Path) -> str:
    """Return the hash of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
