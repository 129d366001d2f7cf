"""Parameters of clips, and the times of their frames."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Literal

from pydantic import Field

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.record import Record

Rate = Literal["23.976", "25", "29.97", "60", "variable"]
RATES: dict[Rate, Fraction] = {
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "60": Fraction(60),
    "variable": Fraction(30),
}
"""Frames per second; the mean of a variable rate is about this."""
TIME_BASES: dict[Rate, Fraction] = {
    "23.976": Fraction(1, 24000),
    "25": Fraction(1, 12800),
    "29.97": Fraction(1, 30000),
    "60": Fraction(1, 15360),
    "variable": Fraction(1, 90000),
}
_VARIABLE_STEPS = (1500, 3000, 3000, 3750, 6000)
"""frame durations of a variable rate in units of its time base: 60, 30, 24 and 15 frames per second"""
Rotation = Literal[0, 90, 180, 270]
Container = Literal["mp4", "mov"]
SIZE = (640, 360)
"""width and height as displayed"""


class MomentsParams(Record):
    """Parameters of one clip."""

    duration_s: float = Field(120.0, ge=2, le=1800)
    rate: Rate = "25"
    start_s: float = Field(0.0, ge=0, le=3600)
    """time of the first frame in the file"""
    rotation: Rotation = 0
    """degrees by which a player turns the stored frames clockwise; what is displayed is always upright"""
    container: Container = "mp4"
    timecode: str | None = None
    """time code of the first frame, such as `01:00:00:00`; `;` before the frames is drop frame"""
    min_shot_s: float = Field(4.0, ge=2)
    max_shot_s: float = 13.0
    dissolve_share: float = Field(0.25, ge=0, le=1)
    """share of dissolves among the cuts"""
    event_share: float = Field(0.7, ge=0, le=1)
    """share of shots with an event"""
    min_event_s: float = Field(0.4, gt=0)
    max_event_s: float = 5.0

    def check(self) -> None:
        """Check values that depend on each other.

        Raises:
            UsageError: a maximum below its minimum, or a time code of another rate.
        """
        if self.max_shot_s < self.min_shot_s or self.max_event_s < self.min_event_s:
            raise UsageError(
                expected="maxima of at least the minima of shots and events",
                got=f"shots {self.min_shot_s}-{self.max_shot_s} s, "
                f"events {self.min_event_s}-{self.max_event_s} s",
                fix="make the maximum larger",
            )


def frame_times(params: MomentsParams, rng: random.Random) -> tuple[Fraction, ...]:
    """Return the start of each frame in seconds, and the end of the last one.

    >>> frame_times(MomentsParams(duration_s=2, rate="23.976"), random.Random(0))[1]
    Fraction(1001, 24000)
    """
    base, rate = TIME_BASES[params.rate], RATES[params.rate]
    start = round(params.start_s / base)
    if params.rate != "variable":
        step, count = round(1 / rate / base), round(params.duration_s * rate)
        return tuple((start + number * step) * base for number in range(count + 1))
    ticks = [start]
    while (ticks[-1] - start) * base < params.duration_s:
        ticks.append(ticks[-1] + rng.choice(_VARIABLE_STEPS))
    return tuple(tick * base for tick in ticks)
