"""Video files opened with FFmpeg: stream selection, packets, and rotation of frames to upright."""

from __future__ import annotations

import gc
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from pixel_reasoner.media.limits import (
    VIDEO_BYTES_PER_S,
    Deadline,
    check_pixels,
)
from pixel_reasoner.media.rgb import composite_over_white
from pixel_reasoner.schema.settings import MediaLimits

_CONTAINERS = "mov,mp4,matroska,webm,avi,gif"
"""Playlists are excluded because they make a decoder open other files and addresses."""
_MAX_STREAMS = 100
_MIN_FFMPEG_PX = 2**26
"""minimum pixel limit passed to FFmpeg; our own check rejects smaller frames and reports their size"""
_MAX_THREAD_PX = 40_000_000
"""pixels of the frames in all threads of a decoder"""
_DECODER_BYTES_PER_PX = 10
"""memory of a decoder: about six frames of 4:2:0"""
_MAX_CLOSED_BYTES = 100_000_000
_TRANSPOSE_OF_SIGNS = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""signs of the display matrix (a, b, c, d), which maps (x, y) to (ax + cy, bx + dy)"""


class VideoFile:
    """Open video file: its container and its video stream."""

    def __init__(self, path: Path, container: InputContainer, limits: MediaLimits) -> None:
        """Select the video stream.

        Raises:
            InputError: over a limit.
            ValueError: no video in it.
        """
        self.path = path
        self.container = container
        self.stream = _video_stream(container)
        context = self.stream.codec_context
        if context is None:
            raise ValueError("an unknown video codec")
        self.stream.thread_type = "AUTO"
        self.num_threads = _num_threads(self.stream.width * self.stream.height)
        context.thread_count = self.num_threads
        context.options = {**context.options, "max_pixels": _max_pixels(limits)}
        check_pixels(path, (self.stream.width, self.stream.height), limits)
        if not self.stream.width or not self.stream.height:
            raise ValueError(
                f"frames of unknown size, or of more than {_max_pixels(limits)} pixels"
            )


class _ClosedDecoders:
    """Memory of decoders that were closed but not freed.

    PyAV's containers and streams refer to each other, so a decoder and its frames, 20 MB at 1920 x 1080, are freed by the
    cyclic garbage collector alone, which runs after a number of new Python objects and not after an amount of memory.
    """

    def __init__(self) -> None:
        self._num_bytes = 0
        self._lock = threading.Lock()

    def add(self, num_px: int) -> None:
        """Add a decoder for frames of `num_px` pixels."""
        with self._lock:
            self._num_bytes += num_px * _DECODER_BYTES_PER_PX

    def free(self) -> None:
        """Collect garbage if closed decoders use more than `_MAX_CLOSED_BYTES`."""
        with self._lock:
            is_much = self._num_bytes > _MAX_CLOSED_BYTES
            if is_much:
                self._num_bytes = 0
        if is_much:
            gc.collect()


_closed_decoders = _ClosedDecoders()


@contextmanager
def open_video(
    path: Path, limits: MediaLimits, deadline: Deadline, *, is_sparse: bool = False
) -> Iterator[VideoFile]:
    """Open a video file of the supported containers.

    Args:
        path: of the file.
        limits: on pixels.
        deadline: of the whole work.
        is_sparse: whether bytes of packets may be missing, so that nothing about a packet is derived from its bytes.

    Raises:
        InputError: over a limit.
        ValueError: no video in it.
        FFmpegError: not a file of these containers.
    """
    _closed_decoders.free()
    name = str(path.resolve())  # FFmpeg never parses an absolute path as an address
    options = {
        "format_whitelist": _CONTAINERS,
        "max_streams": str(_MAX_STREAMS),
        "max_pixels": _max_pixels(limits),
    }
    if is_sparse:
        options["fflags"] = "noparse+nofillin"
    left_s = max(1.0, deadline.left_s)
    try:
        with av.open(
            name, options=options, metadata_errors="replace", timeout=(left_s, left_s)
        ) as container:
            video = VideoFile(path, container, limits)
            try:
                yield video
            finally:
                _closed_decoders.add(video.stream.width * video.stream.height)
    except av.error.ExitError as error:  # the timeout of FFmpeg is wall-clock time
        raise ValueError(f"no end of file after {left_s:.0f} s") from error


def _max_pixels(limits: MediaLimits) -> str:
    """Return the FFmpeg option for the maximum frame size. FFmpeg reports larger frames as frames of unknown size."""
    return str(max(limits.max_px, _MIN_FFMPEG_PX))


def video_deadline(path: Path, limits: MediaLimits, num_threads: int = 1) -> Deadline:
    """Return the deadline for reading a video, or for decoding it in several threads."""
    return Deadline(path, limits, VIDEO_BYTES_PER_S, num_threads=num_threads)


def _video_stream(container: InputContainer) -> VideoStream:
    """Return the first video stream that is not a cover picture.

    Raises:
        ValueError: there is none.
    """
    videos = container.streams.video
    for stream in videos:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise ValueError("no video in it" + (", only a cover picture" if videos else ""))


def upright_rgb(frame: VideoFrame) -> Image.Image:
    """Convert a frame to upright RGB according to its display matrix. Phones record quarter turns."""
    threads = reformat_options(_num_threads(frame.width * frame.height))
    if any(component.is_alpha for component in frame.format.components):
        image = composite_over_white(Image.fromarray(frame.to_ndarray(format="rgba", **threads)))
    else:
        image = Image.fromarray(frame.to_ndarray(format="rgb24", **threads))
    return _rotate_upright(image, frame)


def _rotate_upright(image: Image.Image, frame: VideoFrame) -> Image.Image:
    transpose = upright_transpose(frame)
    if transpose is not None:
        return image.transpose(transpose)
    # The rotation is not a multiple of 90 degrees.
    return image.rotate(frame.rotation, expand=True) if frame.rotation % 90 else image


def upright_transpose(frame: VideoFrame) -> Image.Transpose | None:
    """Return the quarter turn or mirroring that makes a frame upright; None if it is upright, or at another angle."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    values = np.frombuffer(bytes(matrix), np.int32)[[0, 1, 3, 4]] / 2**16
    signs = tuple(np.round(values / max(1e-9, np.abs(values).max()), 2))
    return _TRANSPOSE_OF_SIGNS.get(signs)


def reformat_options(threads: int) -> dict[str, Any]:
    """Return the argument of PyAV for the number of threads that convert a frame.

    PyAV before 17 has no such argument and uses one thread.
    """
    return {"threads": threads} if int(av.__version__.partition(".")[0]) >= 17 else {}


def _num_threads(num_px: int) -> int:
    """Return the number of threads for a frame.

    Starting threads takes longer than converting a small frame. Each thread holds a frame.
    """
    if num_px < 500_000:
        return 1
    return max(1, min(os.cpu_count() or 1, math.floor(_MAX_THREAD_PX / num_px)))
