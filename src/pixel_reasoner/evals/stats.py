"""Figures of a run: pure functions of its traces.

accuracy              share of right answers; no answer counts as wrong
rapr                  share of traces with at least one executed operation (RaPR, arXiv 2505.15966)
evidence_hit_rate     share of questions with evidence that was looked at (`evidence_hit`)
operation_error_rate  share of calls that were refused
unparsed_rate         share without an answer
mean_operations       executed operations per trace
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pixel_reasoner.grading import Outcome, grade_trace
from pixel_reasoner.trace import Evidence, Stop, Trace

HIT_SHARE = 0.5
"""share of an evidence box that must lie inside one executed crop"""


def summarize(
    traces: Iterable[Trace], family_of: Callable[[Trace], str] | None = None
) -> dict[str, Any]:
    """All figures of a run, the same for questions that need a look and for those that do not.

    A question that could not be asked counts nowhere but under `failed`.

    Args:
        traces: of the run.
        family_of: for `by_family`, all figures for each family of questions.
    """
    everything = list(traces)
    asked = [trace for trace in everything if trace.stop is not Stop.FAILED]
    summary = {
        **_figures(asked),
        "stops": dict(Counter(str(trace.stop) for trace in asked)),
        "failed": {t.question.id: t.error for t in everything if t.stop is Stop.FAILED},
        "by_category": _by_category(asked),
    }
    if family_of is not None:
        families: dict[str, list[Trace]] = {}
        for trace in asked:
            families.setdefault(family_of(trace), []).append(trace)
        summary["by_family"] = {
            name: {**_figures(group), "by_category": _by_category(group)}
            for name, group in families.items()
        }
    return summary


def _by_category(asked: Sequence[Trace]) -> dict[str, Any]:
    groups = {
        "needs_look": [t for t in asked if t.question.needs_look is True],
        "overview": [t for t in asked if t.question.needs_look is False],
    }
    return {name: _figures(group) for name, group in groups.items() if group}


def evidence_hit(trace: Trace) -> bool | None:
    """Whether the evidence was looked at; None when the question has none.

    Boxes: each lies at least half inside one executed crop. Frames: each was selected, or zoomed into.
    """
    evidence = trace.question.evidence
    if evidence is None or not (evidence.boxes or evidence.frames):
        return None
    if evidence.frames:
        frames = {p.frame for seen in trace.executed for p in seen.pictures}
        return set(evidence.frames) <= frames
    return _boxes_hit(trace, evidence)


def _boxes_hit(trace: Trace, evidence: Evidence) -> bool:
    source = trace.all_pictures.get(evidence.image)
    if source is None:
        return False
    crops = [
        picture.box
        for seen in trace.executed
        for picture in seen.pictures
        if (picture.medium, picture.frame) == (source.medium, source.frame)
    ]
    return all(
        any(crop.intersection(box) >= HIT_SHARE * box.area for crop in crops)
        for box in evidence.boxes
    )


def _figures(traces: Sequence[Trace]) -> dict[str, Any]:
    grades = [grade for grade in map(grade_trace, traces) if grade is not None]
    hits = [hit for hit in map(evidence_hit, traces) if hit is not None]
    refused = sum(len(trace.refused) for trace in traces)
    executed = sum(len(trace.executed) for trace in traces)
    return {
        "count": len(traces),
        "accuracy": _share(grades, lambda grade: grade.outcome is Outcome.CORRECT),
        "rapr": _share(traces, lambda trace: bool(trace.executed)),
        "evidence_hit_rate": _share(hits, bool),
        "operation_error_rate": _ratio(refused, refused + executed),
        "unparsed_rate": _share(grades, lambda grade: grade.outcome is Outcome.UNPARSED),
        "mean_operations": _ratio(executed, len(traces)),
        "seconds_per_question": _ratio(sum(trace.seconds for trace in traces), len(traces)),
    }


def _share(things: Sequence[Any], is_so: Callable[[Any], bool]) -> float | None:
    """The share of things for which something is so; None of nothing."""
    return _ratio(sum(map(is_so, things)), len(things))


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
