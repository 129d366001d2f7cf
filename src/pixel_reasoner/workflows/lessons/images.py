"""Pictures of a lesson: encoded first views and crops, contact sheets, and marked copies for slides and paper."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from pixel_reasoner.reports.marks import BoxMark, draw_boxes, draw_cross, draw_tick
from pixel_reasoner.reports.typesetting import INK, Style, Typesetter
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.workflows.lessons.lesson import LessonContent, LessonStep, Look, Verdict

MAX_SIDE_PX = 1280
"""longest side of a stored picture"""
MIN_MARKED_SIDE_PX = 720
"""smaller pictures are enlarged before marks are drawn, so that numbers are legible"""
_GAP_PX, _LABEL_PX = 12, 42
_MAX_PNG_PX = 360_000
"""larger pictures are stored as JPEG; PNG of photographs is slow and large"""


class Sheet(NamedTuple):
    """All question pictures of a step as one picture."""

    image: Image.Image
    cells: tuple[Box, ...]
    """place of each question picture"""


class Illustrations:
    """Question pictures of the steps of a lesson, plain and marked, each drawn and encoded once for all outputs."""

    def __init__(self, content: LessonContent) -> None:
        self.lesson, self.pictures = content.lesson, content.pictures
        self._files: dict[tuple[int, bool], tuple[bytes, Size]] = {}

    def cells(self, step: LessonStep) -> tuple[Box, ...]:
        """Return the place of each question picture in `plain` and `marked`."""
        return question_sheet(step, self.pictures).cells if step.is_choice else (WHOLE,)

    def plain(self, step: LessonStep) -> tuple[bytes, Size]:
        """Return the question pictures as one file, and its size."""
        return self._file(step, is_marked=False)

    def marked(self, step: LessonStep) -> tuple[bytes, Size]:
        """Return the question pictures with all looks as one file, and its size."""
        return self._file(step, is_marked=True)

    def _file(self, step: LessonStep, *, is_marked: bool) -> tuple[bytes, Size]:
        key = step.number, is_marked
        if key not in self._files:
            draw = marked_sheet if is_marked else _plain_sheet
            image = draw(step, self.pictures)
            content = encode(image)
            self._files[key] = content, decode(content).size
        return self._files[key]


def encode(image: Image.Image) -> bytes:
    """Return a picture as PNG or JPEG, at most `MAX_SIDE_PX` long."""
    image = image.convert("RGB")
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if image.width * image.height <= _MAX_PNG_PX:
        image.save(buffer, "PNG", compress_level=4)
    else:
        image.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def decode(content: bytes) -> Image.Image:
    """Return an encoded picture of a lesson."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def enlarged_region(image: Image.Image, box: Box, size: Size) -> Image.Image:
    """Return a region of a picture at another size: what a crop shows without a second look at the source."""
    sides = (
        box.x1 * image.width,
        box.y1 * image.height,
        box.x2 * image.width,
        box.y2 * image.height,
    )
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC, box=sides)


def question_sheet(step: LessonStep, pictures: dict[str, bytes]) -> Sheet:
    """Return the question pictures of a step as one picture, numbered if there are several."""
    images = [decode(pictures[one.ref]) for one in step.pictures]
    if len(images) == 1:
        return Sheet(_at_least(images[0], MIN_MARKED_SIDE_PX), (WHOLE,))
    return _contact_sheet(images)


def _plain_sheet(step: LessonStep, pictures: dict[str, bytes]) -> Image.Image:
    return question_sheet(step, pictures).image


def marked_sheet(step: LessonStep, pictures: dict[str, bytes]) -> Image.Image:
    """Return the question pictures with the numbered places of all looks, and a cross or tick at each."""
    sheet = question_sheet(step, pictures)
    image = sheet.image.copy()
    marks = [
        BoxMark(box, look.number)
        for look in step.reveal.looks
        for box in boxes_on_sheet(look, sheet.cells)
    ]
    font_px = max(20, round(max(image.size) / 42))
    draw_boxes(image, marks, Typesetter(font_px))
    for look in step.reveal.looks:
        for box in boxes_on_sheet(look, sheet.cells):
            _draw_sign(image, box, look.verdict, font_px)
    return image


def boxes_on_sheet(look: Look, cells: Sequence[Box]) -> list[Box]:
    """Return the places of a look on a sheet.

    >>> look = Look(number=1, action="zoom", box=Box(0.0, 0.0, 0.5, 1.0), image=2)
    >>> boxes_on_sheet(look, [Box(0.0, 0.0, 0.5, 1.0), Box(0.5, 0.0, 1.0, 1.0)])
    [Box(x1=0.5, y1=0.0, x2=0.75, y2=1.0)]
    """
    if look.frames:
        return [cells[number - 1] for number in look.frames if number <= len(cells)]
    if look.box is None or look.image > len(cells):
        return []
    return [look.box.within(cells[look.image - 1])]


def targets_on_sheet(step: LessonStep, cells: Sequence[Box]) -> list[Box]:
    """Return the places that a good guess covers, on a sheet."""
    reveal = step.reveal
    if reveal.target_frames:
        return [cells[number - 1] for number in reveal.target_frames if number <= len(cells)]
    if step.is_choice and not reveal.targets:
        return []
    return [box.within(cells[reveal.target_image - 1]) for box in reveal.targets]


def _contact_sheet(images: Sequence[Image.Image]) -> Sheet:
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    side = max(140, (1200 - _GAP_PX * (columns + 1)) // columns)
    images = [one.resize(_fit(one.size, side), Image.Resampling.LANCZOS) for one in images]
    height = max(one.height for one in images)
    step = side + _GAP_PX, height + _LABEL_PX + _GAP_PX
    sheet = Image.new("RGB", (_GAP_PX + columns * step[0], _GAP_PX + rows * step[1]), "#ffffff")
    pen, typesetter = ImageDraw.Draw(sheet), Typesetter(30)
    cells = []
    for number, image in enumerate(images):
        left = _GAP_PX + number % columns * step[0]
        top = _GAP_PX + number // columns * step[1]
        typesetter.draw(pen, (left, top), [f"{number + 1}"], Style(30, is_bold=True, color=INK))
        sheet.paste(image, (left, top + _LABEL_PX))
        edges = (left, top + _LABEL_PX, left + image.width, top + _LABEL_PX + image.height)
        cells.append(Box.of(edges, per=sheet.size))
    return Sheet(sheet, tuple(cells))


def _draw_sign(image: Image.Image, box: Box, verdict: Verdict, font_px: int) -> None:
    """Draw a tick or a cross at the lower right corner of a place."""
    if verdict is Verdict.UNKNOWN:
        return
    radius = 0.8 * font_px
    x = min(max(box.x2 * image.width, radius), image.width - radius)
    y = min(max(box.y2 * image.height, radius), image.height - radius)
    draw = draw_tick if verdict is Verdict.RIGHT else draw_cross
    draw(image, (x, y), radius)


def _at_least(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    if scale <= 1:
        return image
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _fit(size: Size, side: int) -> Size:
    return side, max(1, round(side * size[1] / size[0]))
