"""Frame sampling: which frames of a video or folder are shown, and where they were found.

A sampled frame has an index, its position in the medium from 0. Traces record the indices, so a replay decodes
exactly these frames, whatever rule chose them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image


class Frame(NamedTuple):
    """One sampled frame of a video, or one picture of a folder."""

    image: Image.Image
    time_s: float | None
    """None for the pictures of a folder without a frame rate"""
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

    def of_times(self, times_s: Sequence[float | None]) -> list[int]:
        """Return the indices of the wanted frames, ascending.

        Args:
            times_s: display time of every frame, ascending; None where a frame has none.

        >>> FrameSelection(2, start_s=1.0).of_times([0.0, 0.5, 1.0, 1.5, 2.0])
        [2, 4]
        """
        if self.indices:
            return sorted(index for index in set(self.indices) if index < len(times_s))
        end_s = math.inf if self.end_s is None else self.end_s
        inside = [
            index
            for index, time_s in enumerate(times_s)
            if self.is_whole or self.start_s <= (time_s or 0.0) < end_s
        ]
        return [inside[position] for position in spread(len(inside), self.num_frames)]


def spread(num_frames: int, num_wanted: int) -> list[int]:
    """Return the positions of the middles of `num_wanted` equal parts, or all of fewer frames.

    >>> spread(100, 4), spread(3, 4)
    ([12, 37, 62, 87], [0, 1, 2])
    """
    num_parts = min(num_frames, num_wanted)
    return [(2 * part + 1) * num_frames // (2 * num_parts) for part in range(num_parts)]
