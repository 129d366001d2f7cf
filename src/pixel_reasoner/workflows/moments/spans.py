"""Spans of frames: exact times, overlap, merging, handles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pixel_reasoner.errors import InputError
from pixel_reasoner.workflows.moments.timecode import clock
from pixel_reasoner.workflows.moments.video_index import VideoIndex


@dataclass(frozen=True, order=True)
class Span:
    """Frames `first` to `end`, where `end` is the first frame after the span. At least one frame.

    >>> Span(10, 20).iou(Span(15, 25))
    0.3333333333333333
    """

    first: int
    end: int

    def __post_init__(self) -> None:
        """Check the order."""
        assert 0 <= self.first < self.end, f"an empty span {self.first} to {self.end}"

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.end - self.first

    def intersection(self, other: Span) -> int:
        """Return the number of common frames."""
        return max(0, min(self.end, other.end) - max(self.first, other.first))

    def iou(self, other: Span) -> float:
        """Return the number of common frames, divided by the number of frames in either."""
        common = self.intersection(other)
        return common / (len(self) + len(other) - common)

    def with_handles(self, index: VideoIndex, handle_s: Fraction) -> Span:
        """Return the span with `handle_s` seconds more at both ends, within the video."""
        if not handle_s:
            return self
        first = index.nearest_boundary(max(Fraction(0), index.time_s(self.first) - handle_s))
        end = index.nearest_boundary(min(index.duration_s, index.time_s(self.end) + handle_s))
        return Span(min(first, self.first), max(end, self.end))

    def times(self, index: VideoIndex) -> tuple[Fraction, Fraction]:
        """Return start and end, in seconds."""
        return index.time_s(self.first), index.time_s(self.end)


def span_of_times(index: VideoIndex, start_s: Fraction, end_s: Fraction) -> Span:
    """Return the frames of a span of times: each end moves to the nearest start of a frame; at least one frame.

    Raises:
        InputError: a span outside the video, or an end before its start.
    """
    if not 0 <= start_s < end_s or start_s >= index.duration_s:
        raise InputError(
            expected=f"a span within 0 to {clock(index.duration_s)} s, with start before end",
            got=f"{index.path}: {float(start_s):.3f} to {float(end_s):.3f} s",
            fix="correct or remove this span",
        )
    if end_s > index.duration_s + index.rate.frame_s:
        raise InputError(
            expected=f"a span that ends within the video, at most {float(index.duration_s):.3f} s",
            got=f"{index.path}: {float(start_s):.3f} to {float(end_s):.3f} s",
            fix="correct or remove this span",
        )
    first = min(index.nearest_boundary(start_s), index.num_frames - 1)
    return Span(first, max(first + 1, index.nearest_boundary(end_s)))


def merge_spans(spans: Iterable[Span], max_gap: int = 0) -> list[Span]:
    """Return ordered spans; those with at most `max_gap` frames between them become one.

    >>> merge_spans([Span(8, 9), Span(0, 4), Span(5, 6)], max_gap=1)
    [Span(first=0, end=6), Span(first=8, end=9)]
    """
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.first - merged[-1].end <= max_gap:
            merged[-1] = Span(merged[-1].first, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def complement(spans: Iterable[Span], num_frames: int) -> list[Span]:
    """Return the spans of frames that are in none of some spans.

    >>> complement([Span(2, 4), Span(3, 6)], 10)
    [Span(first=0, end=2), Span(first=6, end=10)]
    """
    gaps, position = [], 0
    for span in merge_spans(spans):
        if span.first > position:
            gaps.append(Span(position, span.first))
        position = max(position, span.end)
    return [*gaps, Span(position, num_frames)] if position < num_frames else gaps


def shots_of(span: Span, shots: Sequence[Span]) -> list[int]:
    """Return the numbers, from 1, of the shots that a span touches."""
    return [number for number, shot in enumerate(shots, start=1) if span.intersection(shot)]
