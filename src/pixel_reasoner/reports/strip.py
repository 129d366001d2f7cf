"""One trace as one picture, for slides and chats: the question, the source with numbered boxes, each step, the answer.

Each column is what the model received, and below it what the model wrote next. Not covered: evidence boxes, token
counts and raw text; the page of `reports.page` has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from pixel_reasoner.files import STRIP_SUFFIXES, atomic_path, check_suffix
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.reports.marks import badge_radius, draw_badge, draw_lines
from pixel_reasoner.reports.panels import Panel, PanelKind, alt_text, storyboard
from pixel_reasoner.reports.picture_files import WrittenPicture, save_options
from pixel_reasoner.reports.tiles import LINE
from pixel_reasoner.reports.trace_tiles import TileMaker
from pixel_reasoner.reports.typesetting import CAPITAL_MIDDLE, FAINT, PAPER, Style, Typesetter
from pixel_reasoner.schema.trace import Trace

WIDTH_PX = 1920
"""width of a slide in full HD"""
FONT_PX = 30
"""25 px when the picture is shown 1,600 px wide"""
MARGIN_PX, GAP_PX = 64, 60
MAX_COLUMNS = 4
MAX_TILE_PX = 620
MAX_TEXT_LINES = 7
_MIN_ANSWER_PX = 280
_PART_GAP_PX, _HEAD_GAP_PX, _CAPTION_GAP_PX, _TEXT_GAP_PX = 36, 12, 8, 14
_BADGE_ROOM_PX = 6
"""the number of a step is higher than a line of text"""


def write_strip(trace: Trace, path: Path, context: MediaContext | None = None) -> WrittenPicture:
    """Write a trace as one picture, 1,920 pixels wide. Equal traces and media give equal files.

    Args:
        trace: its media are opened again. A picture that cannot be opened is replaced by the reason.
        path: of the picture; .png, .webp, .jpg or .jpeg. The alt text is stored in it.
        context: open media of the trace; they are then not opened again.

    Raises:
        UsageError: another suffix.
        OutputError: the path cannot be written.

    >>> import tempfile
    >>> from pixel_reasoner.schema.question import Question
    >>> trace = Trace(question=Question(id="q1", text="How many?", media=()), stop="answered", answer="3")
    >>> write_strip(trace, Path(tempfile.mkdtemp()) / "strip.png").alt_text
    'Question: How many? Answer: 3.'
    """
    path = Path(path)
    check_suffix(path, STRIP_SUFFIXES, "a picture of a trace")
    image, notes = draw_strip(trace, context)
    alt = alt_text(trace)
    with atomic_path(path) as part:
        image.save(part, **save_options(path, alt))
    return WrittenPicture(path, alt, notes)


def draw_strip(
    trace: Trace, context: MediaContext | None = None
) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a trace as one RGB picture, and notes about what it does not show."""
    typesetter = Typesetter(FONT_PX)
    tiles = TileMaker(trace, storyboard(trace), typesetter, context)
    image = _Strip(tiles, typesetter).draw(_footer(trace))
    return image, tiles.notes


def _footer(trace: Trace) -> str:
    num_executed, num_rejected = len(trace.executed), len(trace.rejected)
    model = trace.settings.model
    parts = [
        f"Model: {model.name}" if model and model.name else "",
        f"{num_executed:,} operation{'' if num_executed == 1 else 's'}",
        f"{num_rejected:,} rejected" if num_rejected else "",
    ]
    return "  ·  ".join(part for part in parts if part)


class _Cell(NamedTuple):
    """Column of a row."""

    panel: Panel | None
    """None for the answer"""
    width: int
    head: list[str]
    tile: Image.Image | None
    """None for the answer, which is as high as the other panels"""
    captions: list[str]
    text: list[str]


