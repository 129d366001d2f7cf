"""Evidence metrics: whether an executed operation shows the evidence."""

from __future__ import annotations

import re
import statistics

from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import Evidence
from pixel_reasoner.schema.trace import PictureRegion, Trace

HIT_SHARE = 0.5
"""minimum share of an evidence box inside one executed crop"""


def evidence_hit(trace: Trace) -> bool | None:
    """Return whether executed operations showed the evidence; None when the question has none, or needs no operation.

    Boxes: at least half of each is inside one executed crop, or inside a region whose text was read. Frames: each was
    selected, or zoomed into. Frames that were not sampled: each was shown.
    """
    evidence = trace.question.evidence
    if evidence is None or not (evidence.boxes or evidence.frames or evidence.clip_indices):
        return None
    if trace.question.needs_look is False:  # the overview shows it
        return None
    shown = _shown_regions(trace)
    if evidence.clip_indices:
        return set(evidence.clip_indices) <= {one.clip_index for one in shown}
    if evidence.frames:
        return set(evidence.frames) <= {one.frame for one in shown}
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
        one.box
        for one in _shown_regions(trace)
        if (one.medium, one.frame, one.clip_index) == (source.medium, source.frame, None)
    ]


def _shown_regions(trace: Trace) -> list[PictureRegion]:
    """Return all regions that executed operations showed, or whose pixels gave their text."""
    return [
        region
        for observation in trace.executed
        for region in (
            *(region for picture in observation.pictures for region in picture.regions),
            *observation.examined,
        )
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
