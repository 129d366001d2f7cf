"""How large a picture may be when a model sees it.

A budget is a range of pixels: smaller copies are scaled up to `min_px`, larger ones down to `max_px`. Sides
are whole multiples of what the model's vision tower consumes at once (`multiple`: patch size times merge size),
so that the model's own image processor has nothing left to resize.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image

from pixel_reasoner.trace import Box, Record, Size


class Budget(Record):
    """A range of pixels for one kind of picture."""

    min_px: int
    max_px: int

    def at_most(self, max_px: int | None) -> Budget:
        """This budget with another upper end; None leaves it.

        >>> Budget(min_px=400, max_px=900).at_most(100)
        Budget(min_px=100, max_px=100)
        """
        if max_px is None:
            return self
        return Budget(min_px=min(self.min_px, max_px), max_px=max_px)

    def within(self, min_px: int, max_px: int) -> Budget:
        """This budget, both ends moved into a range.

        >>> Budget(min_px=400, max_px=900).within(500, 700)
        Budget(min_px=500, max_px=700)
        """
        low, high = (min(max(end, min_px), max_px) for end in (self.min_px, self.max_px))
        return Budget(min_px=low, max_px=high)


class Budgets(Record):
    """What a model sees of each kind of picture."""

    picture: Budget
    """the overview of a picture"""
    crop: Budget
    """the result of `zoom_in`"""
    frame: Budget
    """a sampled frame of a video, in the overview"""
    selected_frame: Budget
    """the result of `select_frames`"""
    multiple: int
    """sides are whole multiples of this many pixels"""

    def at_most(self, overview_px: int | None, result_px: int | None) -> Budgets:
        """These budgets with other upper ends for overviews of pictures and for what operations return; None leaves one."""
        return self.model_copy(
            update={
                "picture": self.picture.at_most(overview_px),
                "crop": self.crop.at_most(result_px),
                "selected_frame": self.selected_frame.at_most(result_px),
            }
        )

    def within(self, min_px: int, max_px: int) -> Budgets:
        """These budgets, all of them moved into a range."""
        kinds = ("picture", "crop", "frame", "selected_frame")
        return self.model_copy(
            update={kind: getattr(self, kind).within(min_px, max_px) for kind in kinds}
        )


def fit_size(size: Size, budget: Budget, multiple: int) -> Size:
    """The size at which a picture is shown: its shape as nearly as `multiple` allows, within the budget.

    The arithmetic is that of Qwen-VL's `smart_resize`, without its refusal of very long pictures, and with sides rounded to
    the nearest multiple where that stays within the budget: a region of 185 x 186 pixels is shown as a square.

    >>> fit_size((1024, 1024), Budget(min_px=4096, max_px=36864), 32)
    (192, 192)
    >>> fit_size((60, 20), Budget(min_px=16384, max_px=16384), 32)
    (160, 96)
    >>> fit_size((185, 186), Budget(min_px=25600, max_px=25600), 32)
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
    # A side raised to one multiple, or a ceiling, may have left the budget: shorten the longer side.
    longer = 0 if fitted[0] >= fitted[1] else 1
    most = budget.max_px // fitted[1 - longer] // multiple * multiple
    fitted[longer] = max(multiple, min(fitted[longer], most))
    return fitted[0], fitted[1]


def region_px(size: Size, box: Box) -> tuple[int, int, int, int]:
    """A box in whole source pixels (left, top, right, bottom), rounded outwards.

    >>> region_px((100, 50), Box(0.101, 0.5, 0.299, 1.0))
    (10, 25, 30, 50)
    """
    width, height = size
    # A hair of tolerance: 0.3 * 10 is 3.0000000000000004, and must not become a fourth pixel.
    left, top = math.floor(box.x1 * width + 1e-6), math.floor(box.y1 * height + 1e-6)
    right, bottom = math.ceil(box.x2 * width - 1e-6), math.ceil(box.y2 * height - 1e-6)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def shown(image: Image.Image, box: Box, size: Size) -> Image.Image:
    """The region of a full-resolution picture as a model sees it: cut out and scaled to `size` in one step."""
    region = region_px(image.size, box)
    return image.resize(size, Image.Resampling.LANCZOS, box=region, reducing_gap=3.0)
