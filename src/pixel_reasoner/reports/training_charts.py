"""Curves of training runs: runs that differ only in their random seed are one group, and long logs are thinned.

A line is smoothed: each value is the mean over a window of `SMOOTHING_WINDOW` of the steps. A single run also shows its
values before smoothing. The line of a group of seeds is the mean of its runs; the band reaches from the lowest to the
highest of them.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, takewhile
from statistics import fmean
from typing import NamedTuple

from pixel_reasoner.reports.schema import Chart, ChartsSection, Series
from pixel_reasoner.reports.training_log import TrainingRun
from pixel_reasoner.reports.training_panels import PHASES, SECTIONS, SPEED, Panel, panels_of

SMOOTHING_WINDOW = 0.05
"""as a share of the steps"""
MAX_POINTS = 2000
"""points of a line; of a longer one the lowest and the highest value of each part are kept"""
FINAL_SHARE = 0.05
"""share of the last values of a metric whose mean is its final value"""
PHASE_WINDOW = 0.1
"""steps whose seconds are one point of the chart of phases, as a share of all"""
MAX_PHASE_POINTS = 200
MAX_PHASE_CHARTS = 4
"""runs with a chart of phases"""
_SEED = re.compile(r"(?:.+\.)?(?:data_)?seed")
_IGNORED = re.compile(r"out|trl\.(?:logging_dir|run_name)")
"""settings that do not change a run"""
_DIGITS = 6

Points = Sequence[tuple[float, float]]
"""step and value; nan is a gap"""


class RunGroup(NamedTuple):
    """Runs with the same settings except the random seed."""

    name: str
    runs: tuple[TrainingRun, ...]


def group_by_seed(runs: Sequence[TrainingRun]) -> list[RunGroup]:
    """Return the groups of runs, in the order of their first run. A run without settings has its own group."""
    by_settings: dict[object, list[TrainingRun]] = defaultdict(list)
    for run in runs:
        key = tuple(sorted(decisive_settings(run).items())) if run.settings else run.folder
        by_settings[key].append(run)
    return [RunGroup(_group_name(group), tuple(group)) for group in by_settings.values()]


def decisive_settings(run: TrainingRun) -> dict[str, str]:
    """Return the settings of a run that are not random seeds or paths of its output."""
    return {
        name: value
        for name, value in run.settings.items()
        if not _SEED.fullmatch(name) and not _IGNORED.fullmatch(name)
    }


def common_settings(runs: Sequence[TrainingRun]) -> dict[str, str]:
    """Return the settings that all runs have with the same value."""
    first, *others = (run.settings for run in runs)
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in others) and not _IGNORED.fullmatch(name)
    }


def differing_settings(runs: Sequence[TrainingRun]) -> Mapping[str, tuple[str, ...]]:
    """Return the settings that differ between runs, with the value of each run; empty where a run does not have one."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: tuple(run.settings.get(name, "") for run in runs) for name in names}
    return {
        name: some
        for name, some in values.items()
        if len(set(some)) > 1 and not _IGNORED.fullmatch(name)
    }


def training_charts(groups: Sequence[RunGroup]) -> list[ChartsSection]:
    """Return the charts of all logged metrics, by section."""
    metrics = [name for group in groups for run in group.runs for name in run.metrics]
    charts: dict[str, list[Chart]] = defaultdict(list)
    for panel in panels_of(metrics):
        if series := tuple(_panel_series(panel, groups)):
            charts[panel.section].append(_chart(panel, series, groups))
    charts[SPEED] = [*_phase_charts(groups), *charts[SPEED]]
    titles = [name for name in SECTIONS if charts[name]]
    return [
        ChartsSection(
            title=title,
            charts=tuple(charts[title]),
            explanation=_explanation(groups) if title == titles[0] else "",
        )
        for title in titles
    ]


def _phase_charts(groups: Sequence[RunGroup]) -> Iterator[Chart]:
    """Yield the share of each phase of a step, one chart for each group of runs that logged phases."""
    logged = [(group, shares) for group in groups if (shares := _phase_shares(group.runs))]
    for group, shares in logged[:MAX_PHASE_CHARTS]:
        name = f": {group.name}" if len(groups) > 1 else ""
        series = (
            Series(name=PHASES[phase], x=steps, y=values, group=list(PHASES).index(phase))
            for phase, (steps, values) in shares.items()
        )
        yield Chart(
            title=f"phases of a step{name}",
            kind="areas",
            x_title="step",
            y_title="share",
            series=tuple(series),
            bottom=0,
            top=1,
            explanation=f"Share of the seconds of {PHASE_WINDOW:.0%} of the steps. Waiting for data means too little "
            "decoding; waiting for processes, rollouts of unequal length.",
        )


