"""Leaderboard: a table of several evaluations. Runs that are not comparable with the first are marked with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.evals.run import SETTINGS
from pixel_reasoner.reports.metrics import INTERVAL, METRICS
from pixel_reasoner.reports.names import run_names
from pixel_reasoner.reports.page import flat_settings
from pixel_reasoner.reports.run import MADE_BY
from pixel_reasoner.reports.schema import (
    Cell,
    Chart,
    ChartsSection,
    Column,
    Fact,
    Report,
    Section,
    Series,
    TableSection,
)
from pixel_reasoner.reports.summary import RunSummary, read_summary
from pixel_reasoner.runs.folder import run_settings

_REASONS = {
    "task": "other questions",
    "questions": "other questions",
    "scorer": "the same answers get other grades",
    "budgets": "details are larger or smaller in the prompt",
    "limits": "more or fewer operations are possible",
    "sampling": "answers are sampled in another way",
    "media": "other media limits, for example another number of frames",
    "perturb": "operations are perturbed on purpose",
    "strict": "malformed calls are repaired in one and rejected in the other",
}
"""part of the settings -> why a difference makes a number incomparable; all other settings are what runs compare"""
_MAX_NAMED = 2
"""maximum number of differing settings that a note names"""
_COLUMNS = (
    *("accuracy", "score", "without", "gain", "harm", "rapr", "evidence_hit_rate"),
    *("unparsed_rate", "mean_operations", "new_tokens_per_question", "seconds_per_question"),
)


class Entry(NamedTuple):
    """A run of the table."""

    name: str
    summary: RunSummary
    decisive: Mapping[str, str]
    """settings that must be equal for comparable numbers, by dotted name"""


def read_entries(paths: Sequence[Path]) -> list[Entry]:
    """Return the runs: those that are comparable with the first run, then the others; the best of each group first.

    Raises:
        InputError: a run that is not finished, or a file that cannot be read.
    """
    entries = [
        Entry(name, summary := read_summary(path), dict(_decisive(path, summary)))
        for name, path in zip(run_names(paths), paths, strict=True)
    ]
    groups: list[Mapping[str, str]] = []
    for one in entries:
        if one.decisive not in groups:
            groups.append(one.decisive)
    return sorted(
        entries, key=lambda one: (groups.index(one.decisive), -(one.summary.accuracy or 0.0))
    )


def leaderboard_report(entries: Sequence[Entry]) -> Report:
    """Return the report of several runs."""
    table = leaderboard_table(entries)
    sections: list[Section] = [table, *_charts(entries)]
    facts = [Fact(name="runs", value=f"{len(entries)}")]
    if table.notes:
        facts.append(
            Fact(name="comparable with the first", value=f"{len(entries) - 1 - len(table.notes)}")
        )
    return Report(
        kind="leaderboard",
        title=f"{len(entries)} runs",
        facts=tuple(facts),
        sections=tuple(sections),
        made_by=MADE_BY,
    )


def leaderboard_table(entries: Sequence[Entry]) -> TableSection:
    """Return one row per run. Rows that are not comparable with the first have a note."""
    names = [name for name in _COLUMNS if any(_value(one, name) is not None for one in entries)]
    if all(one.summary.score == one.summary.accuracy for one in entries):
        names = [name for name in names if name != "score"]
    columns = [
        Column(title="run"),
        Column(title="benchmark"),
        Column(title="model"),
        Column(title="questions", format="count"),
        *(column for name in names for column in _metric_columns(name)),
    ]
    rows = [
        (
            one.name,
            one.summary.settings.task.name or "–",
            one.summary.settings.model.name or "–",
            float(one.summary.count),
            *(cell for name in names for cell in _cells(one, name)),
        )
        for one in entries
    ]
    notes = {
        number: note
        for number, one in enumerate(entries)
        if (note := comparability_note(entries[0].decisive, one.decisive))
    }
    return TableSection(
        title="Metrics of each run",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=notes,
        explanation="Click on the title of a column to sort by it. A run with a note has other questions or other "
        "decisive settings than the first run: its numbers are not comparable with it.",
    )


def comparability_note(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Return which decisive settings differ, and why that makes numbers incomparable; empty if none differs.

    >>> comparability_note({"limits.max_turns": "6"}, {"limits.max_turns": "2"})
    'Not comparable: limits.max_turns is 2 instead of 6: more or fewer operations are possible.'
    """
    names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
    if not names:
        return ""
    by_reason: dict[str, list[str]] = {}
    for name in names:
        by_reason.setdefault(_REASONS[name.partition(".")[0]], []).append(name)
    parts = []
    for reason, some in by_reason.items():
        shown = ", ".join(
            f"{name} is {other.get(name, 'not set')} instead of {first.get(name, 'not set')}"
            for name in some[:_MAX_NAMED]
        )
        more = f" and {len(some) - _MAX_NAMED} more" if len(some) > _MAX_NAMED else ""
        parts.append(f"{shown}{more}: {reason}")
    return f"Not comparable: {'; '.join(parts)}."


def _decisive(path: Path, summary: RunSummary) -> Iterator[tuple[str, str]]:
    """Yield the settings that determine what a number means. The model and its prompt format are what is compared."""
    if (path / SETTINGS).exists():
        for name, value in flat_settings(run_settings(path)):
            if name.partition(".")[0] in _REASONS:
                yield name, value
    yield "questions", summary.data
    yield "scorer", str(summary.scorer)


# --- cells ---


def _value(entry: Entry, name: str) -> float | None:
    summary = entry.summary
    if name in ("without", "gain", "harm"):
        share = getattr(summary, name) if summary.gain is not None else None
        return None if share is None else share.value
    value: float | None = getattr(summary, name)
    return value


def _metric_columns(name: str) -> Iterator[Column]:
    info = METRICS[name]
    yield Column(
        title=info.title, format=info.format, better=info.better, explanation=info.explanation
    )
    if name == "accuracy":
        yield Column(title=INTERVAL, format="interval", explanation="95 % interval of the accuracy")


def _cells(entry: Entry, name: str) -> Iterator[Cell]:
    yield _value(entry, name)
    if name == "accuracy":
        yield entry.summary.accuracy_interval


def _charts(entries: Sequence[Entry]) -> Iterator[ChartsSection]:
    known = [one for one in entries if one.summary.accuracy is not None]
    if not known:
        return
    intervals = [one.summary.accuracy_interval for one in known]
    series = [
        Series(
            name="with operations" if any(one.summary.gain for one in known) else "accuracy",
            x=tuple(range(len(known))),
            y=tuple(one.summary.accuracy for one in known),
            low=tuple(one and one[0] for one in intervals),
            high=tuple(one and one[1] for one in intervals),
            sizes=tuple(one.summary.count for one in known),
        )
    ]
    if any(one.summary.gain is not None for one in known):
        compared = [one.summary.without if one.summary.gain is not None else None for one in known]
        series.append(
            Series(
                name="without operations",
                x=tuple(range(len(known))),
                y=tuple(one and one.value for one in compared),
                low=tuple(one and one.interval and one.interval[0] for one in compared),
                high=tuple(one and one.interval and one.interval[1] for one in compared),
                group=1,
            )
        )
    chart = Chart(
        title="Accuracy of each run",
        kind="points",
        x_title="run",
        y_title="accuracy",
        x_labels=tuple(one.name for one in known),
        series=tuple(series),
        bottom=0,
        top=1,
        explanation="Lines are 95 % intervals. They are those of each run by itself: two runs over the same questions "
        "can differ although their intervals overlap. The command compare tests the difference.",
    )
    yield ChartsSection(title="Accuracy", charts=(chart,))
