"""Metrics of a run as sections of a report: numbers with intervals and explanations, and a table by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from pixel_reasoner.reports.facets import EFFECT
from pixel_reasoner.reports.schema import (
    Cell,
    Column,
    Metric,
    MetricsSection,
    TableSection,
)
from pixel_reasoner.reports.summary import (
    Interval,
    Metrics,
    PairMetrics,
    Repeats,
    RunSummary,
    Share,
)
from pixel_reasoner.schema.repairs import EXPLANATIONS as REPAIR_TEXTS

Format = Literal["share", "number", "count"]
Better = Literal["", "higher", "lower"]


class MetricInfo(NamedTuple):
    """Title, direction and meaning of a metric."""

    title: str
    explanation: str
    format: Format = "share"
    better: Better = ""
    facets: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """filter of the traces that it counts"""


METRICS: dict[str, MetricInfo] = {
    "count": MetricInfo(
        "questions", "Questions that were answered. Failed requests are not counted.", "count"
    ),
    "accuracy": MetricInfo(
        "accuracy",
        "Share of questions with a right answer. A missing answer counts as wrong.",
        better="higher",
        facets={"outcome": ("right",)},
    ),
    "score": MetricInfo(
        "score",
        "Mean score, for benchmarks that give partial scores (ANLS).",
        better="higher",
    ),
    "without": MetricInfo(
        "without operations",
        "Score of the same model on the same questions when it may use no operation.",
        better="higher",
    ),
    "gain": MetricInfo(
        "gain",
        "Share of questions that are right only with operations: fixed by looking again.",
        better="higher",
        facets={EFFECT: ("gain",)},
    ),
    "harm": MetricInfo(
        "harm",
        "Share of questions that are right only without operations: broken by looking again.",
        better="lower",
        facets={EFFECT: ("harm",)},
    ),
    "difference": MetricInfo(
        "difference",
        "Score with operations minus score without. The interval is paired.",
        better="higher",
    ),
    "rapr": MetricInfo(
        "RaPR",
        "Share of questions with at least one executed operation (rate of pixel-space reasoning).",
        facets={"calls": ("executed",)},
    ),
    "evidence_hit_rate": MetricInfo(
        "evidence shown",
        "Share of questions with annotated evidence whose evidence an operation showed.",
        better="higher",
        facets={"evidence": ("shown",)},
    ),
    "mean_iou": MetricInfo(
        "mean IoU",
        "Mean overlap (intersection over union) of the evidence boxes with the regions that were zoomed into.",
        better="higher",
        facets={"evidence": ("shown", "not shown")},
    ),
    "operation_error_rate": MetricInfo(
        "rejected calls",
        "Share of calls that were rejected, for example because of an invalid box.",
        better="lower",
        facets={"calls": ("rejected",)},
    ),
    "repaired_rate": MetricInfo(
        "repaired calls",
        "Share of calls that were malformed and executed after a repair, because their meaning was certain. "
        "A strict run rejects them.",
        better="lower",
    ),
    "strict_accuracy": MetricInfo(
        "accuracy without repairs",
        "Accuracy if answers after a repaired call counted as wrong. A run with --strict reaches at least this value: "
        "there, the model reads an error and can correct the call itself.",
        better="higher",
    ),
    "unparsed_rate": MetricInfo(
        "unparsed",
        "Share of questions without an answer that could be extracted. They count as wrong.",
        better="lower",
        facets={"outcome": ("unparsed",)},
    ),
    "mean_operations": MetricInfo(
        "operations", "Mean number of executed operations per question.", "number"
    ),
    "rollouts_per_question": MetricInfo(
        "rollouts",
        "Mean number of rollouts per answer: more than one for a strategy.",
        "number",
        "lower",
    ),
    "tokens_per_question": MetricInfo(
        "tokens",
        "Mean number of prompt and generated tokens per answer, of all rollouts. A prompt counts once per rollout.",
        "number",
        "lower",
    ),
    "visual_tokens_per_question": MetricInfo(
        "visual tokens",
        "Mean number of tokens of pictures per answer, of all rollouts, from their sizes in the prompt.",
        "number",
        "lower",
    ),
    "ece": MetricInfo(
        "ECE",
        "Expected calibration error: mean difference of confidence and accuracy, over ten intervals of the confidence.",
        better="lower",
    ),
    "new_tokens_per_question": MetricInfo(
        "new tokens",
        "Mean number of generated tokens per question, in all turns.",
        "number",
        "lower",
    ),
    "seconds_per_question": MetricInfo(
        "seconds",
        "Mean time per question. It depends on the hardware and on the number of concurrent questions.",
        "number",
        "lower",
    ),
}
"""all metrics of a group, in the order of the columns"""
_INTERVALS = {"accuracy": "accuracy_interval", "score": "score_interval"}
_PAIRED = ("without", "gain", "harm", "difference")
INTERVAL = "95 %"


class Group(NamedTuple):
    """A row of the table."""

    name: str
    metrics: Metrics
    compared: PairMetrics | None = None


def metrics_section(summary: RunSummary) -> MetricsSection:
    """Return the metrics of all questions."""
    return MetricsSection(
        title="Metrics",
        metrics=(*_metrics(Group("all", summary, summary)), *_more(summary)),
        explanation="Intervals are 95 % intervals of a bootstrap over clusters of questions with the same "
        "picture, so they are wider than intervals that treat all questions as independent.",
    )


def groups_section(summary: RunSummary) -> TableSection:
    """Return the table of metrics by family, category and label: one row per group of questions."""
    groups = list(_groups(summary))
    names = [name for name in METRICS if any(_value(one, name) is not None for one in groups)]
    if not _has_scores(groups):
        names = [name for name in names if name != "score"]
    columns = [Column(title="group"), *(column for name in names for column in _columns(name))]
    rows = [(one.name, *(cell for name in names for cell in _cells(one, name))) for one in groups]
    return TableSection(
        title="Metrics by kind of question",
        columns=tuple(columns),
        rows=tuple(rows),
        explanation="Click on the title of a column to sort by it. Groups with few questions have wide intervals: "
        "compare the intervals before the values.",
    )


def _has_scores(groups: list[Group]) -> bool:
    """Return whether a score differs from an accuracy: there are partial scores."""
    return any(one.metrics.score != one.metrics.accuracy for one in groups)


# --- all questions ---


def _metrics(group: Group) -> Iterator[Metric]:
    for name, info in METRICS.items():
        value = _value(group, name)
        if value is None or name == "count" or (name == "score" and not _has_scores([group])):
            continue
        yield Metric(
            name=info.title,
            value=value,
            interval=_interval(group, name),
            format=info.format,
            better=info.better,
            explanation=info.explanation + _test(group, name),
            facets=dict(info.facets),
        )


def _test(group: Group, name: str) -> str:
    if name != "difference" or group.compared is None:
        return ""
    return f" Paired test: p = {group.compared.difference.p:g}."


def _more(summary: RunSummary) -> Iterator[Metric]:
    """Yield metrics that only some runs have."""
    if summary.repeats is not None:
        yield from _repeats(summary.repeats)
    for kind, share in summary.repaired_by_kind.items():
        if share:
            text = REPAIR_TEXTS.get(kind, "a repair of a newer version")  # type: ignore[call-overload]
            yield Metric(
                name=f"repaired: {kind}",
                value=share,
                better="lower",
                explanation=f"Share of calls with this repair: {text}.",
            )
    if summary.cyclic_accuracy is not None:
        yield Metric(
            name="cyclic accuracy",
            value=summary.cyclic_accuracy,
            better="higher",
            explanation="Mean of the accuracies within each cycle of the options, the official metric of HR-Bench.",
        )
    if summary.recovery_rate is not None:
        yield Metric(
            name="recovery",
            value=summary.recovery_rate,
            better="higher",
            explanation=f"Share of right answers to {summary.disturbed} questions that were answered right with an "
            "operation before, when the first crop is replaced by one that misses the evidence.",
        )
    if summary.failed:
        yield Metric(
            name="failed requests",
            value=len(summary.failed),
            format="count",
            better="lower",
            explanation="Requests without a result. They count in no other metric.",
            facets={"stop": ("failed",)},
        )


def _repeats(repeats: Repeats) -> Iterator[Metric]:
    k = repeats.k
    for name, share, text in (
        ("avg", repeats.average, f"Mean accuracy of {k} answers per question."),
        ("maj", repeats.voted, f"Accuracy of the most frequent answer among {k}."),
        ("pass", repeats.passed, f"Share of questions with at least one right answer among {k}."),
    ):
        if share is not None and share.value is not None:
            yield Metric(
                name=f"{name}@{k}",
                value=share.value,
                interval=share.interval,
                better="higher",
                explanation=text,
            )


# --- groups ---


def _groups(summary: RunSummary) -> Iterator[Group]:
    yield Group("all", summary, summary)
    for name, metrics in summary.by_family.items():
        yield Group(name, metrics, summary.compared_by_family.get(name))
    for name, metrics in summary.by_category.items():
        yield Group(name, metrics, summary.compared_by_category.get(name))
    for label, groups in summary.by_label.items():
        for name, metrics in groups.items():
            yield Group(f"{label} {name}", metrics)


def _share(group: Group, name: str) -> Share | None:
    if group.compared is None or group.compared.gain is None:
        return None
    share: Share = getattr(group.compared, name)
    return share


def _value(group: Group, name: str) -> float | None:
    if name in _PAIRED:
        share = _share(group, name)
        return None if share is None else share.value
    value: float | None = getattr(group.metrics, name)
    return value


def _interval(group: Group, name: str) -> Interval | None:
    if name in _PAIRED:
        share = _share(group, name)
        return None if share is None else share.interval
    interval: Interval | None = getattr(group.metrics, _INTERVALS.get(name, ""), None)
    return interval


def _has_interval(name: str) -> bool:
    return name in _INTERVALS or name in _PAIRED


def _columns(name: str) -> Iterator[Column]:
    info = METRICS[name]
    yield Column(
        title=info.title, format=info.format, better=info.better, explanation=info.explanation
    )
    if _has_interval(name):
        # The first interval belongs to the accuracy; the others repeat the title of their metric.
        title = INTERVAL if name == "accuracy" else f"{INTERVAL} of {info.title}"
        yield Column(title=title, format="interval", explanation=f"95 % interval of {info.title}.")


def _cells(group: Group, name: str) -> Iterator[Cell]:
    yield _value(group, name)
    if _has_interval(name):
        yield _interval(group, name)
