"""Parts of a scene that all versions of PixelWorld draw alike: background, clutter, shapes."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.world.scene import COLORS, Item

_OUTLINE = (40, 40, 40)


def make_background(rng: random.Random, side: int) -> Image.Image:
    """Return a square background of blurred, light grey patches."""
    base = [rng.uniform(205, 240) for _ in range(3)]
    cells = [[[c + rng.uniform(-14, 14) for c in base] for _ in range(6)] for _ in range(6)]
    small = Image.fromarray(np.asarray(cells).clip(0, 255).astype(np.uint8), "RGB")
    return small.resize((side, side), Image.Resampling.BICUBIC)


def draw_clutter(pen: ImageDraw.ImageDraw, rng: random.Random, side: int) -> None:
    """Draw small grey strokes as distractors."""
    for _ in range(rng.randint(15, 40)):
        x, y, angle = rng.random() * side, rng.random() * side, rng.random() * math.tau
        length, shade = rng.uniform(0.008, 0.03) * side, rng.randint(120, 190)
        end = (x + math.cos(angle) * length, y + math.sin(angle) * length)
        pen.line([(x, y), end], fill=(shade, shade, shade), width=max(1, round(side / 400)))


def draw_shape(pen: ImageDraw.ImageDraw, item: Item, side: int) -> None:
    """Draw the shape of an item without its character."""
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
