"""Paired comparison of two runs over the same questions.

`compare` compares a run with operations to the same run without: gain and harm of operations. `compare_runs` compares
any two
runs, and lists the settings that differ. Traces are parsed one at a time; only a few numbers of each are kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.adaptivity import (
    HEIGHT_LABEL,
    Adaptivity,
    adaptivity_difference,
)
from pixel_reasoner.evals.intervals import intervals, sign_test
from pixel_reasoner.evals.stats import (
    FamilyOf,
    TraceNumbers,
    get_category,
    get_cluster,
    hash_number,
    row_of_trace,
)
from pixel_reasoner.files import diff_settings
from pixel_reasoner.rollout.strategies import SINGLE
from pixel_reasoner.runs.fingerprint import fingerprint
from pixel_reasoner.runs.folder import load_run, run_settings
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.grading import Outcome, Scorer, grade_reply

__all__ = ["Pair", "compare", "compare_runs", "diff_settings", "pair_traces", "run_settings"]


class Pair(NamedTuple):
    """Both traces of one question (and sample)."""

    first: Trace
    second: Trace


def compare(
    with_: Iterable[Trace],
    without: Iterable[Trace],
    scorer: Scorer = Scorer.TYPED,
    family_of: FamilyOf | None = None,
) -> dict[str, Any]:
    """Return metrics of the questions of both runs, with operations and without.

    with, without   mean score
    gain, harm      share of questions that are right only with operations, only without
    both, neither   share of questions that are right, wrong, in both runs
    difference      with minus without, with the p of a paired test; equals gain minus harm if scores are 0 or 1

    Each has `count`, `value` and a 95 % `interval`. `compared_by_category` contains the same per category, and
    `compared_by_family` per family of questions.
    """
    second = _Scores()
    for trace in without:
        second.add(trace, scorer)
    everything = PairMetrics()
    categories: dict[str, PairMetrics] = {}
    families: dict[str, PairMetrics] = {}
    for trace in with_:
        other = second.find(trace)
        if other is None or trace.stop is StopReason.FAILED:
            continue
        one, cluster = _score(trace, scorer), hash_number(get_cluster(trace.question))
        groups = [everything, categories.setdefault(get_category(trace), PairMetrics())]
        if family_of is not None:
            groups.append(families.setdefault(family_of(trace), PairMetrics()))
        if trace.question.answer:
            for group in groups:
                group.add(one, other, cluster)
    result = {**everything.result(), "compared_by_category": _named(categories)}
    if family_of is not None:
        result["compared_by_family"] = _named(families)
    return result


def _named(groups: dict[str, PairMetrics]) -> dict[str, dict[str, Any]]:
    return {name: group.result() for name, group in groups.items() if name}


def pair_traces(first: Iterable[Trace], second: Iterable[Trace]) -> list[Pair]:
    """Return pairs of traces of the same question and sample, in the order of the first run, without failed traces."""
    others = {(t.question.id, t.sample): t for t in second if t.stop is not StopReason.FAILED}
    return [
        Pair(trace, others[key])
        for trace in first
        if trace.stop is not StopReason.FAILED
        and (key := (trace.question.id, trace.sample)) in others
    ]


# --- numbers of pairs ---


class Score(NamedTuple):
    """Correctness of an answer, and its score in [0, 1]."""

    is_right: bool
    score: float


def _score(trace: Trace, scorer: Scorer) -> Score:
    grade = grade_reply(trace, scorer)
    if grade is None:
        return Score(False, 0.0)
    return Score(grade.outcome is Outcome.CORRECT, grade.score)


class _Scores:
    """Scores of a run, by question and sample."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.right, self.scores = array("b"), array("d")

    @staticmethod
    def _key(trace: Trace) -> int:
        return hash_number((trace.question.id, trace.sample))

    def add(self, trace: Trace, scorer: Scorer) -> None:
        """Add a trace. A failed trace is skipped."""
        if trace.stop is not StopReason.FAILED:
            score = _score(trace, scorer)
            self.places[self._key(trace)] = len(self.right)
            self.right.append(score.is_right)
            self.scores.append(score.score)

    def find(self, trace: Trace) -> Score | None:
        """Return the score of the same question and sample, or None."""
        place = self.places.get(self._key(trace))
        return None if place is None else Score(bool(self.right[place]), self.scores[place])


