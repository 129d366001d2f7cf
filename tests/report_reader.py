"""Reader of written reports for tests: the report, its items, and the files of a page or a folder."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pixel_reasoner.reports.schema import Item, Report


class PageElements(HTMLParser):
    """Script elements of a page by id, and the names of its other tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._id: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._id = dict(attrs).get("id") or ""
            self.scripts[self._id] = ""
        else:
            self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._id = None

    def handle_data(self, data: str) -> None:
        if self._id is not None:
            self.scripts[self._id] += data


class WrittenPage:
    """A written report, as the viewer reads it."""

    def __init__(self, path: Path) -> None:
        parsed = PageElements(path.read_text(encoding="utf-8"))
        self.tags, scripts = parsed.tags, parsed.scripts
        self.report = Report.model_validate_json(scripts["report"])
        if path.name == "index.html":
            self.items = _items_of_folder(path.parent)
            self.files = {one.name for one in (path.parent / "pictures").iterdir()}
        else:
            names = [f"item-{number}" for number in range(len(self.report.entries))]
            self.items = [Item.model_validate_json(scripts[name]) for name in names]
            self.files = {name[5:] for name in scripts if name.startswith("file-")}

    def section(self, title: str) -> Any:
        """Return the section whose title starts with a text."""
        exact = [one for one in self.report.sections if one.title == title]
        (found,) = exact or [one for one in self.report.sections if one.title.startswith(title)]
        return found

    def titles(self) -> list[str]:
        """Return the titles of all sections."""
        return [one.title for one in self.report.sections]

    def chart(self, title: str) -> Any:
        """Return the chart whose title starts with a text."""
        charts = [
            chart
            for section in self.report.sections
            if section.type == "charts"
            for chart in section.charts
        ]
        (found,) = [one for one in charts if one.title.startswith(title)]
        return found

    def filtered(self, facets: dict[str, tuple[str, ...]]) -> list[str]:
        """Return the ids that a filter shows: each name must have one of the values."""
        return [
            entry.id
            for entry in self.report.entries
            if all(set(values) & set(entry.facets.get(name, ())) for name, values in facets.items())
        ]


def _items_of_folder(folder: Path) -> list[Item]:
    items: list[Item] = []
    for number in range(len(list((folder / "parts").iterdir()))):
        text = (folder / "parts" / f"{number}.js").read_text(encoding="utf-8")
        rows = re.fullmatch(rf"pixelReasonerPart\({number}, (.*)\);\n", text, re.S)
        assert rows is not None
        items += [Item.model_validate(one) for one in json.loads(rows[1])]
    return items


def table_rows(section: Any) -> list[dict[str, Any]]:
    """Return the rows of a table by column title."""
    titles = [column.title for column in section.columns]
    return [dict(zip(titles, row, strict=True)) for row in section.rows]
