"""Dissolves between shots: gradual transitions that a comparison of neighbouring frames does not find.

During a dissolve each frame is a mix of the frame before and the frame after it. So a window is a dissolve if the frames
at a quarter, half and three quarters of it are mixes of its two ends in about these proportions, and the ends are
different pictures. Camera and object motion give other pictures in between; a change of light leaves the ends alike.
Where the camera moves during the dissolve, the loss of contrast shows it: the sum of two unlike pictures has less
contrast than either.

PySceneDetect has no such detector: on generated clips with 126 dissolves its AdaptiveDetector finds none of them,
ContentDetector and HistogramDetector find some of them with many false shots (dev/LOG.md).
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixel_reasoner.workflows.moments.spans import Span

DURATIONS_S = (0.35, 0.5, 0.65, 0.85, 1.1, 1.4, 1.8)
"""lengths of the windows; a dissolve is found by the one nearest to its length"""
SIZE = (48, 27)
"""width and height of the compared pictures: blurred, so that noise and small motion do not count"""
MIN_CHANGE = 12.0
"""root mean square difference of the ends, in levels of 0 to 255"""
MAX_CORRELATION = 0.5
"""of the ends; a change of light keeps it above"""
MAX_SHARE_ERROR = 0.15
"""difference of the share of the second end in a frame from its place in the window"""
MAX_RESIDUAL = 0.45
"""what a mix of the ends does not explain, divided by their difference"""
RESIDUAL_AT_NO_CORRELATION, RESIDUAL_PER_CORRELATION = 0.4, 0.6
"""A slow pan is nearly a mix of its ends, but they are alike; so like ends must be explained better."""
MIN_CONTRAST_LOSS, MAX_MOVING_RESIDUAL, MAX_MOVING_CORRELATION = 0.7, 0.6, 0.3
"""for a dissolve with motion: the loss of contrast, divided by that of a mix"""
_OVERLAP = 0.8
"""distance of two dissolves, divided by their mean length, below which they are one"""

Pixels = NDArray[np.float32]


class Dissolve(NamedTuple):
    """A gradual transition.

    Attributes:
        middle: frame in its middle: from this one on, the second shot is at least as visible as the first.
        num_frames: length.
        strength: difference of the two shots.
    """

    middle: int
    num_frames: int
    strength: float

    @property
    def span(self) -> Span:
        """Its frames."""
        first = max(0, self.middle - self.num_frames // 2)
        return Span(first, first + self.num_frames)


class DissolveDetector:
    """Detector that gets all frames in order, and keeps those of the longest window.

    >>> detector = DissolveDetector(25.0)
    >>> one, other = np.zeros((36, 64, 3), np.uint8), np.zeros((36, 64, 3), np.uint8)
    >>> one[:18], other[:, :32] = 200, 200
    >>> for number in range(100):
    ...     share = min(1.0, max(0.0, (number - 39) / 21))
    ...     detector.add((one * (1 - share) + other * share).astype(np.uint8))
    >>> [abs(found.middle - 50) <= 2 for found in detector.found()]
    [True]
    """

    def __init__(self, frames_per_s: float) -> None:
        """Start without frames."""
        # A multiple of four frames has frames at its quarters.
        lengths = {max(4, 4 * round(seconds * frames_per_s / 4)) for seconds in DURATIONS_S}
        self._lengths = sorted(lengths)
        self._frames: deque[Pixels] = deque(maxlen=self._lengths[-1] + 1)
        self._num_frames = 0
        self._candidates: list[Dissolve] = []

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Add the next frame.

        Args:
            picture: shape (height, width, 3).
        """
        import cv2

        small = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA)
        self._frames.append(small.astype(np.float32).ravel())
        self._num_frames += 1
        for length in self._lengths:
            if length >= len(self._frames):
                return
            strength = self._strength(length)
            if strength > 0:
                middle = self._num_frames - 1 - length // 2
                self._candidates.append(Dissolve(middle, length, strength))

    def found(self) -> list[Dissolve]:
        """Return the dissolves in order."""
        chosen: list[Dissolve] = []
        # A part of a dissolve is a dissolve too: the one with the largest change is the whole.
        for one in sorted(self._candidates, key=lambda one: -one.strength):
            if all(
                abs(one.middle - other.middle) > _OVERLAP * (one.num_frames + other.num_frames) / 2
                for other in chosen
            ):
                chosen.append(one)
        return sorted(chosen)

    def _strength(self, length: int) -> float:
        """Return how much the last `length` frames change, if they are a dissolve; 0 otherwise."""
        last = len(self._frames) - 1
        first, end = self._frames[last - length], self._frames[last]
        change = end - first
        energy = float(change @ change)
        if energy < MIN_CHANGE**2 * len(change):
            return 0.0
        ends = _Ends(first - first.mean(), end - end.mean())
        if ends.correlation > MAX_CORRELATION:
            return 0.0
        residuals, losses = [], []
        for quarter in (2, 1, 3):
            between = self._frames[last - length + length * quarter // 4]
            offset = between - first
            share = float(offset @ change) / energy
            if abs(share - quarter / 4) > MAX_SHARE_ERROR:
                return 0.0
            rest = offset - share * change
            residuals.append(math.sqrt(float(rest @ rest) / energy))
            losses.append(ends.contrast_loss(between, share))
        residual = sum(residuals) / len(residuals)
        if not _is_dissolve(residual, min(losses), ends.correlation):
            return 0.0
        return math.sqrt(energy / len(change)) * (1 - residual)


class _Ends:
    """First and last frame of a window, each minus its mean."""

    def __init__(self, first: Pixels, end: Pixels) -> None:
        self._first, self._end = float(first @ first), float(end @ end)
        self._common = float(first @ end)
        # Against pictures of one colour, whose contrast is noise.
        self.correlation = self._common / ((self._first * self._end) ** 0.5 + 1e-6 * len(first))

    def contrast_loss(self, between: Pixels, share: float) -> float:
        """Return the loss of contrast of a frame, divided by that of a mix: about 1 in a dissolve, 0 without one."""
        centred = between - between.mean()
        linear = (1 - share) * self._first + share * self._end
        mix = (
            (1 - share) ** 2 * self._first
            + share**2 * self._end
            + 2 * share * (1 - share) * self._common
        )
        return (linear - float(centred @ centred)) / max(linear - mix, 1e-6)


def _is_dissolve(residual: float, contrast_loss: float, correlation: float) -> bool:
    allowed = RESIDUAL_AT_NO_CORRELATION - RESIDUAL_PER_CORRELATION * correlation
    if residual <= min(MAX_RESIDUAL, allowed) and contrast_loss >= 0:
        return True
    return (
        contrast_loss >= MIN_CONTRAST_LOSS
        and residual <= MAX_MOVING_RESIDUAL
        and correlation <= MAX_MOVING_CORRELATION
    )
