"""Legibility of text in pictures of a prompt, which decides whether a question needs an operation."""

from __future__ import annotations

from typing import NamedTuple

from pixel_reasoner.media.resize import fit_size, region_px
from pixel_reasoner.operations.zoom import expand_box
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.settings import PixelBudgets

DEFAULT_LEGIBLE_PX = 12.0
"""height of a line, from the top of its capitals to the end of its descenders and a little more: text of 10 points at 86 dpi"""
MIN_SOURCE_PX = 8.0
"""height of a line in the source, below which no enlargement makes it legible"""


class Legibility(NamedTuple):
    """Pixel budgets of a model, and the line height from which it can read text."""

    budgets: PixelBudgets
    min_px: float = DEFAULT_LEGIBLE_PX
    margin: float = 0.25
    min_side: float = 0.12

    def in_overview(self, size: Size, height: float) -> bool:
        """Return whether text of a height, as a fraction of the picture, is legible in the overview.

        >>> from pixel_reasoner.dialects import COMPACT
        >>> legibility = Legibility(COMPACT.budgets)
        >>> legibility.in_overview((2480, 3508), 0.02), legibility.in_overview((2480, 3508), 0.005)
        (True, False)
        """
        shown = fit_size(size, self.budgets.picture, self.budgets.multiple)
        return self._is_legible(height * size[1], shown[1] / size[1])

    def in_crop(self, size: Size, box: Box, height: float) -> bool:
        """Return whether text of a height, as a fraction of the picture, is legible in the crop of a box."""
        left, top, right, bottom = region_px(size, expand_box(box, self.margin, self.min_side))
        region = right - left, bottom - top
        shown = fit_size(region, self.budgets.crop, self.budgets.multiple)
        return self._is_legible(height * size[1], shown[1] / region[1])

    def _is_legible(self, height_px: float, scale: float) -> bool:
        return height_px >= MIN_SOURCE_PX and height_px * scale >= self.min_px
