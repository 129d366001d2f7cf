"""Enforcement of `MediaLimits`: bytes, pixels, memory, seconds and frames of untrusted media.

This module defines all limits and the cost of each format. An exceeded limit raises an `InputError` that names the file,
the value, the limit and the field to raise for trusted files. The memory is estimated from the header before decoding:

| format | peak memory in bytes per pixel | other limits |
| --- | --- | --- |
| all pictures | 4 decoded, 4 for a conversion to RGB, 4 for a turn upright | `max_px`, `max_picture_bytes`, `max_header_bytes`, `max_decode_s` of CPU time |
| JPEG | 4, and 2 per channel if progressive | `MAX_JPEG_SCANS` |
| WebP | 20: canvas, canvas before, frame, copy | |
| TIFF | 10: a strip may be the whole picture | |
| AVIF, HEIC | 20, 16: planes of the decoder, and copies | |
| PDF | 12: bitmap, and its copy; rendered at fewer dpi if it would be more | `MAX_RENDER_PX` |
| videos | buffers of the decoder and 4 per sampled frame | `max_px`, `max_bytes`, `max_duration_s`, `max_video_frames`, `max_decode_s` |
| folders | 4 per sampled picture | limits of pictures |
"""

from __future__ import annotations

import time
from pathlib import Path

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import MediaLimits

