"""Difference of a registered photo from the references.

The brightness is fitted locally, then every pixel is compared with the range of the references around it. The range of a pixel is the smallest and the largest value of all references in its 3 x 3 surroundings. A shift of less
than a pixel and the blur of interpolation stay inside of it, so edges have no halo. What is outside is summed over
areas of 1 to 16 working pixels: noise cancels, faint large defects add up.

Conventions
    *_L     one value per level; level l sums over 2**l working pixels
    maps    have half of the working size
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.workflows.inspection.pictures import Array, opencv

NUM_LEVELS = 5
_UNIT = 16
"""grey levels are multiplied by this number, so that means over areas are not rounded to 0"""
NUM_BINS = 8
_BIN_STEP = 24
"""width of a bin of local contrast, grey levels"""
MIN_NOISE_L = (14.0, 8.0, 5.0, 3.5, 2.5)
"""smallest normaliser, grey levels: sharper differences are visible to nobody"""
_SLOPE_PX = 9
"""width of the surroundings of an edge, in pixels of the map"""
_GAIN_FACTOR = 8
"""the brightness is fitted at this part of the working size"""
_GAIN_WINDOW = 31
"""side of the window of the fit, in pixels of that size. Defects of less than half of it do not change it"""
_GAIN_OFFSET = 8.0
"""added to grey values before ratios: dark pixels have no reliable ratio"""
_LOG_UNIT = 48.0
_FIT_SAMPLES = 4000
_MAX_EXCESS = 4.0
"""edges of a photo with other light are divided by at most this number"""
_QUANTILE = 0.998
_SAMPLE_STEP = 3


class Ranges(NamedTuple):
    """Allowed values of each pixel, in one frame. All are uint8."""

    lower: Array
    """(height, width, 3)"""
    upper: Array
    """(height, width, 3)"""
    valid: Array
    """(height, width), 0 where nothing is compared"""


class Levels(NamedTuple):
    """Deviations of a photo at each level, before they are divided by the noise."""

    deviation_L: list[Array]
    """grey levels, float32, all of the size of the map"""
    bins: Array
    """bin of the local contrast of the references, uint8"""
    valid: Array
    """bool"""


def normalised(photo: Array, ranges: Ranges) -> Array:
    """Return a photo with the brightness and colour of the references, fitted locally, and slightly blurred like them."""
    cv2 = opencv()
    height, width = photo.shape[:2]
    small = (max(1, width // _GAIN_FACTOR), max(1, height // _GAIN_FACTOR))
    middle = cv2.addWeighted(ranges.lower, 0.5, ranges.upper, 0.5, 0)
    one = cv2.resize(photo, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    other = cv2.resize(middle, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    # Only cells that are valid as a whole: the edge of the picture is repeated by the median.
    valid = cv2.resize(ranges.valid, small, interpolation=cv2.INTER_AREA) == 255
    ratio = np.log2((other + _GAIN_OFFSET) / (one + _GAIN_OFFSET)) * _LOG_UNIT
    slow = _slow_field(ratio, valid)
    rest = ratio - slow
    rest[~valid] = 0
    coded = np.clip(np.rint(rest) + 128, 0, 255).astype(np.uint8)
    window = min(_GAIN_WINDOW, (min(small) // 2) * 2 - 1)
    if window >= 3:
        coded = cv2.merge([cv2.medianBlur(one, window) for one in cv2.split(coded)])
    fast = cv2.GaussianBlur(coded.astype(np.float32) - 128, (0, 0), max(1.0, window / 6))
    gain = np.exp2((fast + slow) / _LOG_UNIT)
    return blurred(_with_gain(photo, gain))


def _with_gain(photo: Array, gain: Array) -> Array:
    """Return (photo + offset) * gain - offset, in 8 bits: that is four times as fast as in floats."""
    cv2 = opencv()
    size = (photo.shape[1], photo.shape[0])
    unit = 128 if gain.max() < 255 / 128 else 32
    factor = np.clip(np.rint(gain * unit), 0, 255).astype(np.uint8)
    added = np.clip(np.rint(_GAIN_OFFSET * (gain - 1)) + 128, 0, 255).astype(np.uint8)
    factor = cv2.resize(factor, size, interpolation=cv2.INTER_LINEAR)
    added = cv2.resize(added, size, interpolation=cv2.INTER_LINEAR)
    found: Array = cv2.addWeighted(
        cv2.multiply(photo, factor, scale=1 / unit), 1.0, added, 1.0, -128.0
    )
    return found


def blurred(picture: Array) -> Array:
    """Return a picture without the noise of single pixels."""
    found: Array = opencv().GaussianBlur(picture, (3, 3), 0.8)
    return found


def _slow_field(ratio: Array, valid: Array) -> Array:
    """Return the quadratic surface through most values of each channel: a lamp on one side, vignetting.

    A median alone is biased at the edges of the picture, where its window shows one side only.
    """
    height, width = valid.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    step = max(1, int(np.sqrt(valid.size / _FIT_SAMPLES)))
    chosen = valid[::step, ::step]
    if chosen.sum() < 50:
        return np.zeros_like(ratio)
    rows = basis[::step, ::step][chosen]
    found = np.empty_like(ratio)
    for channel in range(ratio.shape[2]):
        values = ratio[::step, ::step, channel][chosen]
        kept = np.ones(len(values), bool)
        for _ in range(4):
            factors = np.linalg.lstsq(rows[kept], values[kept], rcond=None)[0]
            error = np.abs(rows @ factors - values)
            kept = error <= max(1.0, 2.0 * float(np.median(error)))
        found[..., channel] = basis @ factors
    return found


def deviations(fitted: Array, ranges: Ranges) -> Levels:
    """Return how far a photo is outside of the ranges, at every level.

    Args:
        fitted: result of `normalised`.
        ranges: in the frame of the photo.
    """
    cv2 = opencv()
    above = _inside(cv2.subtract(fitted, ranges.upper), ranges.valid)
    below = _inside(cv2.subtract(ranges.lower, fitted), ranges.valid)
    height, width = fitted.shape[:2]
    size = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
    largest = _largest(cv2.max(above, below))
    found: list[Array] = [_pooled(largest, size).astype(np.float32)]
    above, below = (cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (above, below))
    signed = above.astype(np.int16)
    signed -= below
    signed *= _UNIT
    for level in range(1, NUM_LEVELS):
        if level > 1:
            rows, columns = signed.shape[:2]
            half = (max(1, (columns + 1) // 2), max(1, (rows + 1) // 2))
            signed = cv2.resize(signed, half, interpolation=cv2.INTER_AREA)
        # Areas overlap by half: a defect is not split by a grid.
        smooth = cv2.blur(signed, (2, 2)) if level > 1 else signed
        values = _largest(np.abs(smooth)).astype(np.float32)
        found.append(_enlarged(values, size) / _UNIT)
    contrast = _pooled(_largest(cv2.subtract(ranges.upper, ranges.lower)), size)
    # The slope beside an edge changes with the light like the edge itself.
    contrast = cv2.dilate(contrast, np.ones((_SLOPE_PX, _SLOPE_PX), np.uint8))
    bins = np.minimum(contrast // _BIN_STEP, NUM_BINS - 1).astype(np.uint8)
    valid = cv2.resize(ranges.valid, size, interpolation=cv2.INTER_NEAREST) > 0
    return Levels(found, bins, valid)


def contrast_quantiles(levels: Levels) -> Array:
    """Return a high quantile of the deviation of each bin and level, (levels, bins); nan for bins with few pixels."""
    bins = np.where(levels.valid, levels.bins, 255)[::_SAMPLE_STEP, ::_SAMPLE_STEP]
    found = np.full((NUM_LEVELS, NUM_BINS), np.nan)
    for number in range(NUM_BINS):
        chosen = bins == number
        if chosen.sum() < 200:
            continue
        for level, deviation in enumerate(levels.deviation_L):
            values = deviation[::_SAMPLE_STEP, ::_SAMPLE_STEP][chosen]
            at = int(_QUANTILE * (len(values) - 1))
            found[level, number] = np.partition(values, at)[at]
    return found


def score_map(levels: Levels, noise_L: Array, golden_quantiles: Array | None) -> Array:
    """Return the deviation in units of the references' own largest deviation, float32; 0 where nothing is compared.

    Where all edges of a photo deviate more than those of the references, as with light from another side, its edges are
    divided by that excess.

    Args:
        levels: of the photo.
        noise_L: largest deviation among the references.
        golden_quantiles: `contrast_quantiles` of the references; None: no such correction.
    """
    found = np.zeros(levels.bins.shape, np.float32)
    table = np.repeat(np.asarray(noise_L, np.float32)[:, None], NUM_BINS, axis=1)
    if golden_quantiles is not None:
        own = contrast_quantiles(levels)
        usual = np.fmax(golden_quantiles, np.asarray(noise_L)[:, None] / 6)
        excess = np.nan_to_num(own / usual, nan=1.0)
        table = table * np.clip(excess, 1, _MAX_EXCESS).astype(np.float32)
    for level, deviation in enumerate(levels.deviation_L):
        np.maximum(found, deviation / table[level].take(levels.bins), out=found)
    found[~levels.valid] = 0
    return found


def _inside(values: Array, valid: Array) -> Array:
    """Return values with 0 where nothing is compared."""
    found: Array = opencv().bitwise_and(values, values, mask=valid)
    return found


def _largest(channels: Array) -> Array:
    """Return the largest of three channels."""
    cv2 = opencv()
    red, green, blue = cv2.split(channels)
    found: Array = cv2.max(cv2.max(red, green), blue)
    return found


def _pooled(values: Array, size: Size) -> Array:
    """Return the maxima of 2 x 2 pixels."""
    cv2 = opencv()
    wide = cv2.dilate(values, np.ones((2, 2), np.uint8), anchor=(0, 0))
    found: Array = np.ascontiguousarray(wide[::2, ::2])
    assert found.shape == (size[1], size[0])
    return found


def _enlarged(values: Array, size: Size) -> Array:
    cv2 = opencv()
    if (values.shape[1], values.shape[0]) == size:
        return values
    found: Array = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    return found
