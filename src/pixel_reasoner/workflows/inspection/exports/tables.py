"""CSV for spreadsheets: `photos.csv` with a row per photo, `findings.csv` with a row per finding."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pixel_reasoner.files import write_bytes
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow

_PHOTO = [
    "id",
    "category",
    "part",
    "view",
    "verdict",
    "reason",
    "severity",
    "score",
    "findings",
    "width",
    "height",
    "smallest_px",
    "label",
    "label_class",
    "agreement",
    "duplicate_of",
    "seconds",
    "time",
    "photo_sha256",
    "spec_sha256",
    "model_sha256",
    "reference_sha256",
    "program",
    "error",
    "notes",
]
_FINDING = [
    "id",
    "number",
    "defect_class",
    "severity",
    "left",
    "top",
    "width",
    "height",
    "score",
    "tolerated",
    "reason",
    "crop",
]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_tables(rows: Sequence[InspectionRow], spec: InspectionSpec, out: Path) -> list[Path]:
    """Write both tables: RFC 4180 with a byte-order mark for Excel.

    Raises:
        OutputError: a file cannot be written.
    """
    del spec
    paths = [out / "photos.csv", out / "findings.csv"]
    write_bytes(_table(_PHOTO, map(_photo, rows)), paths[0])
    write_bytes(_table(_FINDING, (cells for row in rows for cells in _findings(row))), paths[1])
    return paths


def _photo(row: InspectionRow) -> dict[str, Any]:
    values = row.model_dump(mode="json") | row.audit.model_dump(mode="json")
    values["findings"] = sum(not one.is_tolerated for one in row.findings)
    values["notes"] = "; ".join(row.notes)
    return values


def _findings(row: InspectionRow) -> Iterable[dict[str, Any]]:
    size = (row.width or 1, row.height or 1)
    for number, one in enumerate(row.findings, start=1):
        left, top, width, height = one.pixels(size)
        yield {
            **one.model_dump(mode="json"),
            "id": row.id,
            "number": one.number or number,
            "left": left,
            "top": top,
            "width": width,
            "height": height,
            "tolerated": "yes" if one.is_tolerated else "no",
        }


def _table(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for values in rows:
        writer.writerow([_cell(values.get(name)) for name in columns])
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    """Return a cell. A text that a spreadsheet would run as a formula gets an apostrophe.

    >>> _cell("=1+1"), _cell(-1.5), _cell(None)
    ("'=1+1", '-1.5', '')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return str(value)
