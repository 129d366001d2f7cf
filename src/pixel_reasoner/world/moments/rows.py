"""Annotation of clips: one line of `moments.jsonl` each.

Times are seconds from PTS: exact as fractions (`"1001/24000"`), and rounded as decimals. Frames are numbered from 0 and
ends are exclusive. Boxes are pixels of the upright frame: left, top, right and bottom (exclusive).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from pydantic import field_serializer, field_validator

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import numbered_lines
from pixel_reasoner.schema.geometry import RecordedSize
from pixel_reasoner.schema.record import Record, VersionedRecord
from pixel_reasoner.world.moments.params import MomentsParams
from pixel_reasoner.world.moments.script import EventKind, TargetKind

MOMENTS_FILE = "moments.jsonl"
PixelBox = tuple[int, int, int, int]


class SpanRow(Record):
    """Consecutive frames."""

    first_frame: int
    end_frame: int
    """number after the last frame"""
    start_pts: int
    end_pts: int
    start: Fraction
    """seconds: `start_pts` times the time base"""
    end: Fraction
    start_s: float
    end_s: float
    boxes: tuple[PixelBox, ...] = ()
    """of the event, in the first, middle and last frame"""

    @field_validator("start", "end", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        return Fraction(value) if isinstance(value, str) else value

    @field_serializer("start", "end")
    def _write(self, value: Fraction) -> str:
        return str(value)


class QueryRow(Record):
    """What to look for, and when it happens."""

    id: str
    kind: EventKind
    value: str = ""
    """a colour or a number; empty for a light"""
    text: str
    spans: tuple[SpanRow, ...]
    """in the order of time; empty if it never happens"""


class ShotRow(Record):
    """Frames between two cuts."""

    span: SpanRow
    dissolve: int
    """frames from the first one that are mixed with the previous shot; 0 for a hard cut"""


class TargetRow(Record):
    """The thing that must be made unrecognisable."""

    kind: TargetKind
    text: str
    """name on the badge below the face, or number on the plate"""
    boxes: tuple[tuple[PixelBox, ...], ...]
    """for each frame its visible boxes: none, one, or two during a dissolve"""


class ClipRow(VersionedRecord):
    """Annotated clip."""

    record_name: ClassVar[str] = "clip"

    id: str
    split: str
    seed: int
    path: str
    """relative to this file"""
    code: int
    """clip number in the frame code (`world.moments.frame_code`)"""
    size_px: RecordedSize
    """of upright frames"""
    params: MomentsParams
    num_frames: int
    time_base: str
    pts: tuple[int, ...]
    """of every frame, and the end of the last one"""
    duration_s: float
    shots: tuple[ShotRow, ...]
    queries: tuple[QueryRow, ...]
    beeps_s: tuple[float, ...]
    """start of each beep, which is the start of an event"""
    target: TargetRow

    def time(self, frame: int) -> Fraction:
        """Return the start of a frame in seconds; the end of the clip for `num_frames`."""
        return self.pts[frame] * Fraction(self.time_base)


def read_moments(folder: Path) -> Iterator[ClipRow]:
    """Yield the rows of a folder that `world moments` wrote.

    Raises:
        InputError: no such file, or a line that is not a row (with its number).
    """
    path = folder / MOMENTS_FILE
    for number, line in numbered_lines(path, "a folder written by `pixel-reasoner world moments`"):
        try:
            yield ClipRow.from_line(line)
        except InputError as error:
            raise InputError(
                expected=error.expected, got=f"{path}, line {number}: {error.got}", fix=error.fix
            ) from error
