"""Table of moments as CSV: one row per moment, which can be edited and read again with `--spans`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.workflows.moments.moment import FAILED, NOT_FOUND, VideoMoments, moment_fields

COLUMNS = (
    *("number", "video", "query", "state", "start_s", "end_s", "duration_s"),
    *("start_timecode", "end_timecode", "first_frame", "end_frame"),
    *("start_pts", "end_pts", "time_base", "score", "shots", "uncertain_frames", "boxes", "note"),
)
REQUIRED = ("video", "query", "start_s", "end_s")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def moment_rows(results: Iterable[VideoMoments]) -> Iterator[dict[str, Any]]:
    """Yield a row for each moment, each near miss, each description without a moment, and each failed video."""
    number = 0
    for found in results:
        if found.error is not None or found.index is None:
            yield {"video": str(found.video), "state": FAILED, "note": found.error or ""}
            continue
        for moment in (*found.moments, *found.near):
            number += 1
            yield {
                "number": number,
                "video": str(found.video),
                "query": moment.query.text,
                "duration_s": round(float(moment.duration_s), 6),
                "note": "",
                **moment_fields(moment, found.index),
                "boxes": boxes_text(moment.boxes),
            }
        for query in found.queries:
            if not found.of(query):
                yield {"video": str(found.video), "query": query.text, "state": NOT_FOUND}


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    r"""Return rows as RFC 4180 CSV with a byte-order mark, which Excel needs for UTF-8.

    >>> csv_text([{"video": "a.mp4", "query": "=1+1"}]).splitlines()[1][:14]
    ",a.mp4,'=1+1,,"
    """
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row.get(name)) for name in COLUMNS})
    return "\ufeff" + file.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    text = str(value)
    is_text = isinstance(value, str) and not _is_number(text)
    return f"'{text}" if is_text and text.startswith(_FORMULA) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- reading ---


@dataclass(frozen=True)
class SpanRow:
    """A span from a table.

    Attributes:
        where: file and line, for messages.
        video: path.
        query: description.
        start_s: start, in seconds from the start of the video.
        end_s: end.
        boxes: frame number -> boxes of the subject.
    """

    where: str
    video: Path
    query: str
    start_s: Fraction
    end_s: Fraction
    boxes: Mapping[int, tuple[Box, ...]]


def read_spans(path: Path) -> tuple[list[SpanRow], list[str]]:
    """Return the spans of a CSV file, and a line for each row that cannot be used. Rows that found nothing are left out.

    Args:
        path: of the table; relative paths of videos are relative to the current folder, or else to the folder of the table.

    Raises:
        InputError: no readable table, or missing columns.
        UsageError: unknown columns.
    """
    spans: list[SpanRow] = []
    problems: list[str] = []
    for number, row in _csv_rows(path):
        where = f"{path}, line {number}"
        if row.get("state") not in (None, "", "found"):
            continue
        try:
            spans.append(_span_row(row, where, path.parent))
        except (ValueError, ZeroDivisionError) as error:
            problems.append(f"{where}: {error}")
    return spans, problems


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or [])
            for row in reader:
                cells = {name: cell or "" for name, cell in row.items() if name is not None}
                yield reader.line_num, {n: _without_quote(cell) for n, cell in cells.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            expected="a CSV table of spans",
            got=f"{path}: {reason(error)}",
            fix="give a table as `find` writes it",
        ) from error


def _check_columns(path: Path, names: Iterable[str]) -> None:
    given = list(names)
    if missing := [name for name in REQUIRED if name not in given]:
        raise InputError(
            expected=f"the columns {', '.join(REQUIRED)}",
            got=f"{path} without {missing[0]}",
            fix="add this column",
        )
    if unknown := [name for name in given if name not in COLUMNS]:
        raise UsageError(
            expected=f"the columns {', '.join(COLUMNS)}",
            got=f"{unknown[0]!r} in {path}",
            fix="rename or remove this column",
        )


def _span_row(row: Mapping[str, str], where: str, folder: Path) -> SpanRow:
    video = Path(row["video"])
    if not video.is_absolute() and not video.exists():
        video = folder / video
    return SpanRow(
        where,
        video,
        row["query"] or "moment",
        Fraction(row["start_s"]),
        Fraction(row["end_s"]),
        parse_boxes_text(row.get("boxes", "")),
    )


def _without_quote(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


# --- boxes in a cell ---


def boxes_text(boxes: Mapping[int, Iterable[Box]]) -> str:
    """Return boxes by frame number as one cell: `frame=x1 y1 x2 y2`, separated by semicolons.

    >>> boxes_text({12: [Box(0.25, 0.5, 0.75, 1.0)]})
    '12=0.25 0.5 0.75 1'
    """
    return "; ".join(
        f"{frame}={' '.join(f'{side:.5g}' for side in box)}"
        for frame, some in sorted(boxes.items())
        for box in some
    )


def parse_boxes_text(text: str) -> dict[int, tuple[Box, ...]]:
    """Return the boxes of a cell by frame number.

    Raises:
        ValueError: not of the form `frame=x1 y1 x2 y2`.

    >>> parse_boxes_text("12=0.25 0.5 0.75 1; 12=0 0 1 1")[12][0].x2
    0.75
    """
    found: dict[int, tuple[Box, ...]] = {}
    for part in filter(None, (one.strip() for one in text.split(";"))):
        frame, sign, sides = part.partition("=")
        if not sign:
            raise ValueError(f"boxes must be `frame=x1 y1 x2 y2`, got {part!r}")
        try:
            box = Box.of([float(side) for side in sides.split()])
        except BoxError as error:
            raise ValueError(str(error)) from error
        found[int(frame)] = (*found.get(int(frame), ()), box)
    return found
