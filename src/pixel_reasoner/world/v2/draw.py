"""Renderer of PixelWorld 2 scenes.

Only the height of the characters depends on `Params.evidence_px`; everything else of a scene has the same pixels at every
height.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pixel_reasoner.files import write_bytes
from pixel_reasoner.world.draw import encode_clip
from pixel_reasoner.world.fonts import ink_on, scaled_font
from pixel_reasoner.world.scene import COLORS, NUM_FRAMES, Item
from pixel_reasoner.world.v2.params import CLIPS
from pixel_reasoner.world.v2.scene import BLANK, Scene

_OUTLINE = (40, 40, 40)
_LOOSE_INK = (110, 110, 110)
_BAR_SHARE = 0.2
"""height of each of the three bars of `BLANK`, as a share of the height of a character"""


def draw_picture(scene: Scene) -> Image.Image:
    """Return the picture of a scene that is not a clip: RGB, full resolution."""
    canvas = _background(scene)
    pen = ImageDraw.Draw(canvas)
    _draw_clutter(scene, pen)
    side, font = scene.params.size_px, scaled_font(scene.params.detail_px)
    for loose in scene.loose:
        place = (loose.x * side, loose.y * side)
        pen.text(place, loose.glyph, font=font, fill=_LOOSE_INK, anchor="mm")
    for item in scene.items:
        _draw_item(pen, item, scene, font)
    return canvas


def draw_frames(scene: Scene) -> Iterator[Image.Image]:
    """Yield the frames of a clip: RGB, full resolution."""
    background, font = _background(scene), scaled_font(scene.params.detail_px)
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


def _background(scene: Scene) -> Image.Image:
    """Return a background of blurred, light grey patches."""
    rng = scene.rng("background")
    base = [rng.uniform(205, 240) for _ in range(3)]
    cells = [[[c + rng.uniform(-14, 14) for c in base] for _ in range(6)] for _ in range(6)]
    small = Image.fromarray(np.asarray(cells).clip(0, 255).astype(np.uint8), "RGB")
    side = scene.params.size_px
    return small.resize((side, side), Image.Resampling.BICUBIC)


def _draw_clutter(scene: Scene, pen: ImageDraw.ImageDraw) -> None:
    """Draw small grey strokes as distractors."""
    rng, side = scene.rng("clutter"), scene.params.size_px
    for _ in range(rng.randint(15, 40)):
        x, y, angle = rng.random() * side, rng.random() * side, rng.random() * math.tau
        length, shade = rng.uniform(0.008, 0.03) * side, rng.randint(120, 190)
        end = (x + math.cos(angle) * length, y + math.sin(angle) * length)
        pen.line([(x, y), end], fill=(shade, shade, shade), width=max(1, round(side / 400)))


def _draw_item(
    pen: ImageDraw.ImageDraw, item: Item, scene: Scene, font: ImageFont.FreeTypeFont
) -> None:
    side = scene.params.size_px
    color, width = COLORS[item.color], max(1, round(side / 340))
    x1, y1, x2, y2 = (value * side for value in item.box)
    x, y = item.x * side, item.y * side
    if item.shape == "circle":
        pen.ellipse([x1, y1, x2, y2], fill=color, outline=_OUTLINE, width=width)
    elif item.shape in ("square", "card"):
        pen.rectangle([x1, y1, x2, y2], fill=color, outline=_OUTLINE, width=width)
    elif item.shape == "diamond":
        pen.polygon([(x, y1), (x2, y), (x, y2), (x1, y)], fill=color, outline=_OUTLINE, width=width)
    else:
        pen.polygon([(x, y1), (x2, y2), (x1, y2)], fill=color, outline=_OUTLINE, width=width)
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
