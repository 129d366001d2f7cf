"""Metrics of each operation: calls, tokens, and how often a call helps or hurts.

calls                 calls of the operation, executed and rejected
executed, rejected
questions             questions with at least one executed call
accuracy              share of right answers to these questions
new_tokens_per_call   generated tokens of turns with a call of the operation, per call
result_tokens_per_call tokens that the results add to the prompt, per executed call
helped, hurt          share of executed calls after which a forced answer is right that was wrong before, or the reverse, with
                      95 % intervals (`evals.forced`); absent without forced answers
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pixel_reasoner.evals.intervals import intervals
from pixel_reasoner.schema.trace import CallErrorKind, StopReason, Trace, Turn


class ForcedPair(NamedTuple):
    """Whether forced answers before and after a call are right."""

    operation: str
    cluster: int
    before: bool
    after: bool


class OperationNumbers:
    """Incremental metrics of all operations of a run."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, trace: Trace, *, is_right: bool | None) -> None:
        """Add a trace.

        Args:
            trace: of an evaluation.
            is_right: whether its answer is right; None without a known answer.
        """
        if trace.stop is StopReason.FAILED:
            return
        used = set()
        for number, turn in enumerate(trace.turns):
            names = [*_names(turn)]
            following = trace.turns[number + 1] if number + 1 < len(trace.turns) else None
            for name, is_executed in names:
                counts = self._counts.setdefault(name, Counter())
                counts["calls"] += 1
                counts["executed" if is_executed else "rejected"] += 1
                self._add_tokens(counts, turn, following, len(names), is_executed=is_executed)
                if is_executed:
                    used.add(name)
        for name in used:
            self._counts[name]["questions"] += 1
            if is_right is not None:
                self._counts[name]["graded"] += 1
                self._counts[name]["right"] += is_right

    @staticmethod
    def _add_tokens(
        counts: Counter[str],
        turn: Turn,
        following: Turn | None,
        num_calls: int,
        *,
        is_executed: bool,
    ) -> None:
        """Count the tokens of a call; those of a turn with several calls are divided."""
        if turn.num_new_tokens is None:
            return
        counts["counted"] += 1
        counts["new_tokens_x1000"] += 1000 * turn.num_new_tokens // num_calls
        if is_executed and following is not None and turn.num_prompt_tokens:
            added = following.num_prompt_tokens - turn.num_prompt_tokens - turn.num_new_tokens
            counts["counted_results"] += 1
            counts["result_tokens_x1000"] += 1000 * max(0, added) // num_calls

    def result(self) -> dict[str, dict[str, Any]]:
        """Return the metrics of each operation, the most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda one: (-one[1]["calls"], one[0]))
        return {name: _metrics(counts) for name, counts in ordered}


def add_forced(
    by_operation: dict[str, dict[str, Any]], pairs: Iterable[ForcedPair]
) -> dict[str, dict[str, Any]]:
    """Return metrics of operations with those of forced answers."""
    columns: dict[str, tuple[array[float], array[float], array[int]]] = {}
    for pair in pairs:
        helped, hurt, clusters = columns.setdefault(
            pair.operation, (array("d"), array("d"), array("q"))
        )
        helped.append(pair.after and not pair.before)
        hurt.append(pair.before and not pair.after)
        clusters.append(pair.cluster)
    result = {name: dict(metrics) for name, metrics in by_operation.items()}
    for name, (helped, hurt, clusters) in columns.items():
        net = array("d", (one - other for one, other in zip(helped, hurt, strict=True)))
        found = intervals([helped, hurt, net], clusters, least=[0.0, 0.0, -1.0])
        for key, one in zip(("helped", "hurt", "net"), found, strict=True):
            assert one is not None, "there is a pair"
            result.setdefault(name, {})[key] = {"count": len(clusters), **one.as_dict()}
    return result


def _names(turn: Turn) -> Iterator[tuple[str, bool]]:
    """Yield the operation of each call of a turn, and whether it was executed."""
    calls = turn.calls
    for observation in turn.observations:
        if observation.error != CallErrorKind.THOUGHT_ONLY and observation.call < len(calls):
            yield calls[observation.call].name, observation.error is None


def _metrics(counts: Counter[str]) -> dict[str, Any]:
    return {
        "calls": counts["calls"],
        "executed": counts["executed"],
        "rejected": counts["rejected"],
        "questions": counts["questions"],
        "accuracy": _ratio(counts["right"], counts["graded"]),
        "new_tokens_per_call": _ratio(counts["new_tokens_x1000"] / 1000, counts["counted"]),
        "result_tokens_per_call": _ratio(
            counts["result_tokens_x1000"] / 1000, counts["counted_results"]
        ),
    }


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
