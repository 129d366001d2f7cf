"""Metrics of a run: a table as HTML, Markdown and CSV, gain and harm of operations, and three charts.

Input is `summary.json` and the traces. `report.page` writes the page around them and the traces below.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.compare import paired
from pixel_reasoner.evals.references import REFERENCES
from pixel_reasoner.evals.run import SUMMARY, WITHOUT, load_run
from pixel_reasoner.evals.stats import is_correct
from pixel_reasoner.files import atomic_writer, read_json_object
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.evidence import evidence_share
from pixel_reasoner.scoring.grading import Scorer

COLUMNS = {
    "count": "questions",
    "accuracy": "accuracy",
    "accuracy_interval": "95 %",
    "score": "score",
    "score_interval": "95 % of score",
    "without": "without operations",
    "gain": "gain",
    "harm": "harm",
    "rapr": "RaPR",
    "evidence_hit_rate": "evidence seen",
    "mean_iou": "mean IoU",
    "operation_error_rate": "calls refused",
    "unparsed_rate": "unparsed",
    "mean_operations": "operations",
    "new_tokens_per_question": "new tokens",
    "seconds_per_question": "seconds",
}
"""metric -> title of its column"""
OUTCOMES = ("harm", "gain", "neither", "both")
"""outcomes of a pair of answers, the most instructive first"""


def run_summary(run: Path) -> dict[str, Any]:
    """Return the summary of a run.

    Raises:
        InputError: there is none; the run is not finished.
    """
    fix = "run the same `pixel-reasoner eval` again: it goes on where it stopped"
    return read_json_object(run / SUMMARY, "a finished run", fix)


def table(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return the metrics of a run as rows of text: a header, all questions, each family, category and label."""
    columns, rows = _metrics(summary)
    header = ["", *(COLUMNS[column] for column in columns)]
    return [header, *([name, *(_cell(row.get(c)) for c in columns)] for name, row in rows.items())]


def number_table(summary: Mapping[str, Any]) -> list[list[Any]]:
    """Return the same table with one number in each cell: an interval takes two columns, a missing metric is empty."""
    columns, rows = _metrics(summary)
    titles = [_number_titles(column) for column in columns]
    lines: list[list[Any]] = [["group", *(title for some in titles for title in some)]]
    for name, row in rows.items():
        cells = [_number_cells(column, row.get(column)) for column in columns]
        lines.append([name, *(cell for some in cells for cell in some)])
    return lines


def _number_titles(column: str) -> list[str]:
    title = COLUMNS[column]
    return [f"{title} low", f"{title} high"] if column.endswith("_interval") else [title]


def _number_cells(column: str, value: Any) -> list[Any]:
    if column.endswith("_interval"):
        return list(value) if value is not None else ["", ""]
    return [value if value is not None else ""]


