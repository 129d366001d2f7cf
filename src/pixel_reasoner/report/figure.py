"""Pictures with boxes over them: pixels as data URIs, boxes as SVG, never drawn into the pixels.

A picture that cannot be shown any more (moved, changed or broken since) leaves a tile that says why.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable
from html import escape
from typing import NamedTuple

from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import Trace

_MAX_SHOWN_PX = (900, 4000)
"""larger pictures are scaled down to this width and height"""
_MAX_LOSSLESS_PX = 256 * 256
"""small pictures are kept to the last pixel: what the model could see is the point of them"""
_ENLARGED_BELOW_PX = 450
"""narrower pictures are shown enlarged, with hard pixel edges"""
_NUM_COLORS = 6


class Mark(NamedTuple):
    """A box to draw over a picture, in coordinates of what is shown."""

    box: Box
    label: str = ""
    turn: int = 0
    link: str = ""


class Shots:
    """The pictures of one trace as `<img>`, or as tiles that say why not."""

    def __init__(self, trace: Trace, unshown: Counter[str]) -> None:
        self._unshown = unshown
        self._album: MediaContext | InputError
        try:
            self._album = MediaContext.of_trace(trace)
        except InputError as error:
            self._album = error

    def view(self, number: int, alt: str) -> str:
        """The copy of a picture that the model saw."""
        return self._shot(lambda album: album.view(number), alt)

    def source(self, number: int, alt: str) -> str:
        """The full picture or frame that a picture comes from."""
        return self._shot(lambda album: album.source(number), alt)

    def _shot(self, pixels: Callable[[MediaContext], Image.Image], alt: str) -> str:
        try:
            if isinstance(self._album, InputError):
                raise self._album
            return _img(pixels(self._album), alt)
        except InputError as error:
            self._unshown[error.got] += 1
            return f'<p class="missing">{escape(alt)}: {escape(error.got)}</p>'


def _img(pixels: Image.Image, alt: str) -> str:
    """A picture as a data URI."""
    scale = min(1, *(most / side for most, side in zip(_MAX_SHOWN_PX, pixels.size, strict=True)))
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
    """A picture with its boxes and its caption, which is HTML."""
    linked = f' data-link="{link}"' if link else ""
    overlay = "".join(_draw(mark) for mark in marks)
    boxes = f'<svg class="boxes" aria-hidden="true">{overlay}</svg>' if overlay else ""
    return (
        f'<figure class="{kind}"{linked}><div class="canvas">{img}{boxes}</div>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def color(turn: int) -> str:
    """The class that colours a turn and its boxes; after the last colour the first comes again.

    >>> color(1), color(_NUM_COLORS + 1)
    ('turn-1', 'turn-1')
    """
    return f"turn-{(turn - 1) % _NUM_COLORS + 1}"


def _draw(mark: Mark) -> str:
    """One box as SVG, placed in percent so that it fits the picture at every size."""
    box = mark.box
    place = (
        f'x="{100 * box.x1:.2f}%" y="{100 * box.y1:.2f}%" '
        f'width="{100 * (box.x2 - box.x1):.2f}%" height="{100 * (box.y2 - box.y1):.2f}%"'
    )
    rects = f'<rect class="halo" {place}/><rect class="line" {place}/>'
    if not mark.turn:
        return f'<g class="box evidence">{rects}</g>'
    # The label stands on the box; into a box at the upper edge it hangs.
    top = 0 if box.y1 < 0.08 else -18
    width = 10 + 8 * len(mark.label)
    label = (
        f'<svg x="{100 * box.x1:.2f}%" y="{100 * box.y1:.2f}%" overflow="visible">'
        f'<rect class="tag" y="{top}" width="{width}" height="18"/>'
        f'<text x="{width / 2:g}" y="{top + 13}">{escape(mark.label)}</text></svg>'
    )
    return f'<g class="box {color(mark.turn)}" data-link="{mark.link}">{rects}{label}</g>'
