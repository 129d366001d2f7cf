"""Proposals: numbered places of a photo that differ, with boxes in pixels of the photo."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.workflows.inspection.difference import (
    CHANNEL_UNIT,
    brightness_and_colours,
)
from pixel_reasoner.workflows.inspection.golden import Comparison, GoldenSet
from pixel_reasoner.workflows.inspection.pictures import Array, Matrix, opencv, size_of
from pixel_reasoner.workflows.inspection.places import PixelBox, Proposal, is_close, peaks
from pixel_reasoner.workflows.inspection.registration import warped

_MARGIN_PX = 12
"""added on each side of a place before its box is measured, in pixels of the photo"""
_MAX_REFINED_SIDE = 1024
"""longest side of the pixels in which a box is measured"""
_SHARP_SHARE, _FAINT_SHARE = 0.4, 0.3
"""pixels of a small and of a large defect differ at least by this share of its largest difference"""
_CLEAR = 6.0
"""standard deviations that are part of a large defect, however strong its middle is"""
_SMALL_PX = 6
"""longest side of a small defect, whose blurred edge is wider than itself"""
_FRAGMENT_SHARE = 0.3
"""fragments of a place whose largest difference is below this share of the largest of all are not part of the defect"""
_MAX_SHARE = 0.6
_MIN_DIFFERENCE = 2.5
"""standard deviations"""
_NOISE_FACTOR = 2.5
"""and by so many times the usual difference around it"""
_CROP_BLUR = 0.5
"""of differences before a box is measured, pixels"""


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
        if all(not is_close(box, one.box, max(width, height)) for one in places):
            return box
    return None


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
        for one in (compared.expected, compared.inverse)
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
    noise = max(_MIN_DIFFERENCE, _NOISE_FACTOR * _usual_around(difference, inner))
    found = None
    for wanted in (peak * _SHARP_SHARE, min(peak * _FAINT_SHARE, _CLEAR)):
        limit = min(max(noise, wanted), peak * _MAX_SHARE)
        found = _connected(difference, limit, inner)
        # The optics blur a small defect by more than its size; the edge of a large one may be faint.
        if found is None or max(found[2] - found[0], found[3] - found[1]) <= _SMALL_PX:
            break
    return found


def _usual_around(difference: Array, inner: PixelBox) -> float:
    """Return the difference that three quarters of the pixels around a place do not reach: a large defect fills the place itself."""
    left, top, right, bottom = inner
    is_around = np.ones(difference.shape, bool)
    is_around[top:bottom, left:right] = False
    around = difference[is_around]
    return float(np.quantile(around if around.size else difference, 0.75))


def _connected(difference: Array, limit: float, inner: PixelBox) -> PixelBox | None:
    """Return the box of the regions of at least `limit` that touch a place, without faint fragments."""
    cv2 = opencv()
    left, top, right, bottom = inner
    mask = difference >= limit
    joined = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    count, labels = cv2.connectedComponents(joined, connectivity=8)
    inside = mask[top:bottom, left:right]
    if not inside.any():
        return None
    largest = np.zeros(count, np.float32)
    numbers, values = (
        labels[top:bottom, left:right][inside],
        difference[top:bottom, left:right][inside],
    )
    np.maximum.at(largest, numbers, values)
    is_kept = largest >= _FRAGMENT_SHARE * largest.max()
    rows, columns = np.nonzero(is_kept[labels] & mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
