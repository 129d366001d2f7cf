"""Results from a table of spans, which a person wrote or corrected: no model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments, moment_of
from pixel_reasoner.workflows.moments.replies import Query, labelled
from pixel_reasoner.workflows.moments.shots import find_shots
from pixel_reasoner.workflows.moments.spans import Span, span_of_times
from pixel_reasoner.workflows.moments.table import SpanRow
from pixel_reasoner.workflows.moments.video_index import VideoIndex, read_video_index


def results_of_spans(
    rows: Sequence[SpanRow], limits: MediaLimits, *, shots: bool
) -> tuple[list[VideoMoments], list[str]]:
    """Return a result for each video, and a line for each row that cannot be used.

    Args:
        rows: of the table.
        limits: of the videos.
        shots: whether shots are detected.
    """
    texts = list(dict.fromkeys(row.query for row in rows))
    queries = dict(zip(texts, labelled(texts), strict=True))
    problems: list[str] = []
    results = []
    by_video: dict[Path, list[SpanRow]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)
    for video, some in by_video.items():
        used = tuple({row.query: queries[row.query] for row in some}.values())
        try:
            index = read_video_index(video, limits)
            found = tuple(find_shots(index, limits)) if shots else (Span(0, index.num_frames),)
        except InputError as error:
            results.append(VideoMoments(video, used, error=str(error)))
            continue
        moments = _moments(index, some, queries, found, problems)
        results.append(VideoMoments(video, used, index, found, tuple(moments)))
    return results, problems


def _moments(
    index: VideoIndex,
    rows: Sequence[SpanRow],
    queries: dict[str, Query],
    shots: tuple[Span, ...],
    problems: list[str],
) -> list[Moment]:
    moments = []
    for row in rows:
        try:
            span = span_of_times(index, row.start_s, row.end_s)
        except InputError as error:
            problems.append(f"{row.where}: {error}")
            continue
        moments.append(moment_of(index, queries[row.query], span, shots, boxes=dict(row.boxes)))
    return sorted(moments, key=lambda one: (one.span, one.query.label))
