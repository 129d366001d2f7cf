"""Cluster-based confidence intervals of means, and a paired test of two runs.

Rows that share a picture, a video or a cycle are not independent, so the bootstrap draws whole clusters. Everything is
seeded, and
clusters are sorted by their values before drawing: a result depends only on the multiset of (value, cluster), not on
the order
of the rows or the names of the clusters.

Conventions
    *_C     one value per cluster, sorted
    *_B     one value per bootstrap draw
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 2000
SIGN_TEST_DRAWS = 10_000
_Z = 1.959964
_MAX_DRAWN = 4_000_000
"""maximum numbers per batch of draws, to bound memory; the batch size does not change the numbers"""


class Interval(NamedTuple):
    """Mean and its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, object]:
        """Return the interval as a summary entry, rounded to four digits."""
        return {
            "value": round(self.value, 4),
            "interval": [round(self.low, 4), round(self.high, 4)],
        }


def interval(
    values: Sequence[float], clusters: Sequence[Hashable], *, least: float = 0.0, seed: int = 0
) -> Interval | None:
    """Return the mean of values with a 95 % cluster bootstrap interval; None without values.

    Bootstrap percentiles are too narrow for few clusters: they are widened by Student's t and by the bias of a
    variance. If all
    values are the same 0 or 1, a bootstrap has no spread: the result is then the exact (Clopper-Pearson) interval for
    the
    number of clusters.

    Args:
        values: one per row, in [least, 1].
        clusters: cluster of each row.
        least: 0 for shares and scores, -1 for their differences.
        seed: seed of the bootstrap.

    >>> interval([1, 0, 1, 1] * 25, range(100)).as_dict()
    {'value': 0.75, 'interval': [0.6686, 0.8314]}
    >>> interval([1] * 20, range(20)).as_dict()
    {'value': 1.0, 'interval': [0.8316, 1.0]}
    """
    return intervals([values], clusters, least=[least], seed=seed)[0]


def intervals(
    columns: Sequence[Sequence[float]],
    clusters: Sequence[Hashable],
    *,
    least: Sequence[float] | None = None,
    seed: int = 0,
) -> list[Interval | None]:
    """Return `interval` of several columns of values over the same rows. All columns share the draws.

    >>> intervals([[1, 0], [1, 1]], ["a", "b"])[0] == interval([1, 0], ["a", "b"])
    True
    """
    if not len(clusters):
        return [None for _ in columns]
    least = least or [0.0] * len(columns)
    numbers = _cluster_numbers(clusters)
    totals = [_cluster_totals(values, numbers) for values in columns]
    num = len(totals[0].sums_C) if totals else 0
    drawn = _bootstrap(totals, num, seed) if num > 1 and _vary(columns) else []
    found: list[Interval | None] = []
    for column, (values, (sums_C, counts_C)) in enumerate(zip(columns, totals, strict=True)):
        mean = float(sums_C.sum() / counts_C.sum())
        if min(values) == max(values):
            found.append(_of_equal_values(mean, num, least[column]))
        elif num == 1:
            found.append(Interval(mean, least[column], 1.0))
        else:
            found.append(_widened(mean, drawn[column], num, least[column]))
    return found


class _Totals(NamedTuple):
    """Sum of the values and number of rows of each cluster, sorted by both."""

    sums_C: np.ndarray
    counts_C: np.ndarray


def _cluster_totals(values: Sequence[float], numbers: np.ndarray) -> _Totals:
    """Return the cluster totals of one column. `numbers` are the cluster numbers of the rows."""
    column = np.asarray(values, dtype=float)
    order = np.lexsort((column, numbers))  # a sum of floats depends on the order of its terms
    sums_C = np.bincount(numbers[order], column[order])
    counts_C = np.bincount(numbers).astype(float)
    order = np.lexsort((counts_C, sums_C))
    return _Totals(sums_C[order], counts_C[order])


def _vary(columns: Sequence[Sequence[float]]) -> bool:
    return any(min(values) != max(values) for values in columns)


def _bootstrap(totals: Sequence[_Totals], num: int, seed: int) -> list[np.ndarray]:
    """Return means_B of each column, from the same draws of `num` clusters."""
    rng = np.random.default_rng(seed)
    shares_C = np.full(num, 1 / num)
    parts: list[list[np.ndarray]] = [[] for _ in totals]
    for size in _parts(DRAWS, num):
        drawn_BC = rng.multinomial(num, shares_C, size=size)
        for part, (sums_C, counts_C) in zip(parts, totals, strict=True):
            part.append((drawn_BC @ sums_C) / (drawn_BC @ counts_C))
    return [np.concatenate(part) for part in parts]


def _parts(draws: int, num: int) -> Iterator[int]:
    """Yield batch sizes that add up to `draws`, each small enough for memory."""
    at_once = max(1, _MAX_DRAWN // num)
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)


def _widened(mean: float, means_B: np.ndarray, num: int, least: float) -> Interval:
    low, high = np.quantile(means_B, [0.025, 0.975])
    factor = _student(num - 1) / _Z * math.sqrt(num / (num - 1))
    return Interval(
        mean,
        max(least, mean - factor * (mean - float(low))),
        min(1.0, mean + factor * (float(high) - mean)),
    )


def sign_test(
    differences: Sequence[float],
    clusters: Sequence[Hashable],
    seed: int = 0,
    draws: int = SIGN_TEST_DRAWS,
) -> float:
    """Return the two-sided p of a paired test with random signs per cluster.

    It is the share of draws whose mean difference is at least as far from 0 as the observed difference.

    >>> sign_test([0.0] * 10, range(10))
    1.0
    >>> sign_test([1.0] * 10, range(10)) < 0.01
    True
    """
    if not len(differences):
        return 1.0
    sums_C = _cluster_totals(differences, _cluster_numbers(clusters)).sums_C
    # Signs are random, so the signs of the sums do not matter: the test is exactly two-sided.
    sizes_C = np.sort(np.abs(sums_C[sums_C != 0]))
    if not len(sizes_C):
        return 1.0
    observed, rng, as_far = abs(sums_C.sum()), np.random.default_rng(seed), 0
    for size in _parts(draws, len(sizes_C)):
        signs_BC = rng.choice([-1.0, 1.0], size=(size, len(sizes_C)))
        as_far += int((np.abs(signs_BC @ sizes_C) >= observed - 1e-9).sum())
    return float((1 + as_far) / (1 + draws))


def _cluster_numbers(clusters: Sequence[Hashable]) -> np.ndarray:
    """Return the number of each row's cluster."""
    if isinstance(clusters, array):  # avoids a dict for very many rows
        return np.unique(np.asarray(clusters), return_inverse=True)[1]
    index = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([index[cluster] for cluster in clusters])


def _of_equal_values(mean: float, num: int, least: float) -> Interval:
    reach = 1 - 0.025 ** (1 / num)
    return Interval(mean, max(least, mean - reach), min(1.0, mean + reach))


def _student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5)."""
    z, n = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
