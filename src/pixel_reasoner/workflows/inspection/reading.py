"""Reading of photos. Plain PNG files are decoded by OpenCV, which needs three quarters of Pillow's time for the same pixels.

Plain are RGB files of 8 bits whose other chunks do not change pixels. All others, and damaged files, are left to
`media.images`, which also says what is wrong.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from pixel_reasoner.media.images import image_size, open_image
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.inspection.pictures import Array, opencv

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB_OF_8_BITS = bytes([8, 2, 0, 0, 0])
"""bit depth, colour type, compression, filter, interlacing"""
_PLAIN_CHUNKS = frozenset(
    {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sRGB", b"tEXt", b"zTXt", b"iTXt", b"tIME"}
)
_MAX_PLAIN_BYTES = 2**28


def read_rgb(path: Path) -> Array:
    """Return an upright picture as RGB, uint8 (height, width, 3).

    Raises:
        InputError: no usable picture.
    """
    limits = MediaLimits()
    found = _read_plain_png(path, limits) if _is_plain_png(path) else None
    return np.asarray(open_image(path, limits)) if found is None else found


def _is_plain_png(path: Path) -> bool:
    """Return whether a file begins as a plain PNG file."""
    try:
        with path.open("rb") as file:
            start = file.read(33)
    except OSError:
        return False  # the other reader says why
    return start[:8] == _SIGNATURE and start[24:29] == _RGB_OF_8_BITS


def _read_plain_png(path: Path, limits: MediaLimits) -> Array | None:
    """Return the pixels of a plain PNG file; None for one with other chunks or damage.

    Raises:
        InputError: over the limits.
    """
    image_size(path, limits)
    if path.stat().st_size > _MAX_PLAIN_BYTES:
        return None
    content = path.read_bytes()
    if not _is_whole(content):
        return None
    cv2 = opencv()
    found: Array | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return found


def _is_whole(content: bytes) -> bool:
    """Return whether a PNG file has all its chunks, undamaged, and plain ones only."""
    place, view = len(_SIGNATURE), memoryview(content)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 8 + length
        if kind not in _PLAIN_CHUNKS or end + 4 > len(content):
            return False
        if zlib.crc32(view[place + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            return False
        if kind == b"IEND":
            return True
        place = end + 4
    return False
