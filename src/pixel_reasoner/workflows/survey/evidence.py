"""Where a rollout looked: boxes in pixels of the upright picture, and times in seconds of the clip."""

from __future__ import annotations

from typing import NamedTuple

from pixel_reasoner.media.resize import region_px
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.trace import Picture, Trace

_TIME_DIGITS = 3


class EvidenceBox(NamedTuple):
    """One region that an operation returned."""

    medium: int
    """number of the medium of the question, from 1"""
    box_px: tuple[int, int, int, int]
    """left, top, right, bottom in pixels of the upright picture or frame; the right and bottom ends are exclusive"""
    time_s: float | None
    """of the frame, in seconds from the start of the clip; None for a picture"""


def evidence_boxes(trace: Trace) -> list[EvidenceBox]:
    """Return the regions that executed operations returned, each once, in order.

    A box is in the whole picture, also where the question is about a region of it.
    """
    sizes = {(one.medium, one.frame): one.source_px for one in trace.pictures}
    found = dict.fromkeys(
        _evidence_box(picture, trace.question.media[picture.medium], size)
        for observation in trace.executed
        for picture in observation.pictures
        if (size := sizes.get((picture.medium, picture.frame))) is not None
    )
    return list(found)


def _evidence_box(picture: Picture, item: MediaItem, size: Size) -> EvidenceBox:
    region = item.region or WHOLE
    whole = _whole_size(size, region)
    box = region_px(whole, Box(*picture.box).within(region))
    right, bottom = min(box[2], whole[0]), min(box[3], whole[1])
    time_s = None if picture.time_s is None else round(picture.time_s, _TIME_DIGITS)
    return EvidenceBox(picture.medium + 1, (box[0], box[1], right, bottom), time_s)


def _whole_size(size: Size, region: Box) -> Size:
    """Return the size of a picture from that of a region. It is exact up to the rounding of the region to pixels."""
    return (
        max(1, round(size[0] / (region.x2 - region.x1))),
        max(1, round(size[1] / (region.y2 - region.y1))),
    )
