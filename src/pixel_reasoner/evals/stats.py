"""Figures of a run: pure functions of its traces.

accuracy              share of right answers; no answer counts as wrong; with a 95 % interval (`intervals`)
score                 mean score, the figure of benchmarks that give half marks (ANLS); elsewhere it is the accuracy
rapr                  share of traces with at least one executed operation (RaPR, arXiv 2505.15966)
evidence_hit_rate     share of questions with evidence that was looked at (`evidence_hit`)
mean_iou              of evidence boxes with what was looked at (`iou`); the second figure of TreeBench
operation_error_rate  share of calls that were refused
unparsed_rate         share without an answer
mean_operations       executed operations per trace
new_tokens_per_question, seconds_per_question
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any

from pixel_reasoner.evals.intervals import interval
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.evidence import (
    evidence_hit,
    iou,
)
from pixel_reasoner.scoring.grading import Outcome, Scorer, grade_reply


def summarize(
    traces: Iterable[Trace],
    family_of: Callable[[Trace], str] | None = None,
    scorer: Scorer = Scorer.TYPED,
) -> dict[str, Any]:
    """All figures of a run, and the same by kind of question.

    A question that could not be asked counts nowhere but under `failed`.

    Args:
        traces: of the run.
        family_of: for `by_family`, all figures for each family of questions.
        scorer: who compares answers.
    """
    everything = list(traces)
    asked = [trace for trace in everything if trace.stop is not StopReason.FAILED]
    summary = {
        **figures(asked, scorer),
        "stops": dict(Counter(str(trace.stop) for trace in asked)),
        "failed": {t.question.id: t.error for t in everything if t.stop is StopReason.FAILED},
        "by_category": _by(asked, category_of, scorer),
    }
    if family_of is not None:
        families = _groups(asked, family_of)
        summary["by_family"] = {
            name: {**figures(group, scorer), "by_category": _by(group, category_of, scorer)}
            for name, group in families.items()
        }
    labels = dict.fromkeys(name for trace in asked for name in trace.question.labels)
    if labels:
        summary["by_label"] = {name: _by(asked, partial(_label, name), scorer) for name in labels}
    if cycles := summary.get("by_label", {}).get("cycle"):
        accuracies = [cycle["accuracy"] for cycle in cycles.values()]
        summary["cyclic_accuracy"] = round(cyclic_accuracy(accuracies), 4)
    if any(trace.sample for trace in asked):
        groups = _groups(asked, category_of)
        told = {name: repeats(group, scorer) for name, group in groups.items() if name}
        summary["repeats"] = {**repeats(asked, scorer), "by_category": told}
    return summary


def cyclic_accuracy(accuracies: Sequence[float]) -> float:
    """HR-Bench's own figure: the mean of the accuracies within each cycle of the options.

    >>> cyclic_accuracy([0.5, 0.7, 0.6, 0.6])
    0.6
    """
    return statistics.fmean(accuracies)


def repeats(traces: Sequence[Trace], scorer: Scorer = Scorer.TYPED) -> dict[str, Any]:
    """Of questions that were asked k times: avg@k, the mean accuracy, and pass@k, the share with a right answer among k."""
    samples = _groups(traces, lambda trace: trace.question.id)
    right = {name: [is_correct(trace, scorer) for trace in one] for name, one in samples.items()}
    clusters = [cluster_of(one[0].question) for one in samples.values()]
    average = interval([statistics.fmean(answers) for answers in right.values()], clusters)
    passed = interval([float(any(answers)) for answers in right.values()], clusters)
    assert average is not None, "there is a trace"
    assert passed is not None, "there is a trace"
    k = max(len(answers) for answers in right.values())
    return {"k": k, f"avg@{k}": average.told, f"pass@{k}": passed.told}


def is_correct(trace: Trace, scorer: Scorer = Scorer.TYPED) -> bool:
    """Whether a trace's answer is right for a scorer."""
    found = grade_reply(trace, scorer)
    return found is not None and found.outcome is Outcome.CORRECT


def category_of(trace: Trace) -> str:
    """Whether a question needs a look, where that is known; else its category."""
    question = trace.question
    if question.needs_look is not None:
        return "needs_look" if question.needs_look else "overview"
    return question.category


def _label(name: str, trace: Trace) -> str:
    return trace.question.labels.get(name, "")


def cluster_of(question: Question) -> Hashable:
    """What questions share that makes them depend on each other: their group, or else their media."""
    return question.group or tuple((medium.path, medium.start_s) for medium in question.media)


def _groups(traces: Iterable[Trace], name_of: Callable[[Trace], str]) -> dict[str, list[Trace]]:
    groups: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        groups[name_of(trace)].append(trace)
    return groups


def _by(
    traces: Sequence[Trace], name_of: Callable[[Trace], str], scorer: Scorer
) -> dict[str, dict[str, Any]]:
    groups = _groups(traces, name_of)
    first = [name for name in ("needs_look", "overview") if name in groups]
    names = [*first, *(name for name in groups if name and name not in first)]
    return {name: figures(groups[name], scorer) for name in names}


# --- figures ---


def figures(traces: Sequence[Trace], scorer: Scorer = Scorer.TYPED) -> dict[str, Any]:
    """The figures of some traces."""
    graded = [(t, grade) for t in traces if (grade := grade_reply(t, scorer)) is not None]
    clusters = [cluster_of(trace.question) for trace, _ in graded]
    right = [float(grade.outcome is Outcome.CORRECT) for _, grade in graded]
    scores = [grade.score for _, grade in graded]
    sure, score = interval(right, clusters), interval(scores, clusters)
    hits = [hit for hit in map(evidence_hit, traces) if hit is not None]
    ious = [one for one in map(iou, traces) if one is not None]
    refused = sum(len(trace.rejected) for trace in traces)
    executed = sum(len(trace.executed) for trace in traces)
    tokens = sum(len(turn.token_ids) for trace in traces for turn in trace.turns)
    return {
        "count": len(traces),
        "accuracy": _ratio(sum(right), len(right)),
        "accuracy_interval": sure and sure.told["interval"],
        "score": _ratio(sum(scores), len(scores)),
        "score_interval": score and score.told["interval"],
        "rapr": _ratio(sum(bool(trace.executed) for trace in traces), len(traces)),
        "evidence_hit_rate": _ratio(sum(hits), len(hits)),
        "mean_iou": _ratio(sum(ious), len(ious)),
        "operation_error_rate": _ratio(refused, refused + executed),
        "unparsed_rate": _ratio(
            sum(grade.outcome is Outcome.UNPARSED for _, grade in graded), len(graded)
        ),
        "mean_operations": _ratio(executed, len(traces)),
        "new_tokens_per_question": _ratio(tokens, len(traces)),
        "seconds_per_question": _ratio(sum(trace.seconds for trace in traces), len(traces)),
    }


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
