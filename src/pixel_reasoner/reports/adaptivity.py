"""Adaptivity in reports: use of operations and accuracy against the height of the evidence, and control conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixel_reasoner.reports.schema import (
    Cell,
    Chart,
    ChartsSection,
    Column,
    Metric,
    MetricsSection,
    Section,
    Series,
    TableSection,
)
from pixel_reasoner.reports.summary import AdaptivityMetrics, Estimate, RunSummary

TITLE = "Does it look because of the pixels?"
_CHART = (
    "Same wordings and scenes; only the height of the decisive characters changes. Left of the step of the dashed line the "
    "overview is illegible. A model that looks because of the pixels follows the dashed line with its use of operations; a "
    "flat line is a habit. Shaded: 95 % interval."
)
_METRICS: Mapping[str, tuple[str, str]] = {
    "rapr_unreadable": (
        "RaPR where needed",
        "Share of questions with an operation where the overview is illegible.",
    ),
    "rapr_readable": (
        "RaPR where not needed",
        "Share of questions with an operation although the overview shows the answer.",
    ),
    "rapr_difference": (
        "difference of RaPR",
        "RaPR where needed minus RaPR where not needed. 1 is perfect; 0 means that legibility has no influence.",
    ),
    "mcc": (
        "MCC of use and need",
        "Matthews correlation of using an operation with the renderer's label of need: 1 is perfect, 0 is chance or a "
        "model that always or never looks.",
    ),
    "right_at_once": (
        "right at once",
        "Share of readable questions that are right without an operation.",
    ),
}
_HIGHER = ("rapr_unreadable", "rapr_difference", "mcc", "right_at_once")
_SCORES = {
    "where": "Share of positions inside the shape that was asked for.",
    "not_there": "Score where the right answer is that nothing is there.",
    "parts": "Mean F1 of boxes at an IoU of 0.3.",
    "moments": "Mean IoU of the answered and the true span of frames.",
}


def adaptivity_sections(
    summary: RunSummary, without: AdaptivityMetrics | None = None
) -> list[Section]:
    """Return chart, metrics and controls of a run; nothing for runs without heights of their evidence.

    Args:
        summary: of the run.
        without: metrics of the same questions without operations, for the second curve of accuracy.
    """
    sections: list[Section] = []
    found = summary.adaptivity
    if found is not None:
        runs = [("", found, without)]
        sections += [_chart_section(runs), _metrics_section(found, without)]
    if summary.controls:
        sections.append(_controls(summary))
    return sections


def compared_sections(
    names: Sequence[str], metrics: Sequence[AdaptivityMetrics], difference: Mapping[str, Estimate]
) -> list[Section]:
    """Return the chart of two runs, and the table of their paired differences."""
    runs = [(f"{name}: ", one, None) for name, one in zip(names, metrics, strict=True)]
    first, second = metrics
    rows: list[tuple[Cell, ...]] = [
        (
            title,
            _value(first, name),
            _value(second, name),
            difference[name].value,
            difference[name].interval,
        )
        for name, (title, _) in _METRICS.items()
        if name in difference
    ]
    table = TableSection(
        title=f"Adaptivity: {names[0]} against {names[1]}",
        columns=(
            Column(title="metric"),
            *(Column(title=name, format="share") for name in names),
            Column(title="difference", format="share"),
            Column(title="95 % of the difference", format="interval"),
        ),
        rows=tuple(rows),
        explanation="Paired: both runs share the draws of the bootstrap.",
    )
    return [_chart_section(runs), table]


# --- the chart ---


def _chart_section(
    runs: Sequence[tuple[str, AdaptivityMetrics, AdaptivityMetrics | None]],
) -> ChartsSection:
    heights = sorted({point.height for _, one, _ in runs for point in one.curve})
    place = {height: float(index) for index, height in enumerate(heights)}
    series: list[Series] = []
    for number, (name, one, without) in enumerate(runs):
        series.append(_series(f"{name}uses an operation", one, "rapr", place, 2 * number + 1, 0))
        series.append(_series(f"{name}right", one, "accuracy", place, 2 * number, 2))
        if without is not None:
            series.append(
                _series("right without operations", without, "accuracy", place, 2 * number + 2, 3)
            )
    series.append(_ideal(runs[0][1], place))
    chart = Chart(
        title="Use of operations and accuracy by height of the evidence",
        kind="line",
        x_title="height of the evidence in the overview, in pixels",
        y_title="share of questions",
        x_labels=tuple(f"{height:g} px" for height in heights),
        series=tuple(series),
        bottom=0,
        top=1,
        explanation=" ".join((*(_in_words(name, one) for name, one, _ in runs), _CHART)),
    )
    return ChartsSection(title=TITLE, charts=(chart,))


def _series(
    name: str,
    metrics: AdaptivityMetrics,
    column: str,
    place: Mapping[float, float],
    group: int,
    dash: int,
) -> Series:
    points = [point for point in metrics.curve if point.height in place]
    shares: list[Estimate] = [getattr(point, column) for point in points]
    # Only the use of operations has a band: several bands would hide each other.
    has_band = column == "rapr"
    return Series(
        name=name,
        x=tuple(place[point.height] for point in points),
        y=tuple(one.value for one in shares),
        low=tuple(_end(one, 0) for one in shares) if has_band else (),
        high=tuple(_end(one, 1) for one in shares) if has_band else (),
        group=group,
        dash=dash,
    )


def _end(one: Estimate, index: int) -> float | None:
    return one.interval[index] if one.interval else None


def _ideal(metrics: AdaptivityMetrics, place: Mapping[float, float]) -> Series:
    """Return the use of operations that the labels of need ask for."""
    points = [point for point in metrics.curve if point.needed is not None]
    return Series(
        name="needs one (renderer)",
        x=tuple(place[point.height] for point in points),
        y=tuple(point.needed for point in points),
        group=7,
        dash=1,
    )


def _in_words(name: str, metrics: AdaptivityMetrics) -> str:
    """Return the result of the chart as a sentence."""
    needed, unneeded = metrics.rapr_unreadable.value or 0.0, metrics.rapr_readable.value or 0.0
    return (
        f"{name}An operation is used in {needed:.0%} of the questions that need one, and in {unneeded:.0%} of those that "
        "do not."
    )


# --- numbers ---


def _value(metrics: AdaptivityMetrics, name: str) -> float | None:
    one: Estimate = getattr(metrics, name)
    return one.value


def _metrics_section(found: AdaptivityMetrics, without: AdaptivityMetrics | None) -> MetricsSection:
    metrics = []
    for name, (title, text) in _METRICS.items():
        one: Estimate = getattr(found, name)
        better = "higher" if name in _HIGHER else "lower"
        metrics.append(_metric(title, one, text, better=better))
    half = "where a logistic fit over the logarithm of the height crosses 50 %"
    crossings = [("use crosses 50 % at", found.use_crossing_px, f"Height {half}, in pixels.")]
    name = "accuracy crosses 50 % at"
    crossings.append((name, found.accuracy_crossing_px, f"Height {half}, in pixels."))
    if without is not None:
        text = f"Height {half} without operations: up to here looking is necessary for this model."
        crossings.append((f"{name}, without", without.accuracy_crossing_px, text))
    for title, one, text in crossings:
        if one.value is not None:
            metrics.append(_metric(title, one, text, is_share=False))
    if found.twins is not None:
        text = "Share of pairs that differ in one detail, and whose answers are both right."
        metrics.append(_metric("twins both right", found.twins.both_right, text, better="higher"))
        text = "Share of these pairs with the same answer: what changed was not seen."
        metrics.append(_metric("twins, same answer", found.twins.same_answer, text, better="lower"))
    for name, one in found.scores.items():
        text = _SCORES.get(name, "Mean score.")
        metrics.append(_metric(name.replace("_", " "), one, text, better="higher"))
    return MetricsSection(
        title="Adaptivity",
        metrics=tuple(metrics),
        explanation="Questions whose evidence has a known height in the overview. The need of an operation is a label of the "
        "renderer, not of a model.",
    )


def _metric(
    name: str, one: Estimate, explanation: str, *, better: str = "", is_share: bool = True
) -> Metric:
    return Metric(
        name=name,
        value=one.value,
        interval=one.interval,
        format="share" if is_share else "number",
        better=better,
        explanation=explanation,
    )


_CONTROLS = {
    "forbidden": "no operations",
    "forced": "an answer before any operation is rejected",
    "random-crop": "operations show random regions of equal size",
    "blank": "results of operations are grey",
    "oracle": "the evidence is shown first",
    "tiling": "tiles with the pixels of one crop, no operations",
}


def _controls(summary: RunSummary) -> TableSection:
    rows: list[tuple[Cell, ...]] = [
        (
            "the run",
            "the model decides",
            summary.accuracy,
            summary.rapr,
            _mega_px(summary.picture_px_per_question),
            None,
            None,
            None,
        )
    ]
    for name, one in summary.controls.items():
        difference = one.difference
        rows.append(
            (
                name,
                _CONTROLS.get(name, ""),
                one.accuracy,
                one.rapr,
                _mega_px(one.picture_px_per_question),
                difference.value,
                difference.interval,
                difference.p,
            )
        )
    return TableSection(
        title="Control conditions",
        columns=(
            Column(title="condition"),
            Column(title="what is changed"),
            Column(title="accuracy", format="share", better="higher"),
            Column(title="RaPR", format="share"),
            Column(
                title="megapixels",
                format="number",
                explanation="pictures in the context per question; proportional to visual tokens",
            ),
            Column(title="run minus control", format="share"),
            Column(title="95 % of the difference", format="interval"),
            Column(title="p", format="number"),
        ),
        rows=tuple(rows),
        explanation="The same questions, one property changed. Random crops and grey results should cost as much as no "
        "operations; if they cost nothing, the pixels of the crops do not matter.",
    )


def _mega_px(value: float | None) -> float | None:
    return None if value is None else round(value / 1e6, 4)
