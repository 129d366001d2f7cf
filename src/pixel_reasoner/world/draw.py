"""Renderer of scenes: pictures with Pillow, clips with PyAV.

Characters use Pillow's font; pages also use two fonts installed as packages. Pixels do not depend on system fonts.
"""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageColor, ImageDraw

from pixel_reasoner.files import write_bytes
from pixel_reasoner.media.video_file import reformat_options
from pixel_reasoner.world.drawing import draw_clutter, draw_shape, make_background
from pixel_reasoner.world.fonts import ink_on, scaled_font
from pixel_reasoner.world.page import draw_page
from pixel_reasoner.world.scene import CLIP_FAMILIES, COLORS, Item, Scene

FPS = 8


def draw_picture(scene: Scene) -> Image.Image:
    """Return the picture of a scene that is not a clip: RGB, full resolution."""
    if scene.page is not None:
        return draw_page(scene)
    side = scene.params.size_px
    canvas = make_background(scene.rng("background"), side)
    pen = ImageDraw.Draw(canvas)
    draw_clutter(pen, scene.rng("clutter"), side)
    for item in scene.items:
        _draw_item(pen, item, scene)
    return canvas


def draw_frames(scene: Scene) -> list[Image.Image]:
    """Return the frames of a clip: RGB, full resolution."""
    assert scene.ball is not None, "only clips have frames"
    background = make_background(scene.rng("background"), scene.params.size_px)
    frames = []
    for number in range(1, scene.num_frames + 1):
        frame = background.copy()
        pen = ImageDraw.Draw(frame)
        ball = scene.ball
        at = Item(ball.color, "circle", ball.x(number, scene.num_frames), ball.y, ball.size, "")
        _draw_item(pen, at, scene)
        for item in scene.items:
            if number in item.frames:
                _draw_item(pen, item, scene)
        frames.append(frame)
    return frames


def encode_clip(frames: list[Image.Image]) -> bytes:
    """Return frames encoded as mp4 (H.264), in memory."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        # One thread: the encoder's output depends on the number of threads.
        options = {"crf": "12", "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.asarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", **reformat_options(1))))
        container.mux(stream.encode())
    return buffer.getvalue()


def write_media(scene: Scene, path: Path) -> None:
    """Write the picture (png) or clip (mp4) of a scene atomically."""
    if scene.family in CLIP_FAMILIES:
        write_bytes(encode_clip(draw_frames(scene)), path)
        return
    buffer = io.BytesIO()
    draw_picture(scene).save(buffer, "PNG", compress_level=1)
    write_bytes(buffer.getvalue(), path)


def _draw_item(pen: ImageDraw.ImageDraw, item: Item, scene: Scene) -> None:
    draw_shape(pen, item, scene.params.size_px)
    if item.glyph:
        _draw_glyph(pen, item, scene)


def _draw_glyph(pen: ImageDraw.ImageDraw, item: Item, scene: Scene) -> None:
    side = scene.params.size_px
    x, y = item.x * side, item.y * side
    font, ink = scaled_font(scene.params.detail_px), ink_on(item.color)
    if item.contrast < 1:
        pure = np.asarray(ImageColor.getrgb(ink))
        mixed = np.asarray(COLORS[item.color]) * (1 - item.contrast) + pure * item.contrast
        color = tuple(round(float(value)) for value in mixed)
        pen.text((x, y), item.glyph, font=font, fill=color, anchor="mm")
    elif not item.quarter_turns:
        pen.text((x, y), item.glyph, font=font, fill=ink, anchor="mm")
    else:
        half = 2 * scene.params.detail_px
        mask = Image.new("L", (2 * half, 2 * half))
        ImageDraw.Draw(mask).text((half, half), item.glyph, font=font, fill=255, anchor="mm")
        mask = mask.rotate(-90 * item.quarter_turns)
        pen.bitmap((round(x) - half, round(y) - half), mask, fill=ink)
