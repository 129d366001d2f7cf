"""Numbered pictures of proposals: the place in the photo, next to the same place of the aligned reference. Tiles of photos."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.files import atomic_path
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.workflows.inspection.pictures import Array, Matrix, opencv, size_of
from pixel_reasoner.workflows.inspection.places import PixelBox, Proposal
from pixel_reasoner.workflows.inspection.proposals import grown, reference_crop

_MIN_CONTEXT_PX = 40
"""margin around a place, in pixels of the photo"""
_MIN_SIDE, _MAX_SIDE = 256, 512
"""longest side of one half of the picture"""
_MAX_ENLARGED = 6.0
_GUTTER = 8
_HEADER = 26
_MARK = (235, 64, 52)
TILE_OVERLAP_PX = 96
"""smallest overlap of tiles, in pixels of the photo"""


def crop_area(box: PixelBox, size: Size) -> PixelBox:
    """Return the region that a numbered picture shows: the place with its surroundings, about square."""
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height) + 2 * max(_MIN_CONTEXT_PX, max(width, height) // 2)
    centre_x, centre_y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    left = min(max(0, centre_x - side // 2), max(0, size[0] - side))
    top = min(max(0, centre_y - side // 2), max(0, size[1] - side))
    return left, top, min(size[0], left + side), min(size[1], top + side)


def numbered_picture(
    photo: Array, proposal: Proposal, reference: Array | None, matrix: Matrix | None
) -> Image.Image:
    """Return the picture of one proposal, with its number and a frame around the place on both sides.

    Args:
        photo: RGB at full size.
        proposal: the place.
        reference: at full size; None: only the photo is shown.
        matrix: from the reference to the photo.
    """
    area = crop_area(proposal.box, size_of(photo))
    left, top, right, bottom = area
    halves = [(f"{proposal.number}  photo", photo[top:bottom, left:right])]
    if reference is not None and matrix is not None:
        halves.append((f"{proposal.number}  good part", reference_crop(reference, matrix, area)))
    scale = _scale(max(right - left, bottom - top))
    shown = [(title, _enlarged(half, scale)) for title, half in halves]
    width = sum(half.width for _, half in shown) + _GUTTER * (len(shown) - 1)
    sheet = Image.new("RGB", (width, shown[0][1].height + _HEADER), "white")
    draw, x = ImageDraw.Draw(sheet), 0
    for title, half in shown:
        sheet.paste(half, (x, _HEADER))
        draw.text((x + 4, 4), title, fill=(20, 24, 32), font_size=16)
        _frame(draw, proposal.box, area, scale, (x, _HEADER), half.size)
        x += half.width + _GUTTER
    return sheet


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture atomically as PNG.

    Raises:
        OutputError: the path cannot be written.
    """
    with atomic_path(path) as part:
        picture.save(part, "PNG", compress_level=1)


def tiles(size: Size, max_px: int, overlap_px: int = TILE_OVERLAP_PX) -> list[Box]:
    """Return overlapping tiles that cover a photo, each with at most `max_px` pixels; one tile if the photo is small.

    Args:
        size: of the photo.
        max_px: pixels that a model sees of one picture.
        overlap_px: at least the size of the largest defect that must be seen whole.

    >>> len(tiles((4000, 3000), 1_000_000)), tiles((800, 600), 1_000_000)
    (20, [Box(x1=0.0, y1=0.0, x2=1.0, y2=1.0)])
    """
    width, height = size
    if width * height <= max_px:
        return [Box(0.0, 0.0, 1.0, 1.0)]
    side = max(2 * overlap_px, math.isqrt(max_px))
    columns, rows = list(_starts(width, side, overlap_px)), list(_starts(height, side, overlap_px))
    return [
        Box(x / width, y / height, min(width, x + side) / width, min(height, y + side) / height)
        for y in rows
        for x in columns
    ]


def _starts(length: int, side: int, overlap: int) -> Iterator[int]:
    if length <= side:
        yield 0
        return
    count = math.ceil((length - overlap) / (side - overlap))
    for number in range(count):
        yield round(number * (length - side) / (count - 1))


def _scale(side: int) -> float:
    if side > _MAX_SIDE:
        return _MAX_SIDE / side
    return min(_MAX_ENLARGED, max(1.0, _MIN_SIDE / side))


def _enlarged(crop: Array, scale: float) -> Image.Image:
    cv2 = opencv()
    height, width = crop.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return Image.fromarray(cv2.resize(np.ascontiguousarray(crop), size, interpolation=way))


def _frame(
    draw: ImageDraw.ImageDraw,
    box: PixelBox,
    area: PixelBox,
    scale: float,
    at: tuple[int, int],
    half: Size,
) -> None:
    """Draw a thin frame around the place, with a margin that leaves its edge visible."""
    margin = max(3, round(0.15 * max(box[2] - box[0], box[3] - box[1])))
    inner = grown(box, margin, (area[2], area[3]))
    left, top = at[0] + (inner[0] - area[0]) * scale, at[1] + (inner[1] - area[1]) * scale
    right, bottom = at[0] + (inner[2] - area[0]) * scale, at[1] + (inner[3] - area[1]) * scale
    right, bottom = min(right, at[0] + half[0] - 1), min(bottom, at[1] + half[1] - 1)
    left, top = max(left, at[0]), max(top, at[1])
    draw.rectangle((left, top, right, bottom), outline="white", width=3)
    draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=_MARK, width=1)
