"""Sections that other packages add to a report: `report --section NAME`.

@report_section
def hardest(traces: Sequence[Trace]) -> list[list[str]]: ...

[project.entry-points."pixel_reasoner.report_sections"]
hardest = "my_package:hardest"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pixel_reasoner.errors import PluginError, one_line
from pixel_reasoner.plugin_checks import described, is_function
from pixel_reasoner.registry import Registry
from pixel_reasoner.reports.templates import render
from pixel_reasoner.schema.trace import Trace

if TYPE_CHECKING:
    from markupsafe import Markup

Content = str | Sequence[Sequence[str]]
"""a text, or a table: rows of cells, the first of them the header. `markupsafe.Markup` is HTML; all else is escaped"""
ReportSection = Callable[[Sequence[Trace]], Content]
"""(all traces of the report) -> what the section shows; its name is the heading"""

SECTIONS = Registry[ReportSection]("report section", check=is_function("report section", "traces"))
report_section = SECTIONS.decorator
"""decorator that registers a function as a report section, under its name or `name=`"""


def render_sections(names: Iterable[str], traces: Sequence[Trace]) -> Markup:
    """Return the sections of these names as HTML, in order.

    Raises:
        UnknownNameError: there is no such section; the nearest names are listed.
        PluginError: a section that cannot be imported, fails, or returns something else than a text or a table.
    """
    shown = [(name, _content(name, SECTIONS.get(name), traces)) for name in dict.fromkeys(names)]
    sections = [
        {
            "title": name.replace("_", " ").capitalize(),
            "text": content if isinstance(content, str) else None,
            "table": None if isinstance(content, str) else content,
        }
        for name, content in shown
    ]
    return render("sections.html", sections=sections)  # nothing for no sections


def _content(name: str, section: ReportSection, traces: Sequence[Trace]) -> Content:
    try:
        content = section(traces)
    except Exception as error:
        raise PluginError(
            expected=f"the content of the report section {name!r}",
            got=f"{type(error).__name__}: {one_line(error)}, in {described(section)}",
            fix="repair the function, or leave --section out",
        ) from error
    if not isinstance(content, str) and not _is_table(content):
        raise PluginError(
            expected=f"a text or a list of rows of texts from the report section {name!r}",
            got=f"{described(content)}, from {described(section)}",
            fix="return a text or a table",
        )
    return content


def _is_table(content: object) -> bool:
    """Return whether a value has a header and rows of as many texts."""
    if not isinstance(content, Sequence) or not content:
        return False
    rows = [row for row in content if isinstance(row, Sequence) and not isinstance(row, str)]
    is_whole = len(rows) == len(content) and len({len(row) for row in rows}) == 1
    return (
        is_whole and len(rows[0]) > 0 and all(isinstance(cell, str) for row in rows for cell in row)
    )
