"""Proposals: numbered places of a photo that differ, with boxes in pixels of the photo."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.workflows.inspection.difference import (
    CHANNEL_UNIT,
    brightness_and_colours,
)
from pixel_reasoner.workflows.inspection.golden import Comparison, GoldenSet
from pixel_reasoner.workflows.inspection.pictures import Array, Matrix, opencv, size_of
from pixel_reasoner.workflows.inspection.registration import warped

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
_MARGIN_PX = 12
"""added on each side of a place before its box is measured, in pixels of the photo"""
_MAX_REFINED_SIDE = 1024
"""longest side of the pixels in which a box is measured"""
_SHARP_SHARE, _FAINT_SHARE = 0.4, 0.3
"""pixels of a small and of a large defect differ at least by this share of its largest difference"""
_CLEAR = 10.0
"""standard deviations that are part of a large defect, however strong its middle is"""
_SMALL_PX = 9
"""longest side of a small defect"""
_MAX_SHARE = 0.6
_MIN_DIFFERENCE = 2.5
"""standard deviations"""
_NOISE_FACTOR = 2.5
"""and by so many times the usual difference around it"""
_CROP_BLUR = 0.5
"""of differences before a box is measured, pixels"""


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


def propose(
    photo: Array, compared: Comparison, golden: GoldenSet, *, look_from: float, limit: int
) -> list[Proposal]:
    """Return the places with the largest scores, each with the box of the pixels that differ.

    Args:
        photo: RGB at full size.
        compared: with the golden set; aligned.
        golden: the references.
        look_from: smallest score of a place.
        limit: number of places.
    """
    places = peaks(compared.scores, look_from, limit)
    size = size_of(photo)
    rows, columns = compared.scores.shape
    found = []
    for place in places:
        rough = _scaled(place.box, (columns, rows), size)
        found.append(replace(place, box=_refined(photo, golden, compared, rough)))
    return found


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


def _is_near(box: PixelBox, other: PixelBox) -> bool:
    """Return whether a place is a piece, or the blurred edge, of another one."""
    size = max(other[2] - other[0], other[3] - other[1])
    return _touch(box, other, min(_NEAR_PX, size))


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


def heat_map_proposals(scores: Array, size: Size, limit: int) -> list[Proposal]:
    """Return places of a heat map of any size and unit. Its own spread decides what is large.

    Args:
        scores: (height, width).
        size: of the photo.
        limit: number of places.
    """
    values = np.nan_to_num(scores.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(np.median(values)), float(values.max())
    if high <= low:
        return []
    spread = (values - low) / (high - low)
    places = peaks(np.ascontiguousarray(spread), 0.5, limit)
    rows, columns = values.shape
    return [
        replace(
            one,
            box=_scaled(one.box, (columns, rows), size),
            score=round(one.score * (high - low) + low, 6),
        )
        for one in places
    ]


def with_decoys(places: Sequence[Proposal], size: Size, share: float, seed: str) -> list[Proposal]:
    """Return proposals with decoys among them: places where nothing differs, at random positions and numbers.

    Args:
        places: real proposals.
        size: of the photo.
        share: chance of a decoy per real proposal, 0 to 1.
        seed: the same seed gives the same decoys.
    """
    rng = random.Random(seed)
    mixed = list(places)
    for one in places:
        if rng.random() < share and (box := _empty_place(one.box, places, size, rng)) is not None:
            mixed.append(Proposal(0, box, 0.0, is_decoy=True))
    if len(mixed) > len(places):
        rng.shuffle(mixed)
    return [replace(one, number=number) for number, one in enumerate(mixed, start=1)]


def _empty_place(
    like: PixelBox, places: Sequence[Proposal], size: Size, rng: random.Random
) -> PixelBox | None:
    width, height = like[2] - like[0], like[3] - like[1]
    if width >= size[0] or height >= size[1]:
        return None
    for _ in range(20):
        left = rng.randrange(size[0] - width)
        top = rng.randrange(size[1] - height)
        box = (left, top, left + width, top + height)
        if all(not _touch(box, one.box, max(width, height)) for one in places):
            return box
    return None


def _touch(one: PixelBox, other: PixelBox, margin: int) -> bool:
    return (
        one[0] - margin < other[2]
        and other[0] - margin < one[2]
        and one[1] - margin < other[3]
        and other[1] - margin < one[3]
    )


# --- boxes ---


def grown(box: PixelBox, margin: int, size: Size) -> PixelBox:
    """Return a box with a margin, inside of the picture.

    >>> grown((2, 3, 10, 11), 5, (12, 100))
    (0, 0, 12, 16)
    """
    left, top, right, bottom = box
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(size[0], right + margin),
        min(size[1], bottom + margin),
    )


def reference_crop(reference: Array, matrix: Matrix, box: PixelBox, scale: float = 1.0) -> Array:
    """Return the pixels of a reference at a box of the photo.

    Args:
        reference: at full size.
        matrix: from the reference to the photo, full size.
        box: in the photo.
        scale: size of the result divided by that of the box.
    """
    left, top, right, bottom = box
    to_crop = np.array([[scale, 0, -left * scale], [0, scale, -top * scale], [0, 0, 1]])
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    return warped(reference, to_crop @ matrix, size, border=None)


def _scaled(box: PixelBox, of: Size, to: Size) -> PixelBox:
    x, y = to[0] / of[0], to[1] / of[1]
    left, top = int(np.floor(box[0] * x)), int(np.floor(box[1] * y))
    right, bottom = int(np.ceil(box[2] * x)), int(np.ceil(box[3] * y))
    return max(0, left), max(0, top), min(to[0], right), min(to[1], bottom)


def _refined(photo: Array, golden: GoldenSet, compared: Comparison, rough: PixelBox) -> PixelBox:
    """Return the box of the pixels that differ, measured at full size: a map has blurred edges."""
    area = grown(rough, _MARGIN_PX, size_of(photo))
    left, top, right, bottom = area
    scale = min(1.0, _MAX_REFINED_SIDE / max(right - left, bottom - top))
    difference = _crop_difference(photo[top:bottom, left:right], golden, compared, area, scale)
    inner = _scaled(
        (rough[0] - left, rough[1] - top, rough[2] - left, rough[3] - top),
        (right - left, bottom - top),
        size_of(difference),
    )
    found = _extent(difference, inner)
    if found is None:
        return rough
    return (
        max(left, left + int(np.floor(found[0] / scale))),
        max(top, top + int(np.floor(found[1] / scale))),
        min(right, left + int(np.ceil(found[2] / scale))),
        min(bottom, top + int(np.ceil(found[3] / scale))),
    )


def _crop_difference(
    own: Array, golden: GoldenSet, compared: Comparison, area: PixelBox, scale: float
) -> Array:
    """Return how far a crop deviates from the golden pictures, in standard deviations, float32."""
    cv2 = opencv()
    expected, inverse = (
        reference_crop(one, compared.working_matrix, area, scale)
        for one in (compared.expected, golden.reference.inverse_L[0])
    )
    size = size_of(expected)
    if size_of(own) != size:
        own = cv2.resize(np.ascontiguousarray(own), size, interpolation=cv2.INTER_AREA)
    # As blurred as the reference, which has working size.
    sigma = max(_CROP_BLUR, 0.5 * scale / golden.scale if golden.scale < 1 else 0.0)
    difference = cv2.subtract(own, expected, dtype=cv2.CV_16S)
    channels = brightness_and_colours(difference).astype(np.float32)
    channels = cv2.GaussianBlur(channels, (0, 0), sigma)
    found: Array = np.abs(channels * inverse).max(axis=2) / CHANNEL_UNIT
    return found


def _extent(difference: Array, inner: PixelBox) -> PixelBox | None:
    """Return the box of all connected large differences that touch the place; None if there is none."""
    left, top, right, bottom = inner
    inside = difference[top:bottom, left:right]
    if not inside.size or inside.max() < _MIN_DIFFERENCE:
        return None
    # A robust maximum: one bright pixel does not hide the rest of a large defect.
    ordered = np.sort(inside, axis=None)
    peak = float(ordered[max(0, len(ordered) - 1 - len(ordered) // 200)])
    noise = max(_MIN_DIFFERENCE, _NOISE_FACTOR * float(np.quantile(difference, 0.75)))
    found = None
    for wanted in (peak * _SHARP_SHARE, min(peak * _FAINT_SHARE, _CLEAR)):
        limit = min(max(noise, wanted), peak * _MAX_SHARE)
        found = _connected(difference >= limit, inner)
        # The optics blur a small defect by more than its size; the edge of a large one may be faint.
        if found is None or max(found[2] - found[0], found[3] - found[1]) <= _SMALL_PX:
            break
    return found


def _connected(mask: Array, inner: PixelBox) -> PixelBox | None:
    """Return the box of all regions of a mask that touch a place."""
    cv2 = opencv()
    left, top, right, bottom = inner
    joined = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    _, labels = cv2.connectedComponents(joined, connectivity=8)
    touched = np.unique(labels[top:bottom, left:right][mask[top:bottom, left:right]])
    rows, columns = np.nonzero(np.isin(labels, touched[touched > 0]) & mask)
    if not len(rows):
        return None
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
