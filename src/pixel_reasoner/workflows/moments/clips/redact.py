"""Redaction: areas are covered in every frame, and the file is encoded afresh without metadata.

The default is an opaque box. Blur is a linear filter and can be undone; a mosaic leaves the mean of each cell, which over many
frames and with known alphabets gives texts and faces back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from pixel_reasoner.errors import require_extra
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.clips.cut import SoundTracks, write_frame
from pixel_reasoner.workflows.moments.clips.planes import (
    Plane,
    Planes,
    black,
    frame_of,
    is_full_range,
    size_of,
    small_luma,
    upright_planes,
)
from pixel_reasoner.workflows.moments.clips.writer import (
    VideoFormat,
    colour_of,
    open_writer,
    time_base_of,
)
from pixel_reasoner.workflows.moments.frames import decode_span
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.tracks import TrackedBox, grown, straight_box, track
from pixel_reasoner.workflows.moments.video_index import VideoIndex

Method = Literal["box", "pixelate", "blur"]
METHODS: tuple[Method, ...] = ("box", "pixelate", "blur")
MARGIN = 0.15
"""share of its size that a box grows at each side"""
EDGE_S = Fraction(1, 4)
"""time before and after a span that is covered too: a subject is often visible before it counts as found"""
_EDGE_GROWTH, _MAX_EDGE_GROWTH = 0.1, 1.0
"""growth per frame before the first and after the last known box, as a share of the box, and its limit"""
_CELLS = 6
"""cells of a mosaic along the longer side of a box"""
_ALIGN_PX = 16
"""the encoder predicts blocks of this size; aligned edges keep the surroundings of a box sharp"""


@dataclass(frozen=True)
class Subject:
    """What is covered: a span and known boxes in some of its frames."""

    span: Span
    known: Mapping[int, Box]


@dataclass(frozen=True)
class RedactedFile:
    """A redacted file, and what it covers.

    Attributes:
        path: the file.
        span: frames of the source in it.
        boxes: frame number -> covered boxes with the margin.
        num_bridged: covered frames in which nothing was matched.
        left: what may still identify: sound, other areas.
    """

    path: Path
    span: Span
    boxes: Mapping[int, tuple[TrackedBox, ...]]
    num_bridged: int
    left: tuple[str, ...]


def redact(  # noqa: PLR0913 - options of one command
    index: VideoIndex,
    subjects: Sequence[Subject],
    path: Path,
    *,
    span: Span | None = None,
    shots: Sequence[Span] = (),
    method: Method = "box",
    margin: float = MARGIN,
    sound: bool = True,
    overwrite: bool = False,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
) -> RedactedFile:
    """Write a video in which subjects are covered.

    Args:
        index: the video.
        subjects: what is covered; each has at least one known box.
        path: of the file.
        span: frames to write; None for the whole video.
        shots: a subject is not followed over a cut: it keeps its known box there.
        method: opaque box, mosaic or blur.
        margin: share of its size by which each box grows.
        sound: whether the sound is kept, encoded afresh.
        overwrite: replace an existing file.
        limits: of the file.

    Raises:
        InputError: frames that cannot be decoded.
        OutputError: the file cannot be written.
        UsageError: the file exists.
    """
    written = span or Span(0, index.num_frames)
    boxes = covered_boxes(index, subjects, shots, margin, limits)
    frames = decode_span(index, written, limits)
    first = next(frames)
    form = VideoFormat(
        size=size_of(upright_planes(first.frame)),
        time_base=time_base_of(index),
        rate=index.rate.per_s,
        sample_aspect_ratio=index.sample_aspect_ratio,
        colour=colour_of(first.frame),
    )
    colour = black(is_full_range(first.frame))
    start_s, end_s = written.times(index)
    audio = tuple(one for one in index.audio if one.rate) if sound else ()
    with open_writer(path, form, audio, overwrite=overwrite) as writer:
        tracks = SoundTracks(index, writer, start_s, end_s, limits)
        for number, frame in chain([first], frames):
            planes = upright_planes(frame)
            cover(planes, [one.box for one in boxes.get(number, ())], method, colour)
            write_frame(writer, index, written, number, frame_of(planes))
            tracks.write_until(index.time_s(number + 1))
        tracks.write_until(end_s)
    inside = {n: some for n, some in boxes.items() if written.first <= n < written.end}
    num_bridged = sum(all(one.match == 0 for one in some) for some in inside.values())
    return RedactedFile(path, written, inside, num_bridged, _left(index, sound=sound))


def covered_boxes(
    index: VideoIndex,
    subjects: Sequence[Subject],
    shots: Sequence[Span],
    margin: float,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
) -> dict[int, tuple[TrackedBox, ...]]:
    """Return the boxes to cover by frame number, with margin and growth by motion."""
    found: dict[int, tuple[TrackedBox, ...]] = {}
    for subject in subjects:
        wide = subject.span.with_handles(index, EDGE_S)
        tracked: dict[int, tuple[TrackedBox, ...]] = {}
        for part in _parts(wide, shots):
            known = _known_in(part, subject)
            if known:
                tracked |= track(small_luma(index, part, limits), known, part)
        for number in tracked:
            straight = straight_box(subject.known, number)
            if straight is not None:
                tracked[number] = (*tracked[number], TrackedBox(straight, 0.0))
        for number, some in _with_motion(tracked).items():
            share = margin + _edge_growth(subject.known, number)
            wider = (TrackedBox(_wider(one.box, share), one.match) for one in some)
            found[number] = (*found.get(number, ()), *wider)
    return found


def _edge_growth(known: Mapping[int, Box], number: int) -> float:
    """Return the further growth before the first and after the last known box, where a subject is followed from one side."""
    outside = max(0, min(known) - number, number - max(known))
    return min(_MAX_EDGE_GROWTH, _EDGE_GROWTH * outside)


def _wider(box: Box, margin: float) -> Box:
    return grown(box, margin * (box.x2 - box.x1), margin * (box.y2 - box.y1))


def _parts(span: Span, shots: Sequence[Span]) -> list[Span]:
    """Return the parts of a span in each shot."""
    cut = [
        Span(max(span.first, shot.first), min(span.end, shot.end))
        for shot in shots
        if span.intersection(shot)
    ]
    return cut or [span]


def _known_in(part: Span, subject: Subject) -> dict[int, Box]:
    """Return the known boxes in a part; without any there, the box of the nearest frame of the span covers it."""
    known = {n: box for n, box in subject.known.items() if part.first <= n < part.end}
    if known or not part.intersection(subject.span) or not subject.known:
        return known
    middle = (part.first + part.end) // 2
    nearest = min(subject.known, key=lambda number: abs(number - middle))
    return {min(max(nearest, part.first), part.end - 1): subject.known[nearest]}


def _with_motion(
    boxes: Mapping[int, tuple[TrackedBox, ...]],
) -> dict[int, tuple[TrackedBox, ...]]:
    """Return boxes with those of the frames before and after, so that a late box hides its subject."""
    return {
        number: (*some, *boxes.get(number - 1, ()), *boxes.get(number + 1, ()))
        for number, some in boxes.items()
    }


def cover(
    planes: Planes, boxes: Iterable[Box], method: Method, colour: tuple[int, int, int]
) -> None:
    """Cover boxes of a frame in place. Edges move outwards to whole blocks of the encoder."""
    height, width = planes[0].shape
    for box in boxes:
        left, right = _aligned(box.x1, box.x2, width)
        top, bottom = _aligned(box.y1, box.y2, height)
        for plane, value, step in zip(planes, colour, (1, 2, 2), strict=True):
            area = plane[top // step : -(-bottom // step), left // step : -(-right // step)]
            area[:] = value if method == "box" else _hidden(area, method)


def _aligned(low: float, high: float, side: int) -> tuple[int, int]:
    """Return the pixels from `low` to `high`, moved outwards to whole blocks."""
    first = math.floor(low * side) // _ALIGN_PX * _ALIGN_PX
    return first, min(side, -(-math.ceil(high * side) // _ALIGN_PX) * _ALIGN_PX)


def _hidden(area: Plane, method: Method) -> Plane:
    """Return a mosaic or a blur of an area."""
    with require_extra("workflows", "pixelate or blur"):
        import cv2
    height, width = area.shape
    if method == "pixelate":
        cell = max(2, math.ceil(max(height, width) / _CELLS))
        size = (max(1, math.ceil(width / cell)), max(1, math.ceil(height / cell)))
        small = cv2.resize(area, size, interpolation=cv2.INTER_AREA)
        return np.asarray(
            cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8
        )
    radius = max(3, max(height, width) // 4 * 2 + 1)
    return np.asarray(cv2.GaussianBlur(area, (radius, radius), 0), np.uint8)


def _left(index: VideoIndex, *, sound: bool) -> tuple[str, ...]:
    left = ["everything outside of the boxes"]
    if sound and index.audio:
        tracks = "1 track" if len(index.audio) == 1 else f"{len(index.audio)} tracks"
        left.append(f"sound of {tracks}: voices and names")
    return tuple(left)
