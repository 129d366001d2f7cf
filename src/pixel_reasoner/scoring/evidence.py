"""Evidence metrics: does an executed operation show the evidence?"""

from __future__ import annotations

import re
import statistics

from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import Evidence
from pixel_reasoner.schema.trace import Trace

HIT_SHARE = 0.5
"""share of an evidence box that must lie inside one executed crop"""


def evidence_hit(trace: Trace) -> bool | None:
    """Whether the evidence was looked at; None when the question has none.

    Boxes: each lies at least half inside one executed crop. Frames: each was selected, or zoomed into.
    """
    evidence = trace.question.evidence
    if evidence is None or not (evidence.boxes or evidence.frames):
        return None
    if evidence.frames:
        frames = {p.frame for seen in trace.executed for p in seen.pictures}
        return set(evidence.frames) <= frames
    crops = _crops(trace, evidence)
    return all(
        any(crop.intersection(box) >= HIT_SHARE * box.area for crop in crops)
        for box in evidence.boxes
    )


def evidence_share(trace: Trace) -> float | None:
    """The share of evidence boxes' area that the best crop of each shows, in the mean; None without boxes."""
    evidence = trace.question.evidence
    if evidence is None or not evidence.boxes:
        return None
    crops = _crops(trace, evidence)
    return statistics.fmean(
        max((crop.intersection(box) / box.area for crop in crops), default=0.0)
        for box in evidence.boxes
    )


def iou(trace: Trace) -> float | None:
    """The best IoU of each evidence box with a region that was looked at, in the mean; None without boxes.

    TreeBench's own figure takes the `<box>[x1,y1,x2,y2]</box>` (pixels) of the text: so does this where no region was zoomed into.
    """
    evidence = trace.question.evidence
    if evidence is None or not evidence.boxes:
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
        for seen in trace.executed
        for picture in seen.pictures
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
            continue  # a box that is none was not looked at
    return boxes
