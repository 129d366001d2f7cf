"""Traces for people: images of their crops, and a page in a notebook or browser. `Trace` has these as methods."""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.reports.html import notebook_frame
from pixel_reasoner.reports.page import PageLimits, write_report
from pixel_reasoner.schema.trace import Trace

if TYPE_CHECKING:
    from PIL import Image

    from pixel_reasoner.reports.picture_files import WrittenPicture

NOTEBOOK_LIMITS = PageLimits(max_page_bytes=1 << 40, max_source_px=4_000_000)
"""a notebook contains its outputs: one page each, with smaller sources"""
FRAME_HEIGHT_PX = 640
"""height of a trace in a notebook; longer ones scroll"""


def crops(trace: Trace, *, full_resolution: bool = False) -> list[Image.Image]:
    """Return the images that operations added, in order.

    Args:
        trace: its media are opened again.
        full_resolution: return the pixels of the source instead of the copies that the model received.

    Raises:
        InputError: a medium that cannot be used, or that is not what the trace was made from.
    """
    context = MediaContext.of_trace(trace)
    image = context.pixels if full_resolution else context.view
    return [image(one.number) for one in context.pictures if one.parent is not None]


def page(trace: Trace) -> str:
    """Return a trace as one HTML page without references to other files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.html"
        write_report([trace], path, title=trace.question.text, limits=NOTEBOOK_LIMITS)
        return path.read_text(encoding="utf-8")


def notebook_html(trace: Trace) -> str:
    """Return a trace as HTML for a notebook."""
    return notebook_frame(page(trace), "trace", FRAME_HEIGHT_PX)


def show(trace: Trace) -> Path | None:
    """Show a trace: in the output of a notebook, or else as a page in the browser.

    Returns:
        The page; None in a notebook.
    """
    if _is_in_notebook():
        from IPython.display import HTML, display

        display(HTML(notebook_html(trace)))
        return None
    path = Path(tempfile.mkdtemp(prefix="pixel-reasoner-")) / "trace.html"
    page = write_report([trace], path, title=trace.question.text).out
    webbrowser.open(page.as_uri())
    return page


def save_strip(trace: Trace, path: Path) -> WrittenPicture:
    """Write a trace as one picture (`reports.strip`)."""
    from pixel_reasoner.reports.strip import write_strip

    return write_strip(trace, path)


def save_animation(trace: Trace, path: Path) -> WrittenPicture:
    """Write a trace as an animation (`reports.animation`)."""
    from pixel_reasoner.reports.animation import write_animation

    return write_animation(trace, path)


def _is_in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
