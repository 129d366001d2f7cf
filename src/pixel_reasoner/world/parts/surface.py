"""Painter of a design: height, colour, gloss, texture strength and coverage of every pixel."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.world.fonts import scaled_font
from pixel_reasoner.world.parts.design import HEIGHT, Design, Feature
from pixel_reasoner.world.parts.kinds import Kind, make_design

Floats = NDArray[np.float32]
Window = tuple[int, int, int, int]
"""left, top, right and bottom edge in pixels"""
_SOFT_PX = 0.6
"""blur of edges against stairs"""
_FONT = 2


class Surface(NamedTuple):
    """A painted part, or a window of it. Arrays have shape (height, width), colour also 3 channels."""

    height: Floats
    """in pixels"""
    color: Floats
    """0 to 255"""
    gloss: Floats
    grain: Floats
    """strength of the texture"""
    cover: Floats
    """0 where the mat is visible, 1 on the part"""
    print: NDArray[np.bool_]
    """pixels with ink"""

    def crop(self, window: Window) -> Surface:
        """Return a copy of a window."""
        left, top, right, bottom = window
        at = (slice(top, bottom), slice(left, right))
        return Surface(
            self.height[at].copy(),
            self.color[at].copy(),
            self.gloss[at].copy(),
            self.grain[at].copy(),
            self.cover[at].copy(),
            self.print[at].copy(),
        )


@lru_cache(maxsize=1)
def paint_kind(kind: Kind, width: int) -> Surface:
    """Return the surface of a good part without texture. The arrays are shared: copy before changing them."""
    size = (width, round(width * HEIGHT))
    return paint(make_design(kind), size)


def paint(design: Design, size: Size, window: Window | None = None, without: str = "") -> Surface:
    """Paint a design.

    Args:
        design: what is painted.
        size: of the whole picture in pixels.
        window: region that is painted; None for the whole picture.
        without: group of features that is left out.
    """
    left, top, right, bottom = window or (0, 0, *size)
    shape = (bottom - top, right - left)
    flat = np.zeros(shape, np.float32)
    surface = Surface(
        flat,
        np.full((*shape, 3), design.body.color, np.float32),
        flat.copy(),
        flat.copy(),
        flat.copy(),
        np.zeros(shape, np.bool_),
    )
    for feature in design.features:
        if not without or feature.group != without:
            _paint_feature(surface, feature, size[0], (left, top))
    return surface


def _paint_feature(surface: Surface, feature: Feature, width: int, origin: tuple[int, int]) -> None:
    found = _stencil(feature, width, origin, surface.height.shape)
    if found is None:
        return
    at, mask, edge = found
    unit = width / 1000
    if feature.rise:
        surface.height[at] += edge * (feature.rise * unit)
    if feature.color is not None:
        surface.color[at] += mask[..., None] * (
            np.array(feature.color, np.float32) - surface.color[at]
        )
    for layer, value in ((surface.gloss, feature.gloss), (surface.grain, feature.grain)):
        if value is not None:
            layer[at] += mask * (value - layer[at])
    if feature.role == "body":
        np.maximum(surface.cover[at], mask, out=surface.cover[at])
    elif feature.through:
        surface.cover[at] *= 1 - mask
    surface.print[at] = (
        surface.print[at] | (mask > 0.5)
        if feature.role == "print"
        else surface.print[at] & (mask < 0.5)
    )


def _stencil(
    feature: Feature, width: int, origin: tuple[int, int], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], Floats, Floats] | None:
    """Return the window of a feature, its coverage there, and the same with the edge of its bevel.

    None if it lies outside.
    """
    bevel_px = max(_SOFT_PX, feature.bevel * width / 1000)
    pad = math.ceil(3 * bevel_px) + 3
    left, top, right, bottom = (value * width for value in feature.bounds)
    if feature.text:
        pad += round(bottom - top)  # a font may be wider than its box
    x1, y1 = (math.floor(v) - pad - o for v, o in zip((left, top), origin, strict=True))
    x2, y2 = (math.ceil(v) + pad - o for v, o in zip((right, bottom), origin, strict=True))
    inner = (slice(max(0, y1), min(shape[0], y2)), slice(max(0, x1), min(shape[1], x2)))
    if inner[0].start >= inner[0].stop or inner[1].start >= inner[1].stop:
        return None
    drawn = _draw(feature, width, (x1 + origin[0], y1 + origin[1]), (x2 - x1, y2 - y1))
    cut = (
        slice(inner[0].start - y1, inner[0].stop - y1),
        slice(inner[1].start - x1, inner[1].stop - x1),
    )
    mask = _blurred(drawn, _SOFT_PX)[cut]
    edge = _blurred(drawn, bevel_px)[cut] if feature.rise else mask
    return inner, mask, edge


def _draw(feature: Feature, width: int, corner: tuple[int, int], size: Size) -> Image.Image:
    picture = Image.new("L", size)
    pen = ImageDraw.Draw(picture)
    if feature.text:
        left, top, right, bottom = (value * width for value in feature.bounds)
        x = left if feature.is_left else (left + right) / 2
        place = (x - corner[0], (top + bottom) / 2 - corner[1])
        font = scaled_font(max(2.0, (bottom - top) * 0.82), _FONT)
        pen.text(place, feature.text, 255, font, "lm" if feature.is_left else "mm")
        return picture
    for polygon in feature.polygons:
        pen.polygon([(x * width - corner[0], y * width - corner[1]) for x, y in polygon], 255)
    return picture


def _blurred(picture: Image.Image, radius: float) -> Floats:
    blurred = picture.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32) / np.float32(255)


def make_texture(design: Design, size: Size, seed: int) -> Floats:
    """Return the texture of one part: brush strokes, turning marks or grain, about -1 to 1."""
    rng = np.random.default_rng(seed)
    width, height = size
    if design.texture == "brushed":
        coarse = rng.standard_normal((height, max(2, width // 160)), np.float32)
        fine = rng.standard_normal((height, max(2, width // 24)), np.float32)
        return _stretched(coarse, size) * np.float32(0.7) + _stretched(fine, size) * np.float32(0.3)
    if design.texture == "turned":
        y, x = np.ogrid[:height, :width]
        radius = np.sqrt(
            (x - np.float32(width / 2)) ** 2 + (y - np.float32(height / 2)) ** 2, dtype=np.float32
        )
        rings = rng.standard_normal(2 * width, np.float32)
        turned: Floats = np.interp(radius, np.arange(2 * width), rings).astype(np.float32)
        return turned
    grain = rng.standard_normal((height // 2 + 1, width // 2 + 1), np.float32)
    return _stretched(grain, size) * np.float32(0.6)


def _stretched(values: Floats, size: Size) -> Floats:
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
