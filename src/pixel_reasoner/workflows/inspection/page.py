"""Report of an inspection: what an auditor reads. The pages are those of `reports`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pixel_reasoner import __version__
from pixel_reasoner.errors import InputError
from pixel_reasoner.media.images import image_size
from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.facets import Reason
from pixel_reasoner.reports.page import PageSummary, Row, write_rows
from pixel_reasoner.reports.schema import (
    BoxKind,
    Column,
    Fact,
    MatrixCell,
    MatrixSection,
    Metric,
    MetricsSection,
    Report,
    Section,
    TableSection,
    TextSection,
    Word,
)
from pixel_reasoner.runs.store import TRACES
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import Picture, StopReason, Text, Trace, Turn, load_traces
from pixel_reasoner.workflows.inspection.spec import SEVERITIES, InspectionSpec
from pixel_reasoner.workflows.inspection.summary import part_rows
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow, Verdict

REPORT = "report.html"
MAX_SHOWN = 200
"""photos on a page, the most serious first"""
_ORDER = (Verdict.DEFECT, Verdict.UNSURE, Verdict.ERROR, Verdict.OK)
_MODEL_FACETS = ("evidence", "calls", "operations", "need", "stop", "length")
_THUMBNAIL_PX = (640, 640)


_WORDS: dict[Word, str] = {
    "annotated evidence": "findings and proposals",
    "as the model received it": "as an overview",
    "model's copy": "small copy",
    "traces": "photos",
    "unparsed": "left to people",
}


def write_inspection_report(
    rows: Sequence[InspectionRow],
    spec: InspectionSpec,
    summary: Mapping[str, Any],
    folder: Path,
    limit: int = MAX_SHOWN,
) -> PageSummary:
    """Write the report of a run.

    Args:
        rows: of the run.
        spec: the inspection.
        summary: counts and metrics.
        folder: of the run; the page is `report.html` in it.
        limit: number of photos on the page.

    Raises:
        OutputError: the page cannot be written.
    """
    ordered = sorted(rows, key=_seriousness)
    shown = ordered[:limit]
    traces = _traces(folder, {id_ for row in shown for id_ in row.trace_ids})
    report = Report(
        kind="traces",
        title=f"Inspection of {spec.product}",
        facts=tuple(_facts(rows, spec, summary)),
        settings=tuple(_settings(rows, spec)),
        sections=tuple(one for one in _sections(rows, spec, summary) if one is not None),
        warnings=tuple(_warnings(rows, summary, len(shown))),
        words=_WORDS,
        made_by=f"pixel-reasoner {__version__}",
    )
    return write_rows(_page_rows(shown, traces, folder), folder / REPORT, report, folder)


def _seriousness(row: InspectionRow) -> tuple[int, int, float]:
    severity = SEVERITIES.index(row.severity) if row.severity else len(SEVERITIES)
    return _ORDER.index(row.verdict), severity, -(row.score or 0.0)


def _traces(folder: Path, wanted: set[str]) -> dict[str, Trace]:
    path = folder / TRACES
    if not wanted or not path.is_file():
        return {}
    return {one.question.id: one for one in load_traces(path) if one.question.id in wanted}


# --- photos ---


def _page_rows(
    rows: Iterable[InspectionRow],
    traces: Mapping[str, Trace],
    folder: Path,
) -> Iterator[Row]:
    for row in rows:
        asked = [traces[id_] for id_ in row.trace_ids if id_ in traces]
        shown = [_with_findings(one, row) for one in asked] or [_without_model(row, folder)]
        facts = dict(_audit(row)) | ({"question": asked[0].question.text} if asked else {})
        reason = None if asked else Reason("no model asked", f"No model was asked: {row.reason}.")
        yield Row(
            [
                Asked(
                    one,
                    _outcome(row),
                    facts=facts if one is shown[0] else {},
                    reason=reason,
                    only_facts=not asked,
                    box_kinds=_box_kinds(row),
                )
                for one in shown
            ],
            _facets(row),
        )


def _box_kinds(row: InspectionRow) -> tuple[BoxKind, ...]:
    """Return the kind of each box that a photo shows: its findings, or the places that were proposed."""
    if row.trace_ids and (not row.findings or len(row.trace_ids) > 1):
        return ()
    kinds: list[BoxKind] = ["proposal"] * (0 if row.findings else len(row.proposals))
    for one in row.findings:
        kinds.append("tolerated" if one.is_tolerated else one.severity)
    return tuple(kinds)


def _outcome(row: InspectionRow) -> str:
    if not row.label:
        return "ungraded"
    if row.verdict in (Verdict.UNSURE, Verdict.ERROR):
        return "unparsed"
    return "right" if (row.verdict is Verdict.DEFECT) == (row.label == "defect") else "wrong"


def _facets(row: InspectionRow) -> dict[str, tuple[str, ...]]:
    classes = tuple(sorted({one.defect_class.replace("_", " ") for one in row.findings}))
    found = {
        "verdict": (row.verdict.value,),
        "class": classes,
        "severity": (row.severity,) if row.severity else (),
        "product": (row.category,) if row.category else (),
        "part": (row.part,) if row.part else (),
        "view": (row.view,) if row.view else (),
        "label": (row.label,) if row.label else (),
    }
    # No box is annotated, and a model that was not asked has neither calls nor a length.
    unused = ("evidence",) if row.trace_ids else _MODEL_FACETS
    return dict.fromkeys(unused, ()) | {name: one for name, one in found.items() if one}


def _with_findings(trace: Trace, row: InspectionRow) -> Trace:
    """Return a trace with the verdict as its title, whose photo shows the findings."""
    changes: dict[str, Any] = {"text": _title(row), "answer": (row.label,) if row.label else ()}
    if row.findings and len(row.trace_ids) == 1:
        changes["evidence"] = Evidence(boxes=tuple(one.box for one in row.findings))
    return trace.model_copy(update={"question": trace.question.model_copy(update=changes)})


def _title(row: InspectionRow) -> str:
    return f"{row.verdict.value}: {row.id}"


def _without_model(row: InspectionRow, folder: Path) -> Trace:
    """Return a trace that shows the photo, its findings, and their numbered pictures."""
    media = [Path(row.path)] if row.width else []
    media += [folder / one.crop for one in (row.findings or row.proposals) if one.crop]
    pictures = []
    for number, path in enumerate(media):
        try:
            size = image_size(path, MediaLimits())
        except InputError:
            continue
        scale = min(1.0, _THUMBNAIL_PX[0] / max(size))
        seen = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        pictures.append(Picture(number=number + 1, medium=number, source_px=size, seen_px=seen))
    boxes = tuple(one.box for one in row.findings or row.proposals)
    question = Question(
        id=row.id,
        text=_title(row),
        media=tuple(MediaItem(kind="image", path=str(one.absolute())) for one in media),
        answer=(row.label,) if row.label else (),
        category=row.category or "inspection",
        evidence=Evidence(boxes=boxes) if boxes else None,
    )
    text = f"{row.verdict.value}: {row.reason}"
    return Trace(
        question=question,
        pictures=tuple(pictures),
        turns=(Turn(text=text, parts=(Text(text=text),)),),
        stop=StopReason.FAILED if row.error else StopReason.ANSWERED,
        answer=row.verdict.value,
        error=row.error,
        seconds=row.audit.seconds,
    )


def _audit(row: InspectionRow) -> Iterator[tuple[str, str]]:
    """Yield everything that the verdict depends on."""
    yield "verdict", f"{row.verdict.value}: {row.reason}"
    for number, one in enumerate(row.findings, start=1):
        x, y, width, height = one.pixels((row.width or 1, row.height or 1))
        tolerated = ", tolerated" if one.is_tolerated else ""
        score = f", score {one.score:.2f}" if one.score is not None else ""
        yield (
            f"finding {number}",
            f"{one.defect_class.replace('_', ' ')} ({one.severity}{tolerated}) at x {x:g}, y {y:g}, "
            f"{width:g} × {height:g} px{score}",
        )
    if row.placed is not None:
        placed = row.placed
        values = {
            "rotation": (placed.rotation_deg, "°"),
            "error": (placed.error_px, " px"),
            "correlation": (placed.correlation, ""),
        }
        words = ", ".join(f"{n} {v:.2f}{u}" for n, (v, u) in values.items() if v is not None)
        yield "aligned with", f"{placed.reference}{f' ({words})' if words else ''}"
    if row.notes:
        yield "notes", "; ".join(row.notes)
    if row.duplicate_of:
        yield "duplicate of", row.duplicate_of
    if row.audit.time:
        yield "inspected", _moment(row.audit.time)
    for name, value in (
        ("photo", row.audit.photo_sha256),
        ("specification", row.audit.spec_sha256),
        ("golden pictures", row.audit.reference_sha256),
        ("model", row.audit.model_sha256),
    ):
        if value:
            yield f"SHA-256 of the {name}", value


# --- sections ---


def _facts(
    rows: Sequence[InspectionRow], spec: InspectionSpec, summary: Mapping[str, Any]
) -> Iterator[Fact]:
    yield Fact(name="photos", value=str(len(rows)))
    times = sorted(row.audit.time for row in rows if row.audit.time)
    if times:
        yield Fact(name="inspected", value=_period(times[0], times[-1]))
    if summary.get("smallest_defect_px"):
        yield Fact(
            name="smallest defect",
            value=f"{summary['smallest_defect_px']:g} px",
            explanation="Longest side of the smallest defect that the comparison can show, in pixels of the photo.",
        )
    limits = spec.decision
    yield Fact(name="threshold", value=f"{limits.defect_from:g}", explanation=limits.origin)
    yield Fact(name="origin of the threshold", value=_origin(spec))


def _origin(spec: InspectionSpec) -> str:
    limits = spec.decision
    return f"{limits.origin}; {limits.date.partition('T')[0]}" if limits.date else limits.origin


def _moment(time: str) -> str:
    """Return an ISO 8601 date to the second.

    >>> _moment("2026-11-29T21:16:03.5+01:00")
    '2026-11-29, 20:16:03 UTC'
    """
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d, %H:%M:%S} UTC"


def _period(start: str, end: str) -> str:
    """Return the time between two ISO 8601 dates, to the minute.

    >>> _period("2026-11-29T21:16:03+00:00", "2026-11-29T21:18:40+00:00")
    '2026-11-29, 21:16 to 21:18 UTC'
    >>> _period("2026-11-29T21:16:03+00:00", "2026-11-29T21:16:40+00:00")
    '2026-11-29, 21:16 UTC'
    """
    first, last = (datetime.fromisoformat(one).astimezone(UTC) for one in (start, end))
    text = f"{first:%Y-%m-%d, %H:%M}"
    if first.date() != last.date():
        text += f" to {last:%Y-%m-%d, %H:%M}"
    elif f"{first:%H:%M}" != f"{last:%H:%M}":
        text += f" to {last:%H:%M}"
    return f"{text} UTC"


def _settings(rows: Sequence[InspectionRow], spec: InspectionSpec) -> Iterator[Fact]:
    yield Fact(name="specification SHA-256", value=spec.sha256())
    for name in ("model_sha256", "reference_sha256", "program"):
        values = sorted({getattr(row.audit, name) for row in rows} - {""})
        if values:
            yield Fact(name=name.replace("_sha256", " SHA-256"), value=", ".join(values))
    for name, value in spec.model_dump(mode="json").items():
        yield Fact(name=name, value=str(value))


def _sections(
    rows: Sequence[InspectionRow], spec: InspectionSpec, summary: Mapping[str, Any]
) -> Iterator[Section | None]:
    yield _verdict_section(summary)
    metrics = summary.get("metrics", {})
    yield _rates_section(metrics)
    yield _confusion(rows)
    yield _recall_table(metrics)
    yield _part_table(rows)
    yield _class_table(rows, spec)
    golden = summary.get("golden", ())
    if golden:
        yield TextSection(title="Check of the golden pictures", text="\n".join(golden))


def _verdict_section(summary: Mapping[str, Any]) -> Section:
    counts = summary["verdicts"]
    words = {
        "ok": "Compared and understood, without a defect.",
        "defect": "At least one finding that the specification does not tolerate.",
        "unsure": "A person must look: not aligned, a score between the thresholds, no usable answer, or answers that disagree.",
        "error": "The photo could not be inspected.",
    }
    return MetricsSection(
        title="Verdicts",
        metrics=tuple(
            Metric(
                name=name,
                value=counts[name],
                format="count",
                explanation=text,
                facets={"verdict": (name,)},
            )
            for name, text in words.items()
        ),
    )


def _rates_section(metrics: Mapping[str, Any]) -> Section | None:
    known = {
        "overkill": ("overkill", "lower", "Good photos with the verdict defect."),
        "miss": ("miss rate", "lower", "Defective photos with the verdict ok."),
        "unsure_or_error": ("left to people", "lower", "Photos that are unsure or an error."),
        "defects_with_box_iou_0.3": ("found places", "higher", "Defects with a box of IoU ≥ 0.3."),
    }
    found = [
        Metric(
            name=f"{title} ({value['count']} of {value['of']})",
            value=value["value"],
            interval=tuple(value["interval"]),
            better=better,
            explanation=f"{text} 95 % Wilson interval.",
        )
        for name, (title, better, text) in known.items()
        if (value := metrics.get(name)) and value["interval"]
    ]
    numbers = {
        "f1": ("F1", "Of the verdict defect, at the deployed threshold."),
        "image_auroc": (
            "image AUROC",
            "Chance that a defective photo has a larger score than a good one.",
        ),
        "aupro": ("AUPRO", "Overlap of regions with the map, up to a false positive rate of 0.3."),
    }
    found += [
        Metric(name=title, value=metrics[name], better="higher", explanation=text)
        for name, (title, text) in numbers.items()
        if metrics.get(name) is not None
    ]
    return MetricsSection(title="Against the labels", metrics=tuple(found)) if found else None


def _confusion(rows: Sequence[InspectionRow]) -> Section | None:
    labels = [one for one in ("good", "defect") if any(row.label == one for row in rows)]
    if not labels:
        return None
    names = [one.value for one in Verdict]

    def cell(label: str, verdict: str) -> MatrixCell:
        count = sum(row.label == label and row.verdict.value == verdict for row in rows)
        is_right = (label, verdict) in (("good", "ok"), ("defect", "defect"))
        is_wrong = (label, verdict) in (("good", "defect"), ("defect", "ok"))
        return MatrixCell(
            value=count,
            text=str(count),
            facets={"label": (label,), "verdict": (verdict,)},
            kind="good" if is_right and count else "bad" if is_wrong and count else "",
        )

    return MatrixSection(
        title="Verdicts and labels",
        row_title="label",
        column_title="verdict",
        rows=tuple(labels),
        columns=tuple(names),
        cells=tuple(tuple(cell(label, name) for name in names) for label in labels),
        explanation="Good photos that are rejected are overkill, defective photos that pass are misses.",
    )


def _recall_table(metrics: Mapping[str, Any]) -> Section | None:
    recall = metrics.get("recall") or {}
    rows = tuple(
        (name.replace("_", " "), one["of"], one["value"], tuple(one["interval"]))
        for name, one in recall.items()
        if one["interval"]
    )
    if not rows:
        return None
    columns = (
        Column(title="class"),
        Column(title="photos", format="count"),
        Column(title="recall", format="share", better="higher"),
        Column(title="95 %", format="interval"),
    )
    return TableSection(title="Recall per class", columns=columns, rows=rows)


def _part_table(rows: Sequence[InspectionRow]) -> Section | None:
    parts = part_rows(rows)
    if not parts:
        return None
    order = [one.value for one in _ORDER]
    parts.sort(key=lambda one: order.index(one["verdict"]))
    cells = tuple(
        (
            one["part"],
            one["verdict"],
            ", ".join(f"{view}: {verdict}" for view, verdict in one["views"].items()),
            ", ".join(one["classes"]),
        )
        for one in parts
    )
    columns = tuple(Column(title=name) for name in ("part", "verdict", "photos", "classes"))
    return TableSection(
        title="Parts",
        columns=columns,
        rows=cells,
        explanation="A part is defective if any of its photos is, and ok only if all of them are.",
    )


def _class_table(rows: Sequence[InspectionRow], spec: InspectionSpec) -> Section | None:
    counts: dict[str, list[int]] = {name: [0, 0] for name in spec.defects}
    for row in rows:
        for one in row.findings:
            counts.setdefault(one.defect_class, [0, 0])[one.is_tolerated] += 1
    if not counts:
        return None
    cells = tuple(
        (name.replace("_", " "), spec.severity(name), counted, tolerated)
        for name, (counted, tolerated) in counts.items()
    )
    columns = (
        Column(title="class"),
        Column(title="severity"),
        Column(title="findings", format="count"),
        Column(title="tolerated", format="count"),
    )
    return TableSection(title="Findings per class", columns=columns, rows=cells)


def _warnings(
    rows: Sequence[InspectionRow], summary: Mapping[str, Any], num_shown: int
) -> Iterator[str]:
    if "provisional" in str(summary.get("decision", {}).get("origin", "")):
        yield (
            "The thresholds are provisional. Choose them on photos with known defects: "
            "pixel-reasoner inspect DATA --split validation --max-miss-rate 0.02"
        )
    if summary.get("duplicates"):
        yield f"{summary['duplicates']} photos are copies of others and are not counted in the metrics."
    if len(rows) > num_shown:
        yield f"The {num_shown} most serious of {len(rows)} photos are shown; rows.csv lists all."
    for note, count in list(summary.get("notes", {}).items())[:5]:
        yield f"{count} × {note}"
