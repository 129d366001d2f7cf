"""Renderer of PixelWorld 2 scenes.

Only the height of the characters depends on `Params.evidence_px`; everything else of a scene has the same pixels at every
height.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pixel_reasoner.files import write_bytes
from pixel_reasoner.world.draw import encode_clip
from pixel_reasoner.world.drawing import draw_clutter, draw_shape, make_background
from pixel_reasoner.world.fonts import ink_on, scaled_font
from pixel_reasoner.world.scene import NUM_FRAMES, Item
from pixel_reasoner.world.v2.params import CLIPS
from pixel_reasoner.world.v2.scene import BLANK, Scene

_LOOSE_INK = (110, 110, 110)
_BAR_SHARE = 0.2
"""height of each of the three bars of `BLANK`, as a share of the height of a character"""


def draw_picture(scene: Scene) -> Image.Image:
    """Return the picture of a scene that is not a clip: RGB, full resolution."""
    side, font = scene.params.size_px, scaled_font(scene.params.detail_px)
    canvas = make_background(scene.rng("background"), side)
    pen = ImageDraw.Draw(canvas)
    draw_clutter(pen, scene.rng("clutter"), side)
    for loose in scene.loose:
        place = (loose.x * side, loose.y * side)
        pen.text(place, loose.glyph, font=font, fill=_LOOSE_INK, anchor="mm")
    for item in scene.items:
        _draw_item(pen, item, scene, font)
    return canvas


def draw_frames(scene: Scene) -> Iterator[Image.Image]:
    """Yield the frames of a clip: RGB, full resolution."""
    background = make_background(scene.rng("background"), scene.params.size_px)
    font = scaled_font(scene.params.detail_px)
    for number in range(1, NUM_FRAMES + 1):
        frame = background.copy()
        pen = ImageDraw.Draw(frame)
        for item in scene.items:
            if number in item.frames:
                _draw_item(pen, item, scene, font)
        yield frame


def encode(scene: Scene) -> bytes:
    """Return the media file of a scene: PNG, or mp4 of a clip."""
    if scene.family in CLIPS:
        return encode_clip(list(draw_frames(scene)))
    buffer = io.BytesIO()
    draw_picture(scene).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_media(scene: Scene, path: Path) -> None:
    """Write the media file of a scene atomically."""
    write_bytes(encode(scene), path)


def _draw_item(
    pen: ImageDraw.ImageDraw, item: Item, scene: Scene, font: ImageFont.FreeTypeFont
) -> None:
    side = scene.params.size_px
    draw_shape(pen, item, side)
    x, y = item.x * side, item.y * side
    if item.shape == "triangle":
        y += item.size * side / 6  # the centre of mass: a large character stays inside the triangle
    ink = ink_on(item.color)
    if item.glyph == BLANK:
        _draw_bars(pen, x, y, scene.params.detail_px, ink)
    else:
        pen.text((x, y), item.glyph, font=font, fill=ink, anchor="mm")


def _draw_bars(pen: ImageDraw.ImageDraw, x: float, y: float, height: float, ink: str) -> None:
    """Draw three horizontal bars, as high as a character."""
    bar, half = height * _BAR_SHARE, height * 0.38
    for n in range(3):
        top = y - height / 2 + n * (height - bar) / 2
        pen.rectangle([x - half, top, x + half, top + bar - 1], fill=ink)
