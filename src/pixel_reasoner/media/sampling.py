"""Frame sampling for videos and folders of frames.

A sampled frame has an index, its position in the clip from 0. Traces record the indices, so a replay decodes the same
frames even if the sampling rule changes.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

_TIME_TOLERANCE_S = 1e-6
"""tolerance for rounded times; far below the duration of a frame"""


class Frame(NamedTuple):
    """One sampled frame of a video, or one picture of a folder."""

    image: Image.Image
    time_s: float | None
    """seconds from the start of the clip; None for a folder without a frame rate"""
    source_index: int
    """position in the clip, from 0, in display order"""


class FrameSelection(NamedTuple):
    """Frames to sample: evenly spaced over a part of the clip, or recorded indices."""

    num_frames: int
    """number of frames; from a shorter part all frames are sampled"""
    start_s: float = 0.0
    end_s: float | None = None
    """end of the part; None for the end of the clip"""
    indices: tuple[int, ...] = ()
    """recorded indices; if set, the other fields are ignored"""

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole clip."""
        return self.start_s == 0.0 and self.end_s is None

    def of_times(
        self, times_s: Sequence[float | None], duration_s: float | None = None
    ) -> list[int]:
        """Return the indices of the frames to sample, ascending.

        At a constant frame rate they are evenly spaced by count, otherwise by time (`spread_times`).

        Args:
            times_s: display time of every frame from the start of the clip, ascending; None if a frame has no time.
            duration_s: end of the last frame; with None the last frame has the average duration.

        >>> FrameSelection(2, start_s=1.0).of_times([0.0, 0.5, 1.0, 1.5, 2.0])
        [2, 4]
        >>> FrameSelection(2).of_times([0.0, 0.1, 0.2, 0.3, 5.0], duration_s=10.0)
        [3, 4]
        """
        if self.indices:
            return sorted(index for index in set(self.indices) if index < len(times_s))
        known = [time_s for time_s in times_s if time_s is not None]
        if len(known) == len(times_s) and not has_constant_rate(known):
            return self._of_variable_rate(known, duration_s)
        end_s = math.inf if self.end_s is None else self.end_s
        inside = [
            index
            for index, time_s in enumerate(times_s)
            if self.is_whole or self.start_s <= (time_s or 0.0) < end_s
        ]
        return [inside[position] for position in spread(len(inside), self.num_frames)]

    def _of_variable_rate(self, times_s: list[float], duration_s: float | None) -> list[int]:
        mean_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1)
        end_s = max(duration_s or 0.0, times_s[-1] + (0.0 if duration_s else mean_s))
        end_s = min(end_s, math.inf if self.end_s is None else self.end_s)
        start_s = times_s[0] if self.is_whole else self.start_s
        if start_s >= end_s:
            return []
        # Include the frame on display when the part starts.
        first = max(0, bisect_right(times_s, start_s + _TIME_TOLERANCE_S) - 1)
        last = bisect_left(times_s, end_s)
        found = spread_times(times_s[first:last], start_s, end_s, self.num_frames)
        return [first + position for position in found]


def has_constant_rate(times_s: Sequence[float]) -> bool:
    """Return whether all frames are within half a frame of an even grid, as with timestamps in milliseconds.

    >>> has_constant_rate([0.0, 0.033, 0.067, 0.1]), has_constant_rate([0.0, 0.1, 0.2, 5.0])
    (True, False)
    """
    if len(times_s) < 3:
        return True
    step_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1)
    return all(
        abs(time_s - times_s[0] - number * step_s) <= step_s / 2
        for number, time_s in enumerate(times_s)
    )


def spread(num_frames: int, num_wanted: int) -> list[int]:
    """Return the positions of the centers of `num_wanted` equal parts; all positions if there are fewer frames.

    >>> spread(100, 4), spread(3, 4)
    ([12, 37, 62, 87], [0, 1, 2])
    """
    num_parts = min(num_frames, num_wanted)
    return [(2 * part + 1) * num_frames // (2 * num_parts) for part in range(num_parts)]


def spread_times(
    times_s: Sequence[float], start_s: float, end_s: float, num_wanted: int
) -> list[int]:
    """Return the positions of the frames on display at the centers of equal periods; all positions if there are fewer frames.

    If one frame covers several centers, adjacent frames are used instead, so all positions are distinct.

    Args:
        times_s: display time of each frame, ascending.
        start_s: start of the interval.
        end_s: end of the interval.
        num_wanted: number of periods.

    >>> spread_times([0.0, 1.0, 8.0, 9.0], 0.0, 10.0, 2)
    [1, 2]
    """
    positions: list[int] = []
    num_parts = min(len(times_s), num_wanted)
    for part in range(num_parts):
        middle_s = start_s + (part + 0.5) * (end_s - start_s) / num_parts
        shown = bisect_right(times_s, middle_s + _TIME_TOLERANCE_S) - 1
        least = positions[-1] + 1 if positions else 0
        most = len(times_s) - (num_parts - part)
        positions.append(min(max(shown, least), most))
    return positions
