"""Report of one evaluation: metrics, effect of operations, charts, and every question with and without operations."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner import __version__
from pixel_reasoner.evals.references import REFERENCES
from pixel_reasoner.evals.run import SETTINGS, SUMMARY, WITHOUT
from pixel_reasoner.reports.adaptivity import adaptivity_sections
from pixel_reasoner.reports.charts import charts_section, confusion_section
from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.facets import EFFECT
from pixel_reasoner.reports.metrics import groups_section, metrics_section
from pixel_reasoner.reports.names import run_name
from pixel_reasoner.reports.operations import operations_section
from pixel_reasoner.reports.page import Row, flat_settings
from pixel_reasoner.reports.pairs import EFFECTS, PairedTraces, PairLabels, pair, pair_matrix
from pixel_reasoner.reports.scan import ScannedRun, ScannedTrace, TraceKey, scan_run
from pixel_reasoner.reports.schema import (
    Column,
    Fact,
    MatrixSection,
    Report,
    Section,
    TableSection,
    TextSection,
)
from pixel_reasoner.reports.strategies import reliability_section
from pixel_reasoner.reports.summary import AdaptivityMetrics, RunSummary, read_summary
from pixel_reasoner.runs.folder import run_settings
from pixel_reasoner.schema.question import Question

WITH_NAME, WITHOUT_NAME = "with operations", "without operations"
MADE_BY = f"pixel-reasoner {__version__}"
_EFFECT_LABELS = PairLabels(EFFECT, both="both", first="gain", second="harm", neither="neither")


class ScannedEvaluation(NamedTuple):
    """An evaluation after the first pass over its traces."""

    path: Path
    summary: RunSummary
    run: ScannedRun
    """in the order of the report"""
    without: ScannedRun | None
    """the same questions without operations"""
    pairs: Mapping[TraceKey, PairedTraces]


def scan_evaluation(path: Path, allow_media: Sequence[Path] = ()) -> ScannedEvaluation:
    """Read an evaluation once, and order its traces by outcome.

    Raises:
        InputError: a run that is not finished, or a file that cannot be read.
    """
    summary = read_summary(path)
    run = scan_run(path, summary.scorer, allow_media)
    other = path / WITHOUT
    without = None
    if (other / SUMMARY).exists():
        without = scan_run(other, summary.scorer, allow_media)
    pairs = pair(run.traces, without.by_key) if without else {}
    ordered = run._replace(traces=order_by_outcome(run.traces, pairs))
    return ScannedEvaluation(path, summary, ordered, without, pairs)


def order_by_outcome(
    traces: Sequence[ScannedTrace], pairs: Mapping[TraceKey, PairedTraces]
) -> list[ScannedTrace]:
    """Return traces, the most instructive first.

    The order is failed requests, harm, gain, wrong in both runs, right in both runs. Within each, traces with rejected
    calls and many operations are first.
    """

    def rank(one: ScannedTrace) -> tuple[int, ...]:
        paired = pairs.get(one.key)
        order = EFFECTS.index(paired.effect) if paired else 2 + one.is_right
        return (-one.is_failed, order, -one.numbers.num_rejected, -one.numbers.num_executed)

    return sorted(traces, key=rank)


def run_report(
    scanned: ScannedEvaluation, *, references: bool = False, sections: Sequence[Section] = ()
) -> Report:
    """Return the report of an evaluation without its traces.

    Args:
        scanned: the evaluation.
        references: whether published results of the benchmark are shown.
        sections: of plug-ins, shown after the metrics.

    Raises:
        InputError: its settings cannot be read.
    """
    summary = scanned.summary
    parts: list[Section | None] = [
        metrics_section(summary),
        *adaptivity_sections(summary, _adaptivity_without(scanned)),
        effect_matrix(scanned.pairs.values()) if scanned.pairs else None,
        *sections,
        reliability_section(summary),
        charts_section(scanned.run.traces),
        confusion_section(scanned.run.traces),
        operations_section(summary.by_operation),
        groups_section(summary),
        _references(summary) if references else None,
        _skipped_rows(summary),
    ]
    return Report(
        kind="run",
        title=run_name(scanned.path),
        facts=tuple(_facts(scanned)),
        settings=tuple(_settings(scanned)),
        sections=tuple(one for one in parts if one is not None),
        made_by=MADE_BY,
    )


def _adaptivity_without(scanned: ScannedEvaluation) -> AdaptivityMetrics | None:
    """Return the adaptivity metrics without operations, of the compared run or of the control condition."""
    if scanned.without is not None:
        return read_summary(scanned.path / WITHOUT).adaptivity
    forbidden = scanned.summary.controls.get("forbidden")
    return forbidden.adaptivity if forbidden else None


def run_rows(scanned: ScannedEvaluation, limit: int | None = None) -> Iterator[Row]:
    """Yield the questions of a report with their traces, read one at a time."""
    without = scanned.without.by_key if scanned.without else {}
    for one in scanned.run.traces[:limit]:
        asked = [asked_trace(scanned.run, one, WITH_NAME if scanned.without else "")]
        other = without.get(one.key)
        if scanned.without and other is not None:
            asked.append(asked_trace(scanned.without, other, WITHOUT_NAME, asked[0]))
        paired = scanned.pairs.get(one.key)
        effect = {EFFECT: (paired.effect,)} if paired else {}
        yield Row(asked, {**one.facets, **effect})


def asked_trace(run: ScannedRun, one: ScannedTrace, name: str, first: Asked | None = None) -> Asked:
    """Return a trace of a run, read from its file.

    Args:
        run: the run.
        one: which trace.
        name: of the run.
        first: a trace of the same question that is shown before. Media that are the same files get the same paths, so
            that they are encoded and shown once.
    """
    trace = run.file.read(one.offset)
    facts = {"sample": f"{trace.sample + 1}"} if trace.sample else {}
    if first is not None and _has_same_media(first.trace.question, trace.question):
        question = trace.question.model_copy(update={"media": first.trace.question.media})
        trace = trace.model_copy(update={"question": question})
    return Asked(trace, one.outcome, name, facts)


def _has_same_media(one: Question, other: Question) -> bool:
    def files(question: Question) -> list[object]:
        return [
            (
                *item.model_copy(update={"path": ""}).model_dump().values(),
                os.path.realpath(item.path),
            )
            for item in question.media
        ]

    try:
        return files(one) == files(other)
    except (OSError, ValueError):  # an impossible path of a damaged file
        return False


def effect_matrix(pairs: Iterable[PairedTraces]) -> MatrixSection:
    """Return the number of questions by right and wrong with and without operations."""
    return pair_matrix(
        pairs,
        _EFFECT_LABELS,
        (WITH_NAME, WITHOUT_NAME),
        "Effect of operations",
        "Number of questions by whether the answer is right with operations (rows) and without (columns). Gain: only "
        "operations make the answer right. Harm: operations make a right answer wrong. A click shows the traces, both "
        "answers next to each other.",
    )


# --- head ---


def _facts(scanned: ScannedEvaluation) -> Iterator[Fact]:
    summary, traces = scanned.summary, scanned.run.traces
    task, model = summary.settings.task, summary.settings.model
    if task.name:
        yield Fact(name="benchmark", value=" ".join(filter(None, (task.name, task.split))))
    if model.name:
        hashed = f" ({model.weights})" if model.weights else ""
        yield Fact(
            name="model",
            value=f"{model.name}{hashed}",
            explanation="name and fingerprint of the weights",
        )
    if summary.settings.dialect:
        yield Fact(
            name="dialect",
            value=summary.settings.dialect,
            explanation="prompt format and format of calls",
        )
    yield Fact(name="questions", value=f"{summary.count:,}")
    if summary.rows is not None:
        share = summary.count / max(1, summary.rows.read)
        yield Fact(
            name="evaluated rows", value=f"{summary.count:,} of {summary.rows.read:,} ({share:.1%})"
        )
    yield from _costs(traces)
    yield Fact(
        name="date", value=_date(scanned.path / SUMMARY), explanation="when the summary was written"
    )
    if version := summary.versions.get("pixel-reasoner"):
        yield Fact(name="version", value=version, explanation="program that made the run")


def _costs(traces: Sequence[ScannedTrace]) -> Iterator[Fact]:
    """Yield time and tokens of all questions, as far as they are recorded."""
    seconds = sum(one.numbers.seconds for one in traces)
    if seconds:
        yield Fact(
            name="time",
            value=_duration(seconds),
            explanation="sum over all questions; a run with concurrent questions is shorter",
        )
    for name, number, explanation in (
        (
            "prompt tokens",
            sum(one.prompt_tokens for one in traces),
            "sum over all turns, each with its whole context",
        ),
        (
            "new tokens",
            sum(one.new_tokens for one in traces),
            "generated tokens, sum over all turns",
        ),
    ):
        if number:
            yield Fact(name=name, value=f"{number:,}", explanation=explanation)


def _duration(seconds: float) -> str:
    """Return a duration in words.

    >>> _duration(4.2), _duration(75), _duration(7300)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def _date(path: Path) -> str:
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return changed.strftime("%Y-%m-%d %H:%M UTC")


