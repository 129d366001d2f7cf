"""Rows of a search in rows.jsonl, and results from these rows for a resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.moments.moment import (
    FAILED,
    FOUND,
    NOT_FOUND,
    Moment,
    VideoMoments,
    moment_fields,
    moment_of,
)
from pixel_reasoner.workflows.moments.replies import Query
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import VideoIndex, read_video_index
from pixel_reasoner.workflows.survey.rows import RowWriter


def row_id(video: Path, query: Query) -> str:
    """Return the id of the row of a video and a description."""
    return f"{video}#{query.label}"


def rows_of_result(result: VideoMoments) -> Iterator[dict[str, Any]]:
    """Yield a row for each description."""
    index = result.index
    for query in result.queries:
        moments = result.of(query)
        row: dict[str, Any] = {
            "id": row_id(result.video, query),
            "video": str(result.video),
            "query": query.text,
            "state": FAILED if result.error else FOUND if moments else NOT_FOUND,
            "count": len(moments),
            "moments": [],
            "near": [],
            "unsampled": [],
            "shots": [shot.first for shot in result.shots],
            "num_frames": index.num_frames if index else None,
            "rate": str(index.rate.per_s) if index else None,
            "bytes": _num_bytes(result.video),
            "num_asked": result.num_asked,
            "error": result.error,
        }
        if index is not None:
            near = [one for one in result.near if one.query == query]
            row["moments"] = [moment_fields(one, index) for one in moments]
            row["near"] = [moment_fields(one, index) for one in near]
            row["unsampled"] = [[span.first, span.end, why] for span, why in result.unsampled]
        yield row


def result_of_rows(
    video: Path, queries: Sequence[Query], writer: RowWriter, limits: MediaLimits
) -> VideoMoments | None:
    """Return the result of an earlier run; None if the video was not searched completely, or changed since."""
    ids = [row_id(video, query) for query in queries]
    if not all(map(writer.is_done, ids)):
        return None
    rows = [row for row in map(writer.get, ids) if row is not None]
    try:
        index = read_video_index(video, limits)
    except InputError:
        return None
    if rows[0]["num_frames"] != index.num_frames or rows[0]["bytes"] != _num_bytes(video):
        return None
    starts = [*rows[0]["shots"], index.num_frames]
    shots = tuple(Span(first, end) for first, end in pairwise(starts))
    moments = [
        _moment(index, query, fields, shots)
        for query, row in zip(queries, rows, strict=True)
        for fields in row["moments"]
    ]
    near = [
        _moment(index, query, fields, shots)
        for query, row in zip(queries, rows, strict=True)
        for fields in row["near"]
    ]
    return VideoMoments(
        video=video,
        queries=tuple(queries),
        index=index,
        shots=shots,
        moments=tuple(sorted(moments, key=lambda one: (one.span, one.query.label))),
        near=tuple(sorted(near, key=lambda one: (-one.score, one.span))),
        unsampled=tuple((Span(first, end), why) for first, end, why in rows[0]["unsampled"]),
        num_asked=rows[0]["num_asked"],
    )


def _moment(
    index: VideoIndex, query: Query, fields: Mapping[str, Any], shots: tuple[Span, ...]
) -> Moment:
    return moment_of(
        index,
        query,
        Span(fields["first_frame"], fields["end_frame"]),
        shots,
        score=fields["score"],
        state=fields["state"],
        uncertain_frames=fields["uncertain_frames"],
        boxes={
            int(frame): tuple(Box(*sides) for sides in boxes)
            for frame, boxes in fields["boxes"].items()
        },
    )


def _num_bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
