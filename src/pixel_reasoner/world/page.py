"""Renderer of pages: a heading, three bands of cards, bars, a line or a table, and small print."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.world.fonts import ink_on, scaled_font
from pixel_reasoner.world.scene import BAND_Y, COLORS, DIGITS, LETTERS, WORDS, Item, Scene

_INK = (40, 40, 40)
_RULE = (200, 200, 200)
_FAINT = (150, 150, 150)
_BASELINE = 0.105
"""distance between the baseline of bars and the middle of their band"""
HEADING_Y = 0.058
"""centre of the heading, fraction of the page"""
_HEADING_HEIGHT = 0.0625


def draw_page(scene: Scene) -> Image.Image:
    """Return the page of an `infographic` scene: RGB, full resolution."""
    return _Painter(scene).paint()


class _Painter:
    """Painter of a page. Coordinates are fractions of the page."""

    def __init__(self, scene: Scene) -> None:
        assert scene.page is not None, "only pages are painted"
        self.scene, self.page = scene, scene.page
        self.side = scene.params.size_px
        self.rng = scene.rng("page")
        paper = tuple(self.rng.randint(236, 255) for _ in range(3))
        self.canvas = Image.new("RGB", (self.side, self.side), paper)
        self.pen = ImageDraw.Draw(self.canvas)
        self.font = scaled_font(scene.params.detail_px, self.page.font)

    def paint(self) -> Image.Image:
        heading = scaled_font(_HEADING_HEIGHT * self.side, self.page.font)
        self.text(0.5, HEADING_Y, self.page.heading, _INK, heading)
        self.faint(0.5, 0.112, 40)
        parts: dict[str, list[Item]] = {}
        for item in self.scene.items:
            parts.setdefault(item.shape, []).append(item)
        for band, y in zip(self.page.bands, BAND_Y, strict=True):
            self.box(Box(0.04, y - 0.115, 0.96, y + 0.115), outline=_RULE)
            _BANDS[band](self, y, parts)
        [note] = parts["print"]
        edges = Box(note.x - 0.13, note.y - 0.025, note.x + 0.05, note.y + 0.025)
        self.box(edges, (222, 222, 222), _RULE)
        self.text(note.x - 0.085, note.y, "Source", _FAINT, self.font)
        self.text(note.x, note.y, note.glyph, _INK, self.font)
        return self.canvas

    def cards(self, y: float, parts: dict[str, list[Item]]) -> None:
        for item in parts["card"]:
            edges = Box(item.x - 0.08, y - 0.06, item.x + 0.08, y + 0.06)
            self.box(edges, COLORS[item.color], _INK)
            self.faint(item.x, y + 0.09, 10)
            self.write(item)

    def bars(self, y: float, parts: dict[str, list[Item]]) -> None:
        for item in parts["bar"]:
            edges = Box(item.x - 0.05, item.y - 0.035, item.x + 0.05, y + _BASELINE)
            self.box(edges, COLORS[item.color], _INK)
            self.write(item)
        self.line([(0.06, y + _BASELINE), (0.94, y + _BASELINE)], _INK)

    def curve(self, y: float, parts: dict[str, list[Item]]) -> None:
        for dy in (-0.06, 0.0, 0.06):
            self.line([(0.06, y + dy), (0.94, y + dy)], _RULE)
        self.line([(item.x, item.y) for item in parts["point"]], _INK, width=0.006)
        for item in parts["point"]:
            edges = [
                at * self.side
                for at in (item.x - 0.04, item.y - 0.04, item.x + 0.04, item.y + 0.04)
            ]
            self.pen.ellipse(edges, fill=COLORS[item.color], outline=_INK, width=self.thin)
            self.write(item)

    def table(self, y: float, parts: dict[str, list[Item]]) -> None:
        for item in parts["column"]:
            edges = Box(item.x - 0.08, y - 0.09, item.x + 0.08, y - 0.04)
            self.box(edges, COLORS[item.color], _INK)
            header = self.rng.choice(WORDS)
            self.text(item.x, y - 0.065, header, ink_on(item.color), self.font)
            self.text(item.x, item.y, item.glyph, _INK, self.font)
            for row in (1, 2):
                other = "".join(self.rng.choices(DIGITS, k=2))
                self.text(item.x, item.y + 0.045 * row, other, _INK, self.font)
        for row in range(4):
            self.line([(0.06, y - 0.035 + 0.045 * row), (0.94, y - 0.035 + 0.045 * row)], _RULE)

    # --- strokes ---

    @property
    def thin(self) -> int:
        return max(1, round(self.side / 500))

    def write(self, item: Item) -> None:
        """Draw the text of a part of the page."""
        self.text(item.x, item.y, item.glyph, ink_on(item.color), self.font)

    def text(self, x: float, y: float, text: str, ink: Any, font: ImageFont.FreeTypeFont) -> None:
        self.pen.text((x * self.side, y * self.side), text, font=font, fill=ink, anchor="mm")

    def faint(self, x: float, y: float, length: int) -> None:
        """Draw a line of illegible text that no question asks about."""
        words = "".join(self.rng.choice(LETTERS.lower() + " ") for _ in range(length))
        self.text(
            x,
            y,
            words,
            _FAINT,
            scaled_font(max(3, 0.5 * self.scene.params.detail_px), self.page.font),
        )

    def box(self, edges: Box, fill: Any = None, outline: Any = None) -> None:
        at = [value * self.side for value in edges]
        self.pen.rectangle(at, fill=fill, outline=outline, width=self.thin)

    def line(self, points: list[tuple[float, float]], ink: Any, width: float = 0.0) -> None:
        at = [(x * self.side, y * self.side) for x, y in points]
        self.pen.line(at, fill=ink, width=max(self.thin, round(width * self.side)))


_BANDS = {
    "cards": _Painter.cards,
    "bars": _Painter.bars,
    "line": _Painter.curve,
    "table": _Painter.table,
}
