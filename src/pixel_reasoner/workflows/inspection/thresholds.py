"""Thresholds from a validation split that contains defects, for a stated miss rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.workflows.inspection.metrics import Rate, rate
from pixel_reasoner.workflows.inspection.spec import Decision

_GOOD_QUANTILE = 0.95
_GOOD_FACTOR = 1.42
"""with good photos only: threshold divided by a high quantile of their scores"""
_LOOK_SHARE = 0.8
"""places are proposed from this share of the lower threshold"""


class ChosenThresholds(NamedTuple):
    """A decision with the rates that it had on the validation photos."""

    decision: Decision
    miss: Rate
    overkill: Rate


def choose_thresholds(
    good: Sequence[float],
    defective: Sequence[float],
    max_miss_rate: float,
    source: str,
    base: Decision | None = None,
) -> ChosenThresholds:
    """Return the largest threshold that misses at most a share of the defective photos.

    Args:
        good: scores of good photos.
        defective: scores of defective photos. Without any, the threshold is provisional: a high quantile of the good.
        max_miss_rate: 0 to 1.
        source: where the photos are from, for `origin`.
        base: other values of the decision.

    Raises:
        InputError: no scores at all.

    >>> found = choose_thresholds([0.5, 0.9], [1.2, 1.5, 2.0, 4.0], 0.25, "validation")
    >>> found.decision.defect_from, found.miss.hits, found.overkill.hits
    (1.5, 1, 0)
    """
    base = base or Decision()
    if not good and not defective:
        raise InputError(
            expected="scores of validation photos",
            got="none: no photo could be compared",
            fix="check references and photos",
        )
    if defective:
        ordered = sorted(defective)
        # With a threshold at the n-th smallest score, n photos are missed.
        threshold = ordered[min(len(ordered) - 1, math.floor(max_miss_rate * len(ordered)))]
        origin = f"{source}: {len(defective)} defective, {len(good)} good, at most {max_miss_rate:.1%} missed"
    else:
        ordered = sorted(good)
        threshold = _GOOD_FACTOR * ordered[math.ceil(_GOOD_QUANTILE * len(ordered)) - 1]
        origin = f"{source}: {len(good)} good photos and no defective ones: provisional"
    look_from = min(threshold, max(_LOOK_SHARE * threshold, 1e-9))
    decision = base.model_copy(
        update={
            "defect_from": float(threshold),
            "look_from": float(look_from),
            "max_miss_rate": max_miss_rate if defective else None,
            "origin": origin,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    missed = sum(score < threshold for score in defective)
    rejected = sum(score >= threshold for score in good)
    return ChosenThresholds(decision, rate(missed, len(defective)), rate(rejected, len(good)))
