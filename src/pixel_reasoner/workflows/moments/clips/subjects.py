"""Subjects of a moment: which boxes of different frames are one, and where they are in all frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.clips.planes import small_luma
from pixel_reasoner.workflows.moments.clips.redact import Subject
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.tracks import track


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
            part = Span(max(shot.first, moment.span.first), min(shot.end, moment.span.end))
            known = {n: box for n, box in subject.known.items() if part.first <= n < part.end}
            if not known:
                continue
            for number, one in track(small_luma(result.index, part, limits), known, part).items():
                found.setdefault(number, []).append(one.box)
    return found


def subjects_of(moment: Moment) -> list[Subject]:
    """Return the subjects of a moment: boxes of different frames that are nearest to each other are one subject."""
    chains: list[dict[int, Box]] = []
    for frame, boxes in sorted(moment.boxes.items()):
        free = list(range(len(chains)))
        for box in boxes:
            nearest = min(free, key=lambda n: _distance(_last(chains[n]), box), default=None)
            if nearest is None:
                chains.append({frame: box})
            else:
                chains[nearest][frame] = box
                free.remove(nearest)
    return [Subject(moment.span, chain) for chain in chains]


def _last(chain: Mapping[int, Box]) -> Box:
    return chain[max(chain)]


def _distance(one: Box, other: Box) -> float:
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
