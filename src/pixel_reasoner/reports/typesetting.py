"""Text in pictures: fonts, line breaks, and characters that no font has.

Fonts are tried in order for each character: Hanken Grotesk, the font of Pillow, then fonts of the system for other
scripts. A character that none of them has is drawn as a box and counted, never an error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

INK, FAINT, PAPER = "#1b1f24", "#57606a", "#ffffff"
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "NotoSansSymbols2-Regular.ttf",
    "Arial Unicode.ttf",
)
_UNASSIGNED = "\U0010ffff"
"""no font has this character, so its drawing is the one of missing characters"""
_BOX_FONT = 1
"""font whose drawing of missing characters is a box"""
_LINE_HEIGHT = 1.32
CAPITAL_MIDDLE = 0.645
"""distance from the top of a line to the middle of its capitals, in sizes of the font"""
_MAX_LISTED = 10
"""characters in a note"""
# Lines break before a word, and before each character of a script without spaces.
_TOKENS = re.compile(
    r"\s*(?:[\u0e00-\u0e7f\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]|"
    r"[^\s\u0e00-\u0e7f\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]+)"
)


class Style(NamedTuple):
    """Size, weight and colour of a text."""

    size_px: int
    is_bold: bool = False
    color: str = INK

    @property
    def line_px(self) -> int:
        """Distance between lines in pixels."""
        return round(_LINE_HEIGHT * self.size_px)


class Typesetter:
    """Measures, wraps and draws texts, and collects the characters that no font has.

    Args:
        font_px: size of ordinary text.
    """

    def __init__(self, font_px: int) -> None:
        self.font_px = font_px
        self.missing: set[str] = set()

    @property
    def note(self) -> str:
        """Note about characters that no font has; empty if there are none."""
        if not self.missing:
            return ""
        shown = " ".join(sorted(self.missing)[:_MAX_LISTED])
        return f"no font for {len(self.missing)} characters, drawn as boxes: {shown}"

    def width(self, text: str, style: Style) -> float:
        """Return the width of one line in pixels."""
        return sum(
            _font(number, style.size_px, style.is_bold).getlength(run)
            for number, run in _runs(text, style.is_bold)
        )

    def wrap(self, text: str, style: Style, width_px: int, max_lines: int) -> list[str]:
        """Break a text into lines that fit. If a part is left out, the last line ends with an ellipsis.

        >>> Typesetter(20).wrap("one two three", Style(20), 80, 2)
        ['one two', 'three']
        >>> Typesetter(20).wrap("one two three", Style(20), 80, 1)
        ['one…']
        """
        lines: list[str] = []
        for token in self._tokens(text, style, width_px):
            if lines and self.width(lines[-1] + token, style) <= width_px:
                lines[-1] += token
            elif len(lines) < max_lines:
                lines.append(token.lstrip())
            else:
                lines[-1] = self._with_ellipsis(lines[-1], style, width_px)
                break
        return lines

    def draw(
        self, pen: ImageDraw.ImageDraw, at: tuple[float, float], lines: Sequence[str], style: Style
    ) -> None:
        """Draw lines from the left edge and the top of the first line."""
        x, top = at
        for number, line in enumerate(lines):
            self._draw_line(pen, (x, top + number * style.line_px + style.size_px), line, style)

    def draw_centred(
        self, pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, style: Style
    ) -> None:
        """Draw one line around a point; the middle of its capitals is on it."""
        x, y = at
        left = x - self.width(text, style) / 2
        self._draw_line(pen, (left, y + (1 - CAPITAL_MIDDLE) * style.size_px), text, style)

    def _draw_line(
        self, pen: ImageDraw.ImageDraw, at: tuple[float, float], line: str, style: Style
    ) -> None:
        x, baseline = at
        for number, run in _runs(line, style.is_bold):
            if number == _BOX_FONT:
                self.missing.update(one for one in run if not _has(_BOX_FONT, False, one))
            font = _font(number, style.size_px, style.is_bold)
            pen.text((x, baseline), run, style.color, font, anchor="ls")
            x += font.getlength(run)

    def _tokens(self, text: str, style: Style, width_px: int) -> Iterator[str]:
        """Yield the parts between which lines may break, with the blanks before them. Longer words are divided."""
        for token in _TOKENS.findall(text):
            while token.strip() and self.width(token.lstrip(), style) > width_px:
                end = self._num_fitting(token, style, width_px)
                yield token[:end]
                token = token[end:]
            if token:
                yield token

    def _num_fitting(self, word: str, style: Style, width_px: int) -> int:
        """Return the largest number of characters of a word that fit, at least one."""
        low, high = 1, len(word)
        while high - low > 1:
            middle = (low + high) // 2
            fits = self.width(word[:middle].lstrip(), style) <= width_px
            low, high = (middle, high) if fits else (low, middle)
        return low

    def _with_ellipsis(self, line: str, style: Style, width_px: int) -> str:
        while line and self.width(f"{line.rstrip()}…", style) > width_px:
            line = line.rpartition(" ")[0] or line[:-1]
        return f"{line.rstrip().rstrip('…')}…"


def _runs(text: str, is_bold: bool) -> Iterator[tuple[int, str]]:
    """Yield parts of a text that one font can draw, with the number of the font."""
    numbers: list[int] = []
    for character in text:
        joins = unicodedata.combining(character) or character in "\u200c\u200d\ufe0e\ufe0f "
        numbers.append(numbers[-1] if joins and numbers else _font_number(character, is_bold))
    for number, run in groupby(zip(numbers, text, strict=True), key=lambda pair: pair[0]):
        yield number, "".join(character for _, character in run)


@lru_cache(maxsize=4096)
def _font_number(character: str, is_bold: bool) -> int:
    """Return the number of the first font with a character; without one, of the font that draws a box."""
    for number in range(2):
        if _has(number, is_bold, character):
            return number
    for number in range(2, 2 + len(_system_fonts())):
        if _has(number, is_bold, character):
            return number
    return _BOX_FONT


@lru_cache(maxsize=8192)
def _has(number: int, is_bold: bool, character: str) -> bool:
    if character.isspace():
        return True
    font = _font(number, 24, is_bold)
    drawn, missing = (font.getmask(one) for one in (character, _UNASSIGNED))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@lru_cache(maxsize=128)
def _font(number: int, size_px: int, is_bold: bool) -> ImageFont.FreeTypeFont:
    if number == 0:
        weight = "SemiBold" if is_bold else "Regular"
        file = files("font_hanken_grotesk") / "files" / f"HankenGrotesk-{weight}.otf"
        return ImageFont.truetype(str(file), size_px)
    if number == 1:
        font = ImageFont.load_default(size_px)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return font
    return ImageFont.truetype(_system_fonts()[number - 2], size_px)


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    """Return the names of installed fonts. Pillow searches the folders of the system."""
    return tuple(name for name in _SYSTEM_FONTS if _is_installed(name))


def _is_installed(name: str) -> bool:
    try:
        ImageFont.truetype(name, 12)
    except OSError:
        return False
    return True
