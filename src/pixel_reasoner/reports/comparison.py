"""Report of two or more runs over the same questions: differences, wins and losses, use of operations, settings.

Each run is compared with the first. The traces of a question in all runs are next to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.evals.stats import Metrics
from pixel_reasoner.reports.adaptivity import compared_sections
from pixel_reasoner.reports.metrics import INTERVAL
from pixel_reasoner.reports.names import run_names
from pixel_reasoner.reports.page import Row, flat_settings
from pixel_reasoner.reports.pairs import EFFECTS, PairedTraces, PairLabels, pair, pair_matrix
from pixel_reasoner.reports.run import MADE_BY, asked_trace
from pixel_reasoner.reports.scan import ScannedRun, ScannedTrace, TraceKey, scan_run
from pixel_reasoner.reports.schema import (
    Cell,
    Column,
    Fact,
    Metric,
    MetricsSection,
    Report,
    Section,
    TableSection,
    TextSection,
)
from pixel_reasoner.reports.summary import AdaptivityMetrics, Estimate, PairMetrics, Share
from pixel_reasoner.runs.folder import run_settings
from pixel_reasoner.scoring.grading import Scorer

COMPARISON, OPERATION_USE = "comparison", "operation-use"
_MISSING = "–"


class Compared(NamedTuple):
    """A run that is compared with the first."""

    name: str
    run: ScannedRun
    found: Mapping[str, Any]
    """result of `evals.compare.compare_runs`"""
    pairs: Mapping[TraceKey, PairedTraces]

    @property
    def metrics(self) -> PairMetrics:
        """Metrics of the pairs."""
        return PairMetrics.model_validate(self.found)


class ScannedComparison(NamedTuple):
    """Runs after the first pass over their traces."""

    paths: Sequence[Path]
    name: str
    """of the first run"""
    first: ScannedRun
    """in the order of the report; questions that another run has too"""
    others: Sequence[Compared]

    @property
    def names(self) -> list[str]:
        """Names of all runs."""
        return [self.name, *(other.name for other in self.others)]

    def labels(self, other: Compared) -> PairLabels:
        """Return the values of the filter by both answers."""
        return PairLabels(
            COMPARISON,
            both=f"{self.name} right, {other.name} right",
            first=f"{self.name} right, {other.name} wrong",
            second=f"{self.name} wrong, {other.name} right",
            neither=f"{self.name} wrong, {other.name} wrong",
            are_words=False,
        )


def scan_comparison(
    paths: Sequence[Path],
    found: Sequence[Mapping[str, Any]],
    allow_media: Sequence[Path] = (),
) -> ScannedComparison:
    """Read runs once, and order their questions: those with different outcomes first.

    Args:
        paths: the first run, and the runs that are compared with it.
        found: result of `evals.compare.compare_runs` for each of the others.
        allow_media: folders, in addition to the folders of the runs, whose media may be shown.

    Raises:
        InputError: a file that cannot be read.
    """
    scorer = Scorer(found[0]["scorer"])
    name, *names = run_names(paths)
    first, *runs = (scan_run(path, scorer, allow_media) for path in paths)
    others = [
        Compared(*parts, pair(first.traces, parts[1].by_key))
        for parts in zip(names, runs, found, strict=True)
    ]
    keys = {key for run in runs for key in run.by_key}

    def rank(one: ScannedTrace) -> int:
        effects = [other.pairs[one.key].effect for other in others if one.key in other.pairs]
        return min((EFFECTS.index(effect) for effect in effects), default=len(EFFECTS))

    traces = sorted((one for one in first.traces if one.key in keys), key=rank)
    return ScannedComparison(paths, name, first._replace(traces=traces), others)


def comparison_report(scanned: ScannedComparison) -> Report:
    """Return the report of a comparison without its traces.

    Raises:
        InputError: settings that cannot be read.
    """
    sections: list[Section] = []
    for other in scanned.others:
        sections += [_difference(scanned, other), _wins(scanned, other)]
        sections += _adaptivity(scanned, other)
    sections.append(_operations(scanned))
    sections += [category_table(scanned.name, other.name, other.found) for other in scanned.others]
    sections.append(_differing_settings(scanned))
    names = scanned.names
    return Report(
        kind="comparison",
        title=" against ".join(names)
        if len(names) == 2
        else f"{names[0]} against {len(names) - 1} runs",
        facts=tuple(_facts(scanned)),
        sections=tuple(sections),
        made_by=MADE_BY,
    )


def comparison_rows(scanned: ScannedComparison, limit: int | None = None) -> Iterator[Row]:
    """Yield the questions with the traces of all runs, read one at a time."""
    by_key = [other.run.by_key for other in scanned.others]
    for one in scanned.first.traces[:limit]:
        asked = [asked_trace(scanned.first, one, scanned.name)]
        for other, traces in zip(scanned.others, by_key, strict=True):
            if one.key in traces:
                asked.append(asked_trace(other.run, traces[one.key], other.name, asked[0]))
        yield Row(asked, _facets(scanned, one))


def _adaptivity(scanned: ScannedComparison, other: Compared) -> list[Section]:
    found = other.found.get("adaptivity")
    if not found:
        return []
    metrics = [AdaptivityMetrics.model_validate(found[run]) for run in ("first", "second")]
    difference = {name: Estimate.model_validate(one) for name, one in found["difference"].items()}
    return compared_sections((scanned.name, other.name), metrics, difference)


# --- filters ---


def _facets(scanned: ScannedComparison, one: ScannedTrace) -> dict[str, tuple[str, ...]]:
    """Return the filter values of a question: one value of each filter per compared run."""
    results, uses = [], []
    for other in scanned.others:
        paired = other.pairs.get(one.key)
        if paired is not None:
            labels = scanned.labels(other)
            results.append(
                {
                    (True, True): labels.both,
                    (True, False): labels.first,
                    (False, True): labels.second,
                    (False, False): labels.neither,
                }[paired.are_right]
            )
            uses.append(_use(paired, other.name))
    return {COMPARISON: tuple(results), OPERATION_USE: tuple(uses)} if results else {}


def _use(paired: PairedTraces, name: str) -> str:
    first, second = (one.numbers.num_executed for one in paired)
    return _use_label("more" if second > first else "fewer" if second < first else "same", name)


def _use_label(kind: str, name: str) -> str:
    words = {"more": "more operations", "fewer": "fewer operations", "same": "as many operations"}
    return f"{words[kind]} in {name}"


# --- sections ---


def _difference(scanned: ScannedComparison, other: Compared) -> MetricsSection:
    metrics, labels = other.metrics, scanned.labels(other)
    gain = metrics.gain or Share()
    first, second = scanned.name, other.name

    def metric(name: str, share: Share, explanation: str, **more: Any) -> Metric:
        return Metric(
            name=name, value=share.value, interval=share.interval, explanation=explanation, **more
        )

    return MetricsSection(
        title=f"{first} against {second}",
        metrics=(
            metric(first, metrics.with_, "Mean score of the first run.", better="higher"),
            metric(second, metrics.without, "Mean score of the other run.", better="higher"),
            metric(
                "difference",
                metrics.difference,
                f"{first} minus {second}, question by question. If the interval contains 0, the runs may be equally "
                f"good. Paired test with random signs: p = {metrics.difference.p:g}.",
            ),
            metric(
                f"only {first} right",
                gain,
                "Share of questions that only the first run answers right (gain).",
                facets={COMPARISON: (labels.first,)},
            ),
            metric(
                f"only {second} right",
                metrics.harm,
                "Share of questions that only the other run answers right (harm).",
                facets={COMPARISON: (labels.second,)},
            ),
        ),
        explanation=f"{metrics.difference.count:,} questions that both runs answered. The intervals are paired: they "
        "compare the same questions in both runs, and are narrower than the intervals of each run alone.",
    )


def _wins(scanned: ScannedComparison, other: Compared) -> Section:
    return pair_matrix(
        other.pairs.values(),
        scanned.labels(other),
        (scanned.name, other.name),
        f"Wins and losses: {scanned.name} against {other.name}",
        "Number of questions by whether the answer of each run is right. A click shows the traces next to each other.",
    )


def comparison_table(names: Sequence[str], found: Sequence[Mapping[str, Any]]) -> TableSection:
    """Return the differences by category of all compared runs as one table.

    Args:
        names: of the first run and of the others.
        found: result of `evals.compare.compare_runs` for each of the others.
    """
    first, *others = names
    tables = [category_table(first, *pair) for pair in zip(others, found, strict=True)]
    if len(tables) == 1:
        return tables[0]
    rights = (f"only {first} right", "only other run right")
    titles = ("group", "questions", first, "other run", "difference", *_PAIRED_TITLES, *rights)
    columns = (
        Column(title=title, format=column.format)
        for title, column in zip(titles, tables[0].columns, strict=True)
    )
    return TableSection(
        title=f"Differences by category: {first} against each run",
        columns=(Column(title="run"), *columns),
        rows=tuple(
            (name, *row) for name, table in zip(others, tables, strict=True) for row in table.rows
        ),
    )


_PAIRED_TITLES = (f"{INTERVAL} of the difference", "p")


def category_table(first: str, other: str, found: Mapping[str, Any]) -> TableSection:
    """Return the paired differences of two runs: all questions, and each category.

    Args:
        first: name of the first run.
        other: name of the other run.
        found: result of `evals.compare.compare_runs`.
    """
    groups = {"all": found, **found.get("compared_by_category", {})}
    interval, p = _PAIRED_TITLES
    return TableSection(
        title=f"Differences by category: {first} against {other}",
        columns=(
            Column(title="group"),
            Column(title="questions", format="count"),
            Column(title=first, format="share", better="higher", explanation="mean score"),
            Column(title=other, format="share", better="higher", explanation="mean score"),
            Column(title="difference", format="share"),
            Column(title=interval, format="interval"),
            Column(title=p, format="number", explanation="of the paired test"),
            Column(title=f"only {first} right", format="share"),
            Column(title=f"only {other} right", format="share"),
        ),
        rows=tuple(
            _category_row(name, PairMetrics.model_validate(one)) for name, one in groups.items()
        ),
        explanation="Among many categories, a small p occurs by chance: of 20 categories without a difference, one has "
        "p < 0.05 on average.",
    )


def _category_row(name: str, metrics: PairMetrics) -> tuple[Cell, ...]:
    difference = metrics.difference
    return (
        name,
        difference.count,
        metrics.with_.value,
        metrics.without.value,
        difference.value,
        difference.interval,
        difference.p if difference.count else None,
        metrics.gain.value if metrics.gain else None,
        metrics.harm.value,
    )


def _operations(scanned: ScannedComparison) -> TableSection:
    """Return the use of operations in each run, over the questions of the report."""
    keys = {one.key for one in scanned.first.traces}
    runs = [(scanned.name, scanned.first, None), *((o.name, o.run, o) for o in scanned.others)]
    rows = []
    for name, run, other in runs:
        metrics = Metrics()
        for one in run.traces:
            if one.key in keys and not one.is_failed:
                metrics.add(one.numbers)
        found = metrics.result()
        changes = [_changes(other, kind) for kind in ("more", "fewer")]
        rows.append((name, *(found[key] for key in _OPERATION_COLUMNS), *changes))
    return TableSection(
        title="Use of operations",
        columns=(
            Column(title="run"),
            *_OPERATION_COLUMNS.values(),
            Column(
                title="more operations",
                format="count",
                explanation="questions with more than in the first run",
            ),
            Column(
                title="fewer operations",
                format="count",
                explanation="questions with fewer than in the first run",
            ),
        ),
        rows=tuple(rows),
        explanation="The filter operation use shows the questions with more or fewer operations than in the first run.",
    )


def _changes(other: Compared | None, kind: str) -> float | None:
    if other is None:
        return None
    label = _use_label(kind, other.name)
    return float(sum(_use(paired, other.name) == label for paired in other.pairs.values()))


_OPERATION_COLUMNS = {
    "count": Column(title="questions", format="count"),
    "mean_operations": Column(title="operations", format="number", explanation="per question"),
    "rapr": Column(
        title="RaPR", format="share", explanation="share of questions with an operation"
    ),
    "evidence_hit_rate": Column(title="evidence shown", format="share", better="higher"),
    "operation_error_rate": Column(title="rejected calls", format="share", better="lower"),
    "repaired_rate": Column(title="repaired calls", format="share", better="lower"),
    "unparsed_rate": Column(title="unparsed", format="share", better="lower"),
    "new_tokens_per_question": Column(title="new tokens", format="number", better="lower"),
    "seconds_per_question": Column(title="seconds", format="number", better="lower"),
}
"""metric -> column"""


def _differing_settings(scanned: ScannedComparison) -> Section:
    """Return the settings that are not the same in all runs."""
    settings = [dict(flat_settings(run_settings(path))) for path in scanned.paths]
    differing = [
        name
        for name in dict.fromkeys(name for one in settings for name in one)
        if len({one.get(name) for one in settings}) > 1
    ]
    if not differing:
        return TextSection(
            title="Differing settings", text="None: all settings of the runs are equal."
        )
    return TableSection(
        title="Differing settings",
        columns=(Column(title="setting"), *(Column(title=name) for name in scanned.names)),
        rows=tuple((name, *(one.get(name, _MISSING) for one in settings)) for name in differing),
        explanation="A difference between runs has one cause only if one setting differs.",
    )


def _facts(scanned: ScannedComparison) -> Iterator[Fact]:
    for number, (path, name) in enumerate(zip(scanned.paths, scanned.names, strict=True)):
        title = "first run" if not number else "run"
        yield Fact(name=title, value=name, explanation=str(path))
    yield Fact(name="questions", value=f"{len(scanned.first.traces):,}")
    yield Fact(name="scorer", value=str(scanned.others[0].found["scorer"]))