def _phase_shares(
    runs: Sequence[TrainingRun],
) -> dict[str, tuple[tuple[float, ...], tuple[float | None, ...]]]:
    """Return steps and shares of each phase that takes time; empty if no run logged phases."""
    sums: dict[str, dict[float, float]] = {name: defaultdict(float) for name in PHASES}
    for run in runs:
        for name in PHASES:
            for step, seconds in run.points(f"seconds/{name}"):
                sums[name][step] += seconds if math.isfinite(seconds) else 0.0
    steps = tuple(sorted({step for of_phase in sums.values() for step in of_phase}))
    means = {
        name: [value for _, value in smoothed([(n, of[n]) for n in steps], PHASE_WINDOW)]
        for name, of in sums.items()
        if any(of.values())
    }
    totals = [sum(values) or 1.0 for values in zip(*means.values(), strict=True)]
    kept = range(0, len(steps), max(1, math.ceil(len(steps) / MAX_PHASE_POINTS)))
    return {
        name: (tuple(steps[n] for n in kept), tuple(_rounded(values[n] / totals[n]) for n in kept))
        for name, values in means.items()
    }


def final_value(points: Points) -> float | None:
    """Return the mean of the last `FINAL_SHARE` of the values of a metric; None without a finite value.

    >>> final_value([(1, 0.5), (2, 0.7), (3, math.nan)])
    0.7
    """
    values = [value for _, value in points if math.isfinite(value)]
    if not values:
        return None
    return _rounded(fmean(values[-max(1, int(len(values) * FINAL_SHARE)) :]))


def _chart(panel: Panel, series: tuple[Series, ...], groups: Sequence[RunGroup]) -> Chart:
    has_band = any(one.low for one in series)
    return Chart(
        title=panel.title,
        kind="line",
        x_title="step",
        y_title=panel.y_title,
        series=series,
        bottom=panel.bottom,
        top=panel.top,
        explanation=panel.explanation,
        interval="lowest to highest run" if has_band else "95 %",
    )


def _explanation(groups: Sequence[RunGroup]) -> str:
    window = f"Lines are smoothed: means over {SMOOTHING_WINDOW:.0%} of the steps."
    parts = [window]
    if any(len(group.runs) == 1 for group in groups):
        parts.append("Pale lines are the values before smoothing.")
    if any(len(group.runs) > 1 for group in groups):
        parts.append(
            "Runs that differ only in the random seed are one line, their mean; the band reaches from the lowest to "
            "the highest run."
        )
    if any(len(run.rows) > MAX_POINTS for group in groups for run in group.runs):
        parts.append(
            f"Of each line at most {MAX_POINTS:,} points are drawn: the lowest and the highest value of each part of "
            "the steps."
        )
    return " ".join(parts)


# --- series ---


def _panel_series(panel: Panel, groups: Sequence[RunGroup]) -> Iterator[Series]:
    logged = {
        (number, name): points
        for number, group in enumerate(groups)
        for name in panel.names
        if (points := [found for run in group.runs if (found := run.points(name))])
    }
    shown = [name for name in panel.names if any(one == name for _, one in logged)]
    has_several = len(shown) > 1
    for (number, name), runs in logged.items():
        group = groups[number].name
        metric = panel.labels[panel.names.index(name)] if has_several else ""
        label = (f"{group}: {metric}" if len(groups) > 1 else metric) if has_several else group
        dash = shown.index(name) if has_several else number  # lines differ in grey too
        if len(runs) == 1:
            yield from _run_series(runs[0], label, number, dash)
        else:
            yield _band_series(runs, label, number, dash)


def _run_series(points: Points, label: str, group: int, dash: int) -> Iterator[Series]:
    line = smoothed(points)
    if line != list(points):
        yield _series(thinned(points), label, group, dash).model_copy(update={"is_raw": True})
    yield _series(thinned(line), label, group, dash)


