"""Conversion of decoded pictures to 8-bit RGB: transparency over white, scaled deep greyscale.

Large pictures are converted in bands of rows, so that no temporary copy is as large as the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from pixel_reasoner.schema.geometry import Size

_MAX_BAND_PX = 2**22
"""pixels per conversion"""
_LEVELS = 2**16
"""number of 16-bit values"""
_MAX_14_BIT_LEVEL = _LEVELS // 4
"""upper bound of 14-bit data"""
_CLIP_FRACTION = 0.001
"""fraction of the darkest and of the brightest pixels to clip, for example hot pixels of a camera"""

Levels = tuple[float, float]
"""values mapped to black and white"""


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether a picture is greyscale of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def levels(image: Image.Image) -> Levels | None:
    """Return the values of a deep greyscale picture to map to black and white; None for the full 16-bit range.

    16-bit data are stretched from percentile 0.1 to 99.9 if 99.9 % of the values are in the lowest quarter of the range,
    as in 12-bit or 14-bit data. 32-bit integers and floats have no standard range: they are stretched from minimum to
    maximum.
    """
    if not image.mode.startswith("I;16"):
        extremes = [(values.min(), values.max()) for values in map(_finite, bands(image))]
        return float(min(low for low, _ in extremes)), float(max(high for _, high in extremes))
    histogram = sum(
        np.bincount(np.asarray(band).ravel(), minlength=_LEVELS) for band in bands(image)
    )
    cumulative = np.cumsum(histogram)
    total = image.width * image.height
    low = int(np.searchsorted(cumulative, _CLIP_FRACTION * total, side="right"))
    high = int(np.searchsorted(cumulative, (1 - _CLIP_FRACTION) * total))
    return (float(low), float(high)) if low < high < _MAX_14_BIT_LEVEL else None


def grey_to_rgb(image: Image.Image) -> Image.Image:
    """Convert a deep greyscale picture to RGB. Values are scaled by `levels`."""
    return _convert(image, partial(_scaled, shown=levels(image)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an 8-bit picture to RGB, with transparency over white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.has_transparency_data:
        return composite_over_white(image)
    return _convert(image, lambda band: band.convert("RGB"))


def composite_over_white(image: Image.Image) -> Image.Image:
    """Convert an image with transparency to RGB over white."""
    return _convert(image, _over_white)


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba)
    return white


def _scaled(band: Image.Image, shown: Levels | None) -> Image.Image:
    if shown is None:
        grey = (np.asarray(band) >> 8).astype(np.uint8)
    else:
        low, high = shown
        scaled = (_finite(band) - low) * (255 / max(high - low, 1e-6))
        grey = scaled.clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _finite(band: Image.Image) -> np.ndarray:
    """Return the values of a band as float64. Non-finite values become 0."""
    return np.nan_to_num(np.asarray(band).astype(np.float64), posinf=0.0, neginf=0.0)


def band_rows(size: Size) -> int:
    """Return the number of rows per band for a picture of size (width, height)."""
    return min(size[1], max(1, _MAX_BAND_PX // size[0]))


def join_bands(size: Size, parts: Iterator[Image.Image]) -> Image.Image:
    """Join bands to an RGB picture of size (width, height)."""
    first = next(parts)
    if first.height == size[1]:
        return first
    joined, top = Image.new("RGB", size), 0
    joined.paste(first)
    for band in parts:
        top += first.height
        joined.paste(band, (0, top))
    return joined


def bands(image: Image.Image) -> Iterator[Image.Image]:
    """Yield bands of rows from the top. A small picture is one band."""
    rows = band_rows(image.size)
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        box = (0, top, image.width, bottom)
        # An exact copy. `crop` would apply Pillow's own limit on pixels.
        yield image.resize((image.width, bottom - top), Image.Resampling.NEAREST, box=box)


def _convert(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert the bands of a picture to RGB."""
    return join_bands(image.size, map(convert, bands(image)))
