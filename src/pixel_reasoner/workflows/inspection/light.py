"""Light of a photo: what a reference would look like in it.

    photo = 2 ** (slow + fast) * tone(reference)

tone     curve of brightness of each channel: gamma, white balance
slow     quadratic surface: a lamp on one side, vignetting
fast     median of large surroundings: shadows, reflections of the room

The reference is changed, not the photo: what is saturated in the photo is then saturated in both. Only cells that are
not saturated decide. Defects are a small share of any brightness and surroundings, and all fits are robust.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pixel_reasoner.workflows.inspection.pictures import Array, opencv, strips

_CELL = 8
"""side of the cells in which light is fitted, working pixels"""
_WINDOW = 31
"""side of the window of `fast`, in cells. Defects of less than half of it do not change it"""
_OFFSET = 8.0
"""added to grey values before logarithms: dark pixels have no reliable ratio"""
_MIDDLE = 6.0
"""logarithm of a middle grey value"""
_UNIT = 48.0
_SATURATED = 254
_MAX_SATURATED_SHARE = 0.25
_TONE_RIDGE = (0.5, 5.0)
"""weight of the prior that the tone curve is the identity"""
_NUM_TONES, _CELLS_PER_TONE = 12, 400
_MIN_CELLS = 60
_ROBUST_STEPS = 6


class Lit(NamedTuple):
    """A reference in the light of a photo."""

    picture: Array
    """uint8"""
    gain: float
    """typical brightness of the photo divided by that of the reference"""
    change: float
    """typical change of brightness by the light, as a share of it"""


def relit(reference: Array, photo: Array, valid: Array) -> Lit:
    """Return the reference in the light of the photo.

    Args:
        reference: RGB, uint8.
        photo: in the frame of the reference.
        valid: uint8, 0 where nothing is compared.
    """
    cv2 = opencv()
    height, width = reference.shape[:2]
    small = (max(1, width // _CELL), max(1, height // _CELL))
    own = cv2.resize(photo, small, interpolation=cv2.INTER_AREA).astype(np.float32) + _OFFSET
    red, green, blue = cv2.split(photo)
    # The maximum of numpy takes eight times as long.
    _, bright = cv2.threshold(
        cv2.max(cv2.max(red, green), blue), _SATURATED - 1, 255, cv2.THRESH_BINARY
    )
    bright = cv2.resize(bright, small, interpolation=cv2.INTER_AREA)
    # Only cells that are valid as a whole: the edge of the picture is repeated by the median.
    inside = cv2.resize(valid, small, interpolation=cv2.INTER_AREA) == 255
    usable = inside & (bright <= 255 * _MAX_SATURATED_SHARE)
    other = cv2.resize(reference, small, interpolation=cv2.INTER_AREA).astype(np.float32) + _OFFSET
    log_own, log_other = np.log2(own), np.log2(other) - _MIDDLE
    slow, tables = np.zeros_like(own), []
    for channel in range(3):
        surface, tone = _slow_and_tone(log_own[..., channel], log_other[..., channel], usable)
        slow[..., channel] = surface
        log_other[..., channel] += tone[0] * log_other[..., channel] + tone[1] * (
            log_other[..., channel] ** 2
        )
        tables.append(_table(tone))
    field = slow + _fast(log_own - log_other - _MIDDLE - slow, usable, inside)
    toned = cv2.LUT(reference, np.stack(tables, axis=-1)[None])
    ratio = own[usable] / other[usable] if usable.any() else np.ones(1)
    change = float(np.median(np.abs(ratio - 1)))
    return Lit(_with_gain(toned, np.exp2(field)), float(np.exp2(np.median(field))), change)


def _slow_and_tone(own: Array, other: Array, usable: Array) -> tuple[Array, tuple[float, float]]:
    """Return the surface of one channel, and the two factors of its tone curve."""
    height, width = own.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    places = np.flatnonzero(usable)
    if len(places) < _MIN_CELLS:
        return np.zeros_like(own), (0.0, 0.0)
    places = places[_spread_over_tones(other.ravel()[places])]
    tones = other.ravel()[places].astype(float)
    rows = np.column_stack([basis.reshape(-1, 6)[places], tones, tones**2])
    target = own.ravel()[places] - tones - _MIDDLE
    weights, ridge = np.ones(len(places)), np.diag([1e-6] * 6 + list(_TONE_RIDGE))
    for _ in range(_ROBUST_STEPS):
        weighted = rows * weights[:, None]
        factors = np.linalg.solve(weighted.T @ rows + ridge, weighted.T @ target)
        error = np.abs(rows @ factors - target)
        limit = 2 * max(0.01, 1.5 * float(np.median(error)))
        weights = (1 + (error / limit) ** 2) ** -2.0
    surface: Array = basis @ factors[:6]
    return surface, (float(factors[6]), float(factors[7]))


def _spread_over_tones(tones: Array) -> Array:
    """Return numbers of cells: at most so many of each brightness, so that rare ones count."""
    bins = np.clip(((tones + _MIDDLE - 3) / 5.1 * _NUM_TONES).astype(int), 0, _NUM_TONES - 1)
    order = np.random.default_rng(0).permutation(len(tones))
    chosen = [order[bins[order] == number][:_CELLS_PER_TONE] for number in range(_NUM_TONES)]
    return np.concatenate(chosen)


def _table(tone: tuple[float, float]) -> Array:
    """Return the tone curve as a table of 8 bits."""
    values = np.arange(256) + _OFFSET
    logs = np.log2(values) - _MIDDLE
    curve = values * np.exp2(tone[0] * logs + tone[1] * logs**2) - _OFFSET
    found: Array = np.clip(np.rint(curve), 0, 255).astype(np.uint8)
    return found


def _fast(ratio: Array, usable: Array, inside: Array) -> Array:
    cv2 = opencv()
    coded = np.clip(
        np.rint(_filled(ratio * usable[..., None], inside) * _UNIT) + 128, 0, 255
    ).astype(np.uint8)
    window = min(_WINDOW, (min(usable.shape) // 2) * 2 - 1)
    if window >= 3:
        coded = cv2.merge([cv2.medianBlur(one, window) for one in cv2.split(coded)])
    found: Array = cv2.GaussianBlur(coded.astype(np.float32) - 128, (0, 0), max(1.0, window / 6))
    found /= _UNIT
    return found


def _filled(ratio: Array, inside: Array) -> Array:
    """Return ratios with means of the nearest cells where the photo shows nothing: 0 there would change the median near them."""
    cv2 = opencv()
    found = ratio * inside[..., None]
    if not inside.any():
        return found
    weight, total, is_known = inside.astype(np.float32), found.copy(), inside.copy()
    sigma = 2.0
    while not is_known.all() and sigma < max(inside.shape):
        near = cv2.GaussianBlur(weight, (0, 0), sigma)
        mean = cv2.GaussianBlur(total, (0, 0), sigma) / np.maximum(near, 1e-6)[..., None]
        reached = ~is_known & (near > 0.05)
        found[reached] = mean[reached]
        is_known |= reached
        sigma *= 2
    return found


def _with_gain(picture: Array, gain: Array) -> Array:
    """Return (picture + offset) * gain - offset, in 8 bits."""
    cv2 = opencv()
    size = (picture.shape[1], picture.shape[0])
    factor = cv2.resize(gain.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    found = np.empty_like(picture)
    for rows in strips(picture.shape[0]):
        values = cv2.add(picture[rows], (_OFFSET,) * 4, dtype=cv2.CV_32F)
        cv2.multiply(values, factor[rows], values)
        np.maximum(values, _OFFSET, out=values)
        found[rows] = cv2.convertScaleAbs(values, beta=-_OFFSET)
    return found
