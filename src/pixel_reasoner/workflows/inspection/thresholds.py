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
_HIGH_OVERKILL = 0.2
"""share of rejected good photos from which the thresholds get a warning"""
_DIGITS = 4


class ChosenThresholds(NamedTuple):
    """A decision with the rates that it had on the validation photos."""

    decision: Decision
    miss: Rate
    overkill: Rate
    num_golden: int = 0
    """validation photos that are golden pictures too: their scores are too small"""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the thresholds may be of no use for other photos, one sentence each."""
        found = []
        overkill = self.overkill.value
        max_miss_rate = self.decision.max_miss_rate
        if max_miss_rate and max_miss_rate * self.miss.total < 1:
            more = "" if overkill is None else f"; overkill {overkill:.0%}"
            found.append(
                f"{self.miss.total} defective photos are too few for a miss rate of {max_miss_rate:.1%}: "
                f"the one with the smallest score decides{more}. Use at least {math.ceil(1 / max_miss_rate)}"
            )
        elif overkill is not None and overkill > _HIGH_OVERKILL:
            found.append(
                f"overkill {overkill:.0%}: these defects and good photos have similar scores. Allow a larger miss "
                "rate, add golden pictures, or let a model decide"
            )
        if self.num_golden:
            found.append(
                f"{self.num_golden} of these photos are golden pictures: their scores are too small, and so is the "
                "overkill. Name another --split"
            )
        return tuple(found)


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
        quantile = ordered[math.ceil(_GOOD_QUANTILE * len(ordered)) - 1]
        threshold = round(_GOOD_FACTOR * quantile, _DIGITS)
        origin = f"{source}: {len(good)} good photos and no defective ones: provisional"
    look_from = min(threshold, max(round(_LOOK_SHARE * threshold, _DIGITS), 1e-9))
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
