"""Probe of the wording: how well the text of a question alone predicts whether an operation is needed, or used.

A logistic regression over word n-grams is fitted within each family and tested on other scenes (cross-validation over
clusters). If it is better than chance, a model can decide from the wording, and its use of operations says nothing about
pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pixel_reasoner.evals.intervals import intervals
from pixel_reasoner.evals.stats import get_cluster
from pixel_reasoner.schema.question import Question

FOLDS = 5
MAX_N = 3
"""longest n-gram, in words"""
_STEPS, _RATE, _PENALTY = 300, 0.5, 1e-3
_WORD = re.compile(r"\w+|[^\w\s]")


class LabelledText(NamedTuple):
    """Text of a question with a binary label."""

    text: str
    label: bool
    cluster: object
    """texts of one cluster are in one fold"""


def probe_wording(
    questions: Iterable[Question],
    family_of: Callable[[Question], str],
    label_of: Callable[[Question], bool | None] = lambda question: question.needs_look,
) -> dict[str, dict[str, Any]]:
    """Return the accuracy of the probe in each family, with chance: the share of the more frequent label.

    Args:
        questions: with a label, all others are skipped.
        family_of: returns the family of a question.
        label_of: returns the label; by default whether an operation is needed.

    Returns:
        family -> `count`, `chance`, `accuracy` (balanced over both labels, so chance is one half), and its `interval`.
    """
    families: dict[str, list[LabelledText]] = {}
    for question in questions:
        label = label_of(question)
        if label is not None:
            one = LabelledText(question.text, label, get_cluster(question))
            families.setdefault(family_of(question), []).append(one)
    return {name: probe_texts(texts) for name, texts in families.items()}


def probe_texts(texts: Sequence[LabelledText]) -> dict[str, Any]:
    """Return the cross-validated balanced accuracy of a logistic regression over word n-grams.

    >>> texts = [LabelledText(f"{word} is it?", word == "small", n) for n in range(20) for word in ("small", "large")]
    >>> probe_texts(texts)["accuracy"]
    1.0
    """
    labels = np.array([one.label for one in texts])
    found: dict[str, Any] = {"count": len(texts), "chance": 0.5, "accuracy": None, "interval": None}
    clusters = list(dict.fromkeys(one.cluster for one in texts))
    if labels.all() or not labels.any() or len(clusters) < 2:
        return found
    fold_of = {cluster: n % FOLDS for n, cluster in enumerate(clusters)}
    folds = np.array([fold_of[one.cluster] for one in texts])
    right = np.zeros(len(texts))
    features = _features([one.text for one in texts])
    for fold in np.unique(folds):
        test = folds == fold
        scores = features[test] @ _fit(features[~test], labels[~test])
        # An undecided probe is right half of the time.
        right[test] = np.where(np.abs(scores) < 1e-6, 0.5, (scores > 0) == labels[test])
    weight = np.where(labels, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    (share,) = intervals(
        [np.clip(right * weight / weight.max(), 0, 1).tolist()], [str(one.cluster) for one in texts]
    )
    assert share is not None, "there are texts"
    scale = float(weight.max())
    found["accuracy"] = round(float((right * weight).mean()), 4)
    found["interval"] = [round(min(1.0, one * scale), 4) for one in (share.low, share.high)]
    return found


def _features(texts: Sequence[str]) -> np.ndarray:
    """Return a column per n-gram, and a constant (N, F)."""
    grams = [_ngrams(text) for text in texts]
    index = {gram: n for n, gram in enumerate(sorted(set().union(*grams)))}
    features = np.zeros((len(texts), len(index) + 1))
    for row, found in enumerate(grams):
        features[row, [index[gram] for gram in found]] = 1
    # Rows of equal length, so that the step size does not depend on the length of the texts.
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1)
    features[:, -1] = 1
    return features


def _ngrams(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {
        " ".join(words[start : start + n])
        for n in range(1, MAX_N + 1)
        for start in range(len(words) - n + 1)
    }


def _fit(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weights of a logistic regression, by gradient descent with equal weight for both labels."""
    share = labels.mean()
    if share in (0, 1):
        return np.zeros(features.shape[1])
    balance = np.where(labels, 0.5 / share, 0.5 / (1 - share))
    weights = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        predicted = 1 / (1 + np.exp(-features @ weights))
        gradient = features.T @ ((predicted - labels) * balance) / len(labels)
        weights -= _RATE * (gradient + _PENALTY * weights)
    return weights
