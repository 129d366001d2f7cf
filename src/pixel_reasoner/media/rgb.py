"""Conversion of decoded pictures to RGB of 8 bits: transparency over white, deep greyscale scaled.

Large pictures are converted in bands of rows, so that no temporary copy is as large as the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from pixel_reasoner.schema.geometry import Size

_MAX_BAND_PX = 2**22
"""pixels that are converted at once"""
_LEVELS = 2**16
"""values of 16 bits"""
_DARK_LEVEL = _LEVELS // 4
"""data of 14 bits or fewer stay below"""
_TAIL = 0.001
"""share of the darkest and of the brightest pixels that is cut off, as hot pixels of a camera are"""

Levels = tuple[float, float]
"""values that are shown as black and as white"""


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether a picture is greyscale of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def levels(image: Image.Image) -> Levels | None:
    """Return the values of a deep greyscale picture that are shown as black and white; None for the whole range of 16 bits.

    16 bits are stretched where 99.9 % of the values are in the lowest quarter of the range, as in data of 12 or 14 bits:
    from the percentile 0.1 to 99.9. Integers of 32 bits and floats have no agreed range: from the darkest to the brightest.
    """
    if not image.mode.startswith("I;16"):
        extremes = [(values.min(), values.max()) for values in map(_finite, bands(image))]
        return float(min(low for low, _ in extremes)), float(max(high for _, high in extremes))
    histogram = sum(
        np.bincount(np.asarray(band).ravel(), minlength=_LEVELS) for band in bands(image)
    )
    cumulative = np.cumsum(histogram)
    total = image.width * image.height
    low = int(np.searchsorted(cumulative, _TAIL * total, side="right"))
    high = int(np.searchsorted(cumulative, (1 - _TAIL) * total))
    return (float(low), float(high)) if low < high < _DARK_LEVEL else None


def grey_to_rgb(image: Image.Image) -> Image.Image:
    """Return a deep greyscale picture as RGB, its values scaled by `levels`."""
    return _convert(image, partial(_scaled, shown=levels(image)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of 8 bits as RGB, transparency over white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.has_transparency_data:
        return composite_over_white(image)
    return _convert(image, lambda band: band.convert("RGB"))


def composite_over_white(image: Image.Image) -> Image.Image:
    """Return an image with transparency as RGB over white."""
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
    """Return the values of a band as float64; those that are not finite as 0."""
    return np.nan_to_num(np.asarray(band).astype(np.float64), posinf=0.0, neginf=0.0)


def band_rows(size: Size) -> int:
    """Return the number of rows of a band of a picture of a (width, height)."""
    return min(size[1], max(1, _MAX_BAND_PX // size[0]))


def join_bands(size: Size, parts: Iterator[Image.Image]) -> Image.Image:
    """Return the RGB picture of a (width, height) whose bands are `parts`."""
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
    """Yield a picture in bands of rows, from the top; a small one as it is."""
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
    """Return a picture whose bands were converted to RGB."""
    return join_bands(image.size, map(convert, bands(image)))
