"""Evidence metrics: whether an executed operation shows the evidence."""

from __future__ import annotations

import re
import statistics

from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import Evidence
from pixel_reasoner.schema.trace import Trace

HIT_SHARE = 0.5
"""minimum share of an evidence box inside one executed crop"""


def evidence_hit(trace: Trace) -> bool | None:
    """Return whether executed operations showed the evidence; None when the question has none, or needs no operation.

    Boxes: at least half of each is inside one executed crop. Frames: each was selected, or zoomed into.
    """
    evidence = trace.question.evidence
    if evidence is None or not (evidence.boxes or evidence.frames):
        return None
    if trace.question.needs_look is False:  # the overview shows it
        return None
    if evidence.frames:
        frames = {p.frame for observation in trace.executed for p in observation.pictures}
        return set(evidence.frames) <= frames
    crops = _crops(trace, evidence)
    return all(
        any(crop.intersection(box) >= HIT_SHARE * box.area for crop in crops)
        for box in evidence.boxes
    )


def evidence_share(trace: Trace) -> float | None:
    """Return the mean share of each evidence box inside its best crop; None without boxes."""
    evidence = trace.question.evidence
    if evidence is None or not evidence.boxes:
        return None
    crops = _crops(trace, evidence)
    return statistics.fmean(
        max((crop.intersection(box) / box.area for crop in crops), default=0.0)
        for box in evidence.boxes
    )


def iou(trace: Trace) -> float | None:
    """Return the mean IoU of each evidence box with its best region that was zoomed into; None without boxes.

    TreeBench's metric uses the `<box>[x1,y1,x2,y2]</box>` (pixels) of the text. This function does the same if no
    region was zoomed into.
    """
    evidence = trace.question.evidence
    if evidence is None or not evidence.boxes or trace.question.needs_look is False:
        return None
    named = _crops(trace, evidence) or _boxes_in_text(trace, evidence)
    return statistics.fmean(
        max((_iou(box, other) for other in named), default=0.0) for box in evidence.boxes
    )


def _iou(one: Box, other: Box) -> float:
    shared = one.intersection(other)
    return shared / (one.area + other.area - shared)


def _crops(trace: Trace, evidence: Evidence) -> list[Box]:
    source = trace.all_pictures.get(evidence.image)
    if source is None:
        return []
    return [
        picture.box
        for observation in trace.executed
        for picture in observation.pictures
        if (picture.medium, picture.frame) == (source.medium, source.frame)
    ]


def _boxes_in_text(trace: Trace, evidence: Evidence) -> list[Box]:
    source = trace.all_pictures.get(evidence.image)
    if source is None:
        return []
    boxes = []
    text = "\n".join(turn.text for turn in trace.turns)
    for numbers in re.findall(r"<box>\s*\[([^\]]*)\]\s*</box>", text):
        try:
            pairs = zip(map(float, numbers.split(",")), source.source_px * 2, strict=True)
            boxes.append(Box.of(min(1.0, number / side) for number, side in pairs))
        except (BoxError, ValueError):
            continue  # not a box
    return boxes
