"""Reader of written reports: the data of a page, as the viewer reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_REPORT = re.compile(r'<script type="application/json" id="report">(.*?)</script>', re.DOTALL)
_ITEM = re.compile(r'<script type="application/json" id="item-(\d+)">(.*?)</script>', re.DOTALL)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def report_of(page: Path) -> dict[str, Any]:
    """Return the report of a page. It must be strict JSON."""
    text = _REPORT.search(page.read_text(encoding="utf-8"))[1]
    return json.loads(text, parse_constant=_no_constant)


def items_of(page: Path) -> list[dict[str, Any]]:
    """Return the items of a page, in order."""
    found = _ITEM.findall(page.read_text(encoding="utf-8"))
    return [json.loads(text, parse_constant=_no_constant) for _, text in found]


def section(report: dict[str, Any], title: str) -> dict[str, Any]:
    """Return the section with a title."""
    return next(one for one in report["sections"] if one["title"] == title)


def charts(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all charts by title."""
    return {
        chart["title"]: chart
        for one in report["sections"]
        if one["type"] == "charts"
        for chart in one["charts"]
    }
