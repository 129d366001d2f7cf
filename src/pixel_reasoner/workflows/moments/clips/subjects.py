"""Subjects of a moment: which boxes of different frames are one, and where they are in all frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.clips.planes import small_luma
from pixel_reasoner.workflows.moments.clips.redact import Subject
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.tracks import track

_MAX_JUMP = 0.8
"""distance of two boxes in consecutive known frames up to which they are one subject"""


def followed_boxes(
    result: VideoMoments, moment: Moment, limits: MediaLimits = DEFAULT_MEDIA_LIMITS
) -> dict[int, list[Box]]:
    """Return the boxes of the subjects of a moment in all its frames, followed between the known boxes."""
    assert result.index is not None
    found: dict[int, list[Box]] = {}
    for subject in subjects_of(moment):
        for shot in result.shots:
            if not shot.intersection(moment.span):
                continue
            span = subject.span
            if not shot.intersection(span):
                continue
            part = Span(max(shot.first, span.first), min(shot.end, span.end))
            known = {n: box for n, box in subject.known.items() if part.first <= n < part.end}
            if not known:
                continue
            tracked = track(small_luma(result.index, part, limits), known, part)
            for number, (best, *_) in tracked.items():
                found.setdefault(number, []).append(best.box)
    return found


def subjects_of(moment: Moment) -> list[Subject]:
    """Return the subjects of a moment.

    Boxes of consecutive known frames that are near to each other are one subject. It may be visible from the known frame
    before its first box until the one after its last: its span.
    """
    frames = sorted(moment.boxes)
    done: list[Subject] = []
    open_: list[Subject] = []
    for place, frame in enumerate(frames):
        before = frames[place - 1] + 1 if place else moment.span.first
        going_on: list[Subject] = []
        for box, last in _pairs(moment.boxes[frame], open_):
            if last is not None:
                open_.remove(last)
            subject = last or Subject(Span(before, moment.span.end), {})
            going_on.append(replace(subject, known={**subject.known, frame: box}))
        done += [replace(one, span=Span(one.span.first, frame)) for one in open_]
        open_ = going_on
    return [*done, *open_]


def _pairs(boxes: Sequence[Box], subjects: Sequence[Subject]) -> list[tuple[Box, Subject | None]]:
    """Return each box with the subject that goes on with it: the nearest pairs first, each once; None for a new subject."""
    distances = sorted(
        (_distance(_last(subject), box), number, place)
        for number, subject in enumerate(subjects)
        for place, box in enumerate(boxes)
    )
    found: dict[int, int] = {}
    for distance, number, place in distances:
        if distance <= _MAX_JUMP and place not in found and number not in found.values():
            found[place] = number
    return [
        (box, subjects[found[place]] if place in found else None) for place, box in enumerate(boxes)
    ]


def _last(subject: Subject) -> Box:
    return subject.known[max(subject.known)]


def _distance(one: Box, other: Box) -> float:
    """Return twice the distance of two centres, horizontally plus vertically."""
    return abs(one.x1 + one.x2 - other.x1 - other.x2) + abs(one.y1 + one.y2 - other.y1 - other.y2)


def redacted_subjects(moments: Sequence[Moment]) -> tuple[list[Subject], int]:
    """Return what is covered, and the number of moments without any box, whose whole frames are covered."""
    subjects: list[Subject] = []
    without = 0
    for moment in moments:
        found = subjects_of(moment)
        if not found:
            without += 1
            found = [Subject(moment.span, {moment.span.first: WHOLE})]
        subjects += found
    return subjects, without
