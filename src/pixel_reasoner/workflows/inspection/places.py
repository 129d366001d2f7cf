"""Places of a map of scores: connected pixels with large scores, the largest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.workflows.inspection.pictures import Array, opencv

PixelBox = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, right and bottom exclusive"""

_MERGE_PX = 5
"""places closer than this are one, in pixels of the map"""
_PLACE_SHARES = (0.5, 0.75, 0.9)
"""a place ends where the score is below this share of its largest score; the next one, if texture makes it that much larger"""
_CLEAR_SCORE = 4.0
"""pixels with the first share of this score belong to a place, however strong its middle is"""
_MAX_GROWTH, _GROWTH_PX = 4, 10
"""a place may be so many times as long as its middle, and so many pixels of the map longer"""
_NEAR_PX = 8
"""distance up to which a place belongs to one with a larger score, in pixels of the map"""
_PIECE_SHARE = 0.3
"""a piece with at least this share of the score enlarges the place"""
_TRIES = 4
_CROWD, _MAX_CROWDING = 4, 2.0
"""so many places that are as large are light rather than defects; a part with many defects keeps half of its score"""


@dataclass(frozen=True)
class Proposal:
    """One place to look at."""

    number: int
    """from 1, the largest score first"""
    box: PixelBox
    score: float
    is_decoy: bool = False
    """whether nothing differs here: a decoy tests whether a model agrees with everything it is shown"""

    def fractions(self, size: Size) -> Box:
        """Return the box as fractions of the photo."""
        left, top, right, bottom = self.box
        return Box(left / size[0], top / size[1], right / size[0], bottom / size[1])


def peaks(scores: Array, look_from: float, limit: int) -> list[Proposal]:
    """Return connected places of a map with a score of at least `look_from`, the largest first.

    Args:
        scores: (height, width) float32.
        look_from: smallest score.
        limit: number of places.

    >>> scores = np.zeros((20, 30), np.float32); scores[4:6, 10:14] = 2
    >>> peaks(scores, 1.0, 3)
    [Proposal(number=1, box=(10, 4, 14, 6), score=2.0, is_decoy=False)]
    """
    found: list[Proposal] = []
    left = scores.copy()
    for _ in range(_TRIES * limit):
        peak = float(left.max()) if left.size else 0.0
        if peak < look_from or peak <= 0:
            break
        limits = [max(look_from, min(peak, _CLEAR_SCORE) * share) for share in _PLACE_SHARES]
        box = _take_place(left, limits)
        near = next((n for n, one in enumerate(found) if _is_near(box, one.box)), None)
        if near is None and len(found) == limit:
            break
        if near is None:
            found.append(Proposal(len(found) + 1, box, round(peak, 4)))
        elif peak >= found[near].score * _PIECE_SHARE and _is_piece(box, found[near].box):
            found[near] = replace(found[near], box=_union(box, found[near].box))
    return found


def crowding(scores: Array) -> float:
    """Return the number by which the scores of a photo are too large, 1 to `_MAX_CROWDING`.

    Light that no golden picture shows changes many places of a part about equally. A defect stands out from them.

    >>> scores = np.zeros((90, 90), np.float32); scores[10, 10] = 3
    >>> crowding(scores)
    1.0
    >>> scores[10::20, 10::20] = 1.5
    >>> crowding(scores)
    1.5
    """
    found = peaks(scores, 1.0, _CROWD) if scores.size and scores.max() > 1 else []
    return min(found[-1].score, _MAX_CROWDING) if len(found) == _CROWD else 1.0


def _is_near(box: PixelBox, other: PixelBox) -> bool:
    """Return whether a place is a piece, or the blurred edge, of another one."""
    size = max(other[2] - other[0], other[3] - other[1])
    return is_close(box, other, min(_NEAR_PX, size))


def _is_piece(box: PixelBox, of: PixelBox) -> bool:
    """Return whether a box is not much longer than another one."""
    return _longest(box) <= _MAX_GROWTH * _longest(of) + _GROWTH_PX


def _longest(box: PixelBox) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _union(one: PixelBox, other: PixelBox) -> PixelBox:
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )


def _take_place(scores: Array, thresholds: Sequence[float]) -> PixelBox:
    """Return the box of the connected place around the largest score, and set its scores to 0.

    A line of texture through a small defect is not part of it: the lowest threshold counts at which the place is not
    much longer than at the next one.
    """
    cv2 = opencv()
    # Fragments of one defect are one place.
    joined = cv2.dilate(scores, np.ones((_MERGE_PX, _MERGE_PX), np.uint8))
    seed = np.unravel_index(int(scores.argmax()), scores.shape)
    found = [_filled(scores, joined, (int(seed[0]), int(seed[1])), one) for one in thresholds]
    chosen = found[-1]
    for wide, narrow in zip(reversed(found[:-1]), reversed(found[1:]), strict=True):
        if not _is_piece(wide[0], narrow[0]):
            break
        chosen = wide
    (left, top, right, bottom), place, (x, y) = chosen
    height, width = place.shape
    scores[y : y + height, x : x + width][place] = 0
    return left, top, right, bottom


def _filled(
    scores: Array, joined: Array, seed: tuple[int, int], threshold: float
) -> tuple[PixelBox, Array, tuple[int, int]]:
    """Return the box of a place, its joined pixels as a window, and the left and top edge of the window."""
    cv2 = opencv()
    filled = np.zeros((scores.shape[0] + 2, scores.shape[1] + 2), np.uint8)
    reach = float(joined[seed]) - threshold
    flags = 8 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (255 << 8)
    *_, (x, y, width, height) = cv2.floodFill(joined, filled, seed[::-1], 0, reach, reach, flags)
    place = filled[y + 1 : y + height + 1, x + 1 : x + width + 1] > 0
    rows, columns = np.nonzero(place & (scores[y : y + height, x : x + width] >= threshold))
    box = (
        x + int(columns.min()),
        y + int(rows.min()),
        x + int(columns.max()) + 1,
        y + int(rows.max()) + 1,
    )
    return box, place, (x, y)


def is_close(one: PixelBox, other: PixelBox, margin: int) -> bool:
    """Return whether two boxes are less than a margin apart."""
    return (
        one[0] - margin < other[2]
        and other[0] - margin < one[2]
        and one[1] - margin < other[3]
        and other[1] - margin < one[3]
    )
