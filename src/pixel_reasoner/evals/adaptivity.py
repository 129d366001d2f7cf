"""Adaptivity: whether a model uses operations where the overview is illegible, and only there.

It is measured on questions with the label `evidence_px`, the height of the decisive detail in pixels of the overview, and
`needs_look`, the renderer's label of necessity (PixelWorld 2, or own rows with these labels).

    rapr_unreadable, rapr_readable   share of questions with an operation where one is needed, and where none is
    rapr_difference                  the first minus the second: 1 is perfect, 0 is a habit
    mcc                              Matthews correlation of use and need; 0 for a model that always or never looks
    right_at_once                    share of readable questions that are right without an operation
    curve                            accuracy, RaPR and share of questions that need an operation, by height
    use_crossing_px                  height at which half of the questions use an operation (logistic fit over log2)
    accuracy_crossing_px             height at which half of the answers are right
    twins                            pairs that differ in one detail: both right, and the same answer twice
    scores                           `where`, `not_there`, `parts` (F1), `moments` (IoU)

Everything is a function of sums over clusters, so intervals are those of a cluster bootstrap with shared draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pixel_reasoner.evals.intervals import intervals
from pixel_reasoner.schema.question import AnswerType, Question

DRAWS = 1000
HEIGHT_LABEL, TWIN_LABEL, PRESENT_LABEL = "evidence_px", "twin", "present"
MAX_EXTRAPOLATION = 1.5
"""a fitted crossing that is farther than this factor from the measured heights is not reported"""
_RIDGE = 0.02
"""penalty of the slope of a fit, so that perfectly separated answers have a finite one"""
_MIN_CROSSING_SHARE = 0.95
"""share of draws that must cross for an interval of the crossing"""
_SCORES = {
    AnswerType.POINT: "where",
    AnswerType.BOXES: "parts",
    AnswerType.SPAN: "moments",
}


class AdaptivityRow(NamedTuple):
    """Numbers of one trace."""

    cluster: int
    height: float
    needs_operation: bool
    has_used: bool
    is_right: bool
    score: float
    twins: str
    """what the twins share: question without the twin"""
    answer: str
    kind: str
    """key of `scores`; empty for other types"""
    is_missing: bool
    """whether the expected answer is that nothing is there"""


def adaptivity_row(
    question: Question, cluster: int, grade: tuple[bool, float], num_executed: int, answer: str
) -> AdaptivityRow | None:
    """Return the numbers of a trace; None if its question has no height or no label of necessity."""
    try:
        height = float(question.labels[HEIGHT_LABEL])
    except (KeyError, ValueError):
        return None
    if question.needs_look is None or not height > 0:
        return None
    twin = question.labels.get(TWIN_LABEL, "")
    return AdaptivityRow(
        cluster,
        height,
        question.needs_look,
        num_executed > 0,
        *grade,
        twins=f"{question.group}/{height}/{question.text}" if twin else "",
        answer=answer,
        kind=_SCORES.get(question.answer_type, ""),
        is_missing=question.labels.get(PRESENT_LABEL) == "no",
    )


class Adaptivity:
    """Incremental metrics of the traces of a run."""

    def __init__(self) -> None:
        self.rows: list[AdaptivityRow] = []

    def add(self, row: AdaptivityRow) -> None:
        """Add a trace."""
        self.rows.append(row)

    def result(self) -> dict[str, Any] | None:
        """Return the metrics, or None without questions of both kinds."""
        rows = self.rows
        if len({row.needs_operation for row in rows}) < 2:
            return None
        sums = _Sums.of(rows)
        found: dict[str, Any] = {"count": len(rows)}
        for name, metric in _METRICS.items():
            found[name] = _share(name, rows) or sums.interval(metric)
        found["curve"] = _curve(rows)
        for name, column in (("use_crossing_px", "used"), ("accuracy_crossing_px", "right")):
            found[name] = sums.crossing(column)
        if twins := _twins(rows):
            found["twins"] = twins
        if scores := _scores(rows):
            found["scores"] = scores
        return found


def adaptivity_difference(first: Adaptivity, second: Adaptivity) -> dict[str, Any] | None:
    """Return the paired differences of two runs, first minus second; None if one of them has no metrics.

    Both runs share the draws of clusters.
    """
    if first.result() is None or second.result() is None:
        return None
    clusters = sorted({row.cluster for one in (first, second) for row in one.rows})
    one, other = (_Sums.of(run.rows, clusters) for run in (first, second))
    found = {}
    for name, metric in _METRICS.items():
        values = one.values(metric) - other.values(metric)
        found[name] = _interval(values)
    return found


def _share(name: str, rows: Sequence[AdaptivityRow]) -> dict[str, Any] | None:
    """Return a metric that is a share of rows, with the interval of all shares of a summary; None for other metrics.

    A bootstrap of equal values has no spread, so `intervals` is used where it applies.
    """
    if name not in _SHARES:
        return None
    needed, counts = _SHARES[name]
    chosen = [row for row in rows if row.needs_operation is needed]
    values = [float(counts(row)) for row in chosen]
    (share,) = intervals([values], [row.cluster for row in chosen])
    assert share is not None, "both kinds of need have rows"
    return share.as_dict()


_SHARES: Mapping[str, tuple[bool, Callable[[AdaptivityRow], bool]]] = {
    "rapr_unreadable": (True, lambda row: row.has_used),
    "rapr_readable": (False, lambda row: row.has_used),
    "right_at_once": (False, lambda row: row.is_right and not row.has_used),
}


# --- sums over clusters ---


class _Sums(NamedTuple):
    """Sums of the rows: the first line is the sample, the others are draws of clusters (D, H)."""

    heights: np.ndarray
    num: dict[bool, np.ndarray]
    """needs an operation -> number of rows (D, H)"""
    used: dict[bool, np.ndarray]
    right: dict[bool, np.ndarray]
    at_once: dict[bool, np.ndarray]
    """right without an operation"""

    @classmethod
    def of(cls, rows: Sequence[AdaptivityRow], clusters: Sequence[int] | None = None) -> _Sums:
        clusters = clusters or sorted({row.cluster for row in rows})
        index = {cluster: n for n, cluster in enumerate(clusters)}
        heights = sorted({row.height for row in rows})
        cells = np.zeros((4, 2, len(clusters), len(heights)))
        for row in rows:
            values = (1, row.has_used, row.is_right, row.is_right and not row.has_used)
            place = (int(row.needs_operation), index[row.cluster], heights.index(row.height))
            cells[(slice(None), *place)] += values
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(len(clusters), [1 / len(clusters)] * len(clusters), size=DRAWS)
        weights = np.concatenate([np.ones((1, len(clusters))), drawn])
        parts = [{bool(need): weights @ cells[name, need] for need in (0, 1)} for name in range(4)]
        return cls(np.asarray(heights), *parts)

    def total(self, name: str, *, needed: bool) -> np.ndarray:
        """Return sums over all heights (D,)."""
        total: np.ndarray = getattr(self, name)[needed].sum(1)
        return total

    def values(self, metric: Callable[[_Sums], np.ndarray]) -> np.ndarray:
        """Return a metric of the sample and of each draw (D,); NaN where it is undefined."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = np.asarray(metric(self))
        return found

    def interval(self, metric: Callable[[_Sums], np.ndarray]) -> dict[str, Any]:
        """Return the value of a metric with its 95 % interval."""
        return _interval(self.values(metric))

    def crossing(self, column: str) -> dict[str, Any]:
        """Return the height at which a logistic fit of a share crosses one half, with its 95 % interval."""
        num = sum(self.num.values(), np.zeros(1))
        part = sum(getattr(self, column).values(), np.zeros(1))
        crossings = fit_crossings(self.heights, part, num)
        value = crossings[0]
        drawn = crossings[1:][np.isfinite(crossings[1:])]
        has_interval = np.isfinite(value) and len(drawn) >= _MIN_CROSSING_SHARE * DRAWS
        return {
            "value": round(float(value), 2) if np.isfinite(value) else None,
            "interval": [round(float(one), 2) for one in np.quantile(drawn, [0.025, 0.975])]
            if has_interval
            else None,
        }


