"""Jobs of SLURM that are stopped and queued again, with stand-ins of sbatch, srun and scontrol: two nodes are two processes.

PYTHONPATH=src:benchmarks python -m clusters.schedulers
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clusters.record import Result, save

ROOT = Path(__file__).parents[2]
NUM_STEPS = 12
TIMEOUT_S = 240.0
TRL = """
learning_rate = 1e-3
per_device_train_batch_size = 1
gradient_accumulation_steps = 1
save_strategy = "no"
report_to = "none"
"""


class Slurm:
    """Jobs of `runs/cluster/slurm.sbatch` on a stand-in for SLURM.

    Args:
        folder: folder of the stand-in, which must not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "srun", "scontrol"):
            (folder / name).symlink_to(Path(__file__).parent / "slurm_stub.py")
        self.environment = {
            **os.environ,
            "SLURM_STUB": str(folder),
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
        }

    def submit(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Submit the script and return the process of the job, which ends when it is not queued again."""
        script = ROOT / "runs/cluster/slurm.sbatch"
        return subprocess.Popen(
            [str(self.folder / "sbatch"), str(script), *map(str, arguments)],
            env=self.environment | environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def signal(self, process: str, number: int) -> None:
        """Send a signal to `batch`, the script, or to `node-N`, the torchrun of a node."""
        os.kill(int((self.folder / f"{process}.pid").read_text()), number)

    @property
    def num_requeued(self) -> int:
        """Number of calls of `scontrol requeue`."""
        path = self.folder / "requeued"
        return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(
    is_true: Callable[[], bool], job: subprocess.Popen[str], timeout_s: float = TIMEOUT_S
) -> None:
    """Wait for a condition while a job runs."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "the job did not get going"
        assert job.poll() is None, job.communicate()[0][-3000:]
        time.sleep(0.02)


def losses(folder: Path) -> dict[int, float]:
    """Return the loss of each step of the run in `folder/out`."""
    path = folder / "out" / "log.jsonl"
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    logged = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    assert len(dict(logged)) == len(logged), "no step is logged twice"
    return dict(logged)


def run_uninterrupted(slurm: Slurm, run: Path) -> None:
    """Train a run in one job."""
    job = slurm.submit("sft", run)
    output, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, output[-3000:]


def run_with_two_stops(slurm: Slurm, run: Path) -> tuple[int, int]:
    """Train a run in three attempts, and return the steps of its two stops.

    The script gets SIGUSR1, as before a time limit, and is queued again. Then the second node alone gets SIGTERM, which ends the job.
    The same command finishes the run.
    """
    folder = run.parent
    job = slurm.submit("sft", run)
    wait_for(lambda: len(losses(folder)) >= 1, job)
    slurm.signal("batch", signal.SIGUSR1)
    wait_for(lambda: slurm.num_requeued == 1, job)
    first = len(losses(folder))
    wait_for(lambda: len(losses(folder)) > first, job)
    slurm.signal("node-1", signal.SIGTERM)
    output, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode != 0
    assert slurm.num_requeued == 1
    assert output.count("stopped by ") == 2, output[-3000:]
    assert "stopped by a signal to another process after checkpoint-" in output
    second = len(losses(folder))
    run_uninterrupted(slurm, run)
    return first, second


def run_with_one_stop(slurm: Slurm, run: Path) -> int:
    """Train a run in a job that is queued again once, and return the step of its stop."""
    before = slurm.num_requeued
    job = slurm.submit("sft", run)
    wait_for(lambda: len(losses(run.parent)) >= 1, job)
    slurm.signal("batch", signal.SIGUSR1)
    wait_for(lambda: slurm.num_requeued > before, job)
    step = len(losses(run.parent))
    output, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, output[-3000:]
    return step


def write_run(folder: Path, text: str = "") -> Path:
    """Write the file of a run whose traces are in `folder/../synth`."""
    folder.mkdir()
    head = f'traces = ["../synth"]\nout = "out"\n{text}\n[trl]\nmax_steps = {NUM_STEPS}\n'
    (folder / "run.toml").write_text(head + TRL)
    return folder / "run.toml"


def compare(path: str, whole: Path, parts: Path) -> list[Result]:
    """Return the results of a run that was stopped, next to a run without stops."""
    runs = [losses(run.parent) for run in (whole, parts)]
    assert list(runs[0]) == list(runs[1]) == list(range(1, NUM_STEPS + 1))
    difference = max(abs(runs[0][step] - runs[1][step]) for step in runs[0])
    models = [(run.parent / "out/model/model.safetensors").read_bytes() for run in (whole, parts)]
    is_equal = models[0] == models[1]
    measure = f"largest difference of {NUM_STEPS} losses to a run without stops"
    return [
        Result(path, measure, f"{difference:.1e}", "1e-6", passed=difference <= 1e-6),
        Result(
            path, "weights of the model", "equal" if is_equal else "different", "equal", is_equal
        ),
    ]


def main() -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["synth", "pixelworld", "--family", "attribute", "--count", "8", "--out"]
        subprocess.run(
            [sys.executable, "-m", "pixel_reasoner.cli", *command, str(folder / "synth")],
            check=True,
            capture_output=True,
        )
        slurm = Slurm(folder / "slurm")
        results = []
        for text in ("", 'sharding = "fsdp2"'):
            name = "sharded-" if text else ""
            whole, parts = (
                write_run(folder / f"{name}{part}", text) for part in ("whole", "parts")
            )
            run_uninterrupted(slurm, whole)
            if text:
                stops = [run_with_one_stop(slurm, parts)]
            else:
                stops = [*run_with_two_stops(slurm, parts)]
            path = f"runs/cluster/slurm.sbatch, SFT{', FSDP2' if text else ''}, 2 nodes, stopped after step {' and '.join(map(str, stops))}"
            results += compare(path, whole, parts)
    save("schedulers", results, ["torch", "trl"], seconds=time.monotonic() - started)


if __name__ == "__main__":
    main()
