"""Resizing of pictures for the prompt.

A budget is a range of pixels: smaller pictures are scaled up to `min_px`, larger pictures down to `max_px`. Sides are
multiples of patch size times merge size of the vision tower (`multiple`), so that the image processor of the model does
not resize again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image

from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.settings import PixelBudget


def fit_size(size: Size, budget: PixelBudget, multiple: int) -> Size:
    """Return the (width, height) of the resized picture: within the budget, aspect ratio preserved up to `multiple`.

    Same as `smart_resize` of Qwen-VL, with two differences. Very long pictures are accepted. Sides are rounded to the
    nearest multiple if the result is within the budget: 185 x 186 pixels become a square.

    >>> fit_size((1024, 1024), PixelBudget(min_px=4096, max_px=36864), 32)
    (192, 192)
    >>> fit_size((60, 20), PixelBudget(min_px=16384, max_px=16384), 32)
    (160, 96)
    >>> fit_size((185, 186), PixelBudget(min_px=25600, max_px=25600), 32)
    (160, 160)
    """
    width, height = size
    natural_px = math.prod(max(multiple, round(side / multiple) * multiple) for side in size)
    scale = 1.0
    to_whole: Callable[[float], int] = round
    if natural_px > budget.max_px:
        scale = math.sqrt(budget.max_px / (width * height))
        nearest_px = math.prod(round(side * scale / multiple) * multiple for side in size)
        to_whole = round if nearest_px <= budget.max_px else math.floor
    elif natural_px < budget.min_px:
        scale, to_whole = math.sqrt(budget.min_px / (width * height)), math.ceil
    fitted = [max(multiple, to_whole(side * scale / multiple) * multiple) for side in size]
    # Raising a side to one multiple, or a ceiling, may exceed the budget: shorten the longer side.
    longer = 0 if fitted[0] >= fitted[1] else 1
    most = budget.max_px // fitted[1 - longer] // multiple * multiple
    fitted[longer] = max(multiple, min(fitted[longer], most))
    return fitted[0], fitted[1]


def region_px(size: Size, box: Box) -> tuple[int, int, int, int]:
    """Return a box in whole source pixels (left, top, right, bottom), rounded outwards.

    >>> region_px((100, 50), Box(0.101, 0.5, 0.299, 1.0))
    (10, 25, 30, 50)
    """
    width, height = size
    # Tolerance for rounding errors: 0.3 * 10 is 3.0000000000000004 and must not add a fourth pixel.
    left, top = math.floor(box.x1 * width + 1e-6), math.floor(box.y1 * height + 1e-6)
    right, bottom = math.ceil(box.x2 * width - 1e-6), math.ceil(box.y2 * height - 1e-6)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def resize_region(image: Image.Image, box: Box, size: Size) -> Image.Image:
    """Crop a region of a full-resolution picture and resize it to `size` in one step."""
    region = region_px(image.size, box)
    return image.resize(size, Image.Resampling.LANCZOS, box=region, reducing_gap=3.0)