class PairMetrics:
    """Incremental metrics of pairs."""

    def __init__(self) -> None:
        self.clusters = array("q")
        self.shares = {
            name: array("d")
            for name in ("with", "without", "gain", "harm", "both", "neither", "difference")
        }

    def add(self, one: Score, other: Score, cluster: int) -> None:
        """Add the scores of one question in both runs."""
        self.clusters.append(cluster)
        values = {
            "with": one.score,
            "without": other.score,
            "gain": one.is_right and not other.is_right,
            "harm": other.is_right and not one.is_right,
            "both": one.is_right and other.is_right,
            "neither": not one.is_right and not other.is_right,
            "difference": one.score - other.score,
        }
        for name, value in values.items():
            self.shares[name].append(value)

    def result(self) -> dict[str, Any]:
        """Return the metrics."""
        least = [-1.0 if name == "difference" else 0.0 for name in self.shares]
        found = intervals(list(self.shares.values()), self.clusters, least=least)
        result: dict[str, Any] = {
            name: {"count": 0, "value": None, "interval": None}
            if one is None
            else {"count": len(self.clusters), **one.as_dict()}
            for name, one in zip(self.shares, found, strict=True)
        }
        p = sign_test(self.shares["difference"], self.clusters)
        result["difference"]["p"] = round(p, 4)
        return result


# --- any two runs ---


def compare_runs(
    first: Path, second: Path, scorer: Scorer = Scorer.TYPED, *, anyway: bool = False
) -> dict[str, Any]:
    """Return the differences of two runs: the metrics of `compare`, with `first` as `with` and `second` as `without`, and the settings.

    Raises:
        InputError: not a run, or no common question.
        UsageError: the runs have different questions, and `anyway` is not set.
    """
    settings = _with_strategy(run_settings(first)), _with_strategy(run_settings(second))
    if not anyway and _asked(first) != _asked(second):
        raise _other_questions(first, second)
    metrics = compare(load_run(first), load_run(second), scorer)
    if not metrics["with"]["count"]:
        raise InputError(
            expected="questions that both runs contain",
            got=f"none in {first} and {second}",
            fix="compare two runs of one task",
        )
    adaptive = _adaptivity(first, scorer), _adaptivity(second, scorer)
    difference = adaptivity_difference(*adaptive)
    if difference is not None:
        runs = dict(zip(("first", "second"), (one.result() for one in adaptive), strict=True))
        metrics["adaptivity"] = {**runs, "difference": difference}
    return {
        "first": str(first),
        "second": str(second),
        "scorer": str(scorer),
        "differing": diff_settings(*settings),
        **metrics,
    }


def _adaptivity(run: Path, scorer: Scorer) -> Adaptivity:
    found = Adaptivity()
    for trace in load_run(run):
        if HEIGHT_LABEL not in trace.question.labels or trace.stop is StopReason.FAILED:
            continue
        row = row_of_trace(trace, TraceNumbers.of(trace, scorer))
        if row is not None:
            found.add(row)
    return found


def _asked(run: Path) -> list[str]:
    """Return the fingerprints of a run's questions, sorted, so that equal lists mean equal questions."""
    return sorted(fingerprint([trace.question]) for trace in load_run(run))


def _other_questions(first: Path, second: Path) -> UsageError:
    ours, theirs = ({trace.question.id for trace in load_run(path)} for path in (first, second))
    return UsageError(
        expected="two runs with the same questions",
        got=f"{len(ours - theirs)} only in {first}, {len(theirs - ours)} only in {second},"
        f" {len(ours & theirs)} in both",
        fix="compare runs of the same task, split and limit; --anyway compares the common questions",
    )


def _with_strategy(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that name their strategy. A run with one rollout per answer does not record it."""
    return {**settings, "task": {"strategy": SINGLE, **settings.get("task", {})}}
