"""Sections that other packages add to a report: `report --section NAME`.

@report_section
def hardest(traces: Sequence[Trace]) -> list[list[str]]: ...

[project.entry-points."pixel_reasoner.report_sections"]
hardest = "my_package:hardest"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeGuard

from pixel_reasoner.errors import PluginError, one_line
from pixel_reasoner.plugin_checks import described, is_function
from pixel_reasoner.registry import Registry
from pixel_reasoner.reports.schema import (
    ChartsSection,
    Column,
    HtmlSection,
    MatrixSection,
    MetricsSection,
    Section,
    TableSection,
    TextSection,
)
from pixel_reasoner.schema.trace import Trace

Content = str | Sequence[Sequence[str]] | Section
"""a text; a table: rows of cells, the first of them the header; `markupsafe.Markup`, which is HTML; or a section of
`reports.schema`, for example with charts. Texts are never interpreted as HTML"""
ReportSection = Callable[[Sequence[Trace]], Content]
"""(all traces of the report) -> what the section shows; its name is the heading"""

SECTIONS = Registry[ReportSection]("report section", check=is_function("report section", "traces"))
report_section = SECTIONS.decorator
"""decorator that registers a function as a report section, under its name or `name=`"""
_RECORDS = (MetricsSection, TableSection, MatrixSection, ChartsSection, TextSection, HtmlSection)


def build_sections(names: Iterable[str], traces: Sequence[Trace]) -> list[Section]:
    """Return the sections of these names, in order.

    Raises:
        UnknownNameError: there is no such section; the nearest names are listed.
        PluginError: a section that cannot be imported, fails, or returns something else than a text, a table or a section.
    """
    return [_build(name, SECTIONS.get(name), traces) for name in dict.fromkeys(names)]


def _build(name: str, function: ReportSection, traces: Sequence[Trace]) -> Section:
    from markupsafe import Markup

    content = _call(name, function, traces)
    title = name.replace("_", " ").capitalize()
    if isinstance(content, _RECORDS):
        return content
    if isinstance(content, Markup):
        return HtmlSection(title=title, html=str(content))
    if isinstance(content, str):
        return TextSection(title=title, text=content)
    if _is_table(content):
        header, *rows = content
        columns = tuple(Column(title=str(cell)) for cell in header)
        return TableSection(title=title, columns=columns, rows=tuple(tuple(row) for row in rows))
    raise PluginError(
        expected=f"a text or a list of rows of texts from the report section {name!r}",
        got=f"{described(content)}, from {described(function)}",
        fix="return a text, a table or a section of `pixel_reasoner.reports.schema`",
    )


def _call(name: str, function: ReportSection, traces: Sequence[Trace]) -> object:
    try:
        return function(traces)
    except Exception as error:
        raise PluginError(
            expected=f"the content of the report section {name!r}",
            got=f"{type(error).__name__}: {one_line(error)}, in {described(function)}",
            fix="repair the function, or leave --section out",
        ) from error


def _is_table(content: object) -> TypeGuard[Sequence[Sequence[str]]]:
    """Return whether a value has a header and rows of as many texts."""
    if not isinstance(content, Sequence) or not content:
        return False
    rows = [row for row in content if isinstance(row, Sequence) and not isinstance(row, str)]
    is_whole = len(rows) == len(content) and len({len(row) for row in rows}) == 1
    return (
        is_whole and len(rows[0]) > 0 and all(isinstance(cell, str) for row in rows for cell in row)
    )
