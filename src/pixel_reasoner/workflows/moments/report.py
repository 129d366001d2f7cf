"""Report of a search: contact sheet, table of moments, nearest misses, what was not searched, and the traces of all questions."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from pixel_reasoner.reports.page import write_report
from pixel_reasoner.reports.schema import (
    Cell,
    Column,
    HtmlSection,
    Section,
    TableSection,
    TextSection,
)
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.workflows.moments.moment import Moment, VideoMoments
from pixel_reasoner.workflows.moments.timecode import clock

_SHEET_WIDTH_PX = 1400
MAX_ROWS = 2_000


def write_moments_report(
    results: Sequence[VideoMoments], traces: Path | None, sheets: Sequence[Path], out: Path
) -> Path:
    """Write the page and return its path.

    Args:
        results: of all videos.
        traces: file of the traces; None without any.
        sheets: contact sheets.
        out: path of the page.

    Raises:
        OutputError: the page cannot be written.
    """
    title = f"Moments: {out.parent.absolute().name}"
    shown = load_traces(traces) if traces is not None and traces.is_file() else iter(())
    sections = [one for one in _sections(results, sheets) if one is not None]
    return write_report(shown, out, title, sections=sections, root=out.parent).out


def _sections(results: Sequence[VideoMoments], sheets: Sequence[Path]) -> Iterable[Section | None]:
    yield _moments_table(results)
    for number, sheet in enumerate(sheets, start=1):
        title = "Contact sheet" if number == 1 else f"Contact sheet {number}"
        yield HtmlSection(title=title, html=_picture(sheet))
    yield _near_table(results)
    yield _not_found(results)
    yield _unsampled_table(results)


def _moments_table(results: Sequence[VideoMoments]) -> Section:
    rows = [
        (number, *_moment_cells(result, moment))
        for number, (result, moment) in enumerate(
            ((result, moment) for result in results for moment in result.moments), start=1
        )
    ][:MAX_ROWS]
    if not rows:
        return TextSection(
            title="Moments", text="Nothing was found. The nearest misses, if any, are below."
        )
    columns = (Column(title="Number", format="count"), *_columns("Score"))
    return TableSection(title="Moments", columns=columns, rows=tuple(rows))


def _near_table(results: Sequence[VideoMoments]) -> Section | None:
    rows = [_moment_cells(result, moment) for result in results for moment in result.near]
    if not rows:
        return None
    explanation = "Frames that some answers name, or name as uncertain. They do not count as found, and their ends are not exact."
    return TableSection(
        title="Nearest misses",
        columns=_columns("Best score"),
        rows=tuple(rows[:MAX_ROWS]),
        explanation=explanation,
    )


def _columns(score: str) -> tuple[Column, ...]:
    return (
        *(Column(title=name) for name in ("Description", "Start", "End")),
        Column(title="Seconds", format="number"),
        Column(title=score, format="share", better="higher"),
        *(Column(title=name) for name in ("Timecode", "Video")),
    )


def _moment_cells(result: VideoMoments, moment: Moment) -> tuple[Cell, ...]:
    assert result.index is not None
    timecode = result.index.rate.timecode(result.index.source_frame(moment.start_s))
    return (
        moment.query.text,
        clock(moment.start_s),
        clock(moment.end_s),
        round(float(moment.duration_s), 3),
        moment.score,
        timecode,
        result.video.name,
    )


def _not_found(results: Sequence[VideoMoments]) -> Section | None:
    rows = [
        (query.text, result.video.name)
        for result in results
        if result.error is None
        for query in result.queries
        if not result.of(query)
    ]
    if not rows:
        return None
    columns = (Column(title="Description"), Column(title="Video"))
    return TableSection(title="Not found", columns=columns, rows=tuple(rows[:MAX_ROWS]))


def _unsampled_table(results: Sequence[VideoMoments]) -> Section | None:
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        if result.error is not None or result.index is None:
            rows.append((result.video.name, "whole video", "", result.error or ""))
            continue
        for span, reason in result.unsampled:
            start, end = span.times(result.index)
            rows.append((result.video.name, clock(start), clock(end), reason))
    if not rows:
        return None
    columns = tuple(Column(title=name) for name in ("Video", "From", "To", "Reason"))
    return TableSection(title="Not searched", columns=columns, rows=tuple(rows[:MAX_ROWS]))


def _picture(path: Path) -> str:
    """Return a picture inside of the page."""
    with Image.open(path) as image:
        scale = min(1.0, _SHEET_WIDTH_PX / image.width)
        size = (round(image.width * scale), round(image.height * scale))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    alt = escape(
        f"First, middle and last frame of each moment; the table has the same rows: {path.name}"
    )
    picture = f'<img class="sheet" src="data:image/webp;base64,{data}" alt="{alt}">'
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="contact sheet">{picture}</div>'
    )
