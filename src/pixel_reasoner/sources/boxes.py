"""Boxes and frames of rows, in the unit and format of the row or of a source option."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box, BoxError, Size
from pixel_reasoner.schema.media_url import is_url, media_exists
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.sources.cells import parse_whole_number
from pixel_reasoner.sources.rows import RowError


class BoxUnit(StrEnum):
    """Unit of the numbers of a box."""

    PIXEL = "pixel"
    FRACTION = "fraction"
    """fraction of the width and height, 0 to 1"""
    PERMILLE = "permille"
    """per mille of the width and height, 0 to 1000"""


class BoxFormat(StrEnum):
    """Meaning of the numbers of a box."""

    XYXY = "xyxy"
    """left, top, right, bottom"""
    XYWH = "xywh"
    """left, top, width, height"""


class Units(Record):
    """Units and format of the boxes and frames of rows."""

    box_unit: BoxUnit = BoxUnit.PIXEL
    box_format: BoxFormat = BoxFormat.XYXY
    frame_base: Literal[0, 1] = 1
    """number of the first frame"""


PIXELS = Units()


def parse_box(numbers: Any, size: Size, units: Units = PIXELS) -> Box:
    """Return a row's box as a normalised box of a picture of `size` (width, height) in pixels.

    Raises:
        RowError: not a box inside the picture, or all pixel values are at most 1 (the message asks for the unit).

    >>> parse_box([10, 20, 30, 40], (100, 200))
    Box(x1=0.1, y1=0.1, x2=0.3, y2=0.2)
    >>> parse_box([100, 100, 200, 100], (100, 200), Units(box_unit="permille", box_format="xywh"))
    Box(x1=0.1, y1=0.1, x2=0.3, y2=0.2)
    """
    per = {BoxUnit.PIXEL: size, BoxUnit.FRACTION: (1, 1), BoxUnit.PERMILLE: (1000, 1000)}
    width, height = per[units.box_unit]
    try:
        values = list(numbers)
        if units.box_unit is BoxUnit.PIXEL and values and all(0 <= one <= 1 for one in values):
            raise RowError("box_without_unit", _ask_for_unit(numbers, size))
        if units.box_format is BoxFormat.XYWH:
            x, y, w, h = values
            values = [x, y, _at_side(x + w, width), _at_side(y + h, height)]
        return Box.of(values, per=(width, height))
    except (BoxError, TypeError, ValueError) as error:
        detail = (
            f"expected {units.box_format} in {units.box_unit} inside {width} x {height};"
            f" got {numbers}: {error}"
        )
        raise RowError("bad_box", detail) from error


def _at_side(end: float, side: float) -> float:
    """Return a box edge, moved onto the picture border if only rounding placed it outside."""
    return side if side < end <= side * (1 + 1e-6) else end


def _ask_for_unit(numbers: Any, size: Size) -> str:
    return (
        f"expected pixels of a picture of {size[0]} x {size[1]}; got {numbers}, all at most 1."
        ' Add "box_unit": "fraction" (0 to 1) or "permille" (0 to 1000) to the row, or `synth --box-unit`'
    )


def boxes_on_picture(
    boxes: Any, image: int, media: Sequence[MediaItem], units: Units = PIXELS
) -> list[Box]:
    """Return the boxes of a row on picture number `image` (from 1), as normalised boxes.

    Raises:
        RowError: no such picture, or a box outside it.
    """
    if not boxes:
        return []
    if isinstance(boxes, list) and all(isinstance(one, int | float) for one in boxes):
        boxes = [boxes]
    if not 1 <= image <= len(media) or media[image - 1].kind != "image":
        raise RowError(
            "bad_image_number", f"expected a picture from 1 to {len(media)}; got {image}"
        )
    item = media[image - 1]
    if not media_exists(item.path):
        raise RowError("missing_file", item.path)
    size = _item_size(item) if is_url(item.path) else picture_size(Path(item.path))
    return [parse_box(box, size, units) for box in boxes]


def picture_size(path: Path) -> Size:
    """Return (width, height) of a picture file.

    Raises:
        RowError: it cannot be opened.
    """
    from pixel_reasoner.media.images import image_size  # loads media libraries

    try:
        return image_size(path, DEFAULT_MEDIA_LIMITS)
    except InputError as error:
        raise RowError("unusable_medium", str(error)) from error


def _item_size(item: MediaItem) -> Size:
    """Return (width, height) of a picture in an object store."""
    from pixel_reasoner.media.remote_media import local_item  # loads media libraries

    try:
        with local_item(item, DEFAULT_MEDIA_LIMITS) as here:
            return picture_size(Path(here.path))
    except InputError as error:
        raise RowError("unusable_medium", str(error)) from error


def parse_frames(value: Any, units: Units = PIXELS) -> tuple[int, ...]:
    """Return the numbers of sampled frames of a row, from 1.

    Raises:
        RowError: not a list of whole numbers.
    """
    if not isinstance(value, list | tuple):
        raise RowError("bad_value", f"frames: expected a list of whole numbers; got {value!r}")
    return tuple(parse_whole_number(one, "frames") + 1 - units.frame_base for one in value)


def frames_at(
    media_item: MediaItem, times_s: Iterable[float], *, within: bool = True
) -> tuple[int, ...]:
    """Return the numbers (from 1) of the sampled frames of a video that are nearest to the given times.

    Args:
        media_item: the video, or a part of it.
        times_s: seconds from the start of the video.
        within: whether the times must be inside the part.

    Raises:
        RowError: the video cannot be sampled, or a time is outside the part.
    """
    from pixel_reasoner.media.remote_media import local_item  # loads media libraries
    from pixel_reasoner.media.videos import sample_video

    if media_item.kind != "video":
        raise RowError(
            "bad_frame", f"expected times in a video; got media of type {media_item.kind}"
        )
    try:
        with local_item(media_item, DEFAULT_MEDIA_LIMITS) as here:
            sampled = sample_video(
                Path(here.path), DEFAULT_MEDIA_LIMITS, media_item.start_s, media_item.end_s
            )
    except InputError as error:
        raise RowError("unusable_medium", str(error)) from error
    shown_s = [frame.time_s or 0.0 for frame in sampled]
    wanted_s = list(times_s)
    # A frame is visible until the next one: use half the largest gap, or the full gap after the last frame.
    gap_s = max((b - a for a, b in pairwise(shown_s)), default=1.0)
    for time_s in wanted_s if within else ():
        if not shown_s[0] - gap_s <= time_s <= shown_s[-1] + gap_s:
            detail = f"expected seconds from {shown_s[0]:g} to {shown_s[-1]:g}; got {time_s:g}"
            raise RowError("bad_frame", detail)
    nearest = {min(range(len(shown_s)), key=lambda n: abs(shown_s[n] - t)) for t in wanted_s}
    return tuple(sorted(number + 1 for number in nearest))
