"""Pictures with boxes: pixels as data URIs, boxes as SVG overlays, never drawn into the pixels (`figure.html`).

A picture that cannot be opened (moved, changed or broken since the run, or in a folder without permission) is replaced
by a
tile with the reason.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import Trace

if TYPE_CHECKING:  # Pillow and PyAV are loaded when a picture is shown
    import PIL.Image
    from markupsafe import Markup

    from pixel_reasoner.media.context import MediaContext

_MAX_SIZE_PX = (900, 4000)
"""larger pictures are scaled down to this width and height"""
_MAX_LOSSLESS_PX = 256 * 256
"""smaller pictures are stored losslessly, to show exactly the model's input"""
_ENLARGED_BELOW_PX = 450
"""narrower pictures are enlarged, with hard pixel edges"""
_NUM_COLORS = 6


class Image(NamedTuple):
    """Picture as `<img>`, or the reason why it cannot be shown."""

    alt: str
    src: Markup | str = ""
    """data URI; empty if the picture cannot be shown"""
    width: int = 0
    height: int = 0
    problem: str = ""

    @property
    def is_enlarged(self) -> bool:
        """Whether it is enlarged, with hard pixel edges."""
        return self.width < _ENLARGED_BELOW_PX


class Mark(NamedTuple):
    """Box over a picture, in fractions of the visible area.

    Its position is in percent, so that it fits the picture at every size.
    """

    box: Box
    label: str = ""
    turn: int = 0
    """turn whose operation returned this crop, from 1; 0 for evidence"""
    link: str = ""

    @property
    def x(self) -> str:
        """Left edge in percent."""
        return f"{100 * self.box.x1:.2f}"

    @property
    def y(self) -> str:
        """Upper edge in percent."""
        return f"{100 * self.box.y1:.2f}"

    @property
    def width(self) -> str:
        """Width in percent."""
        return f"{100 * (self.box.x2 - self.box.x1):.2f}"

    @property
    def height(self) -> str:
        """Height in percent."""
        return f"{100 * (self.box.y2 - self.box.y1):.2f}"

    @property
    def color(self) -> str:
        """CSS class of the turn."""
        return color(self.turn)

    @property
    def label_top(self) -> int:
        """Pixels from the upper edge to the label: above the box, or inside a box at the upper edge."""
        return 0 if self.box.y1 < 0.08 else -18

    @property
    def label_width(self) -> int:
        """Pixels."""
        return 10 + 8 * len(self.label)

    @property
    def label_middle(self) -> str:
        """Pixels from the left edge of the label to its middle."""
        return f"{self.label_width / 2:g}"


class Figure(NamedTuple):
    """A picture with boxes over it."""

    image: Image
    marks: Sequence[Mark] = ()
    kind: str = ""
    """CSS classes"""
    link: str = ""
    """id of its turn"""


class TracePictures:
    """Pictures of one trace, or the reasons why they cannot be shown.

    Args:
        trace: trace with media.
        unshown: counts pictures that cannot be shown, by reason.
    """

    def __init__(self, trace: Trace, unshown: Counter[str]) -> None:
        from pixel_reasoner.media.context import MediaContext

        self._unshown = unshown
        self._context: MediaContext | InputError
        try:
            self._context = MediaContext.of_trace(trace)
        except InputError as error:
            self._context = error

    def view(self, number: int, alt: str) -> Image:
        """Return a picture as the model received it."""
        return self._picture(lambda context: context.view(number), alt)

    def source(self, number: int, alt: str) -> Image:
        """Return the full picture or frame from which a picture was cropped."""
        return self._picture(lambda context: context.source(number), alt)

    def _picture(self, pixels: Callable[[MediaContext], PIL.Image.Image], alt: str) -> Image:
        try:
            if isinstance(self._context, InputError):
                raise self._context
            return _data_uri(pixels(self._context), alt)
        except InputError as error:
            self._unshown[error.got] += 1
            return Image(alt, problem=error.got)


def _data_uri(pixels: PIL.Image.Image, alt: str) -> Image:
    """Return a picture with its pixels as a data URI."""
    from markupsafe import Markup
    from PIL import Image as PillowImage

    scale = min(1, *(most / side for most, side in zip(_MAX_SIZE_PX, pixels.size, strict=True)))
    width, height = (max(1, round(side * scale)) for side in pixels.size)
    if scale < 1:
        pixels = pixels.resize((width, height), PillowImage.Resampling.LANCZOS, reducing_gap=3)
    buffer = io.BytesIO()
    small = width * height <= _MAX_LOSSLESS_PX
    pixels.convert("RGB").save(buffer, "WEBP", quality=80, lossless=small, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    src = Markup(f"data:image/webp;base64,{data}")
    return Image(alt, src, width, height)


def color(turn: int) -> str:
    """Return the CSS class of a turn and its boxes. Colours repeat cyclically.

    >>> color(1), color(_NUM_COLORS + 1)
    ('turn-1', 'turn-1')
    """
    return f"turn-{(turn - 1) % _NUM_COLORS + 1}"
