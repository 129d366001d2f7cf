"""Moments in video: spans, frames at full size, cuts and sound in sync, redaction, on clips of PixelWorld.

    python benchmarks/moments.py                     # minutes: a clip of 60 s at each of five rates
    python benchmarks/moments.py --duration-s 120

The model is a script that answers from the annotation, so the figures are those of the search and of the files, not of a
model. Every frame contains its number, so cuts are checked frame by frame.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from pixel_reasoner.moments_api import VideoMoments, annotated_model, find_moments
from pixel_reasoner.workflows.moments.clips.cut import cut_exact
from pixel_reasoner.workflows.moments.clips.make import REDACTION_BOX_EVERY_S
from pixel_reasoner.workflows.moments.clips.redact import redact
from pixel_reasoner.workflows.moments.clips.subjects import redacted_subjects
from pixel_reasoner.workflows.moments.find import SearchOptions
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.world.moments import (
    RATES,
    ClipRow,
    MomentsParams,
    read_frame_code,
    read_moments,
    write_moments,
)

MIN_IOU = 0.7
_BEEP_LEVEL = 0.05
_BEEP_S = 1.0
"""time after its start in which a beep of an event before the cut may still sound"""
_DARK = 48
"""luma up to which a covered pixel counts as opaque: black, with the ringing of the encoder"""
_SEARCHED = {"face": "the face of a person", "plate": "a number plate"}


class Cut(NamedTuple):
    """Check of one cut: frames that differ from the span at its ends, and the distance of the beep."""

    frames_off: int
    beep_off_ms: float | None
    """None without a beep inside"""


@dataclass
class Figures:
    """Figures of one clip."""

    rate: str
    num_spans: int = 0
    num_found: int = 0
    num_asked: int = 0
    num_frames: int = 0
    search_s: float = 0.0
    cuts: list[Cut] = field(default_factory=list)
    num_covered: int = 0
    num_visible: int = 0
    """frames in which something of the target is not covered"""
    num_words: int = 0
    """texts of the source's metadata in the bytes of the redacted file"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of clips of an earlier run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        if not (folder / "moments.jsonl").exists():
            clips = [MomentsParams(duration_s=options.duration_s, rate=rate) for rate in RATES]
            write_moments(clips, folder, seed=options.seed)
        figures = [measure(row, folder, Path(temporary)) for row in read_moments(folder)]
    print_table(figures)


def measure(row: ClipRow, folder: Path, out: Path) -> Figures:
    """Return the figures of one clip."""
    figures = Figures(row.params.rate)
    model, video = annotated_model(folder), folder / row.path
    started = time.perf_counter()
    (found,) = find_moments(video, [query.text for query in row.queries], model)
    figures.search_s = time.perf_counter() - started
    figures.num_asked, figures.num_frames = found.num_asked, row.num_frames
    _score_spans(row, found, figures)
    figures.cuts = list(_cuts(row, found, out))
    _redact(row, video, model, out, figures)
    return figures


def _score_spans(row: ClipRow, found: VideoMoments, figures: Figures) -> None:
    for query in row.queries:
        spans = [one.span for one in found.moments if one.query.text == query.text]
        for true in query.spans:
            wanted = Span(true.first_frame, true.end_frame)
            figures.num_spans += 1
            figures.num_found += any(wanted.iou(span) >= MIN_IOU for span in spans)


# --- cuts ---


def _cuts(row: ClipRow, found: VideoMoments, out: Path) -> Iterator[Cut]:
    """Cut each moment of an event, and compare its frames and its beep with the annotation."""
    assert found.index is not None
    events = [one for query in row.queries for one in query.spans]
    for number, true in enumerate(events):
        # A span that begins before the event, so that its beep is inside.
        span = Span(max(0, true.first_frame - 9), true.end_frame)
        path = out / f"{row.id}-{number}.mp4"
        cut_exact(found.index, span, path)
        numbers = list(_frame_numbers(path))
        frames_off = max(abs(numbers[0] - span.first), abs(numbers[-1] - (span.end - 1)))
        frames_off = max(frames_off, abs(len(numbers) - len(span)))
        starts = [one - float(row.time(span.first)) for one in row.beeps_s]
        inside = [
            one
            for one in starts
            if -_BEEP_S < one < float(row.time(span.end) - row.time(span.first))
        ]
        heard = _first_beep(path)
        is_clear = heard is not None and bool(inside) and inside[0] > 0  # no beep is cut
        yield Cut(frames_off, 1000 * (heard - min(inside)) if is_clear and heard else None)
        path.unlink()


def _frame_numbers(path: Path) -> Iterator[int]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            code = read_frame_code(frame.to_image())
            yield -1 if code is None else code.frame


def _first_beep(path: Path) -> float | None:
    """Return the time at which sound begins, on the clock of the video."""
    with av.open(str(path)) as container:
        video, stream = container.streams.video[0], container.streams.audio[0]
        origin = float((video.start_time or 0) * video.time_base)
        for frame in container.decode(stream):
            values = np.abs(frame.to_ndarray()).max(axis=0)
            loud = np.flatnonzero(values > _BEEP_LEVEL)
            if len(loud):
                return float(frame.pts * frame.time_base) - origin + loud[0] / frame.sample_rate
    return None


# --- redaction ---


def _redact(row: ClipRow, video: Path, model: object, out: Path, figures: Figures) -> None:
    options = SearchOptions(box_every_s=REDACTION_BOX_EVERY_S)
    (found,) = find_moments(video, _SEARCHED[row.target.kind], model, search=options)  # type: ignore[arg-type]
    if found.index is None or not found.moments:
        return
    path = out / f"{row.id}-redacted.mp4"
    subjects, _ = redacted_subjects(found.moments)
    redact(found.index, subjects, path, shots=found.shots)
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            luma = frame.to_ndarray(format="gray")
            boxes = row.target.boxes[number]
            figures.num_covered += bool(boxes)
            figures.num_visible += any(_is_visible(luma, box) for box in boxes)
    content = path.read_bytes()
    words = (row.target.text, row.id, video.name)
    figures.num_words = sum(word.encode() in content for word in words)
    path.unlink()


def _is_visible(luma: np.ndarray, box: Sequence[int]) -> bool:
    left, top, right, bottom = (max(0, side) for side in box)
    area = luma[top:bottom, left:right]
    return bool(area.size) and int(area.max()) > _DARK


# --- output ---


def print_table(figures: Sequence[Figures]) -> None:
    print(
        "| rate | spans, IoU ≥ .7 | frames at full size | cuts | frames off | beep off | target visible | search |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in figures:
        beeps = [abs(cut.beep_off_ms) for cut in one.cuts if cut.beep_off_ms is not None]
        print(
            f"| {one.rate} | {one.num_found} of {one.num_spans} | {one.num_asked / one.num_frames:.1%} | {len(one.cuts)} | "
            f"{max((cut.frames_off for cut in one.cuts), default=0)} | {max(beeps, default=0.0):.1f} ms | "
            f"{one.num_visible} of {one.num_covered} frames, {one.num_words} texts | {one.search_s:.0f} s |"
        )
    found, spans = sum(one.num_found for one in figures), sum(one.num_spans for one in figures)
    asked, frames = sum(one.num_asked for one in figures), sum(one.num_frames for one in figures)
    print(f"\nspans {found / max(1, spans):.3f}, frames at full size {asked / max(1, frames):.1%}")


if __name__ == "__main__":
    main()
