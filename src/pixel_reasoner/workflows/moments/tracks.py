"""Boxes of a subject in the frames of a span, from a few known boxes.

Between known boxes the subject is followed by template matching, forwards from the box before and backwards from the box
after. Where matching fails, the box bridges the gap and grows, so that a redaction rather covers too much.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixel_reasoner.errors import require_extra
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.moments.spans import Span

Luma = NDArray[np.uint8]
"""brightness of a frame, (height, width)"""
MIN_MATCH = 0.6
"""normalised correlation from which a match counts"""
_SEARCH = 0.75
"""distance to search in one frame, as a share of the longer side of the box"""
_MIN_SEARCH_PX = 12
_SCALES = (0.96, 1.0, 1.04)
_GROWTH = 0.06
"""growth of each side per frame without a match, as a share of the box"""
_MAX_GROWTH = 3.0
_MAX_BRIDGED = 45
"""frames for which a box without a match stays next to a matched one: a dissolve shows two subjects, one of them faintly"""
_UPDATE = 0.94
"""match from which the template is renewed, so that it follows a turning subject but no occluder"""


@dataclass(frozen=True)
class TrackedBox:
    """Box in one frame.

    Attributes:
        box: in fractions of the upright frame.
        match: 1.0 for a known box, the correlation of a matched one, 0.0 where nothing matched.
        num_lost: frames since the last match.
    """

    box: Box
    match: float
    num_lost: int = 0


class SubjectTracker:
    """Follows one subject from frame to frame.

    Args:
        picture: first frame.
        box: of the subject in it.
    """

    def __init__(self, picture: Luma, box: Box) -> None:
        with require_extra("workflows", "track a subject between frames"):
            import cv2
        self._cv2: Any = cv2
        self.box = box
        self._velocity = (0.0, 0.0)
        self._template = _cut(picture, box)
        self._num_lost = 0

    def update(self, picture: Luma) -> TrackedBox:
        """Return the box in the next frame."""
        height, width = picture.shape
        x1, y1, x2, y2 = _px(self.box, width, height)
        x, y = x1 + self._velocity[0] * width, y1 + self._velocity[1] * height
        found = self._match(picture, x, y, x2 - x1, y2 - y1)
        if found is None or found[0] < MIN_MATCH:
            return self._bridge()
        match, left, top, right, bottom = found
        box = Box(
            *(
                min(1.0, max(0.0, value / side))
                for value, side in zip((left, top, right, bottom), (width, height) * 2, strict=True)
            )
        )
        moved = (box.x1 - self.box.x1, box.y1 - self.box.y1)
        self._velocity = tuple(
            0.5 * old + 0.5 * new for old, new in zip(self._velocity, moved, strict=True)
        )  # type: ignore[assignment]
        self.box, self._num_lost = box, 0
        if match >= _UPDATE:
            self._template = _cut(picture, box)
        return TrackedBox(box, match)

    def _match(
        self, picture: Luma, x: float, y: float, width: float, height: float
    ) -> tuple[float, float, float, float, float] | None:
        """Return (match, x1, y1, x2, y2) in pixels of the best position and size near a position."""
        reach = max(_MIN_SEARCH_PX, _SEARCH * max(width, height)) * (1 + 0.2 * self._num_lost)
        top, left = max(0, int(y - reach)), max(0, int(x - reach))
        area = picture[top : int(y + height + reach) + 1, left : int(x + width + reach) + 1]
        best = None
        for scale in _SCALES:
            size = (max(4, round(width * scale)), max(4, round(height * scale)))
            if size[0] > area.shape[1] or size[1] > area.shape[0]:
                continue
            template = self._cv2.resize(self._template, size, interpolation=self._cv2.INTER_AREA)
            if template.std() < 1:  # a plain area matches everywhere
                continue
            scores = self._cv2.matchTemplate(area, template, self._cv2.TM_CCOEFF_NORMED)
            _, match, _, place = self._cv2.minMaxLoc(scores)
            # The same size is preferred: noise would let the box shrink or grow.
            weighted = match - (0.01 if scale != 1.0 else 0.0)
            if math.isfinite(match) and (best is None or weighted > best[0]):
                corner = (left + place[0], top + place[1])
                best = (weighted, match, *corner, corner[0] + size[0], corner[1] + size[1])
        return best and best[1:]

    def _bridge(self) -> TrackedBox:
        """Stay, and grow. Moving on with the last speed would leave a subject that stops or turns."""
        self._num_lost += 1
        self._velocity = (0.0, 0.0)
        width, height = self.box.x2 - self.box.x1, self.box.y2 - self.box.y1
        growth = min(_MAX_GROWTH, _GROWTH * self._num_lost)
        box = grown(self.box, growth * width, growth * height)
        return TrackedBox(box, 0.0, self._num_lost)


def track(
    frames: Iterable[tuple[int, Luma]], known: Mapping[int, Box], span: Span
) -> dict[int, tuple[TrackedBox, ...]]:
    """Return the boxes of a subject in all frames of a span, the most certain first.

    Between two known boxes there are two: followed forwards and followed backwards. One that found no match for more than
    `_MAX_BRIDGED` frames is left out where the other one matches.

    Args:
        frames: (number, luma) of all frames of the span, in order. Those before a known box are kept until it comes.
        known: frame number -> box; at least one in the span.
        span: frames to return.

    >>> plain = [(number, np.zeros((48, 64), np.uint8)) for number in range(3)]
    >>> found = track(plain, {0: Box(0.2, 0.2, 0.4, 0.4)}, Span(0, 3))
    >>> [round(one.match, 1) for one, in found.values()], found[2][0].box.area > found[0][0].box.area
    ([1.0, 0.0, 0.0], True)
    """
    inside = {number: box for number, box in known.items() if span.first <= number < span.end}
    assert inside, "no known box in the span"
    found: dict[int, tuple[TrackedBox, ...]] = {
        number: (TrackedBox(box, 1.0),) for number, box in inside.items()
    }
    rest, stops = iter(frames), sorted(inside)
    start: tuple[int, Luma] | None = None
    for stop in stops:
        segment = [*([start] if start else []), *_until(rest, stop)]
        forward = _follow(segment, inside[segment[0][0]]) if start else {}
        backward = _follow(segment[::-1], inside[stop])
        for number, _ in segment:
            both = [one[number] for one in (forward, backward) if number in one]
            if number not in inside and both:
                found[number] = _joined(both)
        start = segment[-1]
    assert start is not None, "frames end before the last known box"
    tracker = SubjectTracker(start[1], inside[stops[-1]])
    found |= {number: (tracker.update(picture),) for number, picture in rest}
    return dict(sorted(found.items()))


def _until(frames: Iterator[tuple[int, Luma]], stop: int) -> Iterator[tuple[int, Luma]]:
    """Yield frames up to number `stop`."""
    for number, picture in frames:
        yield number, picture
        if number >= stop:
            return


def _follow(segment: Sequence[tuple[int, Luma]], box: Box) -> dict[int, TrackedBox]:
    tracker = SubjectTracker(segment[0][1], box)
    return {number: tracker.update(picture) for number, picture in segment[1:]}


def _joined(boxes: Sequence[TrackedBox]) -> tuple[TrackedBox, ...]:
    best, *others = sorted(boxes, key=lambda one: -one.match)
    if best.match < MIN_MATCH:
        return (best, *others)
    return (best, *(one for one in others if one.num_lost <= _MAX_BRIDGED))


# --- boxes ---


def union(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around some boxes.

    >>> union([Box(0, 0, 0.5, 0.5), Box(0.25, 0.25, 1, 0.75)])
    Box(x1=0, y1=0, x2=1, y2=0.75)
    """
    return Box(
        min(one.x1 for one in boxes),
        min(one.y1 for one in boxes),
        max(one.x2 for one in boxes),
        max(one.y2 for one in boxes),
    )


