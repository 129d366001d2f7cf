"""Enforcement of `MediaLimits`: bytes, pixels, seconds and frames of untrusted media.

Every check of a limit is here. An exceeded limit is an `InputError` that names the file, the value, the limit and the
field to raise for trusted files.
"""

from __future__ import annotations

from pathlib import Path

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import MediaLimits


def check_file(path: Path, expected: str, limits: MediaLimits) -> None:
    """Raise an error unless the path is a non-empty regular file within the limit of bytes.

    Args:
        path: the file.
        expected: what it should be, for the message.
        limits: `max_bytes`.

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
    if num_bytes > limits.max_bytes:
        raise InputError(
            expected=f"a file of at most {limits.max_bytes:,} bytes",
            got=f"{path}: {num_bytes:,} bytes",
            fix="make it smaller, or raise the limit (max_bytes) for files that you trust",
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


def num_px_to_close(open_px: int, new_px: int, limits: MediaLimits) -> int:
    """Return how many of the open pixels have to be closed before `new_px` more are decoded.

    >>> num_px_to_close(open_px=80, new_px=50, limits=MediaLimits(max_open_px=100))
    30
    """
    return max(0, open_px + new_px - limits.max_open_px)
