"""The viewer: scripts, style and the HTML frame of a page (`viewer/`).

From `file://` a page can load neither modules nor JSON. All scripts are written into the page as one classic script, in
the order of `SCRIPTS`; they share one function scope. The Content-Security-Policy of the page allows that script and
that style by hash, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from pixel_reasoner.reports.templates import csp_hash, render_parts

if TYPE_CHECKING:
    from markupsafe import Markup

SCRIPTS = (
    *("core.js", "store.js", "state.js", "text.js", "picture.js", "zoom.js", "clip.js", "trace.js"),
    *("list.js", "sections.js", "charts.js", "help.js", "app.js"),
)
"""scripts of this project, in order"""
VIEWER = ("core.js", "text.js", "picture.js", "zoom.js", "clip.js", "trace.js")
"""scripts that show one trace, for pages that provide the rest themselves"""
VENDORED = ("htm-preact-3.1.1.js", "panzoom-4.6.2.js")
CHART_LIBRARY = "uplot-1.6.32"
_NOTICE = """/*!
Preact, (c) 2015-present Jason Miller, MIT. htm, (c) 2018 Google Inc., Apache-2.0. Panzoom, (c) Timmy Willison and other
contributors, MIT. uPlot, (c) 2022 Leon Sorokin, MIT. Licence texts: reports/viewer/vendor/LICENSES.txt of pixel-reasoner.
*/"""


def script(*, has_charts: bool) -> Markup:
    """Return the script of a page. Pages without charts are smaller."""
    from markupsafe import Markup

    return Markup(_script(has_charts))


def style(*, has_charts: bool) -> Markup:
    """Return the style of a page."""
    from markupsafe import Markup

    charts = _read(f"vendor/{CHART_LIBRARY}.css") if has_charts else ""
    return Markup(f"{charts}{_read('viewer.css')}")


def notebook_frame(page: str, title: str, height_px: int) -> str:
    """Return a page as HTML for a notebook: a frame, so that neither styles the other."""
    style = f"width:100%;height:{height_px}px;border:1px solid #8884;border-radius:6px"
    return f'<iframe title="{escape(title)}" srcdoc="{escape(page)}" style="{style}"></iframe>'


def frame(
    title: str, report: Markup, blocks: Iterator[Markup], *, has_charts: bool, is_folder: bool
) -> Iterator[str]:
    """Yield a page in parts.

    Args:
        title: of the page.
        report: JSON of the report, safe inside of a script element.
        blocks: script elements with items and pictures.
        has_charts: whether the chart library is included.
        is_folder: whether items and pictures are files next to the page.
    """
    return render_parts(
        "viewer.html",
        title=title,
        report=report,
        blocks=blocks,
        style=style(has_charts=has_charts),
        script=script(has_charts=has_charts),
        is_folder=is_folder,
    )


@cache
def _script(has_charts: bool) -> str:
    vendored = [f"vendor/{name}" for name in VENDORED]
    if has_charts:
        vendored.append(f"vendor/{CHART_LIBRARY}.js")
    return _assembled(vendored, "\n".join(_read(name) for name in SCRIPTS))


def viewer_script(own: str) -> str:
    """Return the script of a page that shows traces in its own frame.

    Args:
        own: scripts of the page; they share one function scope with the scripts of the viewer.
    """
    viewer = "\n".join(_read(name) for name in VIEWER)
    return _assembled([f"vendor/{name}" for name in VENDORED], f"{viewer}\n{own}")


def _assembled(vendored: Sequence[str], own: str) -> str:
    libraries = "\n;\n".join(_read(name) for name in vendored)
    libraries = f"{_NOTICE}\n{libraries}"
    return f'{libraries}\n;\n(() => {{\n"use strict";\n{own}\n}})();\n'


@cache
def _read(name: str) -> str:
    return (resources.files(__package__) / "viewer" / name).read_text(encoding="utf-8")


__all__ = [
    "CHART_LIBRARY",
    "SCRIPTS",
    "VENDORED",
    "VIEWER",
    "csp_hash",
    "frame",
    "script",
    "style",
    "viewer_script",
]
