"""Tiles of one trace: its pictures with numbered boxes, the results of its calls, and its answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from PIL import Image, ImageDraw

from pixel_reasoner.errors import PixelReasonerError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.resize import region_px
from pixel_reasoner.media.transforms import apply_transforms
from pixel_reasoner.reports.marks import BoxMark, draw_badge, draw_boxes, step_color
from pixel_reasoner.reports.panels import Panel, PanelKind, Storyboard, one_line
from pixel_reasoner.reports.steps import size_in_words, time_in_words
from pixel_reasoner.reports.tiles import (
    REJECTED,
    RESULT,
    answer_tile,
    message_height,
    message_tile,
    omission,
)
from pixel_reasoner.reports.typesetting import CAPITAL_MIDDLE, PAPER, Style, Typesetter
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.trace import Picture, Trace

MAX_FRAMES, FRAMES_PER_ROW, PICTURES_PER_ROW = 24, 8, 4
"""shown pictures of a question with several; those with later results are always shown"""
MAX_THUMBNAIL_SIZES = 14
"""height of a picture of several, in sizes of the font"""
MAX_RESULTS = 9
"""shown pictures of one step"""
_SHARP_BELOW = 3.0
"""pictures enlarged by at least this factor are drawn with hard pixel edges: they have no more detail"""


def fitted_size(size: Size, room: Size) -> Size:
    """Return the largest (width, height) with the same shape within some room, at least one pixel each.

    >>> fitted_size((960, 720), (400, 400)), fitted_size((20_000, 2), (400, 400))
    ((400, 300), (400, 1))
    """
    scale = min(most / side for most, side in zip(room, size, strict=True))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


class Pictures:
    """Pixels of one trace. A picture that cannot be opened is replaced by a tile with the reason.

    Args:
        trace: its media are opened again.
        typesetter: draws the reasons.
        context: open media of the trace.
    """

    def __init__(
        self, trace: Trace, typesetter: Typesetter, context: MediaContext | None = None
    ) -> None:
        self._reasons: dict[int, str] = {}
        """number of a picture that cannot be opened -> reason"""
        self._drawn: dict[tuple[int, Size], Image.Image] = {}
        self._typesetter = typesetter
        self._context: MediaContext | PixelReasonerError
        try:
            self._context = context or MediaContext.of_trace(trace)
        except PixelReasonerError as error:
            self._context = error

    def draw(self, picture: Picture, room: Size) -> Image.Image | None:
        """Return the pixels of a picture at full resolution, scaled to fit into some room.

        Args:
            picture: of the trace.
            room: (width, height) in pixels.

        Returns:
            None if it cannot be opened; `replacement` returns a tile with the reason.
        """
        try:
            if isinstance(self._context, PixelReasonerError):
                raise self._context
            key = picture.number, room
            if key not in self._drawn:  # the source may have 100 million pixels
                self._drawn[key] = _render(self._context, picture, room)
            return self._drawn[key].copy()
        except PixelReasonerError as error:
            self._reasons[picture.number] = one_line(error.got, 300)
            return None

    def replacement(self, picture: Picture, room: Size) -> Image.Image:
        """Return a tile for a picture that cannot be opened."""
        width, height = fitted_size(picture.source_px, room)
        size = max(width, room[0] // 2), max(height, room[1] // 3)
        return self.placeholder(self._reasons[picture.number], size)

    @property
    def unshown(self) -> Counter[str]:
        """Reason -> number of pictures that cannot be opened."""
        return Counter(self._reasons.values())

    @property
    def problem(self) -> str:
        """Reason for which no picture of the trace can be shown; empty if some can."""
        return "" if isinstance(self._context, MediaContext) else one_line(self._context.got, 300)

    def placeholder(self, reason: str, size: Size) -> Image.Image:
        """Return a tile with a reason instead of a picture."""
        return message_tile("Picture not shown", reason, size, self._typesetter)


def _render(context: MediaContext, picture: Picture, room: Size) -> Image.Image:
    """Return a picture at full resolution, scaled in one step: the source may have 100 million pixels."""
    if picture.beside:
        sheet = context.pixels(picture.number)
        return sheet.resize(fitted_size(sheet.size, room), Image.Resampling.LANCZOS)
    source = context.source(picture.number)
    left, top, right, bottom = region_px(source.size, picture.box)
    size = fitted_size((right - left, bottom - top), room)
    factor = size[0] / (right - left)
    resampling = Image.Resampling.LANCZOS if factor < _SHARP_BELOW else Image.Resampling.NEAREST
    region = source.resize(
        size,
        resampling,
        box=(left, top, right, bottom),
        reducing_gap=None if factor >= 1 else 3.0,
    ).convert("RGB")
    if not picture.transforms:
        return region
    turned = apply_transforms(region, picture.transforms)
    return turned.resize(fitted_size(turned.size, room), Image.Resampling.LANCZOS)


class TileMaker:
    """Draws the tiles of one trace.

    Args:
        trace: its media are opened again.
        board: its panels.
        typesetter: draws texts.
        context: open media of the trace; they are then not opened again.
    """

    def __init__(
        self,
        trace: Trace,
        board: Storyboard,
        typesetter: Typesetter,
        context: MediaContext | None = None,
    ) -> None:
        self.board, self._type = board, typesetter
        self._pictures = Pictures(trace, typesetter, context)
        self._crops = board.crops
        self._steps = [one for one in board.panels if one.kind is PanelKind.STEP]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the tiles do not show."""
        unshown = [
            f"{count} picture{'s' * (count > 1)} not shown: {reason}"
            for reason, count in self._pictures.unshown.items()
        ]
        num_left_out = sum(max(0, len(one.pictures) - MAX_RESULTS) for one in self._steps)
        left_out = f"{num_left_out} further pictures of steps left out" if num_left_out else ""
        return tuple(note for note in (*unshown, left_out, self._type.note) if note)

    def head(self, panel: Panel) -> str:
        """Return the line above a tile."""
        if panel.kind is not PanelKind.OVERVIEW or not panel.pictures:
            return panel.call[:1].upper() + panel.call[1:] if not panel.problem else panel.call
        count, first = len(panel.pictures), panel.pictures[0]
        left_out = f", {MAX_FRAMES} shown" if count > MAX_FRAMES else ""
        if first.frame is None:
            return "The picture of the question" if count == 1 else f"{count} pictures{left_out}"
        size = size_in_words(first.source_px)
        return f"The video: {count} sampled frames of {size} pixels{left_out}"

    def captions(self, panel: Panel) -> list[str]:
        """Return lines below a tile: the pixels of the source, and of the copy that the model received."""
        if len(panel.pictures) != 1:
            return []
        [picture] = panel.pictures
        size, seen = size_in_words(picture.source_px), size_in_words(picture.seen_px)
        return [f"Picture {picture.number}: {size} px", f"model input: {seen} px"]

    def tile(self, panel: Panel, room: Size) -> Image.Image:
        """Return the tile of a panel within some room (width, height) in pixels."""
        width, height = room
        if panel.kind is PanelKind.OMITTED:
            return omission(panel.number, (width, min(height, 2 * width // 3)), self._type)
        if said := panel.problem or panel.reply:
            needed = message_height(said, width, self._type)
            title = REJECTED if panel.problem else RESULT
            return message_tile(title, said, (width, min(height, needed)), self._type)
        if panel.kind is PanelKind.OVERVIEW:
            return self._overview(panel, room)
        return self._results(panel, room)

    def answer(self, size: Size) -> Image.Image:
        """Return the tile of the answer."""
        return answer_tile(self.board.answer, size, self._type)

    def marked(self, picture: Picture, room: Size, last_step: int | None = None) -> Image.Image:
        """Return a picture within some room, with the boxes of the pictures that operations made of it.

        Args:
            picture: of the question, or a result.
            room: (width, height) in pixels.
            last_step: last step whose boxes are drawn; None for all.
        """
        image = self._pictures.draw(picture, room)
        if image is None:
            return self._pictures.replacement(picture, room)
        marks = [
            mark for mark in self.marks(picture) if last_step is None or mark.step <= last_step
        ]
        draw_boxes(image, marks, self._type)
        return image

    def marks(self, picture: Picture) -> list[BoxMark]:
        """Return the boxes of later crops on a picture: of all crops on a picture of the question."""
        if picture.transforms:
            return []
        key = (picture.medium, picture.frame)
        return [
            BoxMark(crop.box.relative_to(picture.box), step)
            for step, crop in self._crops
            if (crop.medium, crop.frame) == key
            and crop.box != picture.box
            and (picture.parent is None or crop.parent == picture.number)
        ]

    def _overview(self, panel: Panel, room: Size) -> Image.Image:
        if len(panel.pictures) == 1:
            return self.marked(panel.pictures[0], room)
        if panel.pictures:
            return self.overview_grid(panel.pictures, room[0])
        reason = self._pictures.problem or "the question has no picture"
        size = room[0], min(room[1], message_height(reason, room[0], self._type))
        return self._pictures.placeholder(reason, size)

    def overview_grid(
        self,
        pictures: Sequence[Picture],
        width: int,
        per_row: int = FRAMES_PER_ROW,
        last_step: int | None = None,
    ) -> Image.Image:
        """Return several pictures of a question in rows. Selected frames have a coloured frame and a number.

        Args:
            pictures: of the question.
            width: of the grid in pixels.
            per_row: number of frames of a video in a row.
            last_step: last step whose frames and boxes are marked; None for all.
        """
        shown = self._chosen_pictures(pictures)
        if shown[0].frame is None:
            per_row = PICTURES_PER_ROW
        columns, gap = min(per_row, len(shown)), self._type.font_px // 2
        side = (width - (columns - 1) * gap) // columns
        cells = [self._thumbnail(picture, side, last_step) for picture in shown]
        return grid(cells, columns, gap)

    def _chosen_pictures(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Return pictures at equal distances and those with results, in order."""
        used = {(crop.medium, crop.frame) for _, crop in self._crops}
        first = [one for one in pictures if (one.medium, one.frame) in used][:MAX_FRAMES]
        others = [one for one in pictures if (one.medium, one.frame) not in used]
        room = MAX_FRAMES - len(first)
        step = max(1, math.ceil(len(others) / room)) if room else len(others) + 1
        return sorted([*first, *(others[::step] if room else [])], key=lambda one: one.number)

    def _thumbnail(self, picture: Picture, side: int, last_step: int | None) -> Image.Image:
        """Return a picture of the question with its number below, as wide as a column."""
        edge, style = max(3, self._type.font_px // 5), Style(self._type.font_px)
        height = min(side, MAX_THUMBNAIL_SIZES * self._type.font_px)
        image = self.marked(picture, (side - 2 * edge, height - 2 * edge), last_step)
        selected = [
            step
            for step, crop in self._crops
            if (crop.medium, crop.frame) == (picture.medium, picture.frame)
            and crop.box == picture.box
            and (last_step is None or step <= last_step)
        ]
        label, indent = self._thumbnail_label(picture, side, bool(selected))
        top = image.height + 2 * edge
        width = side
        if picture.frame is None:  # pictures of any shape are packed to the left
            width = max(image.width + 2 * edge, round(self._type.width(label, style)) + indent)
        cell = Image.new("RGB", (width, top + round(1.6 * style.size_px)), PAPER)
        if selected:
            cell.paste(step_color(selected[0]), (0, 0, image.width + 2 * edge, top))
            at = (0.72 * style.size_px, top + (0.16 + CAPITAL_MIDDLE) * style.size_px)
            draw_badge(cell, at, selected[0], self._type)
        cell.paste(image, (edge, edge))
        at = (edge + indent, top + 0.16 * style.size_px)
        self._type.draw(ImageDraw.Draw(cell), at, [label] if label else [], style)
        return cell

    def _thumbnail_label(self, picture: Picture, side: int, is_selected: bool) -> tuple[str, int]:
        """Return the text below a picture, and the pixels that the number of a step takes before it."""
        style = Style(self._type.font_px)
        indent = round(1.6 * style.size_px) if is_selected else 0
        if picture.frame is None:
            return f"Picture {picture.number}: {size_in_words(picture.source_px)} px", indent
        for label in (f"{picture.frame} · {time_in_words(picture)}", f"{picture.frame}"):
            is_complete = not label.endswith(" ")
            if is_complete and self._type.width(label, style) + indent <= side:
                return label, indent
        return "", indent

    def _results(self, panel: Panel, room: Size) -> Image.Image:
        """Return the pictures of a step in a frame of its colour."""
        shown = panel.pictures[:MAX_RESULTS]
        edge = max(4, self._type.font_px // 4)
        columns = num_columns(len(shown))
        gap, rows = edge, math.ceil(len(shown) / columns)
        inner = (
            (room[0] - 2 * edge - (columns - 1) * gap) // columns,
            (room[1] - 2 * edge - (rows - 1) * gap) // rows,
        )
        images = [self.marked(picture, inner) for picture in shown]
        if len(images) > 1:
            for image, picture in zip(images, shown, strict=True):
                self._label(image, picture)
        content = grid(images, columns, gap)
        tile = Image.new("RGB", (content.width + 2 * edge, content.height + 2 * edge))
        tile.paste(step_color(panel.number), (0, 0, *tile.size))
        tile.paste(content, (edge, edge))
        return tile

    def _label(self, image: Image.Image, picture: Picture) -> None:
        """Write the number of a picture into its lower left corner."""
        style = Style(self._type.font_px, is_bold=True)
        text = f"{picture.frame or picture.number}"
        width = round(self._type.width(text, style) + style.size_px)
        top = image.height - style.line_px
        image.paste(PAPER, (0, max(0, top), min(width, image.width), image.height))
        self._type.draw(ImageDraw.Draw(image), (style.size_px / 2, top), [text], style)


def grid(images: Sequence[Image.Image], columns: int, gap_px: int) -> Image.Image:
    """Return pictures in rows, aligned at the left and the top."""
    rows = [images[at : at + columns] for at in range(0, len(images), columns)]
    heights = [max(one.height for one in row) for row in rows]
    width = max(sum(one.width for one in row) + gap_px * (len(row) - 1) for row in rows)
    page = Image.new("RGB", (width, sum(heights) + gap_px * (len(rows) - 1)), PAPER)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for one in row:
            page.paste(one, (left, top))
            left += one.width + gap_px
        top += height + gap_px
    return page


def num_columns(count: int) -> int:
    """Return the number of columns for the pictures of one step.

    >>> [num_columns(count) for count in (1, 2, 4, 5, 9)]
    [1, 2, 2, 3, 3]
    """
    return min(3, math.ceil(math.sqrt(count)))
