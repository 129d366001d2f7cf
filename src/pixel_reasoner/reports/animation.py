"""One trace as an animation: the overview, each box, the crop that grows out of it, the model's text, the answer.

The frames have one palette without dithering, so text stays clean and equal parts of frames take no space. Text is shown
as long as it takes to read.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.files import ANIMATION_SUFFIXES, check_suffix, write_bytes
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.reports.marks import COLORS, RIGHT, WRONG, badge_radius, draw_badge
from pixel_reasoner.reports.panels import Panel, PanelKind, alt_text, storyboard
from pixel_reasoner.reports.picture_files import WrittenPicture, save_options
from pixel_reasoner.reports.tiles import LINE, WASH
from pixel_reasoner.reports.trace_tiles import TileMaker
from pixel_reasoner.reports.typesetting import CAPITAL_MIDDLE, FAINT, INK, PAPER, Style, Typesetter
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.trace import Picture, Trace

WIDTHS_PX = (960, 760, 600, 480)
"""widths that are tried until the file is small enough"""
MAX_BYTES = 3_000_000
NUM_GROWING_FRAMES, GROWING_MS = 5, 70
MIN_MS, MAX_MS, MS_PER_CHARACTER = 1000, 9000, 55
BOX_MS, ANSWER_MS = 1400, 5000
_CAPTION_LINES = 3
_NUM_GREYS = 10
"""colours of the palette for the edges of letters"""
_MAX_PALETTE_FRAMES = 16
_FIXED_COLORS = (PAPER, INK, FAINT, WASH, LINE, *COLORS, RIGHT, WRONG)
Color = tuple[int, int, int]
"""red, green, blue"""


def write_animation(
    trace: Trace, path: Path, context: MediaContext | None = None
) -> WrittenPicture:
    """Write a trace as an animation that repeats for ever, at most 960 pixels wide. Equal traces and media give equal files.

    Args:
        trace: its media are opened again. A picture that cannot be opened is replaced by the reason.
        path: of the animation; .gif or .webp. The alt text is stored in it.
        context: open media of the trace; they are then not opened again.

    Raises:
        UsageError: another suffix.
        OutputError: the path cannot be written.

    >>> import tempfile
    >>> from pixel_reasoner.schema.question import Question
    >>> trace = Trace(question=Question(id="q1", text="How many?", media=()), stop="answered", answer="3")
    >>> written = write_animation(trace, Path(tempfile.mkdtemp()) / "trace.gif")
    >>> Image.open(written.out).size[0]
    960
    """
    path = Path(path)
    check_suffix(path, ANIMATION_SUFFIXES, "an animation of a trace")
    alt = alt_text(trace)
    content, notes = _fitting(trace, path, alt, context)
    write_bytes(content, path)
    return WrittenPicture(path, alt, notes)


def _fitting(
    trace: Trace, path: Path, alt: str, context: MediaContext | None
) -> tuple[bytes, tuple[str, ...]]:
    """Return the content of a file that is small enough, and notes. The size grows with the square of the width."""
    largest_px = float(WIDTHS_PX[0])
    content: bytes = b""
    notes: tuple[str, ...] = ()
    for width in WIDTHS_PX:
        if width > largest_px and width != WIDTHS_PX[-1]:
            continue
        frames, notes = draw_frames(trace, width, context)
        content = _encoded(frames, path, alt)
        if len(content) <= MAX_BYTES:
            break
        largest_px = 1.1 * width * math.sqrt(MAX_BYTES / len(content))
    return content, notes


class Frame(NamedTuple):
    """Picture of an animation, and how long it is shown."""

    image: Image.Image
    ms: int
    is_growing: bool = False
    """whether it is between two states; the palette is made from the others"""


def draw_frames(
    trace: Trace, width: int, context: MediaContext | None = None
) -> tuple[list[Frame], tuple[str, ...]]:
    """Return the frames of an animation, and notes about what they do not show."""
    typesetter = Typesetter(round(width * 0.03))
    tiles = TileMaker(trace, storyboard(trace), typesetter, context)
    frames = list(_Animation(trace, tiles, typesetter, width).frames())
    return frames, tiles.notes


def reading_ms(text: str) -> int:
    """Return how long a text is shown, in milliseconds.

    >>> reading_ms(""), reading_ms("word " * 10), reading_ms("word " * 1000)
    (1000, 3750, 9000)
    """
    return min(MAX_MS, MIN_MS + MS_PER_CHARACTER * len(text))


class _Animation:
    """Layout of the frames: the question, a stage for pictures, and a caption."""

    def __init__(self, trace: Trace, tiles: TileMaker, typesetter: Typesetter, width: int) -> None:
        self.tiles, self.type, self.board = tiles, typesetter, tiles.board
        self.pictures = trace.all_pictures
        font_px = typesetter.font_px
        self.title = Style(round(1.2 * font_px), is_bold=True)
        self.text, self.head = Style(font_px), Style(font_px, is_bold=True)
        self.margin = round(1.25 * font_px)
        room = width - 2 * self.margin
        self.question = self.type.wrap(self.board.question, self.title, room, 2)
        self.top = self.margin + len(self.question) * self.title.line_px + font_px // 2
        self.stage: Size = (room, round(0.56 * width))
        self.foot = self.top + self.stage[1] + round(0.6 * font_px)
        self.size = (width, self.foot + _CAPTION_LINES * self.text.line_px + self.margin)

    def frames(self) -> Iterator[Frame]:
        """Yield all frames in order."""
        for panel in self.board.panels:
            if panel.kind is PanelKind.OVERVIEW:
                yield Frame(self._frame(self._overview(panel, 0)), reading_ms(self.board.question))
            else:
                yield from self._step(panel)
            if panel.text:
                yield Frame(self._frame(self._last, panel.text), reading_ms(panel.text))
        answer = self.board.answer
        image = self._frame(self.tiles.answer(self.stage))
        yield Frame(image, ANSWER_MS + reading_ms(f"{answer.text}{answer.expected}"))

    def _step(self, panel: Panel) -> Iterator[Frame]:
        head = self.tiles.head(panel)
        if panel.pictures and not panel.problem:
            yield from self._result(panel, head)
        else:
            tile = self.tiles.tile(panel, self.stage)
            yield Frame(
                self._frame(tile, head, panel), reading_ms(head + panel.problem + panel.reply)
            )

    def _result(self, panel: Panel, head: str) -> Iterator[Frame]:
        """Yield the box on the picture, the crop that grows, and the crop."""
        tile = self.tiles.tile(panel, self.stage)
        parent = self.pictures.get(panel.pictures[0].parent or 0)
        if len(panel.pictures) == 1 and parent is not None and parent.box != panel.pictures[0].box:
            before = self.tiles.marked(parent, self.stage, panel.number)
            yield Frame(self._frame(before, head, panel), BOX_MS)
            yield from self._growing(before, tile, _box_in(parent, panel.pictures[0]), panel)
        else:
            before = self._overview(self.board.panels[0], panel.number)
            yield Frame(self._frame(before, head, panel), BOX_MS)
        yield Frame(self._frame(tile, head, panel), MIN_MS if panel.text else 2 * MIN_MS)

    def _growing(
        self, before: Image.Image, tile: Image.Image, box: Box, panel: Panel
    ) -> Iterator[Frame]:
        """Yield frames in which the crop grows from its box to its place."""
        head = self.tiles.head(panel)
        start, end = self._place(before.size), self._place(tile.size)
        first = (
            start[0] + box.x1 * before.width,
            start[1] + box.y1 * before.height,
            (box.x2 - box.x1) * before.width,
            (box.y2 - box.y1) * before.height,
        )
        last = (*end, *tile.size)
        background = self._frame(before, head, panel)
        for number in range(1, NUM_GROWING_FRAMES + 1):
            share = 0.5 - 0.5 * math.cos(math.pi * number / (NUM_GROWING_FRAMES + 1))
            left, top, width, height = (
                round(low + share * (high - low)) for low, high in zip(first, last, strict=True)
            )
            image = background.copy()
            image.paste(tile.resize((max(1, width), max(1, height))), (left, top))
            yield Frame(image, GROWING_MS, is_growing=True)

    def _overview(self, panel: Panel, last_step: int) -> Image.Image:
        if len(panel.pictures) == 1:
            return self.tiles.marked(panel.pictures[0], self.stage, last_step)
        if not panel.pictures:
            return self.tiles.tile(panel, self.stage)
        per_row = 4 if len(panel.pictures) <= 16 else 6
        image = self.tiles.overview_grid(panel.pictures, self.stage[0], per_row, last_step)
        if image.height <= self.stage[1]:
            return image
        width = image.width * self.stage[1] // image.height
        return image.resize((width, self.stage[1]), Image.Resampling.LANCZOS)

    def _place(self, size: Size) -> tuple[int, int]:
        """Return the upper left corner of a tile in the middle of the stage."""
        return (self.size[0] - size[0]) // 2, self.top + (self.stage[1] - size[1]) // 2

    def _frame(
        self, tile: Image.Image, caption: str = "", step: Panel | None = None
    ) -> Image.Image:
        """Return a frame. The caption is the call of a step, or else a text of the model."""
        self._last = tile
        image = Image.new("RGB", self.size, PAPER)
        pen = ImageDraw.Draw(image)
        self.type.draw(pen, (self.margin, self.margin), self.question, self.title)
        image.paste(tile, self._place(tile.size))
        left, room = self.margin, self.stage[0]
        if step is not None and step.kind is PanelKind.STEP:
            radius = badge_radius(step.number, self.type.font_px)
            at = (left + radius, self.foot + CAPITAL_MIDDLE * self.type.font_px)
            draw_badge(image, at, step.number, self.type)
            left += 2 * radius + self.type.font_px // 2
        style = self.text if step is None else self.head
        words = f"“{caption}”" if caption and step is None else caption
        lines = self.type.wrap(words, style, room - (left - self.margin), _CAPTION_LINES)
        self.type.draw(pen, (left, self.foot), lines, style)
        return image


def _box_in(parent: Picture, picture: Picture) -> Box:
    """Return the region of a result in fractions of its parent; the whole parent if it is turned."""
    if parent.transforms:
        return Box(0.0, 0.0, 1.0, 1.0)
    return picture.box.relative_to(parent.box)


# --- files ---


def _encoded(frames: list[Frame], path: Path, alt: str) -> bytes:
    """Return the content of a file."""
    options = save_options(path, alt)
    images = [frame.image for frame in frames]
    if options["format"] == "GIF":
        colors = _palette([one.image for one in frames if not one.is_growing])
        images = [_quantized(image, colors) for image in images]
        options["disposal"] = 1
    buffer = io.BytesIO()
    durations = [frame.ms for frame in frames]
    images[0].save(
        buffer, save_all=True, append_images=images[1:], duration=durations, loop=0, **options
    )
    return buffer.getvalue()


def _palette(images: list[Image.Image]) -> list[Color]:
    """Return at most 256 colours: exact ones of texts and marks, then the best ones for the pictures."""
    colors = [*map(_rgb, _FIXED_COLORS), *_greys()]
    step = math.ceil(len(images) / _MAX_PALETTE_FRAMES)
    shown = [one.reduce(2) for one in images[::step]]
    montage = Image.new("RGB", (shown[0].width, sum(one.height for one in shown)))
    top = 0
    for one in shown:
        montage.paste(one, (0, top))
        top += one.height
    found = montage.quantize(256 - len(colors), Image.Quantize.MEDIANCUT)
    numbers = found.getpalette() or []
    return [*colors, *zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)][:256]


def _quantized(image: Image.Image, colors: list[Color]) -> Image.Image:
    """Return a frame with a palette. Colours of texts and marks are exact; those of Pillow are off by a few levels."""
    palette = Image.new("P", (1, 1))
    palette.putpalette([number for color in colors for number in color])
    quantized = image.quantize(palette=palette, dither=Image.Dither.NONE)
    packed = np.asarray(image).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    numbers = np.array(quantized)
    for number, (red, green, blue) in enumerate(colors[: len(_FIXED_COLORS)]):
        numbers[packed == (red << 16 | green << 8 | blue)] = number
    exact = Image.fromarray(numbers)
    exact.putpalette(quantized.getpalette() or [])
    return exact


def _greys() -> list[Color]:
    """Return colours between text and paper."""
    ink = _rgb(INK)
    shares = [number / _NUM_GREYS for number in range(1, _NUM_GREYS)]
    return [_mixed(ink, (255, 255, 255), share) for share in shares]


def _mixed(first: Color, second: Color, share: float) -> Color:
    red, green, blue = (
        round(low + share * (high - low)) for low, high in zip(first, second, strict=True)
    )
    return red, green, blue


def _rgb(color: str) -> Color:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue
