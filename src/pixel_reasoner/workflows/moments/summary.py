"""A search in words: moments, what was not found, nearest misses, what was not searched."""

from __future__ import annotations

from collections.abc import Iterator

from pixel_reasoner.text import counted
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments
from pixel_reasoner.workflows.moments.run import FindSummary
from pixel_reasoner.workflows.moments.timecode import clock


def summary_lines(summary: FindSummary) -> Iterator[str]:
    """Yield the lines that the command prints."""
    results = [one for one in summary.results if one.index is not None and one.error is None]
    num = sum(len(one.moments) for one in results)
    asked, frames = (
        sum(one.num_asked for one in results),
        sum(one.index.num_frames for one in results if one.index),
    )
    searched = (
        f"; {asked:,} of {frames:,} frames at full size ({asked / frames:.1%})" if asked else ""
    )
    yield f"{counted(num, 'moment')} in {len(results)} of {counted(len(summary.results), 'video')}{searched}"
    number = 0
    for result in results:
        for moment in result.moments:
            number += 1
            yield f"{number:>3}  {moment_line(result, moment)}"
    for result in results:
        for query in result.queries:
            if not result.of(query):
                yield f"not found: {query.text} ({result.video.name})"
        for near in result.near:
            yield f"near miss: {moment_line(result, near)}"
        for span, why in result.unsampled:
            assert result.index is not None
            start, end = span.times(result.index)
            yield f"not searched: {result.video.name} {clock(start)} to {clock(end)}: {why}"


def moment_line(result: VideoMoments, moment: Moment) -> str:
    """Return a moment on one line."""
    unsure = (
        f", ends uncertain by {counted(moment.uncertain_frames, 'frame')}"
        if moment.uncertain_frames
        else ""
    )
    times = f"{clock(moment.start_s)} to {clock(moment.end_s)}"
    return f"{times}  {moment.query.text} ({result.video.name}, score {moment.score:.2f}{unsure})"
