"""Metrics of an inspection with labels. Overkill and miss rate are always apart; intervals are 95 % (Wilson).

Rates count verdicts: overkill is the share of good parts with the verdict `defect`, the miss rate is the share of bad
parts with the verdict `ok`. `unsure` and `error` are neither: they are a share of their own, which people look at.
Image AUROC and F1 use the raw scores; F1-max is optimistic, because it chooses its threshold on the same photos.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pixel_reasoner.errors import require_extra
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.inspection.pictures import Array, opencv
from pixel_reasoner.workflows.inspection.verdicts import InspectionRow, Verdict

AUPRO_LIMIT = 0.3
"""false positive rate up to which AUPRO integrates, as in anomalib; MVTec AD 2 uses 0.05"""
MIN_IOU = 0.3
"""overlap from which a box counts as found"""


class Rate(NamedTuple):
    """A share with its 95 % Wilson interval. Without samples all three are None."""

    value: float | None
    low: float | None
    high: float | None
    hits: int
    total: int

    def as_dict(self) -> dict[str, Any]:
        """Return the rate for a JSON file."""
        return {
            "value": _rounded(self.value),
            "interval": None if self.low is None else [_rounded(self.low), _rounded(self.high)],
            "count": self.hits,
            "of": self.total,
        }

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}, {self.hits} of {self.total})"


def rate(count: int, total: int) -> Rate:
    """Return a share with its Wilson interval.

    >>> print(rate(1, 10)), print(rate(0, 0))
    10.0% (1.8% to 40.4%, 1 of 10)
    n/a
    (None, None)
    """
    if total == 0:
        return Rate(None, None, None, 0, 0)
    with require_extra("workflows", "compute metrics"):
        from scipy.stats import binomtest
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return Rate(count / total, float(interval.low), float(interval.high), count, total)


class Rates(NamedTuple):
    """Verdicts against labels."""

    overkill: Rate
    """good photos with the verdict defect"""
    miss: Rate
    """defective photos with the verdict ok"""
    unsure: Rate
    """photos that people must look at: unsure or error"""


def verdict_rates(pairs: Iterable[tuple[str, Verdict]]) -> Rates:
    """Return the rates of (label, verdict); pairs without a label count for `unsure` alone.

    >>> found = verdict_rates([("good", Verdict.DEFECT), ("good", Verdict.OK), ("defect", Verdict.UNSURE)])
    >>> found.overkill.value, found.miss.value, found.unsure.hits
    (0.5, 0.0, 1)
    """
    every = list(pairs)
    good = [verdict for label, verdict in every if label == "good"]
    bad = [verdict for label, verdict in every if label == "defect"]
    open_ = sum(verdict in (Verdict.UNSURE, Verdict.ERROR) for _, verdict in every)
    return Rates(
        rate(good.count(Verdict.DEFECT), len(good)),
        rate(bad.count(Verdict.OK), len(bad)),
        rate(open_, len(every)),
    )


def reject_precision(miss: float, overkill: float, defect_rate: float) -> float | None:
    """Return the share of rejected parts that are bad, at a rate of bad parts; None if nothing is rejected.

    >>> round(reject_precision(0.1, 0.05, 0.01), 3)
    0.154
    """
    right = (1 - miss) * defect_rate
    wrong = overkill * (1 - defect_rate)
    return right / (right + wrong) if right + wrong else None


# --- scores of photos ---


def image_auroc(labels: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Return the chance that a defective photo scores above a good one; None if one kind is missing.

    >>> image_auroc([False, False, True, True], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    if len(set(labels)) < 2:
        return None
    with require_extra("workflows", "compute metrics"):
        from sklearn.metrics import roc_auc_score
    return float(roc_auc_score(labels, scores))


class F1(NamedTuple):
    """An F1 score and its threshold."""

    value: float
    threshold: float


def f1_max(labels: Sequence[bool], scores: Sequence[float]) -> F1 | None:
    """Return the best F1 over all thresholds and its threshold (a score at it is a defect); None without defects.

    >>> f1_max([False, True, True], [0.2, 0.3, 0.9])
    F1(value=1.0, threshold=0.3)
    """
    if not any(labels):
        return None
    with require_extra("workflows", "compute metrics"):
        from sklearn.metrics import precision_recall_curve
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(f1[:-1].argmax())
    return F1(float(f1[best]), float(thresholds[best]))


def f1_of_verdicts(pairs: Iterable[tuple[str, Verdict]]) -> float | None:
    """Return F1 of the verdict defect; every other verdict counts as not found. None without defective photos.

    >>> f1_of_verdicts([("defect", Verdict.DEFECT), ("good", Verdict.OK), ("defect", Verdict.UNSURE)])
    0.6666666666666666
    """
    every = [(label, verdict) for label, verdict in pairs if label]
    right = sum(label == "defect" and verdict is Verdict.DEFECT for label, verdict in every)
    wrong = sum(label == "good" and verdict is Verdict.DEFECT for label, verdict in every)
    missed = sum(label == "defect" and verdict is not Verdict.DEFECT for label, verdict in every)
    return 2 * right / (2 * right + wrong + missed) if right + missed else None


def class_recall(rows: Iterable[InspectionRow]) -> dict[str, Rate]:
    """Return class in the data set -> share of its photos with the verdict defect."""
    found: dict[str, list[bool]] = {}
    for row in rows:
        if row.label == "defect":
            name = row.label_class or "unnamed"
            found.setdefault(name, []).append(row.verdict is Verdict.DEFECT)
    return {name: rate(sum(hits), len(hits)) for name, hits in sorted(found.items())}


# --- places ---


def iou(one: Box, other: Box) -> float:
    """Return the intersection of two boxes divided by their union.

    >>> iou(Box(0, 0, 0.5, 1), Box(0.25, 0, 0.75, 1))
    0.3333333333333333
    """
    shared = one.intersection(other)
    return shared / (one.area + other.area - shared)


def mask_boxes(mask: Array) -> list[Box]:
    """Return the boxes of the connected regions of a mask, as fractions.

    >>> mask = np.zeros((10, 20), bool); mask[2:4, 5:10] = True
    >>> mask_boxes(mask)
    [Box(x1=0.25, y1=0.2, x2=0.5, y2=0.4)]
    """
    cv2 = opencv()
    height, width = mask.shape
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [
        Box(x / width, y / height, (x + w) / width, (y + h) / height)
        for x, y, w, h, _ in stats[1:].tolist()
    ]


def aupro(
    maps: Sequence[Array], masks: Sequence[Array], limit: float = AUPRO_LIMIT
) -> float | None:
    """Return the area under the per-region overlap curve up to a false positive rate, divided by that rate.

    Definition of anomalib: the overlap of each connected region of the masks with the thresholded map, averaged over
    regions, against the false positive rate of all pixels outside of the masks. Regions are 8-connected.

    Args:
        maps: scores of each photo, (height, width); also of good photos.
        masks: of the same sizes, bool.
        limit: false positive rate.

    Returns:
        None without any region, or without any pixel outside of them.

    >>> aupro([np.array([[0.9, 0.8, 0.1, 0.2]])], [np.array([[True, True, False, False]])])
    1.0
    """
    cv2 = opencv()
    scores, is_region, weights = [], [], []
    for values, mask in zip(maps, masks, strict=True):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        sizes = np.bincount(labels.ravel(), minlength=count)
        weight = 1.0 / np.maximum(sizes, 1)
        weight[0] = 1.0
        scores.append(values.ravel().astype(np.float64))
        is_region.append(mask.ravel())
        weights.append(weight[labels.ravel()])
    truth = np.concatenate(is_region) if is_region else np.zeros(0, bool)
    if not truth.any() or truth.all():
        return None
    with require_extra("workflows", "compute metrics"):
        from sklearn.metrics import roc_curve
    # Each region has the total weight 1, so the weighted recall is the mean overlap.
    fpr, overlap, _ = roc_curve(
        truth, np.concatenate(scores), sample_weight=np.concatenate(weights), drop_intermediate=True
    )
    at_limit = float(np.interp(limit, fpr, overlap))
    inside = fpr < limit
    x, y = np.append(fpr[inside], limit), np.append(overlap[inside], at_limit)
    return float(np.trapezoid(y, x)) / limit


def sized_mask(mask: Array, shape: tuple[int, int]) -> Array:
    """Return a mask as bool at the size of a map: nearest pixel, every value except 0 counts."""
    cv2 = opencv()
    binary = (mask != 0).astype(np.uint8)
    if binary.shape != shape:
        binary = cv2.resize(binary, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    found: Array = binary > 0
    return found


def found_boxes(findings: Sequence[Box], truth: Sequence[Box]) -> int:
    """Return how many boxes of the truth have a finding with an IoU of at least `MIN_IOU`."""
    return sum(any(iou(one, other) >= MIN_IOU for other in findings) for one in truth)


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics for a JSON file."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Rate):
            shown[name] = value.as_dict()
        elif isinstance(value, F1):
            shown[name] = {"value": _rounded(value.value), "threshold": _rounded(value.threshold)}
        elif isinstance(value, Mapping):
            shown[name] = as_json(value)
        else:
            shown[name] = _rounded(value) if isinstance(value, float) else value
    return shown


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
