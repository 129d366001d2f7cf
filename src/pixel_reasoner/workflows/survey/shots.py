"""Parts of clips: windows of equal length, or shots by PySceneDetect. Times are exact fractions of a second."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from pixel_reasoner.errors import InputError, require_extra
from pixel_reasoner.files import reason
from pixel_reasoner.media.videos import video_duration_s
from pixel_reasoner.schema.settings import MediaLimits

Window = tuple[Fraction, Fraction]
"""start and end in seconds from the start of the clip; the end is exclusive"""
MIN_WINDOW_S = Fraction(1, 100)
"""a shorter rest at the end of a clip belongs to the window before it"""


def clip_windows(duration_s: float, every_s: Fraction) -> Iterator[Window]:
    """Yield windows of equal length; the last one is shorter.

    >>> [(float(start), float(end)) for start, end in clip_windows(2.5, Fraction(1))]
    [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)]
    """
    end = Fraction(duration_s).limit_denominator(1_000_000)
    start = Fraction(0)
    while start < end:
        stop = start + every_s
        if end - stop < MIN_WINDOW_S:
            stop = end
        yield start, stop
        start = stop


def clip_shots(path: Path, limits: MediaLimits) -> list[Window]:
    """Return the shots of a clip; one shot if there is no cut.

    Raises:
        InputError: not a video, or over the limits.
        UsageError: PySceneDetect is not installed.
    """
    with require_extra("workflows", "find shots"):
        from scenedetect import AdaptiveDetector, detect
    duration = Fraction(video_duration_s(path, limits)).limit_denominator(1_000_000)
    try:
        found = detect(str(path), AdaptiveDetector(), backend="pyav", start_in_scene=True)
    except Exception as error:
        raise InputError(
            expected="a video in which shots can be found",
            got=f"{path}: {reason(error)}",
            fix="convert it with `ffmpeg -i OLD NEW.mp4`, or use windows (--every)",
        ) from error
    cuts = [_seconds(start) for start, _ in found]
    starts = [Fraction(0), *(cut for cut in cuts if 0 < cut < duration)]
    return list(zip(starts, [*starts[1:], duration], strict=True))


def _seconds(timecode: object) -> Fraction:
    """Return the time of a `FrameTimecode`, by its presentation timestamp where it has one."""
    pts, base = getattr(timecode, "pts", None), getattr(timecode, "time_base", None)
    if pts is not None and base is not None:
        return Fraction(pts) * Fraction(base)
    return Fraction(timecode.get_seconds()).limit_denominator(1_000_000)  # type: ignore[attr-defined]
