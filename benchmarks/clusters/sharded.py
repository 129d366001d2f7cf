"""FSDP2 and DeepSpeed ZeRO-2/3 on two processes against one: losses, shards, resumed and killed runs, and the model folder.

    OMP_NUM_THREADS=1 PYTHONPATH=src:benchmarks python -m clusters.sharded [FOLDER]

Runs go through `pixel-reasoner train sft|rl run.toml`. Processes are forked with the environment of torchrun (`forked`); two kills
use torchrun itself. RL has scripted rollouts (`scripted`), because sampled rollouts depend on the number of processes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pixel_reasoner.train.rl
import pixel_reasoner.train.sft  # noqa: F401 - shared by all forks
from clusters.folders import CLASSES, build_folder
from clusters.forked import Command, run
from clusters.record import Result, save
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
TRAINED = {"all weights": 0, "LoRA": 4}
PACKAGES = ("torch", "transformers", "accelerate", "trl", "peft", "deepspeed")


class Runs:
    """Runs in a folder, and their results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: list[Result] = []
        self.traces = write_traces(folder / "traces", 12, 6)
        self.questions = write_questions(folder / "questions", 4)

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


def bundled_model(runs: Runs) -> dict[str, Path]:
    """Run every kind of sharding on the bundled model, and return the runs of warm-start tuning."""
    tuned: dict[str, Path] = {}
    for trained, lora_rank in TRAINED.items():
        for kind, toml, data in (("sft", sft_toml, runs.traces), ("rl", rl_toml, runs.questions)):
            stem = f"{kind}-{lora_rank}"
            options = {"steps": STEPS, "lora_rank": lora_rank}
            one = runs.train(1, kind, toml(runs.folder / f"{stem}-one.toml", data, **options))
            for sharding in SHARDINGS:
                path = runs.folder / f"{stem}-{sharding}.toml"
                two = runs.train(2, kind, toml(path, data, **options, sharding=sharding))
                name = f"{sharding}, {trained}, {kind.upper()}, 2 processes"
                runs.record_losses(name, one, two)
                if kind == "rl":
                    runs.record(
                        name, "greedy turns equal to one process", lambda o=one, t=two: _equal(o, t)
                    )
                else:
                    tuned[f"{sharding}, {trained}"] = two
    return tuned


def _equal(one: Path, two: Path) -> tuple[str, bool]:
    first, second = sorted(generated(one)), sorted(generated(two))
    same = sum(a == b for a, b in zip(first, second, strict=True))
    return f"{same} of {len(first)}", same == len(first) > 0


def random_folders(runs: Runs) -> None:
    """Tune folders of Qwen2.5-VL and Qwen3-VL with random weights."""
    for model_type in CLASSES:
        folder = build_folder(model_type, runs.folder / f"folder-{model_type}")
        traces = runs.folder / f"traces-{model_type}"
        options = ["--count", "6", "--family", "attribute", "--model", str(folder)]
        run(Command(1, ["synth", "pixelworld", *options, "--out", str(traces)], os.devnull))
        stem = f"{runs.folder}/{model_type}"
        options = {"steps": STEPS, "model": folder}
        one = runs.train(1, "sft", sft_toml(Path(f"{stem}-one.toml"), traces, **options))
        for sharding in SHARDINGS:
            path = Path(f"{stem}-{sharding}.toml")
            two = runs.train(2, "sft", sft_toml(path, traces, **options, sharding=sharding))
            runs.record_losses(f"{sharding}, {model_type} with random weights, SFT", one, two)


def resumed(runs: Runs, tuned: dict[str, Path]) -> None:
    """Continue runs of two processes with one and with three, from the middle."""
    steps = STEPS // 2
    for name, _ in tuned.items():
        sharding, trained = name.split(", ")
        stem = f"{sharding}-{TRAINED[trained]}"
        options = {"steps": steps, "batch_size": 6, "sharding": sharding}
        options["lora_rank"] = TRAINED[trained]
        path = runs.folder / f"whole-{stem}.toml"
        whole = runs.train(2, "sft", sft_toml(path, runs.traces, **options))
        for processes in (1, 3):
            path = runs.folder / f"resumed-{stem}-{processes}.toml"
            again = runs.train(processes, "sft", resumed_toml(path, whole, steps // 2))
            runs.record(
                f"{name}, saved by 2 processes, resumed on {processes}",
                f"largest difference of {steps} losses",
                lambda o=whole, t=again: _within(o, t),
                f"{FLOOR:g}",
            )


def _within(one: Path, two: Path) -> tuple[str, bool]:
    value = largest_difference(one, two)
    return f"{value:.1e}", value <= FLOOR


def loaded(runs: Runs, tuned: dict[str, Path]) -> None:
    """Ask the model folders of all runs a question."""
    picture = str(next((runs.traces / "media").glob("*.png")))
    folders = {name: path.with_suffix("") / "model" for name, path in tuned.items()}
    for name, folder in folders.items():
        log = str(folder.with_name("ask.log"))
        arguments = ["ask", "Which letter?", "--image", picture, "--model", str(folder)]
        code = run(Command(1, [*arguments, "--max-new-tokens", "16"], log))
        runs.record(
            f"{name}, SFT", "`ask` with the model folder", lambda c=code: (f"exit code {c}", not c)
        )


# --- kills ---


def killed(runs: Runs, tuned: dict[str, Path]) -> None:
    """Kill one or all processes at random times, and continue with the same command."""
    draws, same = random.Random(0), 0
    names = [name for name in tuned if name.endswith("all weights")]
    for number in range(NUM_KILLS):
        name = names[number % len(names)]
        sharding = name.split(", ")[0]
        path = runs.folder / f"killed-{number}.toml"
        text = tuned[name].read_text().replace(f'"{tuned[name].stem}"', f'"{path.stem}"')
        path.write_text(text.replace("save_steps = 10", "save_steps = 3"))
        under_torchrun = number >= NUM_KILLS - 2
        victim = "all processes" if number % 2 else "one process"
        stopped = _kill(path, draws, all_processes=bool(number % 2), torchrun=under_torchrun)
        code = _torchrun(path).wait() if under_torchrun else run(command(2, "sft", path))
        difference = largest_difference(tuned[name], path) if not code else float("inf")
        has_model = (path.with_suffix("") / "model" / "model.safetensors").exists()
        same += not code and difference <= FLOOR and has_model
        print(
            f"kill {number}: {sharding}, {victim} after step {stopped}: {difference:.1e}",
            flush=True,
        )
    runs.record(
        f"SIGKILL of one or all of 2 processes, {NUM_KILLS} runs",
        "finished by the same command with the losses of an uninterrupted run",
        lambda: (f"{same} of {NUM_KILLS}", same == NUM_KILLS),
        f"{NUM_KILLS}",
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


def main(folder: Path) -> None:
    started = time.monotonic()
    assert threading.active_count() == 1, "processes are forked"
    runs = Runs(folder)
    tuned = bundled_model(runs)
    random_folders(runs)
    loaded(runs, tuned)
    resumed(runs, tuned)
    killed(runs, tuned)
    save("sharded", runs.results, PACKAGES, seconds=time.monotonic() - started)
    if not all(one.passed for one in runs.results):
        sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        shutil.rmtree(sys.argv[1], ignore_errors=True)
        main(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
