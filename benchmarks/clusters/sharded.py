"""FSDP2 and DeepSpeed ZeRO-2/3 on two processes against one: losses, shards, resumed and killed runs, and the model folder.

    OMP_NUM_THREADS=1 PYTHONPATH=src:benchmarks python -m clusters.sharded [FOLDER [PART...]]

With a folder, parts whose results are in it are not repeated. Runs go through `pixel-reasoner train sft|rl run.toml`. Processes are forked with the environment of torchrun (`forked`); two kills
use torchrun itself. RL has scripted rollouts (`scripted`), because sampled rollouts depend on the number of processes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pixel_reasoner.train.rl
import pixel_reasoner.train.sft  # noqa: F401 - shared by all forks
from clusters.folders import CLASSES, build_folder
from clusters.forked import Command, run
from clusters.record import Result, print_table, save
from clusters.sharded_runs import (
    generated,
    largest_difference,
    resumed_toml,
    rl_toml,
    sft_toml,
    shares,
    steps_of,
    write_questions,
    write_traces,
)

SHARDINGS = ("fsdp2", "zero2", "zero3")
STEPS = 20
FLOOR = 1e-3
NUM_KILLS = 10
"""of which the last two are under torchrun"""
TRAINED = {0: "all weights", 4: "LoRA"}
"""rank of the LoRA -> what is trained"""
PACKAGES = ("torch", "transformers", "accelerate", "trl", "peft", "deepspeed")


class Runs:
    """Runs in a folder, and their results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: list[Result] = []
        self.traces, self.questions = folder / "traces", folder / "questions"
        if not self.questions.exists():
            write_traces(self.traces, 12, 6)
            write_questions(self.questions, 4)

    def train(self, processes: int, kind: str, path: Path) -> Path:
        """Train a run to its end, and return the path of its TOML file."""
        started = time.monotonic()
        code = run(command(processes, kind, path))
        print(f"{path.stem}: {time.monotonic() - started:.1f} s, exit code {code}", flush=True)
        if code:
            print("\n".join(path.with_suffix(".log").read_text().splitlines()[-15:]))
        return path

    def record(
        self, path: str, measure: str, value: Callable[[], tuple[str, bool]], floor: str = ""
    ) -> None:
        """Add a result. A failed run is a failed result."""
        try:
            text, passed = value()
        except (OSError, AssertionError, ValueError, KeyError) as error:
            text, passed = f"failed: {type(error).__name__} {str(error)[:80]}", False
        self.results.append(Result(path, measure, text, floor, passed))

    def record_losses(self, name: str, one: Path, two: Path) -> None:
        """Compare the losses and gradient norms of two runs, and record the share of the weights in a process."""

        def losses() -> tuple[str, bool]:
            loss, norm = (largest_difference(one, two, key) for key in ("loss", "grad_norm"))
            return f"{loss:.1e} (gradient norm {norm:.1e})", loss <= FLOOR

        measure = f"largest difference of {len(steps_of(one))} losses to one process"
        self.record(name, measure, losses, f"{FLOOR:g}")
        self.record(
            name,
            "largest share of the weights in a process",
            lambda: (f"{max(shares(two)):.3f}", max(shares(two)) < 0.51),
            "0.51",
        )


def command(processes: int, kind: str, path: Path) -> Command:
    arguments = ["scripted", str(path)] if kind == "rl" else ["train", kind, str(path)]
    return Command(processes, arguments, str(path.with_suffix(".log")))


def bundled_model(runs: Runs, kind: str, lora_rank: int) -> None:
    """Run every kind of sharding on the bundled model."""
    toml, data = (sft_toml, runs.traces) if kind == "sft" else (rl_toml, runs.questions)
    options = {"steps": STEPS, "lora_rank": lora_rank}
    stem = f"{kind}-{lora_rank}"
    one = runs.train(1, kind, toml(runs.folder / f"{stem}-one.toml", data, **options))
    for sharding in SHARDINGS:
        path = runs.folder / f"{stem}-{sharding}.toml"
        two = runs.train(2, kind, toml(path, data, **options, sharding=sharding))
        name = f"{sharding}, {TRAINED[lora_rank]}, {kind.upper()}, 2 processes"
        runs.record_losses(name, one, two)
        if kind == "rl":
            measure = "greedy turns of the engine equal to one process"
            runs.record(name, measure, lambda two=two: _equal(one, two))


def _equal(one: Path, two: Path) -> tuple[str, bool]:
    first, second = sorted(generated(one)), sorted(generated(two))
    same = sum(a == b for a, b in zip(first, second, strict=True))
    return f"{same} of {len(first)}", same == len(first) > 0


def random_folder(runs: Runs, model_type: str) -> None:
    """Tune a folder of Qwen2.5-VL or Qwen3-VL with random weights."""
    folder = build_folder(model_type, runs.folder / f"folder-{model_type}")
    traces = runs.folder / f"traces-{model_type}"
    options = ["--count", "6", "--family", "attribute", "--model", str(folder)]
    run(Command(1, ["synth", "pixelworld", *options, "--out", str(traces)], os.devnull))
    top = {"steps": STEPS, "model": folder}
    one = runs.train(1, "sft", sft_toml(runs.folder / f"{model_type}-one.toml", traces, **top))
    for sharding in SHARDINGS:
        path = runs.folder / f"{model_type}-{sharding}.toml"
        two = runs.train(2, "sft", sft_toml(path, traces, **top, sharding=sharding))
        name = f"{sharding}, {model_type} with random weights, SFT, 2 processes"
        runs.record_losses(name, one, two)


