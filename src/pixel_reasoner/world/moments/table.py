"""Recognition of the frames of annotated clips by their frame code, for scripted models."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.world.moments.frame_code import read_frame_code
from pixel_reasoner.world.moments.rows import ClipRow, PixelBox, QueryRow, read_moments


class ClipFrame(NamedTuple):
    """Frame of an annotated clip."""

    clip: ClipRow
    frame: int
    """number of the frame, from 0"""

    def shows(self, query: QueryRow) -> bool:
        """Return whether the event of a query is visible in the frame."""
        return any(span.first_frame <= self.frame < span.end_frame for span in query.spans)

    def boxes(self, query: QueryRow) -> tuple[PixelBox, ...]:
        """Return the boxes of the events of a query in the frame."""
        return tuple(
            _interpolated(span.boxes, span.first_frame, span.end_frame, self.frame)
            for span in query.spans
            if span.first_frame <= self.frame < span.end_frame
        )

    @property
    def target_boxes(self) -> tuple[PixelBox, ...]:
        """The visible boxes of the face or plate."""
        return self.clip.target.boxes[self.frame]


class ClipTable:
    """Annotated clips of folders that `world moments` wrote."""

    def __init__(self, *folders: Path) -> None:
        """Read the rows.

        Raises:
            InputError: a missing file, a line that is not a row, or two clips with one code.
        """
        self.rows = [row for folder in folders for row in read_moments(folder)]
        self._by_code = {row.code: row for row in self.rows}
        if len(self._by_code) < len(self.rows):
            raise InputError(
                expected="clips with different frame codes",
                got=f"{len(self.rows)} clips with {len(self._by_code)} codes",
                fix="use other seeds",
            )

    def recognise(self, picture: Image.Image) -> ClipFrame | None:
        """Return the frame of an upright whole frame, at any size from a width of 120 pixels; None for others."""
        code = read_frame_code(picture)
        row = self._by_code.get(code.clip) if code is not None else None
        if code is None or row is None or code.frame >= row.num_frames:
            return None
        return ClipFrame(row, code.frame)


def _interpolated(boxes: tuple[PixelBox, ...], first: int, end: int, frame: int) -> PixelBox:
    """Return the box of a frame between those of the first, middle and last frame of a span."""
    at = (first, (first + end - 1) // 2, end - 1)
    half = 0 if frame <= at[1] else 1
    length = at[half + 1] - at[half]
    share = (frame - at[half]) / length if length else 0.0
    pairs = zip(boxes[half], boxes[half + 1], strict=True)
    left, top, right, bottom = (round(a + (b - a) * share) for a, b in pairs)
    return left, top, right, bottom
