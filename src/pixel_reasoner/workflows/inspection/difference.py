"""Difference of a registered photo from the references.

A reference is the mean of all golden pictures and the deviation of each pixel: of its brightness and of two differences
of colour, at several levels. Texture, noise and the error of the registration at edges are part of the deviation, so a
faint defect on a clean surface counts as much as a strong one on a rough surface. Everything is in the frame of the
reference.

Where many pixels of one kind (as strong an edge, in the same direction) deviate more than in any golden picture, as
with light from another side, the whole kind is divided by that excess.

Conventions
    *_L     one value per level. Level 0 has working size; level l sums over 2**l working pixels and has 1 / 2**(l - 1) of the size
    maps    have half of the working size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.workflows.inspection.pictures import Array, opencv, strips

NUM_LEVELS = 5
CHANNEL_UNIT = 8
"""differences are multiplied by this number, so that means over areas are not rounded to 0"""
_BLUR = 0.7
"""of level 0, pixels"""
_FLOOR_L = (
    (1.8, 1.3, 1.3),
    (1.3, 0.9, 0.9),
    (0.9, 0.6, 0.6),
    (0.9, 0.6, 0.6),
    (0.9, 0.6, 0.6),
)
"""smallest deviation of brightness and colour: rounding, compression, light. Errors of whole areas are not smaller in their mean"""
_LIGHT_ERROR = 0.015
"""error of the fitted light, as a share of what it changes"""
_SAME_LIGHT = 0.05
"""change by the light up to which that error is part of the deviation of the golden pictures"""
_POOL_L = (7, 5, 5, 5, 5)
"""side of the surroundings whose deviations are averaged"""
_EDGE_ERROR_PX = 0.08
"""error of the registration that is expected of any photo, in working pixels"""
_FEW_ERROR_PX = 0.4
"""and in addition, divided by the number of golden pictures, because they show less of it"""
_STRENGTHS = (1.0, 2.5, 5.0, 10.0, 20.0)
"""limits of kinds of edges, grey levels per pixel"""
_NUM_DIRECTIONS = 8
_NUM_KINDS = 1 + len(_STRENGTHS) * _NUM_DIRECTIONS
_QUANTILE = 0.98
_USUAL = 2.6
"""quantile of deviations at least, in a good photo"""
_MIN_PIXELS = 60
"""of one kind"""
_SAMPLE_STEP = 3
MIN_LARGEST = 5.5
"""largest deviation of a good photo at least, in standard deviations: chance alone gives as much"""


@dataclass(frozen=True)
class Reference:
    """Mean and deviation of golden pictures, in one frame."""

    mean: Array
    """uint8 (height, width, 3)"""
    inverse_L: Sequence[Array]
    """1 / deviation of the channels of `levels_of`, float32"""
    kinds_L: Sequence[Array]
    """number of the kind of edge of each pixel, uint8"""
    valid: Array
    """uint8 (height, width), 0 where nothing is compared"""
    usual: Array
    """(levels, kinds) high quantile of the deviations of golden pictures"""
    largest: float
    """largest deviation of a golden picture from the others; the score 1"""


def levels_of(difference: Array) -> list[Array]:
    """Return brightness and two differences of colour of a signed difference at each level, float32.

    Args:
        difference: int16 (height, width, 3).
    """
    cv2 = opencv()
    channels = brightness_and_colours(difference)
    found = [cv2.GaussianBlur(channels, (5, 5), _BLUR)]
    for level in range(1, NUM_LEVELS):
        height, width = channels.shape[:2]
        half = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
        channels = cv2.resize(channels, half, interpolation=cv2.INTER_AREA)
        # Areas overlap by half: a defect is not split by a grid.
        found.append(cv2.blur(channels, (2, 2)) if level > 1 else channels)
    return [one.astype(np.float32) * np.float32(1 / CHANNEL_UNIT) for one in found]


def brightness_and_colours(difference: Array) -> Array:
    """Return brightness, red minus green and blue minus green of a signed difference, int16, times `CHANNEL_UNIT`."""
    cv2 = opencv()
    red, green, blue = cv2.split(difference)
    third = CHANNEL_UNIT / 3
    bright = cv2.addWeighted(cv2.add(red, blue), third, green, third, 0)
    warm, cold = (
        cv2.addWeighted(one, CHANNEL_UNIT, green, -CHANNEL_UNIT, 0) for one in (red, blue)
    )
    found: Array = cv2.merge([bright, warm, cold])
    return found


def inverse_deviations(squares_L: Sequence[Array], mean: Array, count: int) -> list[Array]:
    """Return 1 / deviation at each level.

    Args:
        squares_L: mean squares of `levels_of` the golden pictures.
        mean: of the golden pictures, uint8.
        count: of golden pictures.
    """
    cv2 = opencv()
    edge = (_EDGE_ERROR_PX + _FEW_ERROR_PX / count) * np.hypot(*_gradient(mean, 0))
    found = []
    for level, squares in enumerate(squares_L):
        side = _POOL_L[level]
        pooled = (
            cv2.blur(squares, (side, side)) * 0.5 + cv2.GaussianBlur(squares, (0, 0), 0.8) * 0.5
        )
        size = (squares.shape[1], squares.shape[0])
        error = edge if level == 0 else cv2.resize(edge, size, interpolation=cv2.INTER_AREA)
        pooled += (error * error)[..., None] + np.array(_FLOOR_L[level], np.float32) ** 2
        found.append((1 / np.sqrt(pooled)).astype(np.float32))
    return found


def kinds_of(mean: Array, level: int) -> Array:
    """Return the kind of edge around each pixel, uint8: 0 without an edge."""
    cv2 = opencv()
    x, y = _gradient(mean, level)
    strength = np.hypot(x, y)
    side = 7 if level == 0 else 5
    near = cv2.dilate(strength, np.ones((side, side), np.uint8))
    number = np.digitize(near, _STRENGTHS)
    # The slope next to an edge changes with the light like the edge itself.
    x, y = (cv2.GaussianBlur(one * strength, (0, 0), side / 3) for one in (x, y))
    turn = np.rint(np.arctan2(y, x) / (2 * np.pi) * _NUM_DIRECTIONS).astype(int) % _NUM_DIRECTIONS
    found: Array = np.where(number == 0, 0, 1 + (number - 1) * _NUM_DIRECTIONS + turn)
    return found.astype(np.uint8)


def _gradient(mean: Array, level: int) -> tuple[Array, Array]:
    """Return the gradient of the brightness at the size of a level, in grey levels per working pixel."""
    cv2 = opencv()
    grey = cv2.cvtColor(mean, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), max(1.0, 0.35 * 2**level))
    found = [cv2.Sobel(grey, cv2.CV_32F, 1 - n, n, ksize=3) / 8 for n in (0, 1)]
    for _ in range(level):
        height, width = found[0].shape
        half = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
        found = [cv2.resize(one, half, interpolation=cv2.INTER_AREA) for one in found]
    return found[0], found[1]


def deviations(difference_L: Sequence[Array], inverse_L: Sequence[Array]) -> list[Array]:
    """Return the largest deviation of the three channels at each level, in standard deviations, float32."""
    cv2 = opencv()
    found = []
    for difference, inverse in zip(difference_L, inverse_L, strict=True):
        largest = np.empty(difference.shape[:2], np.float32)
        for rows in strips(len(largest)):
            product = cv2.multiply(difference[rows], inverse[rows])
            one, two, three = cv2.split(np.abs(product, out=product))
            largest[rows] = cv2.max(cv2.max(one, two), three)
        found.append(largest)
    return found


def in_other_light(inverse_L: Sequence[Array], mean: Array, change: float) -> list[Array]:
    """Return 1 / deviation at each level of a photo in other light: the fit of the light adds an error.

    Args:
        inverse_L: in the light of the golden pictures.
        mean: of the golden pictures, uint8.
        change: typical change by the light, as a share of the brightness.
    """
    cv2 = opencv()
    if change <= _SAME_LIGHT:
        return list(inverse_L)
    grey, found = cv2.cvtColor(mean, cv2.COLOR_RGB2GRAY), []
    for inverse in inverse_L:
        size = (inverse.shape[1], inverse.shape[0])
        error = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        error *= np.float32(_LIGHT_ERROR * change)
        added = inverse * error[..., None]
        added *= added
        added += 1
        found.append(inverse / cv2.sqrt(added))
    return found


def kind_quantiles(deviation_L: Sequence[Array], kinds_L: Sequence[Array], valid: Array) -> Array:
    """Return a high quantile of the deviations of each kind, (levels, kinds); nan for kinds with few pixels."""
    found = np.full((NUM_LEVELS, _NUM_KINDS), np.nan)
    for level, (deviation, kinds) in enumerate(zip(deviation_L, kinds_L, strict=True)):
        step = _SAMPLE_STEP if level < 2 else 1
        chosen = _resized_mask(valid, deviation)[::step, ::step] > 0
        numbers, values = kinds[::step, ::step][chosen], deviation[::step, ::step][chosen]
        order = np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], np.arange(_NUM_KINDS + 1))
        for number in np.flatnonzero(np.diff(ends) >= _MIN_PIXELS):
            some = values[order[ends[number] : ends[number + 1]]]
            at = int(_QUANTILE * (len(some) - 1))
            found[level, number] = np.partition(some, at)[at]
    return found


def light_factors(deviation_L: Sequence[Array], reference: Reference, valid: Array) -> Array:
    """Return the number by which deviations of each kind are multiplied, float32 (levels, kinds): 1 in the light of the golden pictures."""
    excess = kind_quantiles(deviation_L, reference.kinds_L, valid) / reference.usual
    # Kinds with few pixels: the largest excess of the others.
    most = np.fmax(np.nanmax(excess, axis=1, initial=1.0), 1.0)[:, None]
    found = 1 / np.clip(np.where(np.isnan(excess), most, excess), 1.0, None)
    return found.astype(np.float32)


def score_map(
    deviation_L: Sequence[Array], reference: Reference, valid: Array, factor: Array
) -> Array:
    """Return the deviation in units of the largest one of the golden pictures, float32; 0 where nothing is compared.

    Args:
        deviation_L: of the photo.
        reference: of the golden pictures.
        valid: uint8, 0 where the photo shows nothing.
        factor: of `light_factors`.
    """
    height, width = valid.shape
    size = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
    found = np.zeros((size[1], size[0]), np.float32)
    for level, deviation in enumerate(deviation_L):
        values = deviation
        if factor[level].min() < 1:
            values = deviation * factor[level].take(reference.kinds_L[level])
        values[_resized_mask(valid, values) == 0] = 0
        if level == 0:
            values = _pooled(values)
        elif level > 1:
            values = _enlarged(values, size, 2 ** (level - 1))
        np.maximum(found, values, out=found)
    found /= np.float32(reference.largest)
    return found


def usual_quantiles(quantiles: Sequence[Array]) -> Array:
    """Return the largest quantile of all golden pictures of each kind, at least that of chance."""
    stacked = np.stack([*quantiles, np.full((NUM_LEVELS, _NUM_KINDS), _USUAL)])
    found: Array = np.nanmax(stacked, axis=0)
    return found


def largest_of(deviation_L: Sequence[Array], valid: Array) -> float:
    """Return the largest deviation at any level."""
    return max(
        float((one * (_resized_mask(valid, one) > 0)).max(initial=0.0)) for one in deviation_L
    )


def _resized_mask(mask: Array, like: Array) -> Array:
    cv2 = opencv()
    if mask.shape == like.shape:
        return mask
    size = (like.shape[1], like.shape[0])
    found: Array = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    return found


def _enlarged(values: Array, size: Size, factor: int) -> Array:
    """Return the values of a level in the size of the map. Each is the mean of 2 x 2 cells, whose centre is the corner of a cell."""
    cv2 = opencv()
    step = 1 / factor
    to_cells = np.array([[step, 0, step / 2], [0, step, step / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found: Array = cv2.warpAffine(
        values, to_cells, size, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return found


def _pooled(values: Array) -> Array:
    """Return the maxima of 2 x 2 pixels."""
    cv2 = opencv()
    wide = cv2.dilate(values, np.ones((2, 2), np.uint8), anchor=(0, 0))
    found: Array = np.ascontiguousarray(wide[::2, ::2])
    return found