def straight_box(known: Mapping[int, Box], frame: int) -> Box | None:
    """Return the box on a straight line through the known boxes before and after a frame, or through the two nearest ones.

    None with fewer than two known boxes, or if it lies outside of the frame.

    >>> straight_box({0: Box(0, 0, 0.2, 0.2), 10: Box(0.5, 0, 0.7, 0.2)}, 5)
    Box(x1=0.25, y1=0.0, x2=0.45, y2=0.2)
    """
    frames = sorted(known)
    if len(frames) < 2:
        return None
    place = min(max(1, bisect_right(frames, frame)), len(frames) - 1)
    before, after = frames[place - 1], frames[place]
    share = (frame - before) / (after - before)
    sides = (
        min(1.0, max(0.0, one + share * (other - one)))
        for one, other in zip(known[before], known[after], strict=True)
    )
    box = Box(*sides)
    return box if box.x1 < box.x2 and box.y1 < box.y2 else None


def grown(box: Box, by_x: float, by_y: float) -> Box:
    """Return a box with more at each side, within the frame."""
    return Box(
        max(0.0, box.x1 - by_x),
        max(0.0, box.y1 - by_y),
        min(1.0, box.x2 + by_x),
        min(1.0, box.y2 + by_y),
    )


def _px(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    return box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height


def _cut(picture: Luma, box: Box) -> Luma:
    height, width = picture.shape
    x1, y1, x2, y2 = _px(box, width, height)
    left, top = min(width - 1, int(x1)), min(height - 1, int(y1))
    return picture[top : max(top + 1, math.ceil(y2)), left : max(left + 1, math.ceil(x2))].copy()
