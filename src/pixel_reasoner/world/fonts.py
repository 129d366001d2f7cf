"""Fonts scaled by the height of their capitals, so that details of all fonts have the same height."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from PIL import ImageFont

from pixel_reasoner.world.scene import COLORS, FONTS

_FILES = (
    None,  # Pillow's font
    ("font_caladea", "Caladea-Bold.ttf"),
    ("font_hanken_grotesk", "HankenGrotesk-SemiBold.otf"),
)
assert len(_FILES) == FONTS


@lru_cache(maxsize=64)
def scaled_font(height_px: float, number: int = 0) -> ImageFont.FreeTypeFont:
    """Return a font at the size where capitals are `height_px` high."""
    top, bottom = _font_at(number, 100).getbbox("H")[1::2]
    return _font_at(number, height_px * 100 / (bottom - top))


def _font_at(number: int, size: float) -> ImageFont.FreeTypeFont:
    file = _FILES[number]
    if file is None:
        font = ImageFont.load_default(size=size)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return font
    package, name = file
    return ImageFont.truetype(str(files(package) / "files" / name), size=size)


def ink_on(color: str) -> str:
    """Return the text colour that is legible on a colour: black or white."""
    return "black" if sum(COLORS[color]) > 380 else "white"
