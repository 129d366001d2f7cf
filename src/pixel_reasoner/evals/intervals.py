"""How sure a figure is: bootstrap intervals of means, and a paired test of two runs; both by clusters.

Rows that share a picture, a video or a cycle are not independent: whole clusters are drawn, not rows. Everything is seeded: the same
values give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 2000
_Z = 1.959964


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def told(self) -> dict[str, object]:
        """As it stands in a summary."""
        return {
            "value": round(self.value, 4),
            "interval": [round(self.low, 4), round(self.high, 4)],
        }


def interval(
    values: Sequence[float], clusters: Sequence[Hashable], *, least: float = 0.0, seed: int = 0
) -> Interval | None:
    """The mean of values with a 95 % cluster bootstrap interval; None of no values.

    Percentiles of the bootstrap are too narrow where clusters are few: they are widened by Student's t and by the bias of a variance. Where all
    values are the same 0 or 1 a bootstrap sees no spread at all: then it is the exact interval of as many clusters (Clopper and Pearson).

    Args:
        values: one a row, in [least, 1].
        clusters: the cluster of each row.
        least: 0 for shares and scores, -1 for differences of them.
        seed: of the bootstrap.

    >>> interval([1, 0, 1, 1] * 25, range(100)).told
    {'value': 0.75, 'interval': [0.6584, 0.8314]}
    >>> interval([1] * 20, range(20)).told
    {'value': 1.0, 'interval': [0.8316, 1.0]}
    """
    if not len(values):
        return None
    sums_C, counts_C = _by_cluster(np.asarray(values, dtype=float), clusters)
    num = len(sums_C)
    mean = float(sums_C.sum() / counts_C.sum())
    if min(values) == max(values):
        return _of_equals(mean, num, least)
    if num == 1:
        return Interval(mean, least, 1.0)
    drawn_BC = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=DRAWS)
    means_B = (drawn_BC @ sums_C) / (drawn_BC @ counts_C)
    low, high = np.quantile(means_B, [0.025, 0.975])
    wider = _student(num - 1) / _Z * math.sqrt(num / (num - 1))
    return Interval(
        mean,
        max(least, mean - wider * (mean - float(low))),
        min(1.0, mean + wider * (float(high) - mean)),
    )


def sign_test(
    differences: Sequence[float], clusters: Sequence[Hashable], seed: int = 0, draws: int = 10_000
) -> float:
    """P of a paired test, two-sided: how often differences of random sign, cluster by cluster, are as far from 0 in the mean.

    >>> sign_test([0.0] * 10, range(10))
    1.0
    >>> sign_test([1.0] * 10, range(10)) < 0.01
    True
    """
    if not len(differences):
        return 1.0
    sums_C, _ = _by_cluster(np.asarray(differences, dtype=float), clusters)
    sums_C = sums_C[sums_C != 0]
    if not len(sums_C):
        return 1.0
    seen = abs(sums_C.sum())
    signs_BC = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, len(sums_C)))
    as_far = np.abs(signs_BC @ sums_C) >= seen - 1e-9
    return float((1 + as_far.sum()) / (1 + draws))


def _by_cluster(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of values in each cluster."""
    index = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    numbers = np.array([index[cluster] for cluster in clusters])
    return np.bincount(numbers, values), np.bincount(numbers).astype(float)


def _of_equals(mean: float, num: int, least: float) -> Interval:
    reach = 1 - 0.025 ** (1 / num)
    return Interval(mean, max(least, mean - reach), min(1.0, mean + reach))


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5)."""
    z, n = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
