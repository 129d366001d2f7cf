"""Metrics of a run: pure functions of its traces, in constant memory per trace.

accuracy              share of right answers; a missing answer counts as wrong; with a 95 % interval (`intervals`)
score                 mean score, the metric of benchmarks with partial scores (ANLS); otherwise equal to the accuracy
rapr                  share of traces with at least one executed operation (RaPR, arXiv 2505.15966)
evidence_hit_rate     share of questions with evidence whose evidence an operation showed (`evidence_hit`)
mean_iou              mean IoU of evidence boxes and zoomed regions (`iou`); second metric of TreeBench
operation_error_rate  share of rejected calls
repaired_rate         share of calls that were executed after a repair (`schema.repairs`); `repaired_by_kind` divides it
strict_accuracy       accuracy if answers after a repaired call counted as wrong: what a strict run reaches at least
unparsed_rate         share of traces without an answer
mean_operations       executed operations per trace
tokens_per_question   prompt and generated tokens of all rollouts of an answer; a prompt counts once per rollout
new_tokens_per_question, visual_tokens_per_question, rollouts_per_question, seconds_per_question
ece                   expected calibration error of the confidence of a strategy (`scoring.confidence`)
by_operation          calls, tokens and effect of each operation (`evals.operations`)

Traces are parsed one at a time: only a few numbers of each are kept for the bootstrap.
"""

from __future__ import annotations

import hashlib
import statistics
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pixel_reasoner.evals.adaptivity import (
    HEIGHT_LABEL,
    Adaptivity,
    AdaptivityRow,
    adaptivity_row,
)
from pixel_reasoner.evals.intervals import intervals
from pixel_reasoner.evals.operations import OperationNumbers
from pixel_reasoner.rollout.usage import answer_usage
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.repairs import Repair, num_malformed_calls
from pixel_reasoner.schema.strategy import Usage
from pixel_reasoner.schema.trace import CallErrorKind, StopReason, Trace, Turn
from pixel_reasoner.scoring.confidence import (
    expected_calibration_error,
    reliability,
    trace_confidence,
)
from pixel_reasoner.scoring.evidence import evidence_hit, iou
from pixel_reasoner.scoring.extraction import extract_trace_answer
from pixel_reasoner.scoring.grading import Grade, Outcome, Scorer, grade_reply
from pixel_reasoner.scoring.voting import AnswerGroups, majority

FamilyOf = Callable[[Trace], str]
FIRST_CATEGORIES = ("needs_look", "overview")


def summarize(
    traces: Iterable[Trace],
    family_of: FamilyOf | None = None,
    scorer: Scorer = Scorer.TYPED,
) -> dict[str, Any]:
    """Return all metrics of a run, in total and by category, family and label.

    A failed question counts only in `failed`.

    Args:
        traces: traces of the run; iterated once.
        family_of: returns the family of a trace, for `by_family`.
        scorer: comparison of answers.
    """
    summary = _Summary(family_of, scorer)
    for trace in traces:
        summary.add(trace)
    return summary.result()


def cyclic_accuracy(accuracies: Sequence[float]) -> float:
    """Return the official metric of HR-Bench: the mean of the accuracies within each cycle of the options.

    >>> cyclic_accuracy([0.5, 0.7, 0.6, 0.6])
    0.6
    """
    return statistics.fmean(accuracies)


def repeats(traces: Iterable[Trace], scorer: Scorer = Scorer.TYPED) -> dict[str, Any]:
    """Return avg@k, maj@k and pass@k of questions with k samples.

    avg@k is the mean accuracy; maj@k is the accuracy of the most frequent answer, the first of equal ones; pass@k is the
    share of questions with at least one right answer among k.
    """
    metrics, votes = Metrics(), Votes()
    for trace in traces:
        metrics.add(TraceNumbers.of(trace, scorer), votes.number(trace))
    return metrics.repeats()


def is_correct(trace: Trace, scorer: Scorer = Scorer.TYPED) -> bool:
    """Return whether the answer of a trace is right."""
    found = grade_reply(trace, scorer)
    return found is not None and found.outcome is Outcome.CORRECT


def get_category(trace: Trace) -> str:
    """Return whether a question needs an operation, if known, or else its category."""
    question = trace.question
    if question.needs_look is not None:
        return "needs_look" if question.needs_look else "overview"
    return question.category


