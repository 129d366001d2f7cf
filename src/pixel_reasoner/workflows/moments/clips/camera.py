"""Crop path of a reframed clip: one path per shot, which follows the evidence smoothly, or the reason to pad instead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.tracks import union

FULL_SIDE_PX = 1080
"""short side of an output whose crop has at least `_MIN_CROP_PX`"""
_MIN_CROP_PX = 540
_SUBJECT_SHARE = 0.94
"""share of the crop that a subject may fill before the frame is padded instead"""
_DEAD_ZONE = 0.12
"""distance of the subject from the middle of the crop, as a share of the crop, below which the crop rests"""
_EDGE = 0.08
"""share of the crop that is kept free between the subject and its edge, where both fit"""
_EASE_S = 0.4
"""standard deviation of the smoothing in time"""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ShotPath:
    """Crop of the frames of one shot.

    Attributes:
        span: frames of the shot in the clip.
        boxes: crop of each frame, in fractions of the upright source; empty if the shot is padded.
        reason: why the shot is padded; empty if it is cropped.
    """

    span: Span
    boxes: tuple[Box, ...]
    reason: str = ""


def parse_aspect(text: str) -> Fraction:
    """Return a ratio of width to height.

    Raises:
        UsageError: not of the form W:H, or an extreme ratio.

    >>> parse_aspect("9:16")
    Fraction(9, 16)
    """
    try:
        width, height = (int(one) for one in text.split(":"))
        ratio = Fraction(width, height)
        if not Fraction(1, 4) <= ratio <= 4:
            raise ValueError
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(
            expected="a ratio of width to height from 1:4 to 4:1, such as 9:16",
            got=repr(text),
            fix="for example 9:16, 1:1 or 4:5",
        ) from error
    return ratio


def crop_size(size: Size, sample_aspect_ratio: Fraction, aspect: Fraction) -> tuple[float, float]:
    """Return width and height of the largest crop of a ratio, as fractions of the source.

    >>> crop_size((1920, 1080), Fraction(1), Fraction(9, 16))
    (0.31640625, 1.0)
    """
    source = Fraction(size[0], size[1]) * sample_aspect_ratio
    return min(1.0, float(aspect / source)), min(1.0, float(source / aspect))


def output_size(size: Size, sample_aspect_ratio: Fraction, aspect: Fraction) -> Size:
    """Return the even (width, height) of the output: 1080 pixels wide for 9:16 of HD, otherwise as the crop.

    >>> output_size((1920, 1080), Fraction(1), Fraction(9, 16)), output_size((640, 360), Fraction(1), Fraction(9, 16))
    ((1080, 1920), (202, 360))
    """
    share = crop_size(size, sample_aspect_ratio, aspect)
    height = size[1] * share[1]
    width = height * float(aspect)
    scale = FULL_SIDE_PX / min(width, height) if min(width, height) >= _MIN_CROP_PX else 1.0
    return _even(width * scale), _even(height * scale)


def _even(value: float) -> int:
    return max(2, 2 * round(value / 2))


def shot_paths(
    span: Span,
    shots: Sequence[Span],
    evidence: Mapping[int, Sequence[Box]],
    crop: tuple[float, float],
    rate: float,
) -> list[ShotPath]:
    """Return the path of each shot in a span.

    Args:
        span: frames of the clip.
        shots: of the video.
        evidence: frame number -> boxes that the crop should contain.
        crop: width and height of the crop, as fractions of the source.
        rate: frames per second, for the smoothing.

    Without evidence in a shot the crop is in the middle.
    """
    paths = []
    for shot in shots or [span]:
        if not span.intersection(shot):
            continue
        part = Span(max(span.first, shot.first), min(span.end, shot.end))
        boxes = {n: union(evidence[n]) for n in range(part.first, part.end) if evidence.get(n)}
        paths.append(_path(part, boxes, crop, rate))
    return paths


def _path(part: Span, boxes: Mapping[int, Box], crop: tuple[float, float], rate: float) -> ShotPath:
    for name, share, sides in (
        ("wide", crop[0], [one.x2 - one.x1 for one in boxes.values()]),
        ("high", crop[1], [one.y2 - one.y1 for one in boxes.values()]),
    ):
        if sides and float(np.quantile(sides, 0.9)) > share * _SUBJECT_SHARE:
            largest = float(np.quantile(sides, 0.9))
            return ShotPath(
                part,
                (),
                f"padded: the subject is {largest:.0%} of the frame {name}, the crop {share:.0%}",
            )
    numbers = np.arange(part.first, part.end)
    corners = [
        _eased(numbers, {n: _range(one, axis) for n, one in boxes.items()}, crop[axis], rate)
        for axis in (0, 1)
    ]
    return ShotPath(
        part,
        tuple(
            Box(float(x), float(y), float(x) + crop[0], float(y) + crop[1])
            for x, y in zip(*corners, strict=True)
        ),
    )


def _range(box: Box, axis: int) -> tuple[float, float]:
    return (box.x1, box.x2) if axis == 0 else (box.y1, box.y2)


def _eased(
    numbers: NDArray[np.int64], ranges: Mapping[int, tuple[float, float]], side: float, rate: float
) -> Floats:
    """Return the low corner of the crop along one axis for each frame."""
    if side >= 1.0 or not ranges:
        return np.full(len(numbers), (1.0 - min(1.0, side)) / 2)
    known = sorted(ranges)
    low, high = (np.interp(numbers, known, [ranges[n][end] for n in known]) for end in (0, 1))
    sigma = _EASE_S * rate
    corner = _smooth(_rest(((low + high) - side) / 2, _DEAD_ZONE * side), sigma)
    # The subject stays in the crop with some room, even if smoothing is late; then without room, but smoothly.
    room = np.clip((side - (high - low)) / 2, 0.0, _EDGE * side)
    corner = _smooth(_between(corner, high + room - side, low - room), sigma / 2)
    return np.clip(_between(corner, high - side, low), 0.0, 1.0 - side)


def _between(corner: Floats, one: Floats, other: Floats) -> Floats:
    return np.clip(corner, np.minimum(one, other), np.maximum(one, other))


def _rest(wanted: Floats, zone: float) -> Floats:
    """Return positions that move only when the wanted position is further away than a zone."""
    found = np.empty_like(wanted)
    position = wanted[0]
    for number, one in enumerate(wanted):
        position = min(max(position, one - zone), one + zone)
        found[number] = position
    return found


def _smooth(values: Floats, sigma: float) -> Floats:
    """Return values averaged over time with a Gaussian weight; the ends are repeated."""
    reach = max(1, math.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, weights / weights.sum(), mode="valid")