def _interval(values: np.ndarray) -> dict[str, Any]:
    drawn = values[1:][np.isfinite(values[1:])]
    known = np.isfinite(values[0])
    return {
        "value": round(float(values[0]), 4) if known else None,
        "interval": [round(float(one), 4) for one in np.quantile(drawn, [0.025, 0.975])]
        if known and len(drawn) > 1
        else None,
    }


def _rapr(sums: _Sums, *, needed: bool) -> np.ndarray:
    share: np.ndarray = sums.total("used", needed=needed) / sums.total("num", needed=needed)
    return share


def _mcc(sums: _Sums) -> np.ndarray:
    """Return the Matthews correlation; 0 for a model that always or never uses an operation."""
    hits, false = (sums.total("used", needed=needed) for needed in (True, False))
    misses, kept = (
        sums.total("num", needed=needed) - sums.total("used", needed=needed)
        for needed in (True, False)
    )
    return matthews_correlation(hits, false, misses, kept)


def matthews_correlation(
    hits: np.ndarray, false: np.ndarray, misses: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Return the Matthews correlation of counts, elementwise; 0 where a sum of two of them is 0.

    Args:
        hits: uses of an operation that was needed.
        false: uses of one that was not.
        misses: needed and not used.
        kept: neither needed nor used.

    >>> matthews_correlation(*np.array([[10, 5], [0, 5], [0, 5], [10, 5]])).tolist()
    [1.0, 0.0]
    """
    product = (hits + false) * (hits + misses) * (kept + false) * (kept + misses)
    correlation = (hits * kept - false * misses) / np.sqrt(np.where(product > 0, product, 1))
    return np.where(product > 0, correlation, 0.0)


_METRICS: Mapping[str, Callable[[_Sums], np.ndarray]] = {
    "rapr_unreadable": lambda sums: _rapr(sums, needed=True),
    "rapr_readable": lambda sums: _rapr(sums, needed=False),
    "rapr_difference": lambda sums: _rapr(sums, needed=True) - _rapr(sums, needed=False),
    "mcc": _mcc,
    "right_at_once": lambda sums: (
        sums.total("at_once", needed=False) / sums.total("num", needed=False)
    ),
}


def fit_crossings(heights: np.ndarray, part: np.ndarray, num: np.ndarray) -> np.ndarray:
    """Return where logistic fits of shares over log2(height) cross one half; NaN where they do not within the range.

    Args:
        heights: (H,), in pixels.
        part: counted rows (D, H); each line is fitted on its own.
        num: all rows (D, H).

    >>> heights = np.array([2.0, 4.0, 8.0])
    >>> fit_crossings(heights, np.array([[0.0, 10.0, 20.0]]), np.full((1, 3), 20.0)).round(2).tolist()
    [4.0]
    """
    x = np.log2(heights)
    center = x.mean()
    x = x - center
    start, slope = np.zeros(len(part)), np.zeros(len(part))
    for _ in range(30):  # Newton's method; both parameters of all lines at once
        share = 1 / (1 + np.exp(-np.clip(start[:, None] + slope[:, None] * x, -30, 30)))
        rest = part - num * share
        weight = num * share * (1 - share) + 1e-9
        grad = rest.sum(1), (rest * x).sum(1) - _RIDGE * slope
        a, b, c = weight.sum(1), (weight * x).sum(1), (weight * x * x).sum(1) + _RIDGE
        determinant = a * c - b * b
        steps = (c * grad[0] - b * grad[1]) / determinant, (a * grad[1] - b * grad[0]) / determinant
        start = start + np.clip(steps[0], -2, 2)
        slope = slope + np.clip(steps[1], -2, 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossing = np.exp2(center - start / slope)
    low, high = heights.min() / MAX_EXTRAPOLATION, heights.max() * MAX_EXTRAPOLATION
    is_fit = (np.abs(slope) > 0.1) & (crossing >= low) & (crossing <= high)
    return np.where(is_fit, crossing, np.nan)


# --- groups of rows ---


def _curve(rows: Sequence[AdaptivityRow]) -> list[dict[str, Any]]:
    """Return accuracy and RaPR with intervals at each height."""
    groups: defaultdict[float, list[AdaptivityRow]] = defaultdict(list)
    for row in rows:
        groups[row.height].append(row)
    curve = []
    for height, group in sorted(groups.items()):
        clusters = [row.cluster for row in group]
        columns = [[float(row.is_right) for row in group], [float(row.has_used) for row in group]]
        accuracy, use = intervals(columns, clusters)
        assert accuracy is not None, "every group has a row"
        assert use is not None, "every group has a row"
        curve.append(
            {
                "height": height,
                "count": len(group),
                "needed": round(sum(row.needs_operation for row in group) / len(group), 4),
                "accuracy": accuracy.as_dict(),
                "rapr": use.as_dict(),
            }
        )
    return curve


def _twins(rows: Sequence[AdaptivityRow]) -> dict[str, Any] | None:
    """Return the shares of twin pairs that are both right, and that get the same answer although theirs differ."""
    pairs: defaultdict[str, list[AdaptivityRow]] = defaultdict(list)
    for row in rows:
        if row.twins:
            pairs[row.twins].append(row)
    known = [pair for pair in pairs.values() if len(pair) == 2]
    if not known:
        return None
    clusters = [pair[0].cluster for pair in known]
    columns = [
        [float(all(row.is_right for row in pair)) for pair in known],
        [float(pair[0].answer == pair[1].answer) for pair in known],
    ]
    both, same = (one.as_dict() if one else {} for one in intervals(columns, clusters))
    return {"count": len(known), "both_right": both, "same_answer": same}


def _scores(rows: Sequence[AdaptivityRow]) -> dict[str, Any]:
    groups: defaultdict[str, list[AdaptivityRow]] = defaultdict(list)
    for row in rows:
        if row.kind:
            groups[row.kind].append(row)
        if row.is_missing:
            groups["not_there"].append(row)
    found = {}
    for name, group in sorted(groups.items()):
        (one,) = intervals([[row.score for row in group]], [row.cluster for row in group])
        if one is not None:
            found[name] = {"count": len(group), **one.as_dict()}
    return found
