"""Confidence in an answer: its probability under the model, calibrated to the share of right answers.

A calibration is a monotone function, fitted by isotonic regression on answers whose grade is known. Its quality is the
expected calibration error (ECE) on other questions.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import Field, FiniteFloat, NonNegativeInt, model_validator

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.files import reason, write_bytes
from pixel_reasoner.schema.record import VersionedRecord
from pixel_reasoner.schema.trace import Trace, Turn

ANSWER_TOKENS = 64
"""generated tokens at the end of a reply whose probability is the confidence. The words before a boxed answer decide it: the
box repeats them with a probability near 1 (measured: dev/LOG.md)"""
NUM_BINS = 10
"""bins of equal width of a reliability diagram and of the ECE"""
_PRIOR = 1.0
"""right and wrong answers that are added to each level, so that no confidence is exactly 0 or 1"""


def answer_probability(turn: Turn, num_tokens: int = ANSWER_TOKENS) -> float | None:
    """Return the probability of the last generated tokens of a reply; None without log-probabilities.

    >>> from array import array
    >>> round(answer_probability(Turn(text="red", logprobs=array("f", [-0.1, -0.2]))), 3)
    0.741
    """
    last = turn.logprobs[-num_tokens:]
    return min(1.0, math.exp(sum(last))) if last else None


def trace_confidence(trace: Trace) -> float | None:
    """Return the confidence of a trace: calibrated, of its strategy, or the probability of its answer. None if unknown."""
    if trace.answer is None:
        return None
    if trace.strategy is not None:
        record = trace.strategy
        return record.confidence if record.calibrated is None else record.calibrated
    return answer_probability(trace.turns[-1]) if trace.turns else None


class ReliabilityBin(NamedTuple):
    """Answers with a confidence in one interval."""

    low: float
    high: float
    num_answers: int
    confidence: float
    """mean confidence"""
    accuracy: float


def reliability(confidences: Sequence[float], correct: Sequence[int]) -> list[ReliabilityBin]:
    """Return the bins of a reliability diagram that have answers.

    >>> reliability([0.95, 0.91, 0.2], [True, False, False])[1]
    ReliabilityBin(low=0.9, high=1.0, num_answers=2, confidence=0.93, accuracy=0.5)
    """
    bins: list[list[tuple[float, int]]] = [[] for _ in range(NUM_BINS)]
    for confidence, is_right in zip(confidences, correct, strict=True):
        bins[min(NUM_BINS - 1, int(confidence * NUM_BINS))].append((confidence, is_right))
    return [
        ReliabilityBin(
            number / NUM_BINS,
            (number + 1) / NUM_BINS,
            len(one),
            round(sum(value for value, _ in one) / len(one), 4),
            round(sum(right for _, right in one) / len(one), 4),
        )
        for number, one in enumerate(bins)
        if one
    ]


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[int]
) -> float | None:
    """Return the ECE: the mean of |accuracy - confidence| over the bins, weighted by answers. None without answers.

    Source: Guo et al., arXiv 1706.04599, equation 3.

    >>> expected_calibration_error([1.0, 1.0], [True, False])
    0.5
    """
    if not confidences:
        return None
    bins = reliability(confidences, correct)
    gaps = sum(one.num_answers * abs(one.accuracy - one.confidence) for one in bins)
    return round(gaps / len(confidences), 4)


class Calibration(VersionedRecord):
    """Monotone function from raw to calibrated confidence, for one strategy.

    >>> fitted = fit_calibration([0.5, 0.9, 0.9, 0.9], [False, True, True, True], strategy="majority_vote")
    >>> round(fitted.apply(0.5), 2), round(fitted.apply(0.9), 2), fitted.apply(0.7) == fitted.apply(0.5)
    (0.33, 0.8, True)
    """

    record_name: ClassVar[str] = "calibration"

    strategy: str
    """name and options of the strategy whose confidence it calibrates"""
    thresholds: tuple[FiniteFloat, ...]
    """smallest raw confidence of each level, in ascending order"""
    values: tuple[FiniteFloat, ...]
    """calibrated confidence of each level"""
    num_answers: NonNegativeInt = 0
    """answers that it was fitted on"""
    ece_before: FiniteFloat | None = None
    """ECE of the raw confidence on these answers"""
    data: str = ""
    """fingerprint of their questions"""
    model: str = Field(default="")
    """name and fingerprint of the model"""

    @model_validator(mode="after")
    def _check(self) -> Calibration:
        if not self.thresholds or len(self.thresholds) != len(self.values):
            raise ValueError("thresholds and values must have the same length of at least 1")
        if list(self.thresholds) != sorted(self.thresholds) or list(self.values) != sorted(
            self.values
        ):
            raise ValueError("thresholds and values must ascend")
        if not all(0 <= value <= 1 for value in self.values):
            raise ValueError("values must be between 0 and 1")
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of its content, for the settings of a run."""
        return hashlib.sha256(self.to_line().encode()).hexdigest()[:16]

    def apply(self, confidence: float) -> float:
        """Return the calibrated confidence."""
        level = bisect_right(self.thresholds, confidence + 1e-9) - 1
        return self.values[max(0, level)]

    def check_strategy(self, strategy: str, path: Path) -> None:
        """Raise an error for another strategy than the one that it was fitted for.

        Raises:
            UsageError: another strategy or other options.
        """
        if strategy != self.strategy:
            raise UsageError(
                expected=f"--strategy {self.strategy} with --calibration {path}, which was fitted for it",
                got=f"--strategy {strategy}",
                fix="use that strategy, or fit another file with `eval --fit-calibration`",
            )


def fit_calibration(
    confidences: Sequence[float], correct: Sequence[int], *, strategy: str, **origin: str
) -> Calibration:
    """Fit a monotone function by isotonic regression (pool adjacent violators).

    Args:
        confidences: raw confidence of each answer, with at least one answer.
        correct: whether each answer is right.
        strategy: name and options of the strategy.
        **origin: `data` and `model` of the answers.
    """
    pools: list[list[float]] = []  # smallest confidence, right answers, answers
    for confidence, is_right in sorted(zip(confidences, correct, strict=True)):
        if pools and pools[-1][0] == confidence:
            pools[-1][1] += is_right
            pools[-1][2] += 1
        else:
            pools.append([confidence, float(is_right), 1.0])
    merged: list[list[float]] = []
    for pool in pools:
        merged.append(pool)
        while len(merged) > 1 and _share(merged[-2]) >= _share(merged[-1]):
            _, right, count = merged.pop()
            merged[-1][1] += right
            merged[-1][2] += count
    return Calibration(
        strategy=strategy,
        thresholds=tuple(pool[0] for pool in merged),
        values=tuple(sorted(_share(pool) for pool in merged)),
        num_answers=len(confidences),
        ece_before=expected_calibration_error(confidences, correct),
        **origin,
    )


def _share(pool: Sequence[float]) -> float:
    return (pool[1] + _PRIOR) / (pool[2] + 2 * _PRIOR)


def load_calibration(path: Path) -> Calibration:
    """Return the calibration of a file.

    Raises:
        InputError: the file cannot be read, or is no calibration.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            expected="--calibration with a file of `eval --fit-calibration`",
            got=f"{path}: {reason(error)}",
            fix="write one with `pixel-reasoner eval ... --fit-calibration FILE`",
        ) from error
    return Calibration.from_line(text)


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON.

    Raises:
        OutputError: the path cannot be written.
    """
    write_bytes(f"{calibration.to_line()}\n".encode(), path)
