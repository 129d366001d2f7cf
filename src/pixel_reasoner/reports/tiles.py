"""Tiles of strips and animations that contain text: reasons, omitted steps, and the answer."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from pixel_reasoner.reports.marks import SIGNS, draw_cross, paint_shape
from pixel_reasoner.reports.panels import Answer
from pixel_reasoner.reports.typesetting import FAINT, PAPER, Style, Typesetter
from pixel_reasoner.schema.geometry import Size

WASH, LINE = "#f3f5f7", "#c9d1d9"
REJECTED, RESULT = "Rejected", "Result"
"""title of the tile of a rejected call"""
_MAX_MESSAGE_LINES = 8


def message_tile(title: str, text: str, size: Size, typesetter: Typesetter) -> Image.Image:
    """Return a tile with a title and a text; the title `Rejected` has a cross."""
    tile, pad = _card(size, typesetter), typesetter.font_px
    pen, style = ImageDraw.Draw(tile), Style(typesetter.font_px)
    left, title_style = pad, Style(typesetter.font_px, is_bold=True)
    if title == REJECTED:
        draw_cross(tile, (pad + 0.6 * pad, pad + 0.62 * pad), 0.6 * pad)
        left += round(1.7 * pad)
    typesetter.draw(pen, (left, pad), [title], title_style)
    top = pad + round(1.2 * title_style.line_px)
    max_lines = max(1, (size[1] - top - pad // 2) // style.line_px)
    lines = typesetter.wrap(text, style, max(1, size[0] - 2 * pad), max_lines)
    typesetter.draw(pen, (pad, top), lines, style)
    return tile


def message_height(text: str, width_px: int, typesetter: Typesetter) -> int:
    """Return the height of a tile with a title and a text, in pixels."""
    pad, style = typesetter.font_px, Style(typesetter.font_px)
    num_lines = len(typesetter.wrap(text, style, max(1, width_px - 2 * pad), _MAX_MESSAGE_LINES))
    return 2 * pad + round((num_lines + 1.2) * style.line_px)


def omission(count: int, size: Size, typesetter: Typesetter) -> Image.Image:
    """Return the tile for steps that are left out."""
    tile, style = _card(size, typesetter), Style(typesetter.font_px, color=FAINT)
    lines = typesetter.wrap(f"… {count:,} steps left out …", style, size[0] - style.size_px, 3)
    top = (size[1] - style.line_px * (len(lines) - 1)) / 2
    for number, line in enumerate(lines):
        at = (size[0] / 2, top + number * style.line_px)
        typesetter.draw_centred(ImageDraw.Draw(tile), at, line, style)
    return tile


def answer_tile(answer: Answer, size: Size, typesetter: Typesetter) -> Image.Image:
    """Return the tile of the answer: large text, whether it is right, and the expected answer."""
    tile, pad = _card(size, typesetter), typesetter.font_px
    pen, small = ImageDraw.Draw(tile), Style(pad, color=FAINT)
    room = max(1, size[0] - 2 * pad)
    foot = _verdict_lines(answer, typesetter, room)
    bottom = size[1] - pad - len(foot) * small.line_px
    if answer.text:
        typesetter.draw(pen, (pad, pad), ["Answer"], small)
        top = pad + small.line_px
        style, lines = _largest(answer.text, typesetter, (room, bottom - top))
        top += max(0, bottom - top - len(lines) * style.line_px) // 2
    else:
        title, style = Style(round(1.6 * pad), is_bold=True), Style(pad)
        typesetter.draw(pen, (pad, pad), ["No answer"], title)
        top = pad + title.line_px + pad // 4
        lines = typesetter.wrap(answer.stop, style, room, max(1, (bottom - top) // style.line_px))
    typesetter.draw(pen, (pad, top), lines, style)
    _draw_verdict(tile, (pad, bottom), answer, foot, typesetter)
    return tile


def _verdict_lines(answer: Answer, typesetter: Typesetter, room_px: int) -> list[str]:
    lines = [answer.outcome] if answer.outcome in SIGNS else []
    if answer.expected and answer.outcome != "right":
        style = Style(typesetter.font_px)
        lines += typesetter.wrap(f"expected: {answer.expected}", style, room_px, 2)
    return lines


def _draw_verdict(
    tile: Image.Image,
    at: tuple[float, float],
    answer: Answer,
    lines: Sequence[str],
    typesetter: Typesetter,
) -> None:
    (x, top), pen, size = at, ImageDraw.Draw(tile), typesetter.font_px
    if answer.outcome in SIGNS:
        draw_sign, color = SIGNS[answer.outcome]
        draw_sign(tile, (x + 0.6 * size, top + 0.62 * size), 0.6 * size)
        title = Style(size, is_bold=True, color=color)
        typesetter.draw(pen, (x + 1.7 * size, top), lines[:1], title)
        lines, top = lines[1:], top + title.line_px
    typesetter.draw(pen, (x, top), lines, Style(size))


def _largest(text: str, typesetter: Typesetter, room: Size) -> tuple[Style, list[str]]:
    """Return the largest text that fits into some room, shortened at the smallest size."""
    for factor in (4.0, 3.0, 2.2, 1.6, 1.25):
        style = Style(round(factor * typesetter.font_px), is_bold=True)
        max_lines = max(1, room[1] // style.line_px)
        lines = typesetter.wrap(text, style, room[0], max_lines)
        widest = max((typesetter.width(word, style) for word in text.split()), default=0)
        is_whole = "".join(lines).replace(" ", "") == text.replace(" ", "")
        if is_whole and widest <= room[0] and len(lines) * style.line_px <= room[1]:
            return style, lines
    style = Style(typesetter.font_px, is_bold=True)
    return style, typesetter.wrap(text, style, room[0], max(1, room[1] // style.line_px))


def _card(size: Size, typesetter: Typesetter) -> Image.Image:
    tile = Image.new("RGB", size, PAPER)
    radius = typesetter.font_px // 2

    def shape(pen: ImageDraw.ImageDraw, scale: int) -> None:
        corner = (size[0] * scale - 1, size[1] * scale - 1)
        pen.rounded_rectangle((0, 0, *corner), radius * scale, 255)

    paint_shape(tile, (0, 0, *size), WASH, shape)
    return tile
