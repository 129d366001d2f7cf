"""Confidence intervals: nominal coverage, by clusters and not by rows."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.evals import intervals
from pixel_reasoner.evals.intervals import Interval, interval, sign_test

VALUES = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=40)


def simulated(rng, clusters: int, size: int, share: float, alike: float) -> tuple[list, list]:
    """Draw right and wrong answers in clusters of different accuracy (beta-binomial, intra-class correlation `alike`)."""
    shares = np.full(clusters, share)
    if alike:
        spread = (1 - alike) / alike
        shares = rng.beta(share * spread, (1 - share) * spread, clusters)
    values = rng.random((clusters, size)) < shares[:, None]
    names = np.repeat(np.arange(clusters), size)
    return values.astype(float).ravel().tolist(), names.tolist()


DESIGNS = [
    (40, 1, 0.5, 0.0),
    (60, 4, 0.8, 0.5),
    (100, 4, 0.9, 0.5),
    (100, 1, 0.9, 0.0),
    (200, 4, 0.7, 0.9),
]


@pytest.fixture
def few_draws(monkeypatch):
    """Use a quarter of the draws in tests with hundreds of intervals."""
    monkeypatch.setattr(intervals, "DRAWS", 500)


@pytest.mark.medium
def test_intervals_of_clustered_accuracies_have_their_nominal_coverage(few_draws):
    rng = np.random.default_rng(7)
    hits = []
    for clusters, size, share, alike in DESIGNS:
        for _ in range(100):
            found = interval(*simulated(rng, clusters, size, share, alike))
            hits.append(found.low <= share <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.medium
def test_intervals_without_clusters_are_far_too_narrow(few_draws):
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(60):
        values, _ = simulated(rng, 60, 8, 0.7, 0.8)
        found = interval(values, range(len(values)))
        hits.append(found.low <= 0.7 <= found.high)
    assert np.mean(hits) < 0.75


@given(VALUES, st.data())
def test_an_interval_contains_its_mean_and_stays_in_range(values, data):
    clusters = data.draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    found = interval(values, clusters)
    assert found.value == pytest.approx(np.mean(values))
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1


@given(VALUES)
def test_the_names_of_clusters_do_not_matter(values):
    names = [f"row {number}" for number in range(len(values))]
    there = interval(values, names)
    assert interval(values, range(len(values))) == there
    assert interval(values, array("q", (hash(name) for name in names))) == there


ROWS = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.1, 0.2, 0.3, 1.0]), st.integers(0, 9)),
    min_size=1,
    max_size=60,
)


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_a_result_depends_only_on_the_multiset_of_values_and_clusters(rows, rng):
    def results(rows):
        values, clusters = zip(*rows, strict=True)
        return *interval(values, clusters, least=-1.0), sign_test(values, clusters)

    mixed = rng.sample(rows, len(rows))
    assert results(mixed) == pytest.approx(results(rows), abs=1e-12)
    renamed = [(value, f"cluster {-cluster}") for value, cluster in mixed]
    assert results(renamed) == pytest.approx(results(rows), abs=1e-12)


def test_a_reversed_run_has_the_same_interval():
    values = [0, 0, 0, 1, 0, 0, 1]
    assert interval(values, range(7)) == interval(values[::-1], range(7))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_clusters_may_be_an_array(clusters):
    values = [number % 2 for number in range(len(clusters))]
    assert interval(values, array("q", clusters)) == interval(values, clusters)
    assert sign_test(values, array("q", clusters)) == sign_test(values, clusters)


@pytest.mark.parametrize("most", [1, 700, 10_000])
def test_draws_in_parts_equal_draws_at_once(most, monkeypatch):
    values, clusters = [n % 3 / 2 for n in range(90)], [n // 2 for n in range(90)]
    differences = [value - 0.4 for value in values]
    whole = interval(values, clusters), sign_test(differences, clusters)
    monkeypatch.setattr(intervals, "_MAX_DRAWN", most)
    parts = interval(values, clusters), sign_test(differences, clusters)
    assert parts[0] == pytest.approx(whole[0], abs=1e-12)
    assert parts[1] == whole[1]


def test_columns_share_draws_without_changing_results():
    columns = [[0.0, 1.0, 1.0, 0.5] * 5, [1.0] * 20, [-1.0, 0.5, 0.0, 1.0] * 5]
    clusters = [n // 2 for n in range(20)]
    together = intervals.intervals(columns, clusters, least=[0.0, 0.0, -1.0])
    alone = [interval(c, clusters, least=low) for c, low in zip(columns, (0, 0, -1), strict=True)]
    assert together == alone


def test_one_cluster_gives_the_widest_interval():
    assert interval([0.0, 1.0], ["same", "same"]) == Interval(0.5, 0.0, 1.0)


def test_no_values_have_no_interval():
    assert interval([], []) is None


def test_equal_values_give_the_exact_interval():
    # Clopper and Pearson for 0 of 10: 1 - 0.025 ** (1 / 10).
    assert interval([0.0] * 10, range(10)).high == pytest.approx(0.3085, abs=1e-4)
    assert interval([0.0] * 10, range(10), least=-1.0).low == pytest.approx(-0.3085, abs=1e-4)


def test_more_rows_of_the_same_clusters_do_not_narrow_the_interval():
    few = interval([1.0, 0.0] * 20, range(40))
    many = interval(([1.0] * 5 + [0.0] * 5) * 20, np.repeat(range(40), 5).tolist())
    assert many == pytest.approx(few, abs=1e-12)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=12))
def test_the_paired_test_is_two_sided(differences):
    clusters = range(len(differences))
    p = sign_test(differences, clusters)
    assert 0 < p <= 1
    assert sign_test([-d for d in differences], clusters) == p


def test_the_paired_test_has_power_and_keeps_its_level():
    rng = np.random.default_rng(3)
    noise = [sign_test(rng.choice([-1.0, 0.0, 1.0], 60), range(60), draws=500) for _ in range(300)]
    assert 0.02 <= np.mean([p <= 0.05 for p in noise]) <= 0.08
    assert sign_test([1.0] * 20 + [0.0] * 80, range(100)) < 0.001
    # Twenty rows of one picture are one piece of evidence.
    assert sign_test([1.0] * 20, ["one picture"] * 20) == 1.0
