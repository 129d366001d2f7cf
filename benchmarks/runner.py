"""Compare the rows per second of our evaluation runner and of inspect_ai: equal rows, scripted model and scores.

.venv/bin/python benchmarks/runner.py [ROWS]        # creates runs/inspect-ai/.venv once

Both run our loop once per row (decode and resize a picture, write a message, grade an answer). They differ in logs, limits and resuming.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "runs" / "inspect-ai"
PICTURES = 500


def run_in_environment() -> None:
    """Run this file again in an environment with inspect_ai, which needs other versions than the lock file."""
    python = HOME / ".venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME / ".venv")], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--editable", f"{ROOT}[inspect]"], check=True)
    sys.exit(subprocess.run([str(python), *sys.argv]).returncode)


def questions(folder: Path, rows: int) -> list:
    import numpy as np
    from PIL import Image

    from pixel_reasoner.schema.question import MediaItem, Question

    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = rng.integers(0, 256, (480, 640, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=85)
    return [
        Question(
            id=f"q{n}",
            text="Which colour?",
            media=(MediaItem(kind="image", path=str(folder / f"{n % PICTURES}.jpg")),),
            answer=("red",),
            group=str(n),
        )
        for n in range(rows)
    ]


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    if importlib.util.find_spec("inspect_ai") is None:
        run_in_environment()
    from inspect_ai import Task, eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset

    from pixel_reasoner.evals.run import Evaluation, evaluate
    from pixel_reasoner.integrations.inspect_ai_tasks import look_again, sample, typed
    from pixel_reasoner.models.scripted import ScriptedModel
    from pixel_reasoner.schema.settings import RolloutConfig

    with tempfile.TemporaryDirectory() as folder:
        asked = questions(Path(folder), rows)

        def model() -> ScriptedModel:
            return ScriptedModel(lambda conversation: r"\boxed{red}")

        started = time.perf_counter()
        ours = evaluate(Evaluation(asked, model(), RolloutConfig(), {}), Path(folder) / "run")
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        task = Task(
            dataset=MemoryDataset([sample(question) for question in asked]),
            solver=look_again(model()),
            scorer=typed(),
        )
        (log,) = inspect_eval(task, model="mockllm/model", log_dir=f"{folder}/logs", display="none")
        theirs = time.perf_counter() - started
        assert log.status == "success", log.error
        assert ours["accuracy"] == log.results.scores[0].metrics["accuracy"].value == 1.0
    print(f"ours:       {rows / seconds:7.1f} rows/s ({seconds:.1f} s)")
    print(f"inspect_ai: {rows / theirs:7.1f} rows/s ({theirs:.1f} s)")
    print(f"{theirs / seconds:.1f} x")


if __name__ == "__main__":
    main()
