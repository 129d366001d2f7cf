"""SMPTE timecode and frame rates, in integers and fractions.

A timecode is a label of a frame number. At 29.97 and 59.94 frames per second *drop-frame* timecode skips labels, never
frames: `;00` and `;01` of each minute except each tenth (at 59.94 `;00` to `;03`), so that labels follow the clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pixel_reasoner.errors import UsageError

_NTSC = Fraction(1000, 1001)
_NAMED_RATES = (24, 25, 30, 48, 50, 60, 100, 120)
_MAX_RATE_ERROR = Fraction(1, 2000)
"""relative distance from a standard rate below which a rate counts as this standard rate: phones record 29.98"""
_PATTERN = re.compile(r"(\d{1,2}):([0-5]\d):([0-5]\d)([:;.,])(\d{2,3})")


@dataclass(frozen=True)
class FrameRate:
    """Frame rate of a timeline: frames per second, and whether its timecode drops labels.

    >>> FrameRate.of(Fraction(30000, 1001))
    FrameRate(per_s=Fraction(30000, 1001), drop=False)
    >>> FrameRate.of("29.97", drop=True).timecode(107_892)
    '01:00:00;00'
    """

    per_s: Fraction
    drop: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: no positive rate, or drop-frame at a rate that has none.
        """
        if self.per_s <= 0:
            raise UsageError(
                expected="a frame rate above 0", got=str(self.per_s), fix="for example 25"
            )
        if self.drop and not self.can_drop:
            raise UsageError(
                expected="drop-frame timecode at 29.97, 59.94 or 119.88 frames per second",
                got=f"{float(self.per_s):g}",
                fix="use non-drop timecode",
            )

    @classmethod
    def of(cls, rate: Fraction | float | str, *, drop: bool = False) -> FrameRate:
        """Return a rate. A value near a standard rate becomes this rate: 23.976 is 24000/1001.

        Raises:
            UsageError: no positive number, or drop-frame at a rate that has none.

        >>> FrameRate.of(23.976).per_s, FrameRate.of("25").per_s, FrameRate.of(12.5).per_s
        (Fraction(24000, 1001), Fraction(25, 1), Fraction(25, 2))
        """
        try:
            exact = Fraction(rate).limit_denominator(1_000_000)
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            raise UsageError(
                expected="a frame rate", got=repr(rate), fix="for example 25"
            ) from error
        return cls(standard_rate(exact), drop)

    @property
    def label_base(self) -> int:
        """Labels per second of timecode: 30 at 29.97."""
        return max(1, round(self.per_s))

    @property
    def frame_s(self) -> Fraction:
        """Duration of a frame, in seconds."""
        return 1 / self.per_s

    @property
    def can_drop(self) -> bool:
        """Whether drop-frame timecode exists at this rate."""
        return self.label_base % 30 == 0 and self.per_s == self.label_base * _NTSC

    @property
    def num_dropped(self) -> int:
        """Labels that drop-frame timecode skips in a minute."""
        return self.label_base // 15 if self.drop else 0

    def frame_of(self, time_s: Fraction) -> int:
        """Return the number of the frame that starts nearest to a time.

        >>> FrameRate.of(25).frame_of(Fraction(1, 2))
        13
        """
        return (time_s * self.per_s + Fraction(1, 2)).__floor__()

    def time_of(self, frame: int) -> Fraction:
        """Return the start time of a frame, in seconds."""
        return frame / self.per_s

    def timecode(self, frame: int) -> str:
        """Return the label of a frame; it wraps after 24 hours.

        >>> FrameRate.of(25).timecode(90_001), FrameRate.of(29.97, drop=True).timecode(1800)
        ('01:00:00:01', '00:01:00;02')
        """
        base, dropped = self.label_base, self.num_dropped
        label = frame
        if dropped:
            per_10min, per_min = base * 600 - 9 * dropped, base * 60 - dropped
            tens, rest = divmod(frame % (per_10min * 144), per_10min)
            # The first minute of ten drops nothing.
            minutes = max(0, rest - dropped) // per_min
            label = frame % (per_10min * 144) + dropped * (9 * tens + minutes)
        seconds, frames = divmod(label % (base * 86_400), base)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        digits = len(str(base - 1))
        sign = ";" if self.drop else ":"
        return f"{hours:02}:{minutes:02}:{seconds:02}{sign}{frames:0{max(2, digits)}}"

    def parse(self, text: str) -> int:
        """Return the frame number of a label.

        Raises:
            UsageError: no timecode, or a label that does not exist at this rate.

        >>> FrameRate.of(29.97, drop=True).parse("01:00:00;00")
        107892
        """
        match = _PATTERN.fullmatch(text.strip())
        base = self.label_base
        if match is None:
            raise _no_timecode(text, "a timecode HH:MM:SS:FF")
        hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
        if frames >= base:
            raise _no_timecode(text, f"frames from 00 to {base - 1:02}")
        if frames < self.num_dropped and seconds == 0 and minutes % 10:
            raise _no_timecode(text, f"a label that drop-frame at {float(self.per_s):.2f} contains")
        label = ((hours * 60 + minutes) * 60 + seconds) * base + frames
        minute = hours * 60 + minutes
        return label - self.num_dropped * (minute - minute // 10)


def standard_rate(rate: Fraction) -> Fraction:
    """Return the standard frame rate near a rate, or the rate itself.

    >>> standard_rate(Fraction("29.97")), standard_rate(Fraction(15))
    (Fraction(30000, 1001), Fraction(15, 1))
    """
    candidates = [Fraction(n) * factor for n in _NAMED_RATES for factor in (1, _NTSC)]
    best = min(candidates, key=lambda one: abs(one - rate))
    return best if abs(best - rate) <= best * _MAX_RATE_ERROR else rate


def is_drop_label(text: str) -> bool:
    """Return whether a timecode is drop-frame: its last separator is `;`, or `.` or `,` in some cameras.

    >>> is_drop_label("01:00:00;00"), is_drop_label("01:00:00:00")
    (True, False)
    """
    match = _PATTERN.fullmatch(text.strip())
    return match is not None and match[4] != ":"


def clock(time_s: Fraction, sign: str = ".") -> str:
    """Return a time as `HH:MM:SS.mmm`, rounded once.

    >>> clock(Fraction(3723_4567, 10_000)), clock(Fraction(1, 3), ",")
    ('01:02:03.457', '00:00:00,333')
    """
    ms = (time_s * 1000 + Fraction(1, 2)).__floor__()
    seconds, ms = divmod(max(0, ms), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{sign}{ms:03}"


def _no_timecode(text: str, expected: str) -> UsageError:
    return UsageError(expected=expected, got=repr(text), fix="for example 01:00:10:12")
