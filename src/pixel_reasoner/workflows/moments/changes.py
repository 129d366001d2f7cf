"""Short changes between the samples of the coarse pass: frames to ask about in addition, so that short moments are found.

Something that appears and disappears between two samples differs from both of them at one place. All frames are decoded for
the shots anyway, so this costs nothing but the additional frames: at most one between two samples, and none where nothing
changes. In a clip where something always moves, that is as many as the samples themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SIZE = (48, 27)
"""width and height of the compared pictures"""
MIN_CHANGE = 20
"""difference of a place from both samples, in levels of 0 to 255; noise is below"""
_NEARLY_LARGEST = 0.9

Pixels = NDArray[np.int16]


class ChangeFinder:
    """Finder that gets all frames in order, and keeps those since the last sample.

    Args:
        sampled: numbers of the frames of the coarse pass.

    >>> finder = ChangeFinder([10, 30])
    >>> dark, bright = np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160, 3), np.uint8)
    >>> bright[20:40, 50:80] = 200
    >>> for number in range(40):
    ...     finder.add(number, bright if 17 <= number < 22 else dark)
    >>> finder.found()
    [19]
    """

    def __init__(self, sampled: Iterable[int]) -> None:
        self._sampled = frozenset(sampled)
        self._before: Pixels | None = None
        """the last sample"""
        self._first = 0
        self._gap: list[Pixels] = []
        """frames since the last sample, from `_first` on"""
        self._found: list[int] = []

    def add(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Add the next frame.

        Args:
            number: of the frame, from 0.
            picture: shape (height, width, 3).
        """
        import cv2

        small = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA).astype(np.int16).ravel()
        if number in self._sampled:
            self._close(small)
            self._before, self._first = small, number + 1
        else:
            self._gap.append(small)

    def found(self) -> list[int]:
        """Return the frames to ask about in addition, in order. No frame may be added after it."""
        self._close(None)
        return self._found

    def _close(self, after: Pixels | None) -> None:
        """End the gap before a sample; None: the gap at the end of the video."""
        samples = [one for one in (self._before, after) if one is not None]
        if self._gap and samples:
            gap = np.stack(self._gap)
            # At each place the difference from the more similar sample: motion and lasting changes resemble one of them.
            differences = np.minimum.reduce([np.abs(gap - one) for one in samples])
            sizes = np.where(differences >= MIN_CHANGE, differences, 0).sum(axis=1)
            if sizes.any():
                # The middle of the largest change, not its first frame, which may hardly show it.
                largest = np.flatnonzero(sizes >= sizes.max() * _NEARLY_LARGEST)
                self._found.append(self._first + int(largest[len(largest) // 2]))
        self._gap = []
