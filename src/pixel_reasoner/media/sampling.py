"""Frame sampling: which frames of a video or folder are shown, and where they were found.

A sampled frame has an index, its position in the medium from 0. Traces record the indices, so a replay decodes
exactly these frames, whatever rule chose them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

_TIME_TOLERANCE_S = 1e-6
"""rounding of times; far below the duration of a frame"""


class Frame(NamedTuple):
    """One sampled frame of a video, or one picture of a folder."""

    image: Image.Image
    time_s: float | None
    """seconds from the start of the medium; None for the pictures of a folder without a frame rate"""
    source_index: int
    """position in the medium, from 0, in display order"""


class FrameSelection(NamedTuple):
    """Which frames are wanted: evenly spread over a part, or recorded indices."""

    num_frames: int
    """frames to spread over the part; a shorter part gives all it has"""
    start_s: float = 0.0
    end_s: float | None = None
    """None at the end of the medium"""
    indices: tuple[int, ...] = ()
    """recorded indices; the other fields are ignored where there are any"""

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole medium."""
        return self.start_s == 0.0 and self.end_s is None

    def of_times(
        self, times_s: Sequence[float | None], duration_s: float | None = None
    ) -> list[int]:
        """Return the indices of the wanted frames, ascending.

        At a constant frame rate they are spread by count, otherwise by time (`spread_times`).

        Args:
            times_s: display time of every frame from the start of the medium, ascending; None where a frame has none.
            duration_s: end of the last frame; None: it is as long as a frame on average.

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
        # The frame that is displayed when the part starts belongs to it.
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
    """Return the positions of the middles of `num_wanted` equal parts, or all of fewer frames.

    >>> spread(100, 4), spread(3, 4)
    ([12, 37, 62, 87], [0, 1, 2])
    """
    num_parts = min(num_frames, num_wanted)
    return [(2 * part + 1) * num_frames // (2 * num_parts) for part in range(num_parts)]


def spread_times(
    times_s: Sequence[float], start_s: float, end_s: float, num_wanted: int
) -> list[int]:
    """Return the positions of the frames displayed in the middles of equal periods, or all of fewer frames.

    Where one frame covers several middles, the frames next to it are taken: the positions differ.

    Args:
        times_s: display time of each frame, ascending.
        start_s: start of the time to divide.
        end_s: its end.
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
