"""Two runs over the same questions: what did one answer right that the other did not?

`compare` sets a run with operations against the same without: what looking again gained and harmed. `compare_runs` sets any two
runs against each other, and says first whether they differ in what decides the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.intervals import interval, sign_test
from pixel_reasoner.evals.stats import category_of, cluster_of, is_correct
from pixel_reasoner.files import read_json_object
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.grading import Scorer, grade_reply


class Pair(NamedTuple):
    """One question (and sample) in both runs."""

    first: Trace
    second: Trace


def compare(
    with_: Iterable[Trace],
    without: Iterable[Trace],
    scorer: Scorer = Scorer.TYPED,
    family_of: Callable[[Trace], str] | None = None,
) -> dict[str, Any]:
    """Figures of the questions that both runs were asked, with operations and without.

    with, without   mean score
    gain, harm      share that is right only with operations, only without
    both, neither   share that is right, wrong, either way
    difference      with minus without, with the p of a paired test; it is gain minus harm where scores are 0 or 1

    Each has `count`, `value` and a 95 % `interval`; `compared_by_category` has the same for each category, and
    `compared_by_family` for each family of questions.
    """
    pairs = paired(with_, without)
    found = {**_figures(pairs, scorer), "compared_by_category": _by(pairs, category_of, scorer)}
    if family_of is not None:
        found["compared_by_family"] = _by(pairs, family_of, scorer)
    return found


def _by(
    pairs: Sequence[Pair], name_of: Callable[[Trace], str], scorer: Scorer
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(name_of(pair.first), []).append(pair)
    return {name: _figures(some, scorer) for name, some in groups.items() if name}


def paired(first: Iterable[Trace], second: Iterable[Trace]) -> list[Pair]:
    """The traces of the same questions and samples, in the order of the first run; those that failed in either are left out."""
    others = {(t.question.id, t.sample): t for t in second if t.stop is not StopReason.FAILED}
    return [
        Pair(trace, others[key])
        for trace in first
        if trace.stop is not StopReason.FAILED
        and (key := (trace.question.id, trace.sample)) in others
    ]


def _figures(pairs: Sequence[Pair], scorer: Scorer) -> dict[str, Any]:
    graded = [pair for pair in pairs if pair.first.question.answer]
    clusters = [cluster_of(pair.first.question) for pair in graded]
    right = [tuple(is_correct(trace, scorer) for trace in pair) for pair in graded]
    scores = [tuple(_score(trace, scorer) for trace in pair) for pair in graded]
    shares = {
        "with": [one for one, _ in scores],
        "without": [other for _, other in scores],
        "gain": [float(one and not other) for one, other in right],
        "harm": [float(other and not one) for one, other in right],
        "both": [float(one and other) for one, other in right],
        "neither": [float(not one and not other) for one, other in right],
    }
    told = {name: _told(values, clusters) for name, values in shares.items()}
    differences = [one - other for one, other in scores]
    told["difference"] = {
        **_told(differences, clusters, least=-1.0),
        "p": round(sign_test(differences, clusters), 4),
    }
    return told


def _score(trace: Trace, scorer: Scorer) -> float:
    found = grade_reply(trace, scorer)
    return found.score if found else 0.0


def _told(values: Sequence[float], clusters: Sequence[Any], least: float = 0.0) -> dict[str, Any]:
    sure = interval(values, clusters, least=least)
    if sure is None:
        return {"count": 0, "value": None, "interval": None}
    return {"count": len(values), **sure.told}


# --- any two runs ---


def compare_runs(
    first: Path, second: Path, scorer: Scorer = Scorer.TYPED, *, anyway: bool = False
) -> dict[str, Any]:
    """Two runs against each other: figures as of `compare`, for `first` as `with` and `second` as `without`, and how they differ.

    Raises:
        InputError: no run, or two without a question in common.
        UsageError: they were not asked the same questions, and `anyway` is not set.
    """
    from pixel_reasoner.evals.run import fingerprint, load_run

    ours, theirs = run_settings(first), run_settings(second)
    runs = [list(load_run(path)) for path in (first, second)]
    asked = [fingerprint(sorted((t.question for t in run), key=lambda q: q.id)) for run in runs]
    if asked[0] != asked[1] and not anyway:
        ids = [{trace.question.id for trace in run} for run in runs]
        raise UsageError(
            expected="two runs that were asked the same questions",
            got=f"{len(ids[0] - ids[1])} that only {first} was asked, {len(ids[1] - ids[0])} that only {second} was,"
            f" {len(ids[0] & ids[1])} in both",
            fix="compare runs of the same task, split and limit; --anyway compares what both were asked",
        )
    figures = compare(runs[0], runs[1], scorer)
    if not figures["with"]["count"]:
        raise InputError(
            expected="questions that both runs were asked",
            got=f"none in {first} and {second}",
            fix="compare two runs of one task",
        )
    return {
        "first": str(first),
        "second": str(second),
        "scorer": str(scorer),
        "differing": differing(ours, theirs),
        **figures,
    }


def run_settings(path: Path) -> dict[str, Any]:
    """The settings of a run's folder.

    Raises:
        InputError: there are none.
    """
    fix = "give a folder that `pixel-reasoner eval` wrote"
    return read_json_object(path / "settings.json", "the folder of a run", fix)


def differing(one: Any, other: Any, name: str = "") -> dict[str, list[Any]]:
    """The settings in which two runs differ, by their dotted names.

    >>> differing({"limits": {"max_turns": 6}, "dialect": "a"}, {"limits": {"max_turns": 4}, "dialect": "a"})
    {'limits.max_turns': [6, 4]}
    """
    if isinstance(one, dict) and isinstance(other, dict):
        found: dict[str, list[Any]] = {}
        for key in {**one, **other}:
            below = f"{name}.{key}" if name else str(key)
            found |= differing(one.get(key), other.get(key), below)
        return found
    return {} if one == other else {name: [one, other]}
