"""Studies of RL: one option at a time, several seeds, every arm against its start on the same questions.

    .venv/bin/python runs/studies.py run improve [ARM ...] --seeds 0 1 2     # killed? run it again
    .venv/bin/python runs/studies.py show improve                            # table of the finished jobs

    improve   from a good start, PixelWorld 1: does RL raise greedy accuracy?
    aim       from a clumsy start, PixelWorld 1: does RL find the evidence, with and without its boxes?
    when      from a start that looks by chance, PixelWorld 2: does RL look where the overview is not readable?

A job trains with `train rl`, in one stage or several, and answers questions of the test split with `eval`. The grade of
every question of a finished job is kept in `runs/studies/STUDY.json`: differences are paired, and no job is run twice.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ablation import KINDS, warm_start
from rl_runs import Options, as_toml, call, half_interval, is_complete, merged, say, share_folder

from pixel_reasoner.evals.adaptivity import matthews_correlation
from pixel_reasoner.evals.intervals import interval
from pixel_reasoner.evals.stats import get_category, is_correct, num_executed
from pixel_reasoner.files import atomic_writer, write_json
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.scoring.evidence import evidence_hit

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "runs" / "studies"
SEEDS = (0, 1, 2)
START = "start"
Row = Mapping[str, Any]

_TRL: Options = {
    "temperature": 0.8,
    "lr_scheduler_type": "constant_with_warmup",
    "scale_rewards": "group",
    "max_completion_length": 1500,
    "save_steps": 10,
    "save_total_limit": 1,
    "disable_tqdm": True,
}
_FREE_CALLS: Options = {"N": 2, "ignored_refusal_is_wrong": True}
_HITS_ALONE: Options = {
    "reward_functions": ["evidence_hit"],
    "reward": {"correctness": 0.0},
    "trl": {"max_steps": 100},
}


class Study(NamedTuple):
    """A start, runs from it, and the questions that all answer."""

    model: str
    """default start, a name of `ablation.STARTS` or `tiny`"""
    run: Options
    """options of all runs"""
    arms: Mapping[str, Sequence[Options]]
    """name -> stages of a run, each as options that differ from `run`; a stage begins with the model of the one before"""
    asked: Mapping[str, str]
    """name of a decoding -> options of `eval pixelworld`"""


IMPROVE = Study(
    "tiny",
    {
        "questions_per_sync": 64,
        "group_size": 8,
        "minibatch": 512,
        "rollouts_at_once": 256,
        "max_new_tokens": 96,
        "solved_weight": 0.0,
        "unsolved_weight": 0.0,
        "sample_every": 0,
        "pixelworld": {"count": 2000, "seed": 800_000, "overview_share": 0.2},
        "reward": {"alpha": 0.0, **_FREE_CALLS},
        "trl": {
            **_TRL,
            "per_device_train_batch_size": 8,
            "max_steps": 40,
            "learning_rate": 3e-5,
            "warmup_steps": 5,
        },
    },
    {
        "adam": [{}],
        "adam 1e-4": [{"trl": {"learning_rate": 1e-4}}],
        "sgd": [{"trl": {"optim": "sgd", "learning_rate": 0.3}}],
        "kl .02": [{"trl": {"beta": 0.02}}],
        "kl .05": [{"trl": {"beta": 0.05}}],
        "refill": [{"refill": 2}],
        "divisor": [{"trl": {"scale_rewards": "none"}}],
        "delta": [{"reward": {"delta": 0.5}}],
        "delta elsewhere": [{"reward": {"delta": 0.5, "delta_baseline": "elsewhere"}}],
    },
    {
        "greedy": "--family all --count 600",
        "sampled": "--family all --count 600 --temperature 0.8",
    },
)
AIM = Study(
    "clumsy",
    {
        "questions_per_sync": 16,
        "group_size": 8,
        "minibatch": 128,
        "rollouts_at_once": 128,
        "max_new_tokens": 96,
        "sample_every": 0,
        "pixelworld": {"count": 500, "seed": 800_000, "overview_share": 0.2},
        "reward": _FREE_CALLS,
        "trl": {
            **_TRL,
            "per_device_train_batch_size": 4,
            "max_steps": 250,
            "learning_rate": 2e-4,
            "warmup_steps": 10,
        },
    },
    {
        "answer": [{}],
        "hits, then answer": [_HITS_ALONE, {"trl": {"max_steps": 150}}],
        "delta": [{"reward": {"delta": 0.5}}],
        "delta elsewhere": [{"reward": {"delta": 0.5, "delta_baseline": "elsewhere"}}],
        "no curiosity": [{"reward": {"alpha": 0.0}}],
    },
    {"greedy": "--family all --count 500"},
)
WHEN = Study(
    "by-chance",
    {
        "questions_per_sync": 32,
        "group_size": 8,
        "minibatch": 256,
        "rollouts_at_once": 256,
        "max_new_tokens": 96,
        "sample_every": 0,
        "pixelworld": {"world": 2, "count": 1000, "seed": 800_000, "overview_share": 0.5},
        "reward": {"alpha": 0.0, **_FREE_CALLS},
        "trl": {
            **_TRL,
            "per_device_train_batch_size": 4,
            "max_steps": 100,
            "learning_rate": 1e-4,
            "warmup_steps": 10,
        },
    },
    {
        "answer": [{}],
        "curiosity": [{"reward": {"alpha": 0.5}}],
        "probes": [{"probes": 4}],
    },
    {"greedy": "--world 2 --family all --count 504"},
)
STUDIES: Mapping[str, Study] = {"improve": IMPROVE, "aim": AIM, "when": WHEN}


# --- running ---


def run(name: str, arms: Sequence[str], seeds: Sequence[int], model: str) -> None:
    """Run every job of a study that has no results yet."""
    study = STUDIES[name]
    done = {(row["arm"], row["seed"]) for row in results(name)}
    for arm, seed in [(START, 0), *((arm, seed) for seed in seeds for arm in arms)]:
        if (arm, seed) in done:
            continue
        folder = OUT / name / f"{arm.replace(' ', '-').replace(',', '')}-{seed}"
        trained = model
        for number, options in enumerate(() if arm == START else study.arms[arm]):
            trained = _train(folder / f"stage-{number}", study, options, seed, trained)
        rows = [{"arm": arm, "seed": seed, **row} for row in _ask(folder, study, trained)]
        write_json([*results(name), *rows], _kept(name))
        say(f"{time.strftime('%H:%M')} {arm}, seed {seed}: done")


def write_run(study: Study, options: Options, seed: int, model: str, path: Path) -> None:
    """Write the file of a stage that `train rl` reads."""
    run = merged(
        merged({"model": model, "out": ".", **study.run}, options), {"trl": {"seed": seed}}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as file:
        file.write(as_toml(run))


def _train(folder: Path, study: Study, options: Options, seed: int, model: str) -> str:
    write_run(study, options, seed, model, folder / "run.toml")
    share_folder(folder / "questions", OUT / "questions")
    if not is_complete(folder / "model"):
        call(folder, "train", "rl", str(folder / "run.toml"))
    return str(folder / "model")


def _ask(folder: Path, study: Study, model: str) -> Iterator[dict[str, Any]]:
    """Yield a row per decoding, family and kind of question, with the grade of every question."""
    for decoding, options in study.asked.items():
        out = folder / f"eval-{decoding}"
        command = f"eval pixelworld --split test --batch-size 64 {options}".split()
        if not (out / "summary.json").exists():
            more = ("--media", str(OUT / "media"), "--model", model, "--out", str(out))
            call(folder, *command, *more)
        yield from rows_of(decoding, out / "traces.jsonl")


def rows_of(decoding: str, traces: Path) -> Iterator[dict[str, Any]]:
    """Yield a row per family and kind of question, with grades in the order of question ids."""
    found: dict[tuple[str, str], list[tuple[str, bool, bool, bool | None]]] = {}
    for trace in load_traces(traces):
        question = trace.question
        row = question.id, is_correct(trace), num_executed(trace) > 0, evidence_hit(trace)
        family = question.id.removeprefix("w2-").split("-")[0]
        found.setdefault((family, get_category(trace)), []).append(row)
    for (family, kind), rows in sorted(found.items()):
        rows.sort(key=lambda row: row[0])
        _, correct, used, hits = zip(*rows, strict=True)
        known = [hit for hit in hits if hit is not None]
        yield {
            "decoding": decoding,
            "family": family,
            "kind": kind,
            "grades": "".join(map(str, map(int, correct))),
            "used": sum(used),
            "hits": round(statistics.fmean(known), 4) if known else None,
        }


def results(name: str) -> list[dict[str, Any]]:
    """Return the rows of all finished jobs of a study."""
    path = _kept(name)
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else []
    return rows


def _kept(name: str) -> Path:
    return OUT / f"{name}.json"


# --- showing ---


def show(name: str) -> None:
    """Print accuracies, use of operations, hits, and paired differences from the start."""
    rows = results(name)
    families = list(dict.fromkeys(row["family"] for row in rows))
    for decoding in STUDIES[name].asked:
        mine = [row for row in rows if row["decoding"] == decoding]
        for kind in KINDS:
            chosen = [row for row in mine if row["kind"] == kind]
            if not chosen:
                continue
            say(f"\n{kind}, {decoding}: accuracy; difference from the start in points\n")
            say(f"| arm | seeds | {' | '.join(families)} | difference | RaPR | evidence hit |")
            say("| --- |" + " --- |" * (len(families) + 4))
            for arm in dict.fromkeys(row["arm"] for row in rows):
                say(_line(arm, chosen, families))
        say(f"\nchoice to use an operation, {decoding}\n\n| arm | difference of RaPR | MCC |")
        say("| --- | --- | --- |")
        for arm in dict.fromkeys(row["arm"] for row in rows):
            say(_choice(arm, [row for row in mine if row["arm"] == arm]))


def _line(arm: str, rows: Sequence[Row], families: Sequence[str]) -> str:
    ours = [row for row in rows if row["arm"] == arm]
    seeds = sorted({row["seed"] for row in ours})
    cells = []
    for family in families:
        accuracies = [_accuracy(row["grades"]) for row in ours if row["family"] == family]
        cells.append(f"{statistics.fmean(accuracies):.3f}" if accuracies else "–")
    start = _grades(row for row in rows if row["arm"] == START)
    difference = "–"
    if arm != START:
        difference = "{:+.1f} ({:+.1f} to {:+.1f})".format(
            *paired(start, [_grades(row for row in ours if row["seed"] == s) for s in seeds])
        )
    asked = sum(len(row["grades"]) for row in ours)
    rapr = sum(row["used"] for row in ours) / asked
    hits = [row["hits"] for row in ours if row["hits"] is not None]
    hit = f"{statistics.fmean(hits):.3f}" if hits else "–"
    return f"| {arm} | {len(seeds)} | {' | '.join(cells)} | {difference} | {rapr:.3f} | {hit} |"


def _choice(arm: str, rows: Sequence[Row]) -> str:
    by_kind = [[row for row in rows if row["kind"] == kind] for kind in KINDS]
    used = np.array([sum(row["used"] for row in some) for some in by_kind])
    unused = np.array([sum(len(row["grades"]) for row in some) for some in by_kind]) - used
    needed, other = used / np.maximum(1, used + unused)
    return f"| {arm} | {needed - other:.3f} | {matthews_correlation(*used, *unused):.3f} |"


def _grades(rows: Iterable[Row]) -> dict[str, str]:
    return {row["family"]: row["grades"] for row in rows}


def _accuracy(grades: str) -> float:
    return grades.count("1") / len(grades)


def paired(
    start: Mapping[str, str], seeds: Sequence[Mapping[str, str]]
) -> tuple[float, float, float]:
    """Return the mean difference in points with a 95 % interval.

    Two things are uncertain: which questions were asked (bootstrap of the means over seeds) and the seeds (Student's t).

    Args:
        start: family -> grades of the start, a character per question.
        seeds: the same for each seed of an arm.

    >>> paired({"count": "0000"}, [{"count": "1111"}])[0]
    100.0
    """
    by_seed = [
        [
            float(int(after) - int(before))
            for family, grades in start.items()
            for before, after in zip(grades, ours[family], strict=True)
        ]
        for ours in seeds
    ]
    by_question = [statistics.fmean(values) for values in zip(*by_seed, strict=True)]
    found = interval(by_question, range(len(by_question)), least=-1)
    assert found is not None, "no questions"
    half = half_interval([statistics.fmean(values) for values in by_seed])
    low = found.value - math.hypot(found.value - found.low, half)
    high = found.value + math.hypot(found.high - found.value, half)
    return 100 * found.value, 100 * low, 100 * high


def main() -> None:
    """Run jobs of a study, or show their results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("run", "show"))
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("arms", nargs="*", help="default: all arms of the study")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument(
        "--model", default="", help="model to start from; by default the one of the study"
    )
    asked = parser.parse_args()
    study = STUDIES[asked.study]
    if unknown := set(asked.arms) - set(study.arms):
        known = ", ".join(study.arms)
        parser.error(f"no such arm: {', '.join(sorted(unknown))}; choose from {known}")
    if asked.do == "run":
        model = asked.model or warm_start(study.model)
        run(asked.study, asked.arms or list(study.arms), asked.seeds, model)
    else:
        show(asked.study)


if __name__ == "__main__":
    main()
