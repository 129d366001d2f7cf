"""Metrics of a run (`run.html`): a table as HTML, Markdown and CSV, gain and harm of operations, and three charts.

Input is `summary.json` and the traces. `reports.page` writes the rest of the page.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.compare import pair_traces
from pixel_reasoner.evals.references import REFERENCES
from pixel_reasoner.evals.run import SUMMARY, WITHOUT, load_run
from pixel_reasoner.evals.stats import is_correct
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.reports.charts import Chart, histogram, scatter
from pixel_reasoner.reports.summary import Interval, Metrics, PairMetrics, Rows, RunSummary, Share
from pixel_reasoner.reports.templates import render
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.evidence import evidence_share
from pixel_reasoner.scoring.grading import Scorer
from pixel_reasoner.text import visible

if TYPE_CHECKING:
    from markupsafe import Markup

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
    "operation_error_rate": "calls rejected",
    "unparsed_rate": "unparsed",
    "mean_operations": "operations",
    "new_tokens_per_question": "new tokens",
    "seconds_per_question": "seconds",
}
"""metric -> column title"""
OUTCOMES = ("harm", "gain", "neither", "both")
"""outcomes of a pair of answers, most instructive first"""


def table(summary: RunSummary) -> list[list[str]]:
    """Return the metrics of a run as rows of text: header, all questions, each family, category and label."""
    columns, rows = _metrics(summary)
    header = ["", *(COLUMNS[column] for column in columns)]
    return [header, *([name, *(_cell(row.get(c)) for c in columns)] for name, row in rows.items())]


def number_table(summary: RunSummary) -> list[list[Any]]:
    """Return the same table with one number per cell: an interval takes two columns, a missing metric is empty."""
    columns, rows = _metrics(summary)
    titles = [_number_titles(column) for column in columns]
    lines: list[list[Any]] = [["group", *(title for some in titles for title in some)]]
    for name, row in rows.items():
        cells = [_number_cells(column, row.get(column)) for column in columns]
        lines.append([visible(name), *(cell for some in cells for cell in some)])
    return lines


def _number_titles(column: str) -> list[str]:
    title = COLUMNS[column]
    return [f"{title} low", f"{title} high"] if column.endswith("_interval") else [title]


def _number_cells(column: str, value: Any) -> list[Any]:
    if column.endswith("_interval"):
        return list(value) if value is not None else ["", ""]
    return [value if value is not None else ""]


def _metrics(summary: RunSummary) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return the columns with values, and the metrics of each group."""
    groups: dict[str, Metrics] = {"all": summary, **summary.by_family, **summary.by_category}
    for label, some in summary.by_label.items():
        groups |= {f"{label} {name}": metrics for name, metrics in some.items()}
    compared: dict[str, PairMetrics] = {
        "all": summary,
        **summary.compared_by_family,
        **summary.compared_by_category,
    }
    rows = {
        name: {**dict(metrics), **_shares(compared.get(name))} for name, metrics in groups.items()
    }
    half_marks = any(row.get("score") != row.get("accuracy") for row in rows.values())
    columns = [
        column
        for column in COLUMNS
        if any(row.get(column) is not None for row in rows.values())
        and (half_marks or not column.startswith("score"))
    ]
    return columns, rows


def _shares(metrics: PairMetrics | None) -> dict[str, float | None]:
    if metrics is None or metrics.gain is None:
        return dict.fromkeys(("without", "gain", "harm"))
    shares = {"without": metrics.without, "gain": metrics.gain, "harm": metrics.harm}
    return {name: share.value for name, share in shares.items()}


def _cell(value: Interval | float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return f"{value[0]:.3f}–{value[1]:.3f}"
    return f"{value}" if isinstance(value, int) else f"{value:.3f}"


def write_table(summary: RunSummary, out: Path) -> None:
    """Write the table of a run as Markdown or CSV, depending on the suffix.

    Raises:
        UsageError: another suffix.
        OutputError: the file cannot be written.
    """
    if out.suffix == ".md":
        rows = [[visible(cell) for cell in row] for row in table(summary)]
        lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
        text = "".join(f"| {' | '.join(map(_markdown, line))} |\n" for line in lines)
    elif out.suffix == ".csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(number_table(summary))
        text = buffer.getvalue()
    else:
        raise UsageError(
            expected="a table as .md or .csv", got=str(out), fix="for example --table metrics.md"
        )
    with atomic_writer(out) as file:
        file.write(text)


def _markdown(cell: str) -> str:
    """Return a text as a Markdown table cell."""
    return cell.replace("|", "\\|").replace("\n", " ")


# --- order of traces ---


def order_by_outcome(
    run: Path, scorer: Scorer = Scorer.TYPED, allow_media: Sequence[Path] = ()
) -> tuple[list[Trace], dict[str, str]]:
    """Return the traces of a run, most instructive first, and the outcome of each question.

    The order is harm, gain, wrong in both runs, right in both runs. Within each, traces with rejected calls and many
    operations
    are first.
    """
    traces = list(load_run(run, allow_media))
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
        for pair in pair_traces(first, second)
    }


