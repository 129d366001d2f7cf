"""Memory and speed of an evaluation of many questions: one tiny picture, a scripted model with 50% accuracy.

.venv/bin/python benchmarks/eval_memory.py [QUESTIONS ...]        # 20000 and 100000

Each run is a separate process. Limit: 300 MB for 100,000 questions. A cluster has four questions, so the bootstrap draws from a
quarter as many clusters as there are questions.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

MAX_MB = 300

RUN = """
import json, resource, sys, time
from pathlib import Path
from PIL import Image
from pixel_reasoner.evals.run import Evaluation, evaluate
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.sources.base import QuestionStream

folder, count = Path(sys.argv[1]), int(sys.argv[2])
Image.new("RGB", (32, 32), "red").save(folder / "red.png")
medium = MediaItem(kind="image", path=str(folder / "red.png"))

def questions():
    for n in range(count):
        yield Question(
            id=f"question-{n}", text=f"Question {n}?", media=(medium,), answer=("red",),
            group=f"group {n // 4}", needs_look=bool(n % 3),
        )

answered = 0

def reply(conversation):
    global answered
    model.conversations.clear()  # kept for tests
    answered += 1
    return r"\\boxed{red}" if answered % 2 else r"\\boxed{blue}"

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

model = ScriptedModel(reply)
before, started = megabytes(), time.perf_counter()
evaluation = Evaluation(QuestionStream(questions), model, RolloutConfig(), {"name": "memory"})
summary = evaluate(evaluation, folder / "run")
seconds = time.perf_counter() - started
assert (summary["count"], summary["accuracy"]) == (count, 0.5), summary
print(json.dumps({"before": before, "peak": megabytes(), "seconds": seconds}))
"""


def measure(count: int) -> dict[str, float]:
    """Return the memory before a run and its peak, in MB, and the seconds, measured in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", RUN, folder, str(count)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def main() -> None:
    """Print one line per number of questions. Fail above the limit."""
    for count in [int(one) for one in sys.argv[1:]] or [20_000, 100_000]:
        found = measure(count)
        print(
            f"{count:7} questions: {found['peak']:.0f} MB at the peak ({found['before']:.0f} MB before the run),"
            f" {count / found['seconds']:.0f} questions/s",
            flush=True,
        )
        assert found["peak"] <= MAX_MB, f"more than {MAX_MB} MB"


if __name__ == "__main__":
    main()
