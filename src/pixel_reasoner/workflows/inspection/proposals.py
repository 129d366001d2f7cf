"""Proposals: numbered places of a photo that differ, with boxes in pixels of the photo."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.workflows.inspection.golden import Comparison, GoldenSet
from pixel_reasoner.workflows.inspection.pictures import Array, Matrix, opencv, size_of
from pixel_reasoner.workflows.inspection.registration import warped

PixelBox = tuple[int, int, int, int]
"""left, top, right, bottom in pixels, right and bottom exclusive"""

_MERGE_PX = 5
"""places closer than this are one, in pixels of the map"""
_MARGIN_PX = 12
"""added on each side of a place before its box is measured, in pixels of the photo"""
_MAX_REFINED_SIDE = 1024
"""longest side of the pixels in which a box is measured"""
_EDGE_SHARE = 0.2
"""pixels of a defect differ at least by this share of its largest difference"""
_NOISE_FACTOR = 4.0
"""and by so many times the usual difference around it"""


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
        found.append(replace(place, box=_refined(photo, golden.full, compared.matrix, rough)))
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
    cv2 = opencv()
    mask = (scores >= look_from).astype(np.uint8)
    if not mask.any():
        return []
    # Fragments of one defect are one place.
    joined = cv2.dilate(mask, np.ones((_MERGE_PX, _MERGE_PX), np.uint8))
    count, labels = cv2.connectedComponents(joined, connectivity=8)
    rows, columns = np.nonzero(mask)
    own = labels[rows, columns]
    largest = np.zeros(count, np.float32)
    np.maximum.at(largest, own, scores[rows, columns])
    order = sorted(range(1, count), key=lambda one: -largest[one])[:limit]
    found = []
    for number, label in enumerate(order, start=1):
        chosen = own == label
        x, y = columns[chosen], rows[chosen]
        box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
        found.append(Proposal(number, box, round(float(largest[label]), 4)))
    return found


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


def _refined(photo: Array, reference: Array, matrix: Matrix, rough: PixelBox) -> PixelBox:
    """Return the box of the pixels that differ, measured at full size: a map has blurred edges."""
    cv2 = opencv()
    area = grown(rough, _MARGIN_PX, size_of(photo))
    left, top, right, bottom = area
    scale = min(1.0, _MAX_REFINED_SIDE / max(right - left, bottom - top))
    own = photo[top:bottom, left:right]
    if scale < 1:
        own = cv2.resize(own, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    other = reference_crop(reference, matrix, area, scale)
    other = other[: own.shape[0], : own.shape[1]]
    own = own[: other.shape[0], : other.shape[1]]
    difference = _crop_difference(own, other)
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


def _crop_difference(own: Array, other: Array) -> Array:
    """Return the difference of two crops, without that of their mean brightness and of edges, float32."""
    cv2 = opencv()
    one, two = own.astype(np.float32), other.astype(np.float32)
    two += np.median(one - two, axis=(0, 1))
    box = np.ones((3, 3), np.uint8)
    one = cv2.GaussianBlur(one, (3, 3), 0.8)
    lower, upper = cv2.erode(two, box), cv2.dilate(two, box)
    outside = np.maximum(np.maximum(one - upper, lower - one), 0)
    found: Array = outside.max(axis=2)
    return found


def _extent(difference: Array, inner: PixelBox) -> PixelBox | None:
    """Return the box of all connected large differences that touch the place."""
    cv2 = opencv()
    left, top, right, bottom = inner
    inside = difference[top:bottom, left:right]
    if not inside.size or inside.max() < 3:
        return None
    # A robust maximum: one bright pixel does not hide the rest of a large defect.
    ordered = np.sort(inside, axis=None)
    peak = float(ordered[max(0, len(ordered) - 1 - len(ordered) // 200)])
    usual = float(np.quantile(difference, 0.75))
    limit = min(max(3.0, peak * _EDGE_SHARE, usual * _NOISE_FACTOR), peak * 0.8)
    mask = (difference >= limit).astype(np.uint8)
    joined = cv2.dilate(mask, np.ones((5, 5), np.uint8))
    _, labels = cv2.connectedComponents(joined, connectivity=8)
    touched = np.unique(labels[top:bottom, left:right][mask[top:bottom, left:right] > 0])
    chosen = np.isin(labels, touched[touched > 0]) & (mask > 0)
    if not chosen.any():
        return None
    rows, columns = np.nonzero(chosen)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