def _rank(trace: Trace, by_question: Mapping[str, str], scorer: Scorer) -> tuple[int, ...]:
    outcome = by_question.get(trace.question.id)
    rank = OUTCOMES.index(outcome) if outcome else 2 + is_correct(trace, scorer)
    failed = trace.stop is StopReason.FAILED
    return (-failed, rank, -len(trace.rejected), -len(trace.executed))


# --- HTML ---


def run_head(summary: RunSummary, traces: Sequence[Trace], *, references: bool = False) -> Markup:
    """Return the HTML above the traces of a run report."""
    known = REFERENCES.get(summary.settings.task.name, ()) if references else ()
    cells = [[one.model, f"{one.percent:.1f}", one.source] for one in known]
    return render(
        "run.html",
        rows=_rows(summary.count, summary.rows),
        metrics=table(summary),
        compared=_compared(summary, "with operations", "without"),
        differing=None,
        charts=list(_charts(summary, traces)),
        references=[["model", "%", "source"], *cells] if known else [],
    )


def comparison_head(found: Mapping[str, Any], first: str, second: str) -> Markup:
    """Return the HTML above the traces of a comparison: shares, the paired test, and differing settings.

    Args:
        found: result of `evals.compare.compare_runs`.
        first: name of the first run.
        second: name of the second run.
    """
    rows = [[name, str(one), str(other)] for name, (one, other) in found["differing"].items()]
    return render(
        "run.html",
        rows=None,
        metrics=None,
        compared=_compared(PairMetrics.model_validate(found), first, second),
        differing=[["what differs", first, second], *rows] if rows else [],
        charts=[],
        references=[],
    )


def _compared(metrics: PairMetrics, first: str, second: str) -> dict[str, Any] | None:
    """Return the four shares of a comparison, and the paired test as a sentence; None without pairs."""
    if metrics.gain is None or metrics.gain.value is None:
        return None
    with_, difference = metrics.with_, metrics.difference
    return {
        "first": first,
        "second": second,
        "both": _share(metrics.both),
        "gain": _share(metrics.gain),
        "harm": _share(metrics.harm),
        "neither": _share(metrics.neither),
        "text": f"{_cell(with_.value)} against {_cell(metrics.without.value)} on {with_.count} questions: difference "
        f"{difference.value or 0.0:+.3f}\n({_cell(difference.interval)}), paired test p = {difference.p:g}. "
        "95 % intervals.",
    }


def _share(one: Share) -> tuple[str, str]:
    return _cell(one.value), _cell(one.interval)


def _rows(count: int, rows: Rows | None) -> dict[str, Any] | None:
    """Return the share of evaluated benchmark rows, and why the others were dropped."""
    if rows is None:
        return None
    groups = {"dropped": rows.dropped, "noted": rows.noted}
    return {
        "text": f"Evaluated {count} of {rows.read} rows ({count / max(1, rows.read):.1%}).",
        "reasons": [
            f"{title}: {reason} {one.count} ({'; '.join(one.rows[:3])})"
            for title, reasons in groups.items()
            for reason, one in reasons.items()
        ],
    }


def _charts(summary: RunSummary, traces: Sequence[Trace]) -> Iterator[Chart]:
    points: dict[tuple[float, float], list[str]] = {}
    groups: dict[str, Metrics] = {"all": summary, **summary.by_family, **summary.by_category}
    for name, one in groups.items():
        if one.rapr is not None and one.accuracy is not None:
            points.setdefault((round(one.rapr, 2), round(one.accuracy, 2)), []).append(name)
    if points:
        yield scatter("Accuracy against RaPR, by kind of question", points)
    answered = [trace for trace in traces if trace.stop is not StopReason.FAILED]
    shares = [share for trace in answered if (share := evidence_share(trace)) is not None]
    if shares:
        counts = [sum(low <= share < low + 0.1 for share in shares) for low in _TENTHS[:-1]]
        counts.append(sum(share >= _TENTHS[-1] for share in shares))
        names = [f"{low:.0%}" for low in _TENTHS]
        yield histogram("Share of the evidence inside a crop", counts, names)
    num_executed = [len(trace.executed) for trace in answered]
    if num_executed:
        most = min(max(num_executed), 8)
        counts = [sum(min(number, most) == n for number in num_executed) for n in range(most + 1)]
        yield histogram(
            "Executed operations per question", counts, [str(n) for n in range(most + 1)]
        )


_TENTHS = [tenth / 10 for tenth in range(10)]
