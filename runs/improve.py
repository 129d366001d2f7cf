"""RL from a model that is already good: one option at a time, several seeds, against the start on the same questions.

    .venv/bin/python runs/improve.py run [ARM ...] --seeds 0 1 2     # killed? run it again
    .venv/bin/python runs/improve.py show                            # runs/improve/results.json as a table

Every arm changes options of one run (`RUN` below). Each job trains with `train rl` and is asked 600 questions of the test
split per family, greedily and sampled at temperature .8. Results of finished jobs are kept in `results.json` with the
grade of every question, so differences are paired and a job is not run twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_runs import Options, as_toml, call, merged

from pixel_reasoner.evals.intervals import interval
from pixel_reasoner.evals.stats import get_category, is_correct, num_executed
from pixel_reasoner.files import atomic_writer, write_json
from pixel_reasoner.schema.trace import load_traces

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "runs" / "improve"
RESULTS = OUT / "results.json"
SEEDS = (0, 1, 2)
QUESTIONS = 600
"""of the test split, for each family"""
FAMILIES = ("attribute", "relation", "count", "infographic", "video")
DECODINGS = {"greedy": (), "sampled": ("--temperature", "0.8")}
START = "start"
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a 95 % interval, by the number of seeds"""

RUN: Options = {
    "questions_per_sync": 64,
    "group_size": 8,
    "minibatch": 512,
    "rollouts_at_once": 256,
    "max_new_tokens": 96,
    "solved_weight": 0.0,
    "unsolved_weight": 0.0,
    "sample_every": 0,
    "pixelworld": {"count": 2000, "seed": 800_000, "overview_share": 0.2},
    "reward": {"alpha": 0.0, "N": 2, "ignored_refusal_is_wrong": True},
    "trl": {
        "per_device_train_batch_size": 8,
        "max_steps": 40,
        "learning_rate": 3e-5,
        "temperature": 0.8,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
        "scale_rewards": "group",
        "max_completion_length": 1500,
        "save_steps": 10,
        "save_total_limit": 1,
        "disable_tqdm": True,
    },
}
ARMS: Mapping[str, Options] = {
    "adam": {},
    "adam 1e-4": {"trl": {"learning_rate": 1e-4}},
    "sgd": {"trl": {"optim": "sgd", "learning_rate": 0.3}},
    "kl .02": {"trl": {"beta": 0.02}},
    "kl .05": {"trl": {"beta": 0.05}},
    "refill": {"refill": 2},
    "divisor": {"trl": {"scale_rewards": "none"}},
    "delta": {"reward": {"delta": 0.5}},
    "delta elsewhere": {"reward": {"delta": 0.5, "delta_baseline": "elsewhere"}},
}
"""name -> options that differ from `RUN`"""


# --- running ---


def run(arms: Sequence[str], seeds: Sequence[int], model: str) -> None:
    """Run every job that has no results yet."""
    jobs = [(START, 0), *((arm, seed) for seed in seeds for arm in arms)]
    done = {(row["arm"], row["seed"]) for row in results()}
    for arm, seed in jobs:
        if (arm, seed) in done:
            continue
        folder = OUT / f"{arm.replace(' ', '-')}-{seed}"
        trained = model if arm == START else _train(folder, arm, seed, model)
        rows = list(_ask(folder, arm, seed, trained))
        write_json([*results(), *rows], RESULTS)
        _say(f"{time.strftime('%H:%M')} {arm}, seed {seed}: done")


def _train(folder: Path, arm: str, seed: int, model: str) -> str:
    options = merged(RUN, ARMS[arm])
    options["trl"]["seed"] = seed
    folder.mkdir(parents=True, exist_ok=True)
    (OUT / "questions").mkdir(parents=True, exist_ok=True)
    shared = folder / "questions"
    if not shared.exists():
        shared.symlink_to(Path("..") / "questions")
    with atomic_writer(folder / "run.toml") as file:
        file.write(as_toml({"model": model, "out": ".", **options}))
    if not (folder / "model" / "pixel_reasoner.json").exists():
        call(folder, "train", "rl", str(folder / "run.toml"))
    return str(folder / "model")


