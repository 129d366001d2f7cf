"""Charts of a run: confusion of options, counts, accuracy by evidence size and by category, operations, tokens, time."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pixel_reasoner.evals.intervals import interval
from pixel_reasoner.reports.facets import (
    length_group,
    length_groups,
    operations_group,
    operations_groups,
)
from pixel_reasoner.reports.scan import (
    ANSWERED_OPTION,
    EVIDENCE_SIZE,
    EXPECTED_OPTION,
    NO_OPTION,
    SEVERAL_OPTIONS,
    Choice,
    ScannedTrace,
    size_group,
    size_groups,
)
from pixel_reasoner.reports.schema import Chart, ChartsSection, MatrixCell, MatrixSection, Series

MAX_OPTIONS = 12
"""options of a confusion matrix; rarer ones are one row and one column"""
OTHER_OPTIONS = "other"
MAX_CATEGORIES = 40
_COUNT_MARGIN = 5
"""an answered number is drawn up to the largest expected number plus this"""
_STEPS = (1, 2, 5)
"""limits of the groups of seconds: these numbers times a power of ten"""


def charts_section(traces: Sequence[ScannedTrace]) -> ChartsSection | None:
    """Return the charts of a run; None without traces."""
    graded = [one for one in traces if one.is_graded]
    charts = [
        *_by_evidence_size(graded),
        *_by_operations(traces),
        *_by_category(graded),
        *_counts(graded),
        *_tokens(traces),
        *_seconds(traces),
    ]
    return ChartsSection(title="Charts", charts=tuple(charts)) if charts else None


# --- choice questions ---


def confusion_section(traces: Sequence[ScannedTrace]) -> MatrixSection | None:
    """Return how often each option was answered where another was expected; None without choice questions.

    Each graded trace of a choice question is in one cell.
    """
    choices = [one.choice for one in traces if one.choice is not None and one.is_graded]
    if not choices:
        return None
    rows = _shown_options(one.expected for one in choices)
    columns = _shown_options(one.answered for one in choices)
    counts = Counter(
        Choice(rows.label(one.expected), columns.label(one.answered)) for one in choices
    )

    def cell(expected: str, answered: str) -> MatrixCell:
        count = counts[Choice(expected, answered)]
        is_option = expected not in (NO_OPTION, SEVERAL_OPTIONS, OTHER_OPTIONS)
        return MatrixCell(
            value=count,
            text=f"{count}",
            facets={
                EXPECTED_OPTION: rows.values(expected),
                ANSWERED_OPTION: columns.values(answered),
            },
            kind=("good" if expected == answered else "bad") if count and is_option else "",
        )

    return MatrixSection(
        title="Answered against expected option",
        row_title="expected",
        column_title="answered",
        rows=rows.labels,
        columns=columns.labels,
        cells=tuple(tuple(cell(row, column) for column in columns.labels) for row in rows.labels),
        explanation="Number of questions by expected and answered option. Right answers are on the diagonal. A column "
        "with large numbers in all rows is an option that the model prefers whatever the question is.",
    )


class _Options(NamedTuple):
    """Options of a row or column: each is shown by itself, or as one of `others`."""

    labels: tuple[str, ...]
    others: tuple[str, ...]

    def label(self, option: str) -> str:
        return OTHER_OPTIONS if option in self.others else option

    def values(self, label: str) -> tuple[str, ...]:
        return self.others if label == OTHER_OPTIONS and self.others else (label,)


def _shown_options(options: Iterator[str]) -> _Options:
    """Return the most frequent options in alphabetical order, then those that are not options."""
    counts = Counter(options)
    special = [one for one in (SEVERAL_OPTIONS, NO_OPTION) if counts.pop(one, 0)]
    ranked = sorted(counts, key=lambda one: (-counts[one], one))
    fits = len(ranked) <= MAX_OPTIONS
    shown, others = (ranked, []) if fits else (ranked[:MAX_OPTIONS], ranked[MAX_OPTIONS:])
    labels = [*sorted(shown), *[OTHER_OPTIONS] * bool(others), *special]
    return _Options(tuple(labels), tuple(others))


# --- numbers ---


def _counts(traces: Sequence[ScannedTrace]) -> Iterator[Chart]:
    """Yield the answered against the expected number of questions that ask for a count."""
    counts = Counter(one.numbered for one in traces if one.numbered is not None)
    if not counts:
        return
    top = max(one.expected for one in counts) + _COUNT_MARGIN
    points = sorted(one for one in counts if 0 <= one.answered <= top)
    hidden = sum(number for one, number in counts.items() if not 0 <= one.answered <= top)
    total = sum(counts.values())
    errors = [one.answered - one.expected for one in points for _ in range(counts[one])]
    mean = f" The mean error is {sum(errors) / len(errors):+.2f}." if errors else ""
    omitted = f" Not drawn: {hidden} of {total} answers that are far outside." if hidden else ""
    yield Chart(
        title="Counts: answered against expected number",
        kind="points",
        x_title="expected",
        y_title="answered",
        series=(
            Series(
                name="answers",
                x=tuple(one.expected for one in points),
                y=tuple(one.answered for one in points),
                sizes=tuple(counts[one] for one in points),
            ),
        ),
        explanation="Right answers are on the dashed line; points below it are too small. A larger point means "
        f"more questions.{mean}{omitted}",
        diagonal=True,
    )


# --- accuracy by group ---


class _Shares(NamedTuple):
    """Accuracy of groups of questions, with intervals."""

    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    sizes: tuple[float, ...]


def _accuracies(groups: Sequence[Sequence[ScannedTrace]]) -> _Shares:
    found = [
        interval(
            [float(one.is_right) for one in group],
            array("q", [one.numbers.cluster for one in group]),
        )
        for group in groups
    ]
    return _Shares(
        tuple(one and round(one.value, 4) for one in found),
        tuple(one and round(one.low, 4) for one in found),
        tuple(one and round(one.high, 4) for one in found),
        tuple(len(group) for group in groups),
    )


def _by_evidence_size(traces: Sequence[ScannedTrace]) -> Iterator[Chart]:
    groups: dict[str, list[ScannedTrace]] = {name: [] for name in size_groups()}
    for one in traces:
        if one.evidence_size is not None:
            groups[size_group(one.evidence_size)].append(one)
    used = [index for index, group in enumerate(groups.values()) if group]
    if not used:
        return
    names = list(groups)[used[0] : used[-1] + 1]
    shares = _accuracies([groups[name] for name in names])
    yield Chart(
        title="Accuracy by size of the evidence",
        kind="points",
        x_title="area of the evidence",
        y_title="accuracy",
        x_labels=tuple(names),
        series=(
            Series(
                name="accuracy",
                x=tuple(range(len(names))),
                y=shares.values,
                low=shares.low,
                high=shares.high,
                sizes=shares.sizes,
            ),
        ),
        bottom=0,
        top=1,
        explanation="Area of the annotated evidence as a share of the picture. If small details are the problem, the "
        "accuracy falls to the left. Lines are 95 % intervals. A click shows the traces.",
        facet=EVIDENCE_SIZE,
    )


def _by_category(traces: Sequence[ScannedTrace]) -> Iterator[Chart]:
    groups = defaultdict(list)
    for one in traces:
        groups[one.category].append(one)
    if len(groups) < 2:
        return
    names = sorted(groups, key=lambda name: (-len(groups[name]), name))[:MAX_CATEGORIES]
    shares = _accuracies([groups[name] for name in names])
    rapr = [
        sum(one.numbers.num_executed > 0 for one in groups[name]) / len(groups[name])
        for name in names
    ]
    more = f" The {MAX_CATEGORIES} largest of {len(groups)} categories are shown." * (
        len(names) < len(groups)
    )
    yield Chart(
        title="Accuracy against RaPR by category",
        kind="points",
        x_title="RaPR",
        y_title="accuracy",
        series=(
            Series(
                name="accuracy",
                x=tuple(round(one, 4) for one in rapr),
                y=shares.values,
                labels=tuple(names),
                sizes=shares.sizes,
            ),
        ),
        bottom=0,
        top=1,
        explanation="One point per category; a larger point means more questions. Categories at the bottom right "
        f"use operations and are still wrong; at the bottom left, operations may help.{more}",
        facet="category",
    )


# --- bars ---


def _bars(
    title: str,
    x_title: str,
    names: Sequence[str],
    traces: Sequence[Sequence[ScannedTrace]],
    **more: str,
) -> Chart:
    """Return a bar per group: all traces, and in front of it those with a right answer."""
    places = tuple(range(len(names)))
    right = tuple(sum(one.is_right for one in group) for group in traces)
    return Chart(
        title=title,
        kind="bars",
        x_title=x_title,
        y_title="questions",
        x_labels=tuple(names),
        series=(
            Series(name="all answers", x=places, y=tuple(len(group) for group in traces), group=7),
            Series(name="right answers", x=places, y=right, group=0),
        ),
        bottom=0,
        **more,
    )


def _by_operations(traces: Sequence[ScannedTrace]) -> Iterator[Chart]:
    if not traces:
        return
    names = list(operations_groups())
    groups: dict[str, list[ScannedTrace]] = {name: [] for name in names}
    for one in traces:
        groups[operations_group(one.numbers.num_executed)].append(one)
    shown = names[: max(index for index, name in enumerate(names) if groups[name]) + 1]
    yield _bars(
        "Operations per question",
        "executed operations",
        shown,
        [groups[name] for name in shown],
        explanation="Number of questions by executed operations; the lower part of a bar is right answers. A "
        "click shows the traces.",
        facet="operations",
    )


def _tokens(traces: Sequence[ScannedTrace]) -> Iterator[Chart]:
    groups: dict[str, list[ScannedTrace]] = {name: [] for name in length_groups()}
    for one in traces:
        if one.new_tokens:
            groups[length_group(one.new_tokens)].append(one)
    used = [index for index, group in enumerate(groups.values()) if group]
    if not used:
        return
    names = list(groups)[used[0] : used[-1] + 1]
    yield _bars(
        "New tokens per question",
        "generated tokens in all turns",
        names,
        [groups[name] for name in names],
        explanation="Each group is twice as wide as the one before. If long answers are mostly wrong, look for "
        "repetition and for turns that were cut off.",
        facet="length",
    )


def _seconds(traces: Sequence[ScannedTrace]) -> Iterator[Chart]:
    timed = [one for one in traces if one.numbers.seconds > 0]
    if not timed:
        return
    steps = [_step(one.numbers.seconds) for one in timed]
    first, last = min(steps), max(steps)
    groups: list[list[ScannedTrace]] = [[] for _ in range(first, last + 1)]
    for one, step in zip(timed, steps, strict=True):
        groups[step - first].append(one)
    yield _bars(
        "Seconds per question",
        "seconds",
        [f"{_limit(step):g} to {_limit(step + 1):g}" for step in range(first, last + 1)],
        groups,
        explanation="Time from the first to the last turn. It contains waiting where several questions share a model.",
    )


def _limit(step: int) -> float:
    """Return 1, 2, 5, 10, 20, ... for steps 0, 1, 2, ...; 0.5 for -1.

    >>> [_limit(step) for step in (-1, 0, 1, 2, 3)]
    [0.5, 1.0, 2.0, 5.0, 10.0]
    """
    power, index = divmod(step, len(_STEPS))
    return float(f"{_STEPS[index]}e{power}")


def _step(seconds: float) -> int:
    """Return the largest step with a limit of at most `seconds`."""
    step = len(_STEPS) * math.floor(math.log10(seconds))
    while _limit(step + 1) <= seconds:
        step += 1
    return step
