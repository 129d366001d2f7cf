"""The lesson as one HTML file: it works offline, with mouse, finger, keyboard and screen reader.

Answers are sealed (`lesson.seal`), and pictures of the reveal have neutral names, so neither the text of the page nor its
accessibility tree contains an answer before the learner has committed to a guess.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_writer, reason
from pixel_reasoner.reports.html import style as viewer_style, viewer_script
from pixel_reasoner.reports.templates import environment
from pixel_reasoner.workflows.lessons.lesson import LessonContent

if TYPE_CHECKING:
    from markupsafe import Markup

PACKAGE = "pixel_reasoner.workflows.lessons"
_PAYLOAD = re.compile(r'<script type="application/json" id="lesson">(.*?)</script>', re.DOTALL)


def write_page(content: LessonContent, path: Path) -> None:
    """Write the lesson as one HTML file.

    Raises:
        OutputError: the path cannot be written.
    """
    script = viewer_script(lesson_script() + '\nstartLesson(document.getElementById("app"));\n')
    text = render(
        "lesson.html",
        title=content.lesson.title,
        style=_markup(f"{viewer_style(has_charts=False)}{lesson_style()}"),
        script=_markup(script),
        payload=_markup(json.dumps(content.payload).replace("<", "\\u003c")),
    )
    with atomic_writer(path) as file:
        file.write(text)


def load_lesson(path: Path) -> LessonContent:
    """Return the lesson in a page that `write_page` wrote.

    Args:
        path: of the HTML file.

    Raises:
        InputError: no such file, or another page.

    >>> load_lesson(Path("none.html"))
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.InputError: expected a lesson.html written by `pixel-reasoner teach`; got none.html: No such file or directory. Fix: write one with `pixel-reasoner teach --pixelworld`
    """
    try:
        found = _PAYLOAD.search(Path(path).read_text(encoding="utf-8"))
        if found is None:
            raise ValueError("another page")
        return LessonContent.of_payload(json.loads(found[1]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            expected="a lesson.html written by `pixel-reasoner teach`",
            got=f"{path}: {reason(error)}",
            fix="write one with `pixel-reasoner teach --pixelworld`",
        ) from error


def render(template: str, **values: Any) -> str:
    """Return a rendered template of this package. Values are escaped."""
    return environment(PACKAGE).get_template(template).render(**values)


@cache
def lesson_script() -> str:
    """Return the script of lessons, which needs the scripts of the viewer."""
    return read("lesson.js")


@cache
def lesson_style() -> str:
    """Return the style of lessons, which extends that of the viewer."""
    return read("lesson.css")


def read(name: str) -> str:
    """Return a file of `templates/`."""
    return (resources.files(PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def _markup(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)
