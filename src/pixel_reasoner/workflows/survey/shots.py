"""Parts of clips: windows of equal length, or shots. Times are exact fractions of a second."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.moments.shots import find_shots
from pixel_reasoner.workflows.moments.video_index import read_video_index

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
    index = read_video_index(path, limits)
    starts = [index.time_s(shot.first) for shot in find_shots(index, limits)]
    return list(zip(starts, [*starts[1:], index.duration_s], strict=True))
