"""Accuracy against tokens of all strategies, gain of a majority vote, calibration, and adaptive pixel budgets, on PixelWorld.

.venv/bin/python benchmarks/strategies.py ask [NAME [FAMILY ...]]     # asks what is missing; can be killed and continued
.venv/bin/python benchmarks/strategies.py report             # writes dev/strategies.json from the finished runs
.venv/bin/python docs/strategies_plot.py                     # draws docs/strategies.svg from it

Questions that need an operation, of scenes of the test split. The calibration of an answer is fitted on other scenes (five folds).
The model without tool calls is the bundled model with operations off. Runs are in runs/strategies, one per family.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner import api
from pixel_reasoner.evals.intervals import interval, sign_test
from pixel_reasoner.evals.run import Evaluation, run_questions
from pixel_reasoner.evals.stats import get_cluster
from pixel_reasoner.rollout.budgets import parse_budget
from pixel_reasoner.rollout.usage import answer_usage
from pixel_reasoner.runs.folder import load_run
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.confidence import (
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from pixel_reasoner.scoring.grading import Outcome, grade_reply
from pixel_reasoner.scoring.voting import AnswerGroups, weight_of, weighted_majority
from pixel_reasoner.workflows.world import WorldSpec
from pixel_reasoner.world import FAMILIES, render

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "strategies"
OUT = ROOT / "dev" / "strategies.json"
NUM_SCENES = 260
"""scenes of each family, about half of which have a question that needs an operation"""
PICTURE_FAMILIES = tuple(family for family in FAMILIES if family != "video")


class Variant(NamedTuple):
    """One run: a strategy with its settings, and the questions."""

    name: str
    strategy: str = "single"
    operations: bool = True
    temperature: float = 0.0
    per_family: int = 100
    families: tuple[str, ...] = tuple(FAMILIES)
    budget: str = "fixed"


MAJORITY = "majority_vote:k=8"
SAMPLED = {"temperature": 0.8}
SMALL = {"per_family": 15, "families": PICTURE_FAMILIES}
OFF = {"operations": False, **SMALL}
VARIANTS = (
    Variant("greedy"),
    Variant("greedy-adaptive", budget="adaptive"),
    Variant("majority-8", "majority_vote:k=8", **SAMPLED),
    Variant("greedy-off", **OFF),
    Variant("proposals-off", "proposals", **OFF),
    Variant("best_of_crops-off", "best_of_crops", **OFF),
    Variant("tiling-off", "tiling", **OFF),
    Variant("majority-8-off", "majority_vote:k=8", **OFF, **SAMPLED),
    Variant("tree_search-off", "tree_search", **OFF),
    Variant("best_of_crops", "best_of_crops", **SMALL),
    Variant("proposals", "proposals", **SMALL),
    Variant("tiling", "tiling", **SMALL),
    Variant("tree_search", "tree_search", **SMALL),
)


def questions(family: str, count: int) -> list[Question]:
    """Return questions of a family that need an operation. Its scenes are rendered once."""
    path, media = RUNS / f"test-{family}.jsonl", RUNS / "media-test"
    if not path.exists():
        scenes = WorldSpec(family=family, count=NUM_SCENES, split="test").scenes(family)
        asked = [one for one in render(scenes, media) if one.needs_look]
        path.write_text("".join(one.to_line() + "\n" for one in asked))
    lines = path.read_text().splitlines()[:count]
    return [with_media_root(Question.from_line(line), media.absolute()) for line in lines]


def ask(name: str = "", *families: str) -> None:
    """Ask the questions of all variants, or of one, or of some of its families."""
    RUNS.mkdir(parents=True, exist_ok=True)
    model = api.load_model(api.ModelSpec("tiny"))
    for variant in VARIANTS:
        if name not in ("", variant.name):
            continue
        config = RolloutConfig(
            operations=variant.operations,
            budget=parse_budget(variant.budget),
            sampling=SamplingParams(max_new_tokens=128, temperature=variant.temperature),
        )
        task = {"name": "strategies", "strategy": variant.strategy, "variant": variant.name}
        for family in families or variant.families:
            started = time.perf_counter()
            asked = questions(family, variant.per_family)
            plan = Evaluation(asked, model, config, task, batch_size=8, strategy=variant.strategy)
            run_questions(plan, RUNS / variant.name / family)
            seconds = time.perf_counter() - started
            print(f"{variant.name} {family}: {seconds:.0f} s", flush=True)


def load(variant: Variant) -> list[Trace]:
    """Return the traces of a variant, one per question."""
    runs = (RUNS / variant.name / family for family in variant.families)
    found = [load_run(one) for one in runs if (one / "traces.jsonl").exists()]
    return list({trace.question.id: trace for run in found for trace in run}.values())


# --- numbers ---


def with_weights(trace: Trace) -> Trace:
    """Return the trace of a vote as `majority_vote` with weights returns it."""
    record = trace.strategy
    assert record is not None, "a vote has a record"
    groups = AnswerGroups(trace.question)
    votes = [groups.add(one.answer) for one in record.candidates]
    weights = [one.score or 0.0 for one in record.candidates]
    winner = weighted_majority(votes, weights)
    if winner is None:
        return trace
    share = weight_of(winner, votes, weights) / sum(weights)
    record = record.model_copy(update={"confidence": share})
    return trace.model_copy(update={"answer": groups.answers[winner], "strategy": record})


def is_right(trace: Trace) -> bool:
    """Return whether the answer of a trace is right."""
    found = grade_reply(trace)
    return found is not None and found.outcome is Outcome.CORRECT


def measure(traces: list[Trace]) -> dict[str, Any]:
    """Return accuracy with its interval, and mean cost per answer."""
    usages = [answer_usage(trace) for trace in traces]
    accuracy = interval(
        [float(is_right(trace)) for trace in traces],
        [get_cluster(trace.question) for trace in traces],
    )
    by_family: dict[str, list[bool]] = {}
    for trace in traces:
        by_family.setdefault(trace.question.id.partition("-")[0], []).append(is_right(trace))

    def mean(name: str) -> float:
        return round(sum(getattr(one, name) for one in usages) / len(usages), 2)

    names = ("num_rollouts", "prompt_tokens", "new_tokens", "visual_tokens", "generate_s")
    return {
        "questions": len(traces),
        "accuracy": accuracy and accuracy.as_dict(),
        "by_family": {name: round(sum(one) / len(one), 4) for name, one in by_family.items()},
        **{name: mean(name) for name in names},
    }


def difference(first: list[Trace], second: list[Trace]) -> dict[str, Any]:
    """Return the paired difference of the accuracy of two runs over their common questions."""
    others = {trace.question.id: is_right(trace) for trace in second}
    pairs = [(trace, others[trace.question.id]) for trace in first if trace.question.id in others]
    values = [float(is_right(trace)) - other for trace, other in pairs]
    clusters = [get_cluster(trace.question) for trace, _ in pairs]
    found = interval(values, clusters, least=-1.0)
    assert found is not None, "the runs have common questions"
    return {**found.as_dict(), "questions": len(pairs), "p": sign_test(values, clusters)}


NUM_FOLDS = 5


def calibration(traces: list[Trace]) -> dict[str, Any]:
    """Return the ECE of a confidence before and after calibration.

    Cross-fitting: each answer is calibrated by a fit on the scenes of the other folds. `ece_halves` is the ECE on every
    second scene with one fit on the others.
    """
    scenes = sorted(traces, key=lambda trace: trace.question.id)
    folds = [scenes[number::NUM_FOLDS] for number in range(NUM_FOLDS)]
    calibrated: list[float] = []
    right: list[bool] = []
    for number, fold in enumerate(folds):
        others = [one for other in folds[:number] + folds[number + 1 :] for one in other]
        values, correct = calibrated_by(others, fold)
        calibrated += values
        right += correct
    halves = calibrated_by(scenes[::2], scenes[1::2])
    return {
        "answers": len(right),
        "folds": NUM_FOLDS,
        "ece_raw": expected_calibration_error(*confidences(scenes)),
        "ece_calibrated": expected_calibration_error(calibrated, right),
        "ece_halves": expected_calibration_error(*halves),
        "reliability_raw": [one._asdict() for one in reliability(*confidences(scenes))],
        "reliability": [one._asdict() for one in reliability(calibrated, right)],
    }


def calibrated_by(fitted_on: list[Trace], tested_on: list[Trace]) -> tuple[list[float], list[bool]]:
    """Return the calibrated confidence of answers, fitted on others, and whether each is right."""
    fitted = fit_calibration(*confidences(fitted_on), strategy=MAJORITY)
    raw, right = confidences(tested_on)
    return [fitted.apply(one) for one in raw], right


def common_questions(runs: list[list[Trace]]) -> set[str]:
    """Return the ids of the questions about pictures that all runs on the test split contain."""
    ids = [{trace.question.id for trace in run} for run in runs]
    by_size = sorted(ids, key=len)
    test = [one for one in by_size if one & by_size[-1]]
    return set.intersection(*test) if test else set()


def stills(traces: list[Trace]) -> list[Trace]:
    """Return the traces of questions about pictures."""
    return [trace for trace in traces if trace.question.media[0].kind == "image"]


def confidences(traces: list[Trace]) -> tuple[list[float], list[bool]]:
    """Return the raw confidence of each answer, and whether it is right."""
    records = [(trace.strategy, is_right(trace)) for trace in traces]
    known = [
        (one.confidence, right) for one, right in records if one and one.confidence is not None
    ]
    return [confidence for confidence, _ in known], [right for _, right in known]


def report() -> None:
    """Write the numbers of all finished runs."""
    runs = {one.name: found for one in VARIANTS if (found := load(one))}
    variants = list(VARIANTS)
    if "majority-8" in runs:  # the same rollouts, so nothing is asked again
        variants.append(Variant("weighted-8", f"{MAJORITY},weights=probability", **SAMPLED))
        runs["weighted-8"] = [with_weights(trace) for trace in runs["majority-8"]]
    common = common_questions(list(runs.values()))
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, 2 cores shared with other work",
        "variants": {
            one.name: {
                **one._asdict(),
                **measure(runs[one.name]),
                "common": measure([t for t in runs[one.name] if t.question.id in common]),
            }
            for one in variants
            if one.name in runs
        },
        "differences": {},
    }
    for name in runs:
        base = "greedy-off" if name.endswith("-off") else "greedy"
        if name != base and base in runs:
            found["differences"][f"{name} - {base}"] = difference(runs[name], runs[base])
    if "majority-8" in runs:
        found["calibration"] = {
            name: calibration(runs[name]) for name in ("majority-8", "weighted-8")
        }
        for name in ("majority-8", "weighted-8"):
            key = f"{name} - greedy, pictures"
            found["differences"][key] = difference(stills(runs[name]), stills(runs["greedy"]))
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["report"]
    ask(*rest) if command == "ask" else report()
