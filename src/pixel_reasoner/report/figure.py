"""Pictures with boxes over them: pixels as data URIs, boxes as SVG on top, never drawn into the pixels.

A picture that cannot be opened (moved, changed or broken since the run) is replaced by a tile with the reason.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import Trace

if TYPE_CHECKING:  # Pillow and PyAV are loaded when a picture is shown
    from PIL import Image

    from pixel_reasoner.media.context import MediaContext

_MAX_SIZE_PX = (900, 4000)
"""larger pictures are scaled down to this width and height"""
_MAX_LOSSLESS_PX = 256 * 256
"""smaller pictures are stored without loss: they show exactly what the model received"""
_ENLARGED_BELOW_PX = 450
"""narrower pictures are enlarged, with hard pixel edges"""
_NUM_COLORS = 6


class Mark(NamedTuple):
    """Box to draw over a picture, in fractions of what is shown."""

    box: Box
    label: str = ""
    turn: int = 0
    link: str = ""


class TracePictures:
    """Pictures of one trace as `<img>`, or as tiles with the reason why not.

    Args:
        trace: with media.
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

    def view(self, number: int, alt: str) -> str:
        """Return a picture as the model received it."""
        return self._picture(lambda context: context.view(number), alt)

    def source(self, number: int, alt: str) -> str:
        """Return the full picture or frame that a picture was cut from."""
        return self._picture(lambda context: context.source(number), alt)

    def _picture(self, pixels: Callable[[MediaContext], Image.Image], alt: str) -> str:
        try:
            if isinstance(self._context, InputError):
                raise self._context
            return _img(pixels(self._context), alt)
        except InputError as error:
            self._unshown[error.got] += 1
            return f'<p class="missing">{escape(alt)}: {escape(error.got)}</p>'


def _img(pixels: Image.Image, alt: str) -> str:
    """Return a picture as a data URI."""
    from PIL import Image

    scale = min(1, *(most / side for most, side in zip(_MAX_SIZE_PX, pixels.size, strict=True)))
    width, height = (max(1, round(side * scale)) for side in pixels.size)
    if scale < 1:
        pixels = pixels.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)
    buffer = io.BytesIO()
    small = width * height <= _MAX_LOSSLESS_PX
    pixels.convert("RGB").save(buffer, "WEBP", quality=80, lossless=small, method=2)
    data = base64.b64encode(buffer.getvalue()).decode()
    kind = ' class="enlarged"' if width < _ENLARGED_BELOW_PX else ""
    return (
        f'<img{kind} src="data:image/webp;base64,{data}" width="{width}" height="{height}" '
        f'loading="lazy" alt="{escape(alt)}">'
    )


def figure(
    img: str, caption: str, marks: Iterable[Mark] = (), kind: str = "", link: str = ""
) -> str:
    """Return a picture with boxes and a caption, which is HTML."""
    linked = f' data-link="{link}"' if link else ""
    overlay = "".join(_draw(mark) for mark in marks)
    boxes = f'<svg class="boxes" aria-hidden="true">{overlay}</svg>' if overlay else ""
    return (
        f'<figure class="{kind}"{linked}><div class="canvas">{img}{boxes}</div>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def color(turn: int) -> str:
    """Return the CSS class of a turn and its boxes. Colours repeat after the last.

    >>> color(1), color(_NUM_COLORS + 1)
    ('turn-1', 'turn-1')
    """
    return f"turn-{(turn - 1) % _NUM_COLORS + 1}"


def _draw(mark: Mark) -> str:
    """Return one box as SVG. Its place is in percent, so that it fits the picture at every size."""
    box = mark.box
    place = (
        f'x="{100 * box.x1:.2f}%" y="{100 * box.y1:.2f}%" '
        f'width="{100 * (box.x2 - box.x1):.2f}%" height="{100 * (box.y2 - box.y1):.2f}%"'
    )
    rects = f'<rect class="halo" {place}/><rect class="line" {place}/>'
    if not mark.turn:
        return f'<g class="box evidence">{rects}</g>'
    # The label is above the box; inside it where the box is at the upper edge.
    top = 0 if box.y1 < 0.08 else -18
    width = 10 + 8 * len(mark.label)
    label = (
        f'<svg x="{100 * box.x1:.2f}%" y="{100 * box.y1:.2f}%" overflow="visible">'
        f'<rect class="tag" y="{top}" width="{width}" height="18"/>'
        f'<text x="{width / 2:g}" y="{top + 13}">{escape(mark.label)}</text></svg>'
    )
    return f'<g class="box {color(mark.turn)}" data-link="{mark.link}">{rects}{label}</g>'