def get_cluster(question: Question) -> Hashable:
    """Return the cluster of dependent questions: their group, or else their media."""
    return question.group or tuple((item.path, item.start_s) for item in question.media)


def hash_number(value: Hashable) -> int:
    """Return a 64-bit hash of a value, for arrays."""
    digest = hashlib.blake2b(repr(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def row_of_trace(trace: Trace, numbers: TraceNumbers) -> AdaptivityRow | None:
    """Return the numbers of a trace for `evals.adaptivity`; None if its question has no height of its evidence."""
    if HEIGHT_LABEL not in trace.question.labels:
        return None
    grade = numbers.grade
    is_right = grade is not None and grade.outcome is Outcome.CORRECT
    return adaptivity_row(
        trace.question,
        numbers.cluster,
        (is_right, grade.score if grade is not None else 0.0),
        numbers.num_executed,
        trace.answer or "",
    )


# --- one group of traces ---


_NO_CALLS = (CallErrorKind.THOUGHT_ONLY, CallErrorKind.OPERATION_REQUIRED)
"""errors of turns without a call"""


class TraceNumbers(NamedTuple):
    """Numbers of one trace for the metrics."""

    question: int
    cluster: int
    grade: Grade | None
    hit: bool | None
    iou: float | None
    num_rejected: int
    num_executed: int
    num_new_tokens: int | None
    """None if a server did not report them"""
    seconds: float
    repaired: tuple[tuple[str, ...], ...] = ()
    """kinds of repairs of each repaired call"""
    is_strict: bool = True
    """whether a strict run is identical: no repair and no continued thought"""
    usage: Usage = Usage()
    """of all rollouts of the answer"""
    confidence: float | None = None
    """of the strategy, calibrated if it was; None without one"""

    @classmethod
    def of(cls, trace: Trace, scorer: Scorer) -> TraceNumbers:
        """Return the numbers of a trace."""
        return cls(
            hash_number(trace.question.id),
            hash_number(get_cluster(trace.question)),
            grade_reply(trace, scorer),
            evidence_hit(trace),
            iou(trace),
            sum(one.error not in _NO_CALLS for one in trace.rejected),
            num_executed(trace),
            _num_new_tokens(trace),
            trace.seconds,
            tuple(_kinds(turn.repairs) for turn in trace.turns if turn.repairs),
            not any(map(_is_lenient, trace.turns)),
            answer_usage(trace),
            trace_confidence(trace) if trace.strategy is not None else None,
        )


class Metrics:
    """Incremental metrics of a group of traces."""

    def __init__(self) -> None:
        self.questions, self.clusters = array("q"), array("q")
        self.correct = array("b")
        """one value per trace; False for a question without a known answer"""
        self.graded_clusters, self.graded, self.scores = array("q"), array("b"), array("d")
        """one value per trace with a known answer"""
        self.ious, self.seconds = array("d"), array("d")
        self.counts: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        """repaired calls by kind"""
        self.votes = array("q")
        """one value per trace: group of equal answers of its question (`Votes`), -1 without an answer"""
        self.confidences, self.confident = array("d"), array("b")
        """confidence of each graded answer that has one, and whether it is right"""

    def add(self, numbers: TraceNumbers, vote: int = -1) -> None:
        """Add a trace."""
        grade, counts = numbers.grade, self.counts
        is_right = grade is not None and grade.outcome is Outcome.CORRECT
        self.questions.append(numbers.question)
        self.clusters.append(numbers.cluster)
        self.correct.append(is_right)
        self.seconds.append(numbers.seconds)
        self.votes.append(vote)
        usage = numbers.usage
        counts["tokens"] += usage.prompt_tokens + usage.new_tokens
        counts["visual_tokens"] += usage.visual_tokens
        counts["rollouts"] += usage.num_rollouts
        if grade is not None and numbers.confidence is not None:
            self.confidences.append(numbers.confidence)
            self.confident.append(is_right)
        if grade is not None:
            self.graded_clusters.append(numbers.cluster)
            self.graded.append(is_right)
            self.scores.append(grade.score)
            counts["unparsed"] += grade.outcome is Outcome.UNPARSED
        if numbers.hit is not None:
            counts["evidence"] += 1
            counts["hits"] += numbers.hit
        if numbers.iou is not None:
            self.ious.append(numbers.iou)
        counts["right_strictly"] += is_right and grade is not None and numbers.is_strict
        counts["repaired"] += len(numbers.repaired)
        self.repairs.update(kind for kinds in numbers.repaired for kind in kinds)
        counts["rejected"] += numbers.num_rejected
        counts["executed"] += numbers.num_executed
        counts["with_operation"] += numbers.num_executed > 0
        if numbers.num_new_tokens is not None:
            counts["counted"] += 1
            counts["new_tokens"] += numbers.num_new_tokens

    def result(self) -> dict[str, Any]:
        """Return the metrics."""
        num, counts = len(self.questions), self.counts
        num_calls = counts["rejected"] + counts["executed"]
        accuracy, score = intervals([self.graded, self.scores], self.graded_clusters)
        return {
            "count": num,
            "accuracy": _ratio(sum(self.graded), len(self.graded)),
            "accuracy_interval": accuracy and accuracy.as_dict()["interval"],
            "score": _ratio(sum(self.scores), len(self.scores)),
            "score_interval": score and score.as_dict()["interval"],
            "rapr": _ratio(counts["with_operation"], num),
            "evidence_hit_rate": _ratio(counts["hits"], counts["evidence"]),
            "mean_iou": _ratio(sum(self.ious), len(self.ious)),
            "operation_error_rate": _ratio(counts["rejected"], num_calls),
            "repaired_rate": _ratio(counts["repaired"], num_calls),
            "repaired_by_kind": {
                kind: _ratio(count, num_calls) for kind, count in sorted(self.repairs.items())
            },
            "strict_accuracy": _ratio(counts["right_strictly"], len(self.graded)),
            "unparsed_rate": _ratio(counts["unparsed"], len(self.graded)),
            "mean_operations": _ratio(counts["executed"], num),
            "new_tokens_per_question": _ratio(
                counts["new_tokens"], counts["counted"] if counts["new_tokens"] else 0
            ),
            "tokens_per_question": _ratio(counts["tokens"], num if counts["tokens"] else 0),
            "visual_tokens_per_question": _ratio(
                counts["visual_tokens"], num if counts["visual_tokens"] else 0
            ),
            "rollouts_per_question": _ratio(counts["rollouts"], num),
            "seconds_per_question": _ratio(sum(self.seconds), num),
            "ece": expected_calibration_error(self.confidences, self.confident),
        }

    def repeats(self) -> dict[str, Any]:
        """Return avg@k, maj@k and pass@k (`repeats`); requires at least one trace."""
        _, first, inverse = np.unique(
            np.asarray(self.questions), return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # questions in order of first appearance
        asked = np.bincount(inverse)[order]
        right = np.bincount(inverse, np.asarray(self.correct))[order]
        clusters = array("q", np.asarray(self.clusters)[first[order]].tolist())
        means, passes = right / asked, (right > 0).astype(float)
        wins = np.array([float(one) for one in self._majorities(inverse.tolist())])[order]
        k = int(asked.max())
        found = intervals([means, wins, passes], clusters)  # type: ignore[list-item]
        named = zip((f"avg@{k}", f"maj@{k}", f"pass@{k}"), found, strict=True)
        return {"k": k, **{name: one.as_dict() for name, one in named if one is not None}}

    def _majorities(self, numbers: Sequence[int]) -> list[bool]:
        """Return whether the most frequent answer of each question is right, by the number of the question."""
        traces: dict[int, list[int]] = {}
        for trace, number in enumerate(numbers):
            traces.setdefault(number, []).append(trace)
        found = []
        for number in range(len(traces)):
            votes = [self.votes[one] if self.votes[one] >= 0 else None for one in traces[number]]
            winner = majority(votes)
            chosen = traces[number][votes.index(winner)]
            found.append(winner is not None and bool(self.correct[chosen]))
        return found


class Votes:
    """Numbers of groups of equal answers of each question (`scoring.voting`)."""

    def __init__(self) -> None:
        self._groups: dict[int, AnswerGroups] = {}

    def number(self, trace: Trace) -> int:
        """Return the group of the answer of a trace, -1 without an answer."""
        key = hash_number(trace.question.id)
        if key not in self._groups:
            question = trace.question
            slim = Question(
                id="",
                text=question.text,
                media=(),
                answer_type=question.answer_type,
                options=question.options,
            )
            self._groups[key] = AnswerGroups(slim)
        found = self._groups[key].add(extract_trace_answer(trace))
        return -1 if found is None else found


def num_executed(trace: Trace) -> int:
    """Return the number of operations that the model executed; those of a strategy are not counted."""
    turns = (turn for turn in trace.turns if not turn.scripted)
    return sum(one.error is None for turn in turns for one in turn.observations)


def _num_new_tokens(trace: Trace) -> int | None:
    if trace.strategy is not None:
        return trace.strategy.usage.new_tokens
    numbers = [turn.num_new_tokens for turn in trace.turns]
    return None if None in numbers else sum(number or 0 for number in numbers)


def _kinds(repairs: Iterable[Repair]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one.kind) for one in repairs))


def _is_lenient(turn: Turn) -> bool:
    """Return whether a strict run continues differently after this turn."""
    has_thought = any(one.error == CallErrorKind.THOUGHT_ONLY for one in turn.observations)
    return has_thought or num_malformed_calls(turn.repairs) > 0


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


# --- a run ---


class Groups(dict[str, Metrics]):
    """Metrics by name, in order of first appearance."""

    def add(self, name: str, numbers: TraceNumbers, vote: int = -1) -> None:
        """Add a trace to a group."""
        self.setdefault(name, Metrics()).add(numbers, vote)

    def result(self) -> dict[str, dict[str, Any]]:
        """Return the metrics of each named group, starting with the groups by need of an operation."""
        first = [name for name in FIRST_CATEGORIES if name in self]
        names = [*first, *(name for name in self if name and name not in first)]
        return {name: self[name].result() for name in names}


class _Summary:
    """Incremental metrics of a run."""

    def __init__(self, family_of: FamilyOf | None, scorer: Scorer) -> None:
        self.family_of, self.scorer = family_of, scorer
        self.all, self.categories, self.families = Metrics(), Groups(), Groups()
        self.family_categories: dict[str, Groups] = {}
        self.labels: dict[str, Groups] = {}
        self.stops: Counter[str] = Counter()
        self.failed: dict[str, str | None] = {}
        self.votes = Votes()
        self.has_repeats = False
        self.adaptivity = Adaptivity()
        self.operations = OperationNumbers()

    def add(self, trace: Trace) -> None:
        if trace.stop is StopReason.FAILED:
            self.failed[trace.question.id] = trace.error
            return
        numbers, category = TraceNumbers.of(trace, self.scorer), get_category(trace)
        self.stops[str(trace.stop)] += 1
        self.has_repeats |= bool(trace.sample)
        vote = self.votes.number(trace)
        self.all.add(numbers, vote)
        grade = numbers.grade
        is_right = None if grade is None else grade.outcome is Outcome.CORRECT
        self.operations.add(trace, is_right=is_right)
        self.categories.add(category, numbers, vote)
        if self.family_of is not None:
            family = self.family_of(trace)
            self.families.add(family, numbers)
            self.family_categories.setdefault(family, Groups()).add(category, numbers)
        for name, value in trace.question.labels.items():
            self.labels.setdefault(name, Groups()).add(value, numbers)
        row = row_of_trace(trace, numbers)
        if row is not None:
            self.adaptivity.add(row)

    def result(self) -> dict[str, Any]:
        summary = {
            **self.all.result(),
            "stops": dict(self.stops),
            "failed": self.failed,
            "by_category": self.categories.result(),
        }
        if by_operation := self.operations.result():
            summary["by_operation"] = by_operation
        if self.family_of is not None:
            summary["by_family"] = {
                name: {**group.result(), "by_category": self.family_categories[name].result()}
                for name, group in self.families.items()
            }
        if self.labels:
            summary["by_label"] = {name: groups.result() for name, groups in self.labels.items()}
        if cycles := summary.get("by_label", {}).get("cycle"):
            accuracies = [cycle["accuracy"] for cycle in cycles.values()]
            summary["cyclic_accuracy"] = round(cyclic_accuracy(accuracies), 4)
        adaptivity = self.adaptivity.result()
        if adaptivity is not None:
            summary["adaptivity"] = adaptivity
        if len(self.all.confidences):
            bins = reliability(self.all.confidences, self.all.confident)
            summary["reliability"] = [one._asdict() for one in bins]
        if self.has_repeats:
            summary["repeats"] = {
                **self.all.repeats(),
                "by_category": _repeats_by_name(self.categories),
            }
        return summary


def _repeats_by_name(groups: Mapping[str, Metrics]) -> dict[str, dict[str, Any]]:
    return {name: group.repeats() for name, group in groups.items() if name}
