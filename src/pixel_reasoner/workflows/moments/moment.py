"""Moments that were found in one video, and what is known about the rest of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.workflows.moments.replies import Query
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import VideoIndex

FOUND, NEAR, NOT_FOUND, FAILED = "found", "near", "not found", "error"
"""states of a moment: shown by most samples; by some; nothing; the video or its questions failed"""


@dataclass(frozen=True)
class Moment:
    """Span of a video that shows a description.

    Attributes:
        query: the description.
        span: its frames.
        start_s: start of the first frame, exact.
        end_s: end of the last frame, exact.
        score: mean score of its sampled frames, from 0 to 1.
        state: `found` or `near`.
        shots: numbers of the shots that it touches, from 1.
        uncertain_frames: frames at its ends that were not sampled.
        boxes: frame number -> boxes of the subject, in fractions of the upright frame.
    """

    query: Query
    span: Span
    start_s: Fraction
    end_s: Fraction
    score: float = 1.0
    state: str = FOUND
    shots: tuple[int, ...] = ()
    uncertain_frames: int = 0
    boxes: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)

    @property
    def duration_s(self) -> Fraction:
        """Length, in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class VideoMoments:
    """Result for one video.

    Attributes:
        video: path as given.
        queries: all descriptions.
        index: frames of the video; None if it cannot be read.
        shots: of the video; one if they were not searched.
        moments: found, in order of time.
        near: nearest misses, the best first.
        unsampled: spans in which nothing was sampled, with the reason.
        num_asked: frames that the model received, decoded at full size.
        traces: of all questions.
        error: why the video was not searched.
    """

    video: Path
    queries: tuple[Query, ...]
    index: VideoIndex | None = None
    shots: tuple[Span, ...] = ()
    moments: tuple[Moment, ...] = ()
    near: tuple[Moment, ...] = ()
    unsampled: tuple[tuple[Span, str], ...] = ()
    num_asked: int = 0
    traces: tuple[Trace, ...] = ()
    error: str | None = None

    def of(self, query: Query) -> list[Moment]:
        """Return the found moments of one description."""
        return [one for one in self.moments if one.query == query]

    @property
    def full_size_share(self) -> float:
        """Share of the frames that were decoded at full size."""
        return self.num_asked / self.index.num_frames if self.index else 0.0


def moment_of(  # noqa: PLR0913 - the fields of a moment
    index: VideoIndex,
    query: Query,
    span: Span,
    shots: tuple[Span, ...] = (),
    *,
    score: float = 1.0,
    state: str = FOUND,
    uncertain_frames: int = 0,
    boxes: Mapping[int, tuple[Box, ...]] | None = None,
) -> Moment:
    """Return the moment of a span, with its exact times and shots."""
    touched = tuple(n for n, shot in enumerate(shots, start=1) if span.intersection(shot))
    return Moment(
        query,
        span,
        *span.times(index),
        score=score,
        state=state,
        shots=touched,
        uncertain_frames=uncertain_frames,
        boxes=boxes or {},
    )


def moment_fields(moment: Moment, index: VideoIndex) -> dict[str, Any]:
    """Return a moment as JSON values: times in seconds and as timecode, frames, and timestamps in exact units."""
    rate, (first, end) = index.rate, (moment.span.first, moment.span.end)
    pts = [*index.pts, index.end_pts]
    return {
        "state": moment.state,
        "start_s": round(float(moment.start_s), 6),
        "end_s": round(float(moment.end_s), 6),
        "start_timecode": rate.timecode(index.source_frame(moment.start_s)),
        "end_timecode": rate.timecode(index.source_frame(moment.end_s)),
        "first_frame": first,
        "end_frame": end,
        "start_pts": pts[first],
        "end_pts": pts[end],
        "time_base": f"{index.time_base.numerator}/{index.time_base.denominator}",
        "score": round(moment.score, 4),
        "shots": list(moment.shots),
        "uncertain_frames": moment.uncertain_frames,
        "boxes": {
            str(frame): [[round(side, 5) for side in box] for box in boxes]
            for frame, boxes in sorted(moment.boxes.items())
        },
    }
