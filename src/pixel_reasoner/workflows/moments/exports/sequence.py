"""Clips on the timeline of an editor, in whole frames: the common input of EDL, FCPXML and OpenTimelineIO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.timecode import FrameRate
from pixel_reasoner.workflows.moments.video_index import VideoIndex

FIRST_HOUR_S = 3600
"""the program of a timeline starts at 01:00:00:00 by convention"""


@dataclass(frozen=True)
class Clip:
    """Part of a video for an editor.

    Attributes:
        index: the video.
        span: frames with handles.
        name: short name, such as `003 red car`.
        note: one line about the content.
    """

    index: VideoIndex
    span: Span
    name: str
    note: str = ""

    @property
    def source_in(self) -> int:
        """First frame in the timecode of the file."""
        return self.index.source_frame(self.index.time_s(self.span.first))

    @property
    def num_frames(self) -> int:
        """Length in frames of the nominal rate: at a variable rate, the duration in these frames; at least 1."""
        end = self.index.source_frame(self.index.time_s(self.span.end))
        return max(1, end - self.source_in)


class Placed(NamedTuple):
    """A clip, and the frame at which the timeline shows it."""

    clip: Clip
    record_in: int
    """frames from the start of the timeline"""


@dataclass(frozen=True)
class Sequence:
    """Clips of one frame rate, one after the other."""

    title: str
    rate: FrameRate
    clips: tuple[Clip, ...]

    @property
    def start_frame(self) -> int:
        """Frame number of the timeline's start: 01:00:00:00, or 01:00:00;00 in drop-frame."""
        return (
            self.rate.parse("01:00:00;00")
            if self.rate.drop
            else self.rate.label_base * FIRST_HOUR_S
        )

    @property
    def num_frames(self) -> int:
        """Length of the timeline."""
        return sum(clip.num_frames for clip in self.clips)

    def placed(self) -> list[Placed]:
        """Return the clips with their positions."""
        placed, position = [], 0
        for clip in self.clips:
            placed.append(Placed(clip, position))
            position += clip.num_frames
        return placed


def sequences(clips: Iterable[Clip], title: str) -> list[Sequence]:
    """Return a sequence for each frame rate, because a timeline has only one. The order of clips is kept."""
    by_rate: dict[FrameRate, list[Clip]] = {}
    for clip in clips:
        by_rate.setdefault(clip.index.rate, []).append(clip)
    return [Sequence(title, rate, tuple(some)) for rate, some in by_rate.items()]


def sequence_path(path: Path, sequence: Sequence, number: int) -> Path:
    """Return the path of a sequence: the first has the given name, others add their rate.

    >>> sequence_path(Path("a.edl"), Sequence("a", FrameRate.of(29.97), ()), 2).name
    'a-29.97-2.edl'
    """
    if number == 1:
        return path
    return path.with_name(f"{path.stem}-{float(sequence.rate.per_s):.5g}-{number}{path.suffix}")


def one_line_text(text: str) -> str:
    r"""Return a text on one line, without control characters.

    >>> one_line_text("a\n\x00 b")
    'a b'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