def _series(points: Points, label: str, group: int, dash: int) -> Series:
    steps, values = zip(*points, strict=True)
    return Series(name=label, x=steps, y=tuple(map(_rounded, values)), group=group, dash=dash)


def _band_series(logged: Sequence[Points], label: str, group: int, dash: int) -> Series:
    """Return the mean of several runs, with the band from the lowest to the highest."""
    at_step: dict[float, list[float]] = defaultdict(list)
    for points in logged:
        for step, value in smoothed(points):
            at_step[step] += [value] if math.isfinite(value) else []
    steps = sorted(at_step)
    lows = [min(at_step[step], default=math.nan) for step in steps]
    highs = [max(at_step[step], default=math.nan) for step in steps]
    kept = kept_indexes(lows, highs)
    means = [fmean(values) if (values := at_step[steps[n]]) else math.nan for n in kept]
    return Series(
        name=label,
        x=tuple(steps[n] for n in kept),
        y=tuple(map(_rounded, means)),
        low=tuple(_rounded(lows[n]) for n in kept),
        high=tuple(_rounded(highs[n]) for n in kept),
        sizes=tuple(len(at_step[steps[n]]) for n in kept),
        group=group,
        dash=dash,
    )


def smoothed(points: Points, share: float = SMOOTHING_WINDOW) -> list[tuple[float, float]]:
    """Return the means over a window around each value. A gap stays a gap, and does not change the values next to it.

    >>> smoothed([(1, 1.0), (2, math.nan), (3, 3.0)], share=1.0)
    [(1, 1.0), (2, nan), (3, 3.0)]
    >>> smoothed([(1, 1.0), (2, 2.0), (3, 6.0)], share=1.0)
    [(1, 1.5), (2, 3.0), (3, 4.0)]
    """
    reach = int(len(points) * share / 2)
    if not reach:
        return list(points)
    finite = [math.isfinite(value) for _, value in points]
    values = (
        value if is_finite else 0.0 for (_, value), is_finite in zip(points, finite, strict=True)
    )
    sums = list(accumulate(values, initial=0.0))
    counts = list(accumulate(map(int, finite), initial=0))
    means = []
    for n, (step, _) in enumerate(points):
        first, end = max(0, n - reach), min(len(points), n + reach + 1)
        mean = (sums[end] - sums[first]) / max(1, counts[end] - counts[first])
        means.append((step, mean if finite[n] else math.nan))
    return means


def thinned(points: Points, max_points: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Return at most so many points: the first, the last, and the lowest and highest of each part.

    >>> thinned([(n, float(n == 3)) for n in range(9)], max_points=4)
    [(0, 0.0), (1, 0.0), (3, 1.0), (8, 0.0)]
    """
    values = [value for _, value in points]
    return [points[n] for n in kept_indexes(values, values, max_points)]


def kept_indexes(
    lows: Sequence[float], highs: Sequence[float], max_points: int = MAX_POINTS
) -> list[int]:
    """Return the indexes of the points of a long line that are drawn. A part that is a gap stays a gap.

    Args:
        lows: lower ends of the line at each step; nan for a gap.
        highs: upper ends.
        max_points: at least 4.
    """
    count = len(lows)
    if count <= max_points:
        return list(range(count))
    num_parts = (max_points - 2) // 2
    inner = count - 2
    kept = {0, count - 1}
    for part in range(num_parts):
        indexes = range(1 + part * inner // num_parts, 1 + (part + 1) * inner // num_parts)
        finite = [n for n in indexes if math.isfinite(lows[n])]
        kept |= (
            {min(finite, key=lows.__getitem__), max(finite, key=highs.__getitem__)}
            if finite
            else {indexes[0]}
        )
    return sorted(kept)


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _group_name(runs: Sequence[TrainingRun]) -> str:
    """Return the name of a group: what the names of its runs begin with."""
    if len(runs) == 1:
        return runs[0].name
    common = _common_start([run.name for run in runs]).rstrip("-_. /0123456789")
    common = re.sub(r"[-_. /]?seed$", "", common) or runs[0].name
    return f"{common} ({len(runs)} seeds)"


def _common_start(names: Sequence[str]) -> str:
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    return "".join(characters[0] for characters in same)