def _settings(scanned: ScannedEvaluation) -> Iterator[Fact]:
    """Yield everything that determines the numbers."""
    if not (scanned.path / SETTINGS).exists():
        return  # the page collects the settings of the traces
    summary = scanned.summary
    for name, value in flat_settings(run_settings(scanned.path)):
        yield Fact(name=name, value=value)
    yield Fact(name="scorer", value=str(summary.scorer), explanation="how answers are compared")
    if summary.data:
        yield Fact(name="questions", value=summary.data, explanation="fingerprint of the questions")
    for name, value in flat_settings({"versions": summary.versions, "hardware": summary.hardware}):
        yield Fact(name=name, value=value)


# --- further sections ---


def _skipped_rows(summary: RunSummary) -> TableSection | TextSection | None:
    """Return the rows of the benchmark that were not asked, or asked with a note, and why."""
    if summary.rows is None:
        return None
    rows = [
        (reason, kind, float(one.count), "; ".join(one.rows[:3]))
        for kind, reasons in (("dropped", summary.rows.dropped), ("noted", summary.rows.noted))
        for reason, one in reasons.items()
    ]
    title = "Rows of the benchmark that were dropped or changed"
    if not rows:
        return TextSection(title=title, text="None: every row of the benchmark was evaluated.")
    return TableSection(
        title=title,
        columns=(
            Column(title="reason"),
            Column(
                title="effect", explanation="dropped: not asked; noted: asked, with a difference"
            ),
            Column(title="rows", format="count"),
            Column(title="examples"),
        ),
        rows=tuple(rows),
        explanation="An accuracy over fewer rows is not comparable with a published accuracy over all of them.",
    )


def _references(summary: RunSummary) -> TableSection | None:
    known = REFERENCES.get(summary.settings.task.name, ())
    if not known:
        return None
    return TableSection(
        title="Published, not measured here",
        columns=(
            Column(title="model"),
            Column(title="%", format="number", better="higher"),
            Column(title="source"),
        ),
        rows=tuple((one.model, one.percent, one.source) for one in known),
        explanation="Other pixel budgets, prompts, turns and scorers: not a leaderboard.",
    )
