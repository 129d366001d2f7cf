"""Frame code: a row of black and white cells at the bottom edge of every frame, with the clip and the frame number.

It makes spans, cuts and exports of a clip measurable frame by frame: the number is read back from the pixels. The code
survives compression, and downscaling to a width of 120 pixels.

    cell 0         white
    cells 1..12    code of the clip, highest bit first
    cells 13..30   number of the frame, from 0
    cells 31..38   check sum
    cell 39        black
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NUM_CELLS = 40
CELL_HEIGHT = 1 / 45
"""height of the row, fraction of the picture"""
_CLIP_BITS, _FRAME_BITS, _CHECK_BITS = 12, 18, 8
_NUM_CLIPS = 4096
_BLACK, _WHITE = 24, 228
_TOLERANCE = 70
"""of a grey level, from black and from white"""
_MIN_WIDTH_PX = 120


class FrameCode(NamedTuple):
    """Content of a frame code."""

    clip: int
    """`clip_code` of the id of the clip"""
    frame: int
    """number of the frame, from 0"""


def clip_code(clip_id: str) -> int:
    """Return the 12-bit code of a clip.

    >>> 0 <= clip_code("moments-2000000") < 4096
    True
    """
    return zlib.crc32(clip_id.encode()) % _NUM_CLIPS


def cells(code: FrameCode) -> NDArray[np.uint8]:
    """Return the grey levels of the cells, from left to right: shape (40,)."""
    number = code.clip << _FRAME_BITS | code.frame
    check = zlib.crc32(number.to_bytes(4, "big")) % 2**_CHECK_BITS
    bits = f"1{number:0{_CLIP_BITS + _FRAME_BITS}b}{check:0{_CHECK_BITS}b}0"
    return np.array([_WHITE if bit == "1" else _BLACK for bit in bits], np.uint8)


def write_frame_code(picture: NDArray[np.uint8], code: FrameCode) -> None:
    """Draw a frame code into a picture of shape (height, width, 3), or into its luma of shape (height, width)."""
    height, width = picture.shape[:2]
    levels = cells(code)[np.arange(width) * NUM_CELLS // width]
    picture[height - round(height * CELL_HEIGHT) :] = (
        levels[:, None] if picture.ndim == 3 else levels
    )


def read_frame_code(picture: Image.Image) -> FrameCode | None:
    """Return the frame code of a picture; None without a readable one.

    >>> pixels = np.zeros((90, 160, 3), np.uint8)
    >>> write_frame_code(pixels, FrameCode(7, 1234))
    >>> read_frame_code(Image.fromarray(pixels))
    FrameCode(clip=7, frame=1234)
    """
    width, height = picture.size
    if width < _MIN_WIDTH_PX:
        return None
    row = height - max(1, round(height * CELL_HEIGHT / 2))
    line = picture.crop((0, row, width, row + 1)).convert("L")
    levels = np.asarray(line, np.float32)[0]
    centres = ((np.arange(NUM_CELLS) + 0.5) * width / NUM_CELLS).astype(int)
    if any(_BLACK + _TOLERANCE < level < _WHITE - _TOLERANCE for level in levels[centres]):
        return None
    bits = "".join("1" if level > (_WHITE + _BLACK) / 2 else "0" for level in levels[centres])
    number = int(bits[1 : 1 + _CLIP_BITS + _FRAME_BITS], 2)
    code = FrameCode(number >> _FRAME_BITS, number % 2**_FRAME_BITS)
    expected = "".join("1" if level == _WHITE else "0" for level in cells(code))
    return code if bits == expected else None
