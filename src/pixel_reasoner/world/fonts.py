"""Fonts by the height of their capitals, so that a detail is as high in one as in another."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from PIL import ImageFont

from pixel_reasoner.world.scene import COLORS, FONTS

_FILES = (
    None,  # Pillow's own
    ("font_caladea", "Caladea-Bold.ttf"),
    ("font_hanken_grotesk", "HankenGrotesk-SemiBold.otf"),
)
assert len(_FILES) == FONTS


@lru_cache(maxsize=64)
def font_of(height_px: float, number: int = 0) -> ImageFont.FreeTypeFont:
    """The font size whose capitals are `height_px` high."""
    top, bottom = _sized(number, 100).getbbox("H")[1::2]
    return _sized(number, height_px * 100 / (bottom - top))


def _sized(number: int, size: float) -> ImageFont.FreeTypeFont:
    place = _FILES[number]
    if place is None:
        font = ImageFont.load_default(size=size)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return font
    package, name = place
    return ImageFont.truetype(str(files(package) / "files" / name), size=size)


def ink_on(color: str) -> str:
    """What can be read on a colour: black or white."""
    return "black" if sum(COLORS[color]) > 380 else "white"
