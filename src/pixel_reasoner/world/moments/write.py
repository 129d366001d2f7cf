"""Writer of clips and `moments.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pixel_reasoner.files import atomic_path, atomic_writer
from pixel_reasoner.world.moments.draw import Painter
from pixel_reasoner.world.moments.encode import encode_clip
from pixel_reasoner.world.moments.frame_code import clip_code
from pixel_reasoner.world.moments.params import SIZE, TIME_BASES, MomentsParams
from pixel_reasoner.world.moments.rows import (
    MOMENTS_FILE,
    ClipRow,
    QueryRow,
    ShotRow,
    SpanRow,
    TargetRow,
)
from pixel_reasoner.world.moments.script import (
    BALL_COLORS,
    PART_COLORS,
    Clip,
    Event,
    make_clip,
    query_text,
)

MEDIA = "media"
_NUM_ABSENT = 2
"""queries of each clip for events that never happen in it"""


def write_moments(
    params: Sequence[MomentsParams],
    out: Path,
    *,
    split: str = "test",
    seed: int = 0,
    on_frame: Callable[[int, int], object] = lambda clip, frame: None,
) -> Path:
    """Render one clip for each element of `params` into `out/media`, and return the path of `moments.jsonl`.

    Args:
        params: parameters of each clip.
        out: the folder; existing files are replaced.
        split: train, validation or test.
        seed: number of the first clip within the split.
        on_frame: called with the number of the clip, from 1, and the number of its frames so far.

    Raises:
        UsageError: inconsistent values, or seeds outside the split.
        OutputError: the folder cannot be written.
    """
    for one in params:
        one.check()
    path = out / MOMENTS_FILE
    with atomic_writer(path) as file:
        for index, one in enumerate(params):
            clip = make_clip(one, split, seed, index)
            with atomic_path(out / media_path(clip)) as part:
                encode_clip(clip, part, lambda frame, clip=index + 1: on_frame(clip, frame))  # type: ignore[misc]
            file.write(annotate(clip, split).to_line() + "\n")
    return path


def media_path(clip: Clip) -> str:
    """Return the path of a clip, relative to the folder."""
    return f"{MEDIA}/{clip.id}.{clip.params.container}"


def annotate(clip: Clip, split: str) -> ClipRow:
    """Return the row of a clip."""
    painter, base = Painter(clip), TIME_BASES[clip.params.rate]
    boxes = tuple(painter.target_boxes(number) for number in range(clip.num_frames))
    return ClipRow(
        id=clip.id,
        split=split,
        seed=clip.seed,
        path=media_path(clip),
        code=clip_code(clip.id),
        size_px=SIZE,
        params=clip.params,
        num_frames=clip.num_frames,
        time_base=str(base),
        pts=tuple(round(time / base) for time in clip.times),
        duration_s=round(float(clip.times[-1] - clip.times[0]), 6),
        shots=tuple(
            ShotRow(span=_span(clip, shot.first, shot.end), dissolve=shot.dissolve)
            for shot in clip.shots
        ),
        queries=tuple(_queries(clip, painter)),
        beeps_s=tuple(round(float(clip.times[event.first]), 6) for event in clip.events),
        target=TargetRow(kind=clip.target, text=clip.target_text, boxes=boxes),
    )


def _queries(clip: Clip, painter: Painter) -> Iterator[QueryRow]:
    """Yield one query for each different event, and some for events that never happen."""
    wanted = list(dict.fromkeys((event.kind, event.value) for event in clip.events))
    rng = clip.rng("queries")
    absent = [("object", color) for color in BALL_COLORS] + [
        ("placed", color) for color in PART_COLORS
    ]
    absent = [one for one in absent if one not in wanted]
    wanted += rng.sample(absent, min(_NUM_ABSENT, len(absent)))  # type: ignore[arg-type]
    for kind, value in wanted:
        events = [one for one in clip.events if (one.kind, one.value) == (kind, value)]
        yield QueryRow(
            id=f"{clip.id}-{kind}-{value}".rstrip("-"),
            kind=kind,
            value=value,
            text=query_text(kind, value),
            spans=tuple(_event_span(clip, event, painter) for event in events),
        )


def _event_span(clip: Clip, event: Event, painter: Painter) -> SpanRow:
    frames = (event.first, (event.first + event.end - 1) // 2, event.end - 1)
    boxes = tuple(painter.event_box(event, number) for number in frames)
    return _span(clip, event.first, event.end, boxes)


def _span(
    clip: Clip, first: int, end: int, boxes: tuple[tuple[int, int, int, int], ...] = ()
) -> SpanRow:
    base = TIME_BASES[clip.params.rate]
    start_time, end_time = clip.times[first], clip.times[end]
    return SpanRow(
        first_frame=first,
        end_frame=end,
        start_pts=round(start_time / base),
        end_pts=round(end_time / base),
        start=start_time,
        end=end_time,
        start_s=round(float(start_time), 6),
        end_s=round(float(end_time), 6),
        boxes=boxes,
    )
