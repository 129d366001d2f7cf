"""Parameters of PixelWorld 2: families, heights of the evidence, twins, and the size of the overview.

The height of the evidence is the independent variable. It is measured in pixels of the *resized overview*, so its meaning
does not depend on the model: 2 is a smudge and 12 is legible for every budget. Wording and scene do not depend on it.
"""

from __future__ import annotations

from typing import Literal, get_args

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import PixelBudgets

VERSION = 2
"""version of the world; incremented when a seed gives another scene"""

Family = Literal["attribute", "relation", "count", "where", "parts", "video", "moments"]
FAMILIES: tuple[Family, ...] = get_args(Family)
CLIPS: frozenset[str] = frozenset({"video", "moments"})
"""families whose medium is a clip"""

HEIGHTS: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
"""heights of the decisive characters, in pixels of the overview"""
READABLE_FROM_PX = 5
"""Height from which the overview shows the characters: every larger height of `HEIGHTS` is readable, every smaller one
needs an operation (measured: docs/pixelworld2.md)."""
HELD_OUT_PX = 3
"""height that the training split leaves out, to see whether a threshold is interpolated or memorised"""
TRAINING_HEIGHTS: tuple[int, ...] = tuple(px for px in HEIGHTS if px != HELD_OUT_PX)

Twin = Literal["a", "b"]
TWINS: tuple[Twin, ...] = ("a", "b")
"""two versions of one scene: a detail differs, and with it the answer"""

_MAX_PX = max(HEIGHTS)
CROWDED_FROM_PX = 512
"""overview side from which a picture has many shapes"""
MIN_CANVAS_PX, MAX_CANVAS_PX = 256, 8192
MIN_DETAIL_PX = 8
"""height of a character in the file from which a crop shows it"""


class Params(Record):
    """Sizes of a scene, in pixels. `Params.of` validates sizes of a user.

    >>> Params(size_px=1024, overview_px=192, evidence_px=3).detail_px
    16.0
    """

    size_px: int
    """side of the square canvas"""
    overview_px: int
    """side of the resized overview that the model receives"""
    evidence_px: int
    """height of the decisive characters in the overview"""

    @classmethod
    def of(cls, size_px: int, overview_px: int, evidence_px: int) -> Params:
        """Return validated sizes.

        Raises:
            UsageError: an unknown height, or a canvas that is too small, too large, or has too few pixels per character.
        """
        params = cls(size_px=size_px, overview_px=overview_px, evidence_px=evidence_px)
        if evidence_px not in HEIGHTS:
            raise UsageError(
                expected=f"an evidence height of {', '.join(map(str, HEIGHTS))} px in the overview",
                got=f"{evidence_px} px",
                fix="choose one of these",
            )
        if overview_px < 4 * _MAX_PX or not MIN_CANVAS_PX <= size_px <= MAX_CANVAS_PX:
            raise UsageError(
                expected=f"an overview of at least {4 * _MAX_PX} px and a canvas of {MIN_CANVAS_PX} to {MAX_CANVAS_PX} px",
                got=f"an overview of {overview_px} px and a canvas of {size_px} px",
                fix="choose another --size-px, or limit the overview with --overview-px (pixels, width times height)",
            )
        if params.detail_px < MIN_DETAIL_PX:
            raise UsageError(
                expected=f"a character of at least {MIN_DETAIL_PX} px in the file",
                got=f"{params.detail_px:.1f} px: {evidence_px} px in an overview of {overview_px} px, and a canvas of "
                f"{size_px} px",
                fix=f"choose a canvas of at least {-(-overview_px * MIN_DETAIL_PX // evidence_px)} px with --size-px",
            )
        return params

    @property
    def detail_px(self) -> float:
        """Height of the decisive characters in the file."""
        return self.evidence_px * self.size_px / self.overview_px

    @property
    def is_readable(self) -> bool:
        """Whether the overview shows the decisive characters."""
        return self.evidence_px >= READABLE_FROM_PX

    @property
    def is_crowded(self) -> bool:
        """Whether the picture has many shapes."""
        return self.overview_px >= CROWDED_FROM_PX


def default_size_px(family: str, overview_px: int) -> int:
    """Return the side of the canvas at which the smallest character has at least 8 pixels in the file.

    >>> default_size_px("attribute", 192), default_size_px("video", 64), default_size_px("attribute", 1024)
    (1024, 320, 4096)
    """
    return max(320 if family in CLIPS else 1024, 4 * overview_px)


def overview_side_px(family: str, budgets: PixelBudgets, size_px: int | None = None) -> int:
    """Return the side of the overview of a square canvas with these budgets, in pixels.

    Without a canvas the largest overview of the budgets is meant: a canvas is then chosen by `default_size_px`.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> overview_side_px("attribute", COMPACT.budgets), overview_side_px("video", COMPACT.budgets)
    (1024, 320)
    """
    budget = budgets.frame if family in CLIPS else budgets.picture
    side = size_px or max(round(budget.max_px**0.5), MIN_CANVAS_PX)
    width, height = fit_size((side, side), budget, budgets.multiple)
    return min(width, height)