def resumed(runs: Runs, lora_rank: int) -> None:
    """Continue runs of two processes with one and with three, from the middle."""
    steps = STEPS // 2
    for sharding in SHARDINGS:
        options = {"batch_size": 6, "sharding": sharding, "lora_rank": lora_rank}
        path = runs.folder / f"whole-{sharding}-{lora_rank}.toml"
        whole = runs.train(2, "sft", sft_toml(path, runs.traces, steps=steps, **options))
        for processes in (1, 3):
            path = runs.folder / f"resumed-{sharding}-{lora_rank}-{processes}.toml"
            again = runs.train(processes, "sft", resumed_toml(path, whole, steps // 2))
            runs.record(
                f"{sharding}, {TRAINED[lora_rank]}, saved by 2 processes, resumed on {processes}",
                f"largest difference of {steps} losses to 2 processes",
                lambda whole=whole, again=again: _within(whole, again),
                f"{FLOOR:g}",
            )


def _within(one: Path, two: Path) -> tuple[str, bool]:
    value = largest_difference(one, two)
    return f"{value:.1e}", value <= FLOOR


def loaded(runs: Runs) -> None:
    """Ask the model folders of the runs a question."""
    picture = str(next((runs.traces / "media").glob("*.png")))
    for lora_rank, trained in TRAINED.items():
        for sharding in SHARDINGS:
            out = runs.folder / f"sft-{lora_rank}-{sharding}"
            arguments = ["ask", "Which letter?", "--image", picture, "--model", str(out / "model")]
            code = run(Command(1, [*arguments, "--max-new-tokens", "16"], str(out / "ask.log")))
            name = f"{sharding}, {trained}, SFT, 2 processes"
            runs.record(
                name,
                "`ask` with the model folder",
                lambda code=code: (f"exit code {code}", not code),
            )


# --- kills ---


def killed(runs: Runs, number: int) -> None:
    """Kill one or all processes at a random time, and continue with the same command."""
    sharding = SHARDINGS[number % len(SHARDINGS)]
    whole = runs.folder / f"sft-0-{sharding}.toml"
    path = runs.folder / f"killed-{number}.toml"
    text = whole.read_text().replace(f'"{whole.stem}"', f'"{path.stem}"')
    path.write_text(text.replace("save_steps = 10", "save_steps = 3"))
    under_torchrun = number >= NUM_KILLS - 2
    victim = "all processes" if number % 2 else "one process"
    seed = random.Random(number)
    stopped = _kill(path, seed, all_processes=bool(number % 2), torchrun=under_torchrun)
    code = _torchrun(path).wait() if under_torchrun else run(command(2, "sft", path))

    def finished() -> tuple[str, bool]:
        assert not code, f"exit code {code}"
        assert (path.with_suffix("") / "model" / "model.safetensors").exists()
        return _within(whole, path)

    launcher = "torchrun" if under_torchrun else "forked"
    runs.record(
        f"{sharding}, SIGKILL of {victim} after step {stopped} of {STEPS} ({launcher}), same command again",
        f"largest difference of {STEPS} losses to an uninterrupted run",
        finished,
        f"{FLOOR:g}",
    )


def _kill(path: Path, draws: random.Random, *, all_processes: bool, torchrun: bool) -> int:
    """Start a run, kill processes at a random time after its first checkpoint, and return the last step in its log."""
    if torchrun:
        launcher = _torchrun(path)
    else:
        forked = os.fork()
        if not forked:
            os.setpgid(0, 0)
            os._exit(run(command(2, "sft", path)) & 255)
        launcher = None
    pid = launcher.pid if launcher else forked
    while not list(path.with_suffix("").glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.02)
    time.sleep(draws.uniform(0, 1.5))
    if all_processes:
        os.killpg(pid, signal.SIGKILL)
    else:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:  # the run may have finished
            os.kill(int(children[-1]), signal.SIGKILL)
    launcher.wait() if launcher else os.waitpid(forked, 0)
    return max(steps_of(path), default=0)


def _torchrun(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    command += ["2", "-m", "pixel_reasoner.cli", "train", "sft", str(path)]
    with path.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


PARTS: dict[str, Callable[[Runs], None]] = {
    **{
        f"{kind}-{rank}": lambda runs, kind=kind, rank=rank: bundled_model(runs, kind, rank)
        for kind in ("sft", "rl")
        for rank in TRAINED
    },
    **{name: lambda runs, name=name: random_folder(runs, name) for name in CLASSES},
    "ask": loaded,
    **{f"resume-{rank}": lambda runs, rank=rank: resumed(runs, rank) for rank in TRAINED},
    **{f"kill-{n}": lambda runs, n=n: killed(runs, n) for n in range(NUM_KILLS)},
}


def main(folder: Path, parts: Sequence[str] = ()) -> int:
    """Run parts without results, and save the results when all parts have some."""
    assert threading.active_count() == 1, "processes are forked"
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts or PARTS:
        path = folder / f"results-{part}.json"
        if path.exists():
            continue
        started, runs = time.monotonic(), Runs(folder)
        PARTS[part](runs)
        seconds = time.monotonic() - started
        path.write_text(json.dumps({"seconds": seconds, "results": runs.results}))
        print_table(part, runs.results)
    paths = [folder / f"results-{part}.json" for part in PARTS]
    if not all(path.exists() for path in paths):
        return 0
    found = [json.loads(path.read_text()) for path in paths]
    results = [Result(*one) for value in found for one in value["results"]]
    save("sharded", results, PACKAGES, seconds=sum(value["seconds"] for value in found))
    return int(not all(one.passed for one in results))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2:]))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