class _Strip:
    """Layout of one strip."""

    def __init__(self, tiles: TileMaker, typesetter: Typesetter) -> None:
        self.tiles, self.type = tiles, typesetter
        self.board = tiles.board
        self.title = Style(46, is_bold=True)
        self.head, self.text = Style(FONT_PX, is_bold=True), Style(FONT_PX)
        self.faint = Style(FONT_PX, color=FAINT)

    def draw(self, footer: str) -> Image.Image:
        """Return the whole picture."""
        width = WIDTH_PX - 2 * MARGIN_PX
        parts = [self._lines(self.board.question, self.title, width, 3)]
        panels: list[Panel | None] = [*self.board.panels, None]
        if len(self.board.panels[0].pictures) > 1:
            parts += self._overview_band(self.board.panels[0], width)
            panels = panels[1:]
        columns = math.ceil(len(panels) / math.ceil(len(panels) / MAX_COLUMNS))
        for at in range(0, len(panels), columns):
            parts.append(self._row(panels[at : at + columns], columns, width))
        parts.append(self._lines(footer, self.faint, width, 1))
        return _stacked(parts, width)

    def _lines(self, text: str, style: Style, width: int, max_lines: int) -> Image.Image:
        lines = self.type.wrap(text, style, width, max_lines)
        image = Image.new("RGB", (width, max(1, len(lines) * style.line_px)), PAPER)
        self.type.draw(ImageDraw.Draw(image), (0, 0), lines, style)
        return image

    def _overview_band(self, panel: Panel, width: int) -> list[Image.Image]:
        """Return the pictures of a question in rows over the whole width, and the text below."""
        band = [
            self._lines(self.tiles.head(panel), self.head, width, 1),
            self.tiles.overview_grid(panel.pictures, width),
        ]
        return [*band, self._lines(_quoted(panel), self.text, width, 4)] if panel.text else band

    def _row(self, panels: Sequence[Panel | None], columns: int, width: int) -> Image.Image:
        column_px = (width - (columns - 1) * GAP_PX) // columns
        cells = [self._cell(panel, column_px) for panel in panels]
        if cells[-1].panel is None:  # the answer takes the columns that are left
            cells[-1] = cells[-1]._replace(width=width - (len(cells) - 1) * (column_px + GAP_PX))
        head_px = max(len(cell.head) for cell in cells) * self.head.line_px
        head_px += _HEAD_GAP_PX + _BADGE_ROOM_PX if head_px else 0
        tile_px = max((cell.tile.height for cell in cells if cell.tile), default=_MIN_ANSWER_PX)
        tile_px = max(tile_px, _MIN_ANSWER_PX)
        bottom = max(self._height_below_head(cell) for cell in cells)
        row = Image.new("RGB", (width, head_px + max(tile_px, bottom)), PAPER)
        for number, cell in enumerate(cells):
            left = number * (column_px + GAP_PX)
            self._draw_cell(row, cell, left, head_px, tile_px)
            if number:
                _draw_arrow(row, (left - GAP_PX / 2, head_px + tile_px / 2))
        return row

    def _cell(self, panel: Panel | None, width: int) -> _Cell:
        if panel is None:
            return _Cell(None, width, [], None, [], [])
        indent = self._indent(panel)
        head = self.type.wrap(self.tiles.head(panel), self.head, width - indent, 3)
        captions = [
            line
            for caption in self.tiles.captions(panel)
            for line in self.type.wrap(caption, self.faint, width, 1)
        ]
        text = self.type.wrap(_quoted(panel), self.text, width, MAX_TEXT_LINES)
        tile = self.tiles.tile(panel, (width, MAX_TILE_PX))
        return _Cell(panel, width, head, tile, captions, text)

    def _height_below_head(self, cell: _Cell) -> int:
        num_lines = len(cell.captions) + len(cell.text)
        gap = _CAPTION_GAP_PX + (_TEXT_GAP_PX if cell.captions else 0)
        return (cell.tile.height if cell.tile else 0) + gap + num_lines * self.text.line_px

    def _indent(self, panel: Panel) -> int:
        if panel.kind is not PanelKind.STEP:
            return 0
        return 2 * badge_radius(panel.number, FONT_PX) + 14

    def _draw_cell(
        self, row: Image.Image, cell: _Cell, left: int, head_px: int, tile_px: int
    ) -> None:
        if cell.panel is None or cell.tile is None:
            row.paste(self.tiles.answer((cell.width, tile_px)), (left, head_px))
            return
        pen, line_px = ImageDraw.Draw(row), self.head.line_px
        top = head_px - _HEAD_GAP_PX - len(cell.head) * line_px
        indent = self._indent(cell.panel)
        if indent:
            at = (left + badge_radius(cell.panel.number, FONT_PX), top + CAPITAL_MIDDLE * FONT_PX)
            draw_badge(row, at, cell.panel.number, self.type)
        self.type.draw(pen, (left + indent, top), cell.head, self.head)
        row.paste(cell.tile, (left, head_px))
        top = head_px + cell.tile.height + _CAPTION_GAP_PX
        self.type.draw(pen, (left, top), cell.captions, self.faint)
        top += len(cell.captions) * line_px + (_TEXT_GAP_PX if cell.captions else 0)
        self.type.draw(pen, (left, top), cell.text, self.text)


def _quoted(panel: Panel) -> str:
    return f"“{panel.text}”" if panel.text else ""


def _draw_arrow(row: Image.Image, at: tuple[float, float]) -> None:
    (x, y), half = at, 13
    draw_lines(
        row, [(x - half / 2, y - half), (x + half / 2, y), (x - half / 2, y + half)], LINE, 6
    )


def _stacked(parts: Sequence[Image.Image], width: int) -> Image.Image:
    height = sum(part.height for part in parts) + (len(parts) - 1) * _PART_GAP_PX
    page = Image.new("RGB", (width + 2 * MARGIN_PX, height + 2 * MARGIN_PX), PAPER)
    top = MARGIN_PX
    for part in parts:
        page.paste(part, (MARGIN_PX, top))
        top += part.height + _PART_GAP_PX
    return page