MAX_JPEG_SCANS = 100
"""Encoders write about 10 scans. A scan of a few bytes can process all pixels of a progressive JPEG."""
MAX_PAGES = 1_000
"""maximum number of TIFF pages to count"""
PICTURE_BYTES_PER_S = 20_000_000
VIDEO_BYTES_PER_S = 1_000_000
"""file bytes per additional second of `max_decode_s`"""
WALL_CLOCK_FACTOR = 1.5
MAX_DECODER_FRAMES = 8
"""reference frames of a video decoder"""
_KEPT_BYTES_PER_PX = 4
"""Pillow stores three channels in four bytes"""
_BYTES_PER_PX_OF_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Other modes take four bytes."""
_SCRATCH_BYTES_PER_PX = {"WEBP": 16, "TIFF": 6, "GIF": 4, "BMP": 4, "AVIF": 16, "HEIF": 12}
"""memory of a decoder in addition to its result"""


def check_file(path: Path, expected: str, max_bytes: int, limit: str) -> None:
    """Raise an error unless the path is a non-empty regular file within the limit of bytes.

    Args:
        path: the file.
        expected: expected kind of file, for the message.
        max_bytes: largest size.
        limit: field of `MediaLimits` with this limit, for the message.

    Raises:
        InputError: no file, not a regular file, or too many bytes.
        ValueError: an empty file.
    """
    if not path.is_file():
        why = "no such file"
        if path.exists():
            why = "a folder" if path.is_dir() else "not a regular file"
        raise InputError(expected=expected, got=f"{path}: {why}", fix="check the path")
    num_bytes = path.stat().st_size
    if not num_bytes:
        raise ValueError("an empty file")
    if num_bytes > max_bytes:
        raise _too_much(
            f"a file of at most {max_bytes:,} bytes", f"{path}: {num_bytes:,} bytes", limit
        )


def check_pixels(path: Path, size: Size, limits: MediaLimits) -> None:
    """Raise an error if a picture or frame has more than `max_px` pixels.

    Raises:
        PixelLimitError: too many pixels.
    """
    width, height = size
    if width * height > limits.max_px:
        raise PixelLimitError(
            expected=f"at most {limits.max_px:,} pixels",
            got=f"{path}: {width} x {height} = {width * height:,} pixels",
            fix="make it smaller, or raise the limit (max_px) for files that you trust",
        )


def check_memory(path: Path, what: str, num_bytes: float, limits: MediaLimits) -> None:
    """Raise an error if decoding needs more than `max_decode_bytes` of memory.

    Args:
        path: the file.
        what: description of the content, for the message: `WEBP of 16383 x 12000 pixels`.
        num_bytes: estimated memory.
        limits: `max_decode_bytes`.

    Raises:
        PixelLimitError: too much memory.
    """
    if num_bytes > limits.max_decode_bytes:
        raise PixelLimitError(
            expected=f"at most {limits.max_decode_bytes:,} bytes of memory to decode it",
            got=f"{path}: {what}, {int(num_bytes):,} bytes",
            fix="make it smaller, or raise the limit (max_decode_bytes) for files that you trust",
        )


def picture_memory_bytes(
    size: Size, format: str, mode: str, *, num_scan_channels: int = 0, is_turned: bool = False
) -> int:
    """Return the peak memory for decoding a picture to upright RGB, in bytes.

    Args:
        size: (width, height).
        format: name of the format in Pillow.
        mode: pixel format in Pillow.
        num_scan_channels: channels of a progressive JPEG, whose coefficients are kept in memory; otherwise 0.
        is_turned: whether it is rotated or mirrored after decoding.

    >>> picture_memory_bytes((1000, 1000), "PNG", "RGB"), picture_memory_bytes((1000, 1000), "WEBP", "RGB")
    (4000000, 20000000)
    """
    decoded = _BYTES_PER_PX_OF_MODE.get(mode, 4)
    scratch = _SCRATCH_BYTES_PER_PX.get(format, 0) + 2 * num_scan_channels
    converted = decoded + (0 if mode == "RGB" else _KEPT_BYTES_PER_PX)
    turned = _KEPT_BYTES_PER_PX if is_turned else 0
    return size[0] * size[1] * max(decoded + scratch, converted + turned)


def frames_memory_bytes(
    size: Size, num_kept: int, num_buffers: int = 0, buffer_bytes_per_px: float = 0.0
) -> int:
    """Return the memory for sampled frames and decoder buffers, in bytes.

    Args:
        size: (width, height) of each frame.
        num_kept: number of sampled frames.
        num_buffers: number of frames in decoder buffers.
        buffer_bytes_per_px: bytes per pixel of these buffers.

    >>> frames_memory_bytes((1000, 1000), num_kept=16, num_buffers=10, buffer_bytes_per_px=1.5)
    79000000
    """
    return int(
        size[0] * size[1] * (num_kept * _KEPT_BYTES_PER_PX + num_buffers * buffer_bytes_per_px)
    )


def check_duration(path: Path, seconds: float, limits: MediaLimits) -> None:
    """Raise an error if a video is longer than `max_duration_s` seconds.

    Raises:
        InputError: too long.
    """
    if seconds > limits.max_duration_s:
        raise InputError(
            expected=f"a video of at most {limits.max_duration_s:g} s",
            got=f"{path}: {seconds:g} s",
            fix="cut it, or raise the limit (max_duration_s) for files that you trust",
        )


def check_num_frames(path: Path, num_frames: int, limits: MediaLimits) -> None:
    """Raise an error if more than `max_video_frames` frames of a video were counted or decoded.

    Raises:
        InputError: too many frames.
    """
    if num_frames > limits.max_video_frames:
        raise InputError(
            expected=f"a video of at most {limits.max_video_frames:,} frames",
            got=f"{path}: more",
            fix="cut it, or raise the limit (max_video_frames) for files that you trust",
        )


def check_num_scans(path: Path, num_scans: int) -> None:
    """Raise an error if a JPEG has more than `MAX_JPEG_SCANS` scans.

    Raises:
        InputError: too many scans.
    """
    if num_scans > MAX_JPEG_SCANS:
        raise InputError(
            expected=f"a JPEG of at most {MAX_JPEG_SCANS} scans",
            got=f"{path}: more",
            fix="save it again, as JPEG or PNG",
        )


def check_header(path: Path, num_bytes: int, limits: MediaLimits) -> None:
    """Raise an error if more than `max_header_bytes` were read before the pixels of a picture.

    Raises:
        InputError: too many bytes.
    """
    if num_bytes > limits.max_header_bytes:
        expected = f"at most {limits.max_header_bytes:,} bytes of tags, profiles and texts"
        raise _too_much(expected, f"{path}: more", "max_header_bytes")


class Deadline:
    """Time limit for decoding one media item: `max_decode_s`, plus time in proportion to the file size.

    The cost of decoding grows with the size of a file, unless the file is crafted to be slow. Holes of sparse files do
    not count. The limit is on the CPU time of this thread, which does not depend on the load of the machine. If FFmpeg
    decodes in its own threads, the limit is on wall-clock time and `WALL_CLOCK_FACTOR` times as large.

    Args:
        path: the file.
        limits: `max_decode_s`.
        bytes_per_s: file bytes per additional second.
        num_threads: number of decoding threads.
        num_pictures: pictures in a folder; each adds 1 s.
    """

    def __init__(
        self,
        path: Path,
        limits: MediaLimits,
        bytes_per_s: float,
        *,
        num_threads: int = 1,
        num_pictures: int = 1,
    ) -> None:
        self.path = path
        found = path.stat()
        blocks = getattr(found, "st_blocks", 0)  # Windows has none
        self._num_bytes = min(found.st_size, 512 * blocks or found.st_size)
        self._clock = time.thread_time if num_threads == 1 else time.monotonic
        factor = 1.0 if num_threads == 1 else WALL_CLOCK_FACTOR
        allowed_s = limits.max_decode_s + self._num_bytes / bytes_per_s + num_pictures - 1
        self._allowed_s = factor * allowed_s
        self._started = self._clock()
        self._wall_started = time.monotonic()

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._started + self._allowed_s - self._clock()

    def check(self) -> None:
        """Raise an error after the deadline.

        Raises:
            InputError: decoding takes too long.
        """
        # CPU time is at most wall-clock time, which costs no system call.
        if time.monotonic() - self._wall_started <= self._allowed_s:
            return
        if self.left_s < 0:
            raise InputError(
                expected=f"at most {self._allowed_s:.3g} s to decode {self._num_bytes:,} bytes",
                got=f"{self.path}: more",
                fix="save it again, or raise the limit (max_decode_s) for files that you trust",
            )


def num_px_to_close(open_px: int, new_px: int, limits: MediaLimits) -> int:
    """Return how many open pixels must be closed before `new_px` more are decoded.

    >>> num_px_to_close(open_px=80, new_px=50, limits=MediaLimits(max_open_px=100))
    30
    """
    return max(0, open_px + new_px - limits.max_open_px)


def _too_much(expected: str, got: str, limit: str) -> InputError:
    return InputError(
        expected=expected,
        got=got,
        fix=f"make it smaller, or raise the limit ({limit}) for files that you trust",
    )