def _ask(folder: Path, arm: str, seed: int, model: str) -> Iterator[dict[str, Any]]:
    """Yield a row per family and kind of question, with the grade of every question."""
    for decoding, options in DECODINGS.items():
        out = folder / f"eval-{decoding}"
        asked = f"eval pixelworld --family all --split test --count {QUESTIONS}"
        if not (out / "summary.json").exists():
            command = [*asked.split(), "--batch-size", "64", "--model", model, "--out", str(out)]
            call(folder, *command, "--media", str(OUT / "media"), *options)
        grades: dict[tuple[str, str], list[tuple[str, bool, bool]]] = {}
        for trace in load_traces(out / "traces.jsonl"):
            question = trace.question
            found = question.id, is_correct(trace), num_executed(trace) > 0
            grades.setdefault((question.id.split("-")[0], get_category(trace)), []).append(found)
        for (family, kind), rows in sorted(grades.items()):
            rows.sort()
            yield {
                "arm": arm,
                "seed": seed,
                "decoding": decoding,
                "family": family,
                "kind": kind,
                "grades": "".join(str(int(correct)) for _, correct, _ in rows),
                "rapr": round(statistics.fmean(used for *_, used in rows), 4),
            }


def results() -> list[dict[str, Any]]:
    """Return the rows of all finished jobs."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []


# --- showing ---


def show() -> None:
    """Print accuracies and paired differences from the start."""
    rows = results()
    names = list(dict.fromkeys(row["arm"] for row in rows))
    for kind in ("needs_look", "overview"):
        for decoding in DECODINGS:
            _say(f"\n{kind}, {decoding}: accuracy; difference from the start in points")
            _say(f"| arm | seeds | {' | '.join(FAMILIES)} | difference | RaPR |")
            _say("| --- |" + " --- |" * (len(FAMILIES) + 3))
            for arm in names:
                chosen = [r for r in rows if (r["kind"], r["decoding"]) == (kind, decoding)]
                _say(_line(arm, chosen))


def _line(arm: str, rows: Sequence[Mapping[str, Any]]) -> str:
    ours = [row for row in rows if row["arm"] == arm]
    seeds = sorted({row["seed"] for row in ours})
    cells = []
    for family in FAMILIES:
        accuracies = [_accuracy(row["grades"]) for row in ours if row["family"] == family]
        cells.append(f"{statistics.fmean(accuracies):.3f}" if accuracies else "–")
    start = {row["family"]: row["grades"] for row in rows if row["arm"] == START}
    difference = (
        "–"
        if arm == START
        else "{:+.1f} ({:+.1f} to {:+.1f})".format(
            *paired(start, [_of_seed(ours, seed) for seed in seeds])
        )
    )
    rapr = statistics.fmean(row["rapr"] for row in ours)
    return f"| {arm} | {len(seeds)} | {' | '.join(cells)} | {difference} | {rapr:.3f} |"


def _of_seed(rows: Iterable[Mapping[str, Any]], seed: int) -> dict[str, str]:
    return {row["family"]: row["grades"] for row in rows if row["seed"] == seed}


def _accuracy(grades: str) -> float:
    return grades.count("1") / len(grades)


def paired(
    start: Mapping[str, str], seeds: Sequence[Mapping[str, str]]
) -> tuple[float, float, float]:
    """Return the mean difference in points with a 95 % interval, over questions and over seeds.

    Two things are uncertain: which questions were asked (bootstrap of the mean over seeds) and the seeds (Student's t).

    >>> paired({"count": "0000"}, [{"count": "1111"}])[0]
    100.0
    """

    def differences(ours: Mapping[str, str]) -> list[float]:
        return [
            float(int(after) - int(before))
            for family, grades in start.items()
            for before, after in zip(grades, ours[family], strict=True)
        ]

    by_seed = [differences(ours) for ours in seeds]
    by_question = [statistics.fmean(values) for values in zip(*by_seed, strict=True)]
    found = interval(by_question, range(len(by_question)), least=-1)
    assert found is not None, "no questions"
    half = 0.0
    if len(by_seed) > 1:
        means = [statistics.fmean(values) for values in by_seed]
        half = T_95[len(means)] * statistics.stdev(means) / len(means) ** 0.5
    low = found.value - ((found.value - found.low) ** 2 + half**2) ** 0.5
    high = found.value + ((found.high - found.value) ** 2 + half**2) ** 0.5
    return 100 * found.value, 100 * low, 100 * high


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run jobs, or show their results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("run", "show"))
    parser.add_argument("arms", nargs="*", help="some of: " + ", ".join(ARMS))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--model", default="tiny", help="the start")
    asked = parser.parse_args()
    if unknown := set(asked.arms) - set(ARMS):
        parser.error(f"no such arm: {', '.join(sorted(unknown))}; choose from {', '.join(ARMS)}")
    if asked.do == "run":
        run(asked.arms or list(ARMS), asked.seeds, asked.model)
    else:
        show()


if __name__ == "__main__":
    main()