def _metrics(summary: Mapping[str, Any]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return the columns that have values, and the metrics of each group."""
    groups: dict[str, Mapping[str, Any]] = {"all": summary}
    groups |= summary.get("by_family", {})
    groups |= summary.get("by_category", {})
    for label, some in summary.get("by_label", {}).items():
        groups |= {f"{label} {name}": metrics for name, metrics in some.items()}
    compared = {
        "all": summary,
        **summary.get("compared_by_family", {}),
        **summary.get("compared_by_category", {}),
    }
    rows = {
        name: {**metrics, **_compared(compared.get(name, {}))} for name, metrics in groups.items()
    }
    half_marks = any(row.get("score") != row.get("accuracy") for row in rows.values())
    columns = [
        column
        for column in COLUMNS
        if any(row.get(column) is not None for row in rows.values())
        and (half_marks or not column.startswith("score"))
    ]
    return columns, rows


def _compared(metrics: Mapping[str, Any]) -> dict[str, Any]:
    names = ("without", "gain", "harm")
    return {name: metrics[name]["value"] for name in names if isinstance(metrics.get(name), dict)}


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.3f}–{value[1]:.3f}"
    return f"{value}" if isinstance(value, int) else f"{value:.3f}"


def write_table(summary: Mapping[str, Any], out: Path) -> None:
    """Write the table of a run as Markdown or CSV, by the ending of the name.

    Raises:
        UsageError: another ending.
        OutputError: the file cannot be written.
    """
    if out.suffix == ".md":
        rows = table(summary)
        lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
        text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    elif out.suffix == ".csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(number_table(summary))
        text = buffer.getvalue()
    else:
        raise UsageError(
            expected="a table as .md or .csv", got=str(out), fix="name it so: --table figures.md"
        )
    with atomic_writer(out) as file:
        file.write(text)


# --- which traces, in which order ---


def instructive(run: Path, scorer: Scorer = Scorer.TYPED) -> tuple[list[Trace], dict[str, str]]:
    """Return the traces of a run, the most instructive first, and the outcome of each question.

    The order is harm, gain, wrong with and without operations, right with and without. Within each, traces with rejected calls
    and many operations come first.
    """
    traces = list(load_run(run))
    other = run / WITHOUT
    by_question: dict[str, str] = {}
    if (other / SUMMARY).exists():
        by_question = outcomes(traces, load_run(other), scorer)
    return sorted(traces, key=lambda trace: _rank(trace, by_question, scorer)), by_question


def outcomes(
    first: Iterable[Trace], second: Iterable[Trace], scorer: Scorer = Scorer.TYPED
) -> dict[str, str]:
    """Return question id -> `gain` (only the first answer is right), `harm` (only the second), `both` or `neither`."""
    names = {(True, False): "gain", (False, True): "harm", (True, True): "both"}
    return {
        pair.first.question.id: names.get(
            (is_correct(pair.first, scorer), is_correct(pair.second, scorer)), "neither"
        )
        for pair in paired(first, second)
    }


def _rank(trace: Trace, by_question: Mapping[str, str], scorer: Scorer) -> tuple[int, ...]:
    outcome = by_question.get(trace.question.id)
    rank = OUTCOMES.index(outcome) if outcome else 2 + is_correct(trace, scorer)
    failed = trace.stop is StopReason.FAILED
    return (-failed, rank, -len(trace.rejected), -len(trace.executed))


# --- HTML ---


def run_head(
    summary: Mapping[str, Any], traces: Sequence[Trace], *, references: bool = False
) -> str:
    """Return the HTML above the traces of a run report."""
    parts = [_rows_html(summary), _html_table(table(summary))]
    if "gain" in summary:
        parts.append(compared_html(summary, "with operations", "without"))
    parts.append(_charts(summary, traces))
    if references:
        parts.append(_references(str(summary["settings"]["task"].get("name", ""))))
    return "\n".join(part for part in parts if part)


def compared_html(found: Mapping[str, Any], first: str, second: str) -> str:
    """Return the four shares of a comparison as a square, and the paired test as a sentence."""
    cells = {name: found[name] for name in ("both", "gain", "harm", "neither")}
    shares = {
        name: f"<b>{one['value']:.3f}</b><small>{_cell(one['interval'])}</small>"
        for name, one in cells.items()
        if one["value"] is not None
    }
    if not shares:
        return ""
    difference = found["difference"]
    return f"""\
<section class="compared">
<h2>What looking again changed</h2>
<table class="square"><thead><tr><td></td><th scope="col">{escape(second)}: right</th><th scope="col">{escape(second)}: wrong</th></tr></thead>
<tbody><tr><th scope="row">{escape(first)}: right</th><td>{shares["both"]} both</td><td class="correct">{shares["gain"]} gain</td></tr>
<tr><th scope="row">{escape(first)}: wrong</th><td class="wrong">{shares["harm"]} harm</td><td>{shares["neither"]} neither</td></tr></tbody></table>
<p class="lead">{found["with"]["value"]:.3f} against {found["without"]["value"]:.3f} of {found["with"]["count"]} questions: difference {difference["value"]:+.3f}
({_cell(difference["interval"])}), paired test p = {difference["p"]:g}. Intervals are of 95 %.</p>
</section>"""


def differing_html(differing: Mapping[str, Sequence[Any]], first: str, second: str) -> str:
    """Return the settings in which two runs differ, as a table."""
    if not differing:
        return '<p class="lead">No setting differs.</p>'
    rows = [[name, str(one), str(other)] for name, (one, other) in differing.items()]
    return _html_table([["what differs", first, second], *rows])


def _rows_html(summary: Mapping[str, Any]) -> str:
    rows = summary.get("rows")
    if not rows:
        return ""
    share = summary["count"] / max(1, rows["read"])
    reasons = [
        f"<li>{escape(title)}: {escape(reason)} {one['count']} ({escape('; '.join(one['rows'][:3]))})</li>"
        for title in ("dropped", "noted")
        for reason, one in rows[title].items()
    ]
    listed = f"<ul>{''.join(reasons)}</ul>" if reasons else ""
    return f'<p class="lead">Evaluated {summary["count"]} of {rows["read"]} rows ({share:.1%}).</p>{listed}'


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows[1:]
    )
    return f'<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _references(task: str) -> str:
    known = REFERENCES.get(task)
    if not known:
        return ""
    rows = [[one.model, f"{one.percent:.1f}", one.source] for one in known]
    return (
        '<h2>Published, not measured here</h2><p class="lead">Other pixel budgets, prompts, turns and scorers: not one leaderboard.</p>'
        + _html_table([["model", "%", "source"], *rows])
    )


# --- charts, as SVG ---

_WIDTH, _HEIGHT, _PAD = 340, 220, 36
"""pixels of a chart"""


def _charts(summary: Mapping[str, Any], traces: Sequence[Trace]) -> str:
    answered = [trace for trace in traces if trace.stop is not StopReason.FAILED]
    kinds = {"all": summary, **summary.get("by_family", {}), **summary.get("by_category", {})}
    points: dict[tuple[float, float], list[str]] = {}
    for name, one in kinds.items():
        if one.get("rapr") is not None and one.get("accuracy") is not None:
            points.setdefault((round(one["rapr"], 2), round(one["accuracy"], 2)), []).append(name)
    shares = [share for trace in answered if (share := evidence_share(trace)) is not None]
    num_executed = [len(trace.executed) for trace in answered]
    charts = [_scatter("Accuracy against RaPR, by kind of question", points)] if points else []
    if shares:
        counts = [sum(low <= share < low + 0.1 for share in shares) for low in _TENTHS[:-1]]
        counts.append(sum(share >= _TENTHS[-1] for share in shares))
        labels = [f"{low:.0%}" for low in _TENTHS]
        charts.append(_histogram("How much of the evidence was zoomed into", counts, labels))
    if num_executed:
        most = min(max(num_executed), 8)
        counts = [sum(min(number, most) == n for number in num_executed) for n in range(most + 1)]
        labels = [str(n) for n in range(most + 1)]
        charts.append(_histogram("Executed operations a question", counts, labels))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


_TENTHS = [tenth / 10 for tenth in range(10)]


def _svg(title: str, marks: str, legend: str = "") -> str:
    below = f"<p>{escape(legend)}</p>" if legend else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{marks}</svg>{below}</figure>"
    )


def _scatter(title: str, points: Mapping[tuple[float, float], Sequence[str]]) -> str:
    width, height = _WIDTH - 2 * _PAD, _HEIGHT - 2 * _PAD
    marks = [
        f'<rect class="plot" x="{_PAD}" y="{_PAD}" width="{width}" height="{height}"/>',
        *(
            f'<text class="tick" x="{_PAD + share * width}" y="{_HEIGHT - _PAD + 16}" text-anchor="middle">{share:g}</text>'
            f'<text class="tick" x="{_PAD - 6}" y="{_HEIGHT - _PAD - share * height + 4}" text-anchor="end">{share:g}</text>'
            for share in (0, 0.5, 1)
        ),
        f'<text class="tick" x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle">RaPR</text>',
    ]
    legend = []
    for number, ((rapr, accuracy), names) in enumerate(points.items(), start=1):
        x, y = _PAD + rapr * width, _HEIGHT - _PAD - accuracy * height
        marks.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="8"/>'
            f'<text class="inside" x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle">{number}</text>'
        )
        legend.append(f"{number} {', '.join(names)}")
    return _svg(title, "".join(marks), "; ".join(legend))


def _histogram(title: str, counts: Sequence[int], labels: Sequence[str]) -> str:
    width, height = (_WIDTH - 2 * _PAD) / len(counts), _HEIGHT - 2 * _PAD
    top = max(counts) or 1
    marks = []
    for number, (count, label) in enumerate(zip(counts, labels, strict=True)):
        x, tall = _PAD + number * width, count / top * height
        marks.append(
            f'<rect class="column" x="{x + 1:.1f}" y="{_HEIGHT - _PAD - tall:.1f}" width="{width - 2:.1f}" height="{tall:.1f}"/>'
            f'<text class="tick" x="{x + width / 2:.1f}" y="{_HEIGHT - _PAD + 16}" text-anchor="middle">{escape(label)}</text>'
        )
        if count:
            marks.append(
                f'<text class="tick" x="{x + width / 2:.1f}" y="{_HEIGHT - _PAD - tall - 4:.1f}" text-anchor="middle">{count}</text>'
            )
    return _svg(title, "".join(marks))
