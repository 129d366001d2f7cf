"""Compare our harness variants of ANLS, relaxed accuracy and cyclic accuracy with the functions of lmms-eval.

.venv/bin/python benchmarks/scorers.py [PAIRS]        # creates runs/lmms-eval/.venv once

The environment contains lmms-eval 0.7.3 and the imports of these functions.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from pixel_reasoner.evals.stats import cyclic_accuracy
from pixel_reasoner.scoring.grading import anls, relaxed

HOME = Path(__file__).resolve().parents[1] / "runs" / "lmms-eval"
PACKAGES = (
    *("numpy", "sacrebleu", "pandas", "pyyaml", "pillow", "requests", "loguru", "datasets"),
    *("evaluate", "torch", "transformers", "accelerate", "pytz", "tenacity"),
)
THEIRS = """
import json, sys
from lmms_eval.api.metrics import anls
from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.hrbench.utils import hrbench_aggregate_results

pairs = json.load(open(sys.argv[1]))
scores = {
    "anls": [anls(golds, [answer])["anls"] for answer, golds in pairs["texts"]],
    "relaxed": [float(relaxed_correctness(answer, gold)) for answer, gold in pairs["numbers"]],
    "cyclic": [hrbench_aggregate_results(rows, None) for rows in pairs["cycles"]],
}
json.dump(scores, open(sys.argv[2], "w"))
"""


def environment() -> Path:
    python = HOME / ".venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME / ".venv")], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PACKAGES], check=True)
        # The full requirements of lmms-eval include a browser, an office suite and two deep-learning stacks.
        subprocess.run([*pip, "--no-deps", "lmms-eval==0.7.3"], check=True)
    return python


def random_text(rng: random.Random) -> str:
    letters = "abcABC  \t019é"
    return "".join(rng.choice(letters) for _ in range(rng.randrange(9)))


def similar_text(rng: random.Random, answer: str) -> str:
    """Return a text that is often similar to `answer`."""
    if rng.random() < 0.3 or not answer:
        return random_text(rng)
    place = rng.randrange(len(answer))
    return answer[:place] + rng.choice(["", "x", " ", answer[place].upper()]) + answer[place + 1 :]


def random_number(rng: random.Random) -> str:
    value = rng.choice([0, 1, 5, 50, 100, rng.uniform(-200, 200), rng.uniform(0, 1)])
    form = rng.choice(
        ["{:.0f}", "{:.2f}", "{}", "{:.1f}%", "{:,.0f}", "${:.0f}", "{:.0f} km", "yes"]
    )
    return form.format(value)


def similar_number(rng: random.Random, answer: str) -> str:
    try:
        value = float(answer.rstrip("%"))
    except ValueError:
        return rng.choice([answer, answer.upper(), random_number(rng)])
    sign = "%" * answer.endswith("%")
    return f"{value * rng.choice([1, 0.95, 1.05, 1.049999, 0.9]):.6g}{sign}"


def random_cycles(rng: random.Random) -> list[dict[str, float]]:
    return [
        {"cycle_category": rng.randrange(4), "gpt_score": rng.randrange(2), "index": n}
        for n in range(rng.randrange(1, 40))
    ]


def our_cyclic_accuracy(rows: list[dict[str, float]]) -> float:
    by_cycle: dict[float, list[float]] = {}
    for row in rows:
        by_cycle.setdefault(row["cycle_category"], []).append(row["gpt_score"])
    return cyclic_accuracy([sum(some) / len(some) for some in by_cycle.values()])


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rng = random.Random(0)
    texts = [
        (
            answer := random_text(rng),
            [similar_text(rng, answer) for _ in range(rng.randrange(1, 4))],
        )
        for _ in range(pairs)
    ]
    numbers = [(answer := random_number(rng), similar_number(rng, answer)) for _ in range(pairs)]
    rounds = [random_cycles(rng) for _ in range(pairs // 10)]
    python = environment()
    HOME.mkdir(parents=True, exist_ok=True)
    inputs, outputs = HOME / "pairs.json", HOME / "scores.json"
    inputs.write_text(json.dumps({"texts": texts, "numbers": numbers, "cycles": rounds}))
    subprocess.run([str(python), "-c", THEIRS, str(inputs), str(outputs)], check=True)
    theirs = json.loads(outputs.read_text())
    ours = {
        "anls": [max(anls(a, g, harness=True) for g in golds) for a, golds in texts],
        "relaxed": [relaxed(a, g, harness=True) for a, g in numbers],
        "cyclic": [our_cyclic_accuracy(rows) for rows in rounds],
    }
    for name, values in ours.items():
        distances = [abs(one - other) for one, other in zip(values, theirs[name], strict=True)]
        differing = sum(distance > 1e-9 for distance in distances)
        print(
            f"{name}: {len(values)} pairs, {differing} differ by more than 1e-9, largest {max(distances):.1e}"
        )
        for pair, one, other in zip(
            {"anls": texts, "relaxed": numbers}.get(name, rounds), values, theirs[name], strict=True
        ):
            if abs(one - other) > 1e-9:
                print("   ", pair, one, other)
                break


if __name__ == "__main__":
    main()
