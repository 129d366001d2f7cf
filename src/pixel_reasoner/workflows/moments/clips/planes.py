"""Frames as the Y, U and V planes of `yuv420p`, so that pixels that are not edited keep their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from pixel_reasoner.media.video_file import upright_transpose
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.frames import decode_span
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import VideoIndex

Plane = NDArray[np.uint8]
Planes = tuple[Plane, Plane, Plane]
"""Y of (height, width); U and V of half the height and width"""
PIXEL_FORMAT = "yuv420p"
TRACKING_SIDE_PX = 640
"""longer side of frames in which a subject is followed"""
_FULL_RANGE = 2
"""`color_range` of JPEG, in FFmpeg's numbers"""


def planes_of(frame: VideoFrame) -> Planes:
    """Return the upright planes of a frame. Odd sides become even. Colour matrix and range stay.

    The planes are copies and can be edited.
    """
    width, height = frame.width + frame.width % 2, frame.height + frame.height % 2
    if frame.format.name not in (PIXEL_FORMAT, "yuvj420p") or (width, height) != (
        frame.width,
        frame.height,
    ):
        frame = frame.reformat(width=width, height=height, format=PIXEL_FORMAT)
    return cast(Planes, tuple(_array(plane) for plane in frame.planes[:3]))


def upright_planes(frame: VideoFrame) -> Planes:
    """Return the planes of a frame, turned as its display matrix says."""
    transpose = upright_transpose(frame)
    planes = planes_of(frame)
    if transpose is None:
        return planes
    return cast(Planes, tuple(_transposed(plane, transpose) for plane in planes))


def frame_of(planes: Planes) -> VideoFrame:
    """Return a frame with these planes."""
    height, width = planes[0].shape
    frame = VideoFrame(width, height, PIXEL_FORMAT)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)
        rows[: values.shape[0], : values.shape[1]] = values
    return frame


def size_of(planes: Planes) -> Size:
    """Return (width, height)."""
    return planes[0].shape[1], planes[0].shape[0]


def black(is_full_range: bool) -> tuple[int, int, int]:
    """Return the Y, U and V of black."""
    return (0 if is_full_range else 16), 128, 128


def is_full_range(frame: VideoFrame) -> bool:
    """Return whether the luma of a frame uses 0 to 255, not 16 to 235."""
    return frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")


def canvas(size: Size, colour: Sequence[int]) -> Planes:
    """Return planes of one colour, with even sides."""
    width, height = size
    return (
        np.full((height, width), colour[0], np.uint8),
        np.full((height // 2, width // 2), colour[1], np.uint8),
        np.full((height // 2, width // 2), colour[2], np.uint8),
    )


def small_luma(
    index: VideoIndex, span: Span, limits: MediaLimits = DEFAULT_MEDIA_LIMITS
) -> Iterator[tuple[int, Plane]]:
    """Yield (number, upright luma) of the frames of a span, at most `TRACKING_SIDE_PX` on the longer side."""
    for number, frame in decode_span(index, span, limits):
        scale = min(1.0, TRACKING_SIDE_PX / max(frame.width, frame.height))
        size = (max(2, round(frame.width * scale)), max(2, round(frame.height * scale)))
        small = frame.reformat(*size, format="gray8", interpolation="AREA")
        transpose = upright_transpose(frame)
        luma = _array(small.planes[0])
        yield number, luma if transpose is None else _transposed(luma, transpose)


def _array(plane: Any) -> Plane:
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width].copy()


def _transposed(plane: Plane, transpose: Image.Transpose) -> Plane:
    return np.ascontiguousarray(np.asarray(Image.fromarray(plane).transpose(transpose)))
