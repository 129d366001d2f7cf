"""Ray: commands on two nodes write the rows of one process, also if a node is killed, and train like torchrun.

PYTHONPATH=src:benchmarks python -m clusters.ray_runs          # in an environment with the extras ray, local, train

Results: `dev/clusters/ray.json`. Speed is measured with one thread per actor and process, next to each other on one core each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"  # sticks to the process: before Ray is imported
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

STORE_BYTES = 80_000_000
CLOCKS = frozenset(
    {"seconds", "generate_s", "operate_s", "seconds_per_question", "traces_per_second", "workers"}
)
"""fields that measure time, or describe how a run was executed"""
MAX_LOGPROB_DIFFERENCE = 1e-3
"""the rounding of log-probabilities depends on the batch, and so on the speed of the machine"""
SECTIONS = ("speed", "rows", "workflows", "sft", "rl")
TABLES = ("traces.jsonl", "rows.jsonl", "summary.json", "counts.json", "dropped.jsonl")


# --- rows that must be equal ---


def different_rows(one: Path, other: Path) -> list[str]:
    """Return where the files of two runs differ, except for times and the rounding of log-probabilities."""
    found: list[str] = []
    for name in TABLES:
        if (one / name).exists() != (other / name).exists():
            found.append(f"{name} is missing")
        elif (one / name).exists():
            before, after = _values(one / name), _values(other / name)
            if len(before) != len(after):
                found.append(f"{name}: {len(before)} and {len(after)} rows")
            for number, pair in enumerate(zip(before, after, strict=False), start=1):
                found += [f"{name}:{number}{where}" for where in _differences(*pair)]
    return found


def _values(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    return (
        [json.loads(text)] if path.suffix == ".json" else list(map(json.loads, text.splitlines()))
    )


def _differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key not in CLOCKS:
                yield from _differences(one.get(key), other.get(key), f"{name}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from _differences(*pair, f"{name}[{number}]")
    elif not _is_equal(one, other, name):
        yield name


def _is_equal(one: Any, other: Any, name: str) -> bool:
    if ".logprobs[" in name and isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < MAX_LOGPROB_DIFFERENCE
    return bool(one == other)


# --- a cluster of two nodes ---


class TwoNodes:
    """Cluster of a head and a second node on this machine; the second node can be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        arguments = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        self.cluster = Cluster(initialize_head=True, head_node_args=arguments)
        self.second: Any = None
        self.address = self.cluster.address
        self.start_second()

    def start_second(self) -> None:
        """Add the second node, if it is gone."""
        if self.second is None:
            self.second = self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            self.cluster.wait_for_nodes()

    def kill_second(self) -> None:
        """Kill the processes of the second node."""
        node, self.second = self.second, None
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Start the cluster and connect this process."""
    import ray

    nodes = TwoNodes()
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.cluster.shutdown()


class AfterRows:
    """Progress that calls a function once, after some rows."""

    def __init__(self, rows: int, then: Callable[[], None]) -> None:
        self.rows, self.then = rows, then

    def start(self, title: str, total: int | None) -> AfterRows:
        """Return the setter of one progress bar."""
        del total
        if title not in ("asking", "traces"):
            return AfterRows(sys.maxsize, self.then)
        return self

    def __call__(self, completed: int, note: str = "") -> None:
        """Set the number of rows."""
        if completed >= self.rows:
            self.rows = sys.maxsize
            self.then()


# --- rows ---


def eval_spec(out: Path, count: int) -> Any:
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.workflows.evaluate import EvalSpec
    from pixel_reasoner.workflows.world import WorldSpec

    world = WorldSpec(family="all", split="validation", count=count)
    return EvalSpec(
        benchmark="pixelworld", out=out, model=ModelSpec("tiny", device="cpu"), world=world
    )


def compare_rows(nodes: TwoNodes, folder: Path, kills: int, seed: int) -> list[Any]:
    """Evaluate here, on two nodes, and on two nodes of which one is killed at a random row."""
    from clusters.record import Result
    from pixel_reasoner.integrations.ray_cluster import RayOptions, complete_options
    from pixel_reasoner.integrations.ray_model import RayModel
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.workflows.evaluate import evaluate

    rng = random.Random(seed)
    count = 8  # 40 questions
    evaluate(eval_spec(folder / "here", count))
    options = complete_options(RayOptions(address="auto", actors=2))
    found: list[list[str]] = []
    num_lost = 0
    for number in range(kills + 1):
        out = folder / f"there-{number}"
        then, row = (nodes.kill_second, rng.randint(1, 25)) if number else (lambda: None, 1)
        nodes.start_second()
        with RayModel(ModelSpec("tiny", device="cpu"), options, batch_size=8) as model:
            model.pool.wait_for_actors(2)
            evaluate(eval_spec(out, count), AfterRows(row, then), model)
            num_lost += model.pool.num_lost_actors > 0
        found.append(different_rows(folder / "here", out))
        print(
            f"eval {number}: {len(found[-1])} differences, an actor was lost in {num_lost} runs",
            flush=True,
        )
    nodes.start_second()
    num_equal = sum(not one for one in found[1:])
    return [
        Result(
            "eval --ray, 2 actors on 2 nodes, 40 questions",
            "rows that differ from one process",
            f"{len(found[0])}",
            "0",
            not found[0],
        ),
        Result(
            f"the same, the second node killed at a random row (an actor was lost in {num_lost} runs)",
            "runs with the rows of one process",
            f"{num_equal} of {kills}",
            f"{kills} of {kills}",
            num_equal == kills and num_lost > 0,
        ),
    ]


def compare_workflows(nodes: TwoNodes, folder: Path) -> list[Any]:
    """Synthesis and survey, with a killed node."""
    from clusters.record import Result
    from pixel_reasoner.integrations.ray_cluster import RayOptions, complete_options
    from pixel_reasoner.integrations.ray_model import RayModel
    from pixel_reasoner.integrations.ray_synth import map_units_on_ray
    from pixel_reasoner.models.local import LocalModel
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.workflows.survey.questions import SurveyQuestion
    from pixel_reasoner.workflows.survey.run import SurveySpec, run_survey
    from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize

    options = complete_options(RayOptions(address="auto", actors=2))
    spec = partial(SynthSpec, source="pixelworld", families="attribute,video", count=120)
    nodes.start_second()
    synthesize(spec(out=folder / "synth"))
    synthesize(
        spec(out=folder / "synth-ray"),
        AfterRows(20, nodes.kill_second),
        map_units=partial(map_units_on_ray, options=options),
    )
    synth = different_rows(folder / "synth", folder / "synth-ray")
    survey = partial(
        SurveySpec,
        questions=(SurveyQuestion(id="shape", text="Which shape is red?"),),
        media=(str(folder / "synth" / "media"),),
        report_rows=0,
    )
    nodes.start_second()
    run_survey(survey(out=folder / "survey"), LocalModel("tiny", device="cpu"))
    with RayModel(ModelSpec("tiny", device="cpu"), options, batch_size=8) as model:
        model.pool.wait_for_actors(2)
        run_survey(survey(out=folder / "survey-ray"), model, AfterRows(5, nodes.kill_second))
    rows = different_rows(folder / "survey", folder / "survey-ray")
    nodes.start_second()
    measure = "rows that differ from one process"
    return [
        Result(
            "synth --ray, 2 nodes, one killed, 120 traces",
            measure,
            f"{len(synth)}",
            "0",
            not synth,
        ),
        Result("survey --ray, 2 nodes, one killed", measure, f"{len(rows)}", "0", not rows),
    ]


# --- speed ---


def measure_speed(folder: Path, repetitions: int) -> list[Any]:
    """Measure questions per second of one actor and of this process, each with one thread on the same core, in turn."""
    from pixel_reasoner.evals.run import Evaluation, evaluate
    from pixel_reasoner.integrations.ray_cluster import RayOptions, complete_options
    from pixel_reasoner.integrations.ray_model import RayModel
    from pixel_reasoner.schema.settings import RolloutConfig

    cores = sorted(os.sched_getaffinity(0))
    questions = _questions(folder)
    pid_path = folder / "actor.pid"

    def seconds(model: Any, name: str, core: int) -> tuple[float, float]:
        """Return wall-clock seconds and CPU seconds of the process that has the model."""
        os.sched_setaffinity(0, {core})
        pid = int(pid_path.read_text()) if "there" in name else os.getpid()
        started, before = time.perf_counter(), _cpu_s(pid)
        evaluate(Evaluation(questions, model, RolloutConfig(), {"name": "speed"}), folder / name)
        return time.perf_counter() - started, _cpu_s(pid) - before

    started = time.perf_counter()
    options = complete_options(RayOptions(address="auto", actors=1))
    with RayModel(partial(pinned_model, cores[0], pid_path), options) as actor:
        starts = [time.perf_counter() - started]
        started = time.perf_counter()
        local = pinned_model(cores[0], folder / "here.pid")
        starts.append(time.perf_counter() - started)
        seconds(actor, "warm-there", cores[-1])
        seconds(local, "warm-here", cores[0])
        pairs = []
        for number in range(repetitions):
            here = seconds(local, f"here-{number}", cores[0])
            there = seconds(actor, f"there-{number}", cores[-1])  # this process reads and writes
            pairs.append((here, there))
            print(f"speed: {here} s here, {there} s in the actor (wall, CPU)", flush=True)
        os.sched_setaffinity(0, cores)
    return _speed_results(pairs, starts, len(questions))


def _questions(folder: Path) -> list[Any]:
    from pixel_reasoner.schema.question import with_media_root
    from pixel_reasoner.world import render, scenes

    families = ("attribute", "relation", "count", "infographic")
    wanted = [one for name in families for one in scenes(name, "validation", 500, 15)]
    return [with_media_root(one, folder.absolute()) for one in render(wanted, folder)]


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _speed_results(
    pairs: list[tuple[tuple[float, float], tuple[float, float]]], starts: list[float], count: int
) -> list[Any]:
    """Return the results of pairs of (wall, CPU) seconds in this process and in the actor."""
    from clusters.record import Result

    actor_start_s, local_start_s = starts
    path = f"eval, one actor with one core and one process with one core, {count} questions"
    ratios, cpu_ratios = ([here[n] / there[n] for here, there in pairs] for n in (0, 1))
    here_s, there_s = (statistics.median(one[n][0] for one in pairs) for n in (0, 1))
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(pairs)} pairs"
    rates = f"{count / there_s:.1f} and {count / here_s:.1f} questions/s"
    whole = (here_s + local_start_s) / (there_s + actor_start_s)
    cpu_ratio = statistics.median(cpu_ratios)
    cpu = f"{cpu_ratio:.2f} ({min(cpu_ratios):.2f} to {max(cpu_ratios):.2f})"
    return [
        Result(
            path,
            "speed of the actor / process",
            f"{ratio:.2f} ({spread}; {rates})",
            "0.9",
            ratio >= 0.9,
        ),
        Result(path, "questions per CPU second, actor / process", cpu, "0.9", cpu_ratio >= 0.9),
        Result(
            path,
            "speed of the actor / process with start-up and model loading",
            f"{whole:.2f} ({actor_start_s:.1f} s and {local_start_s:.1f} s to start)",
        ),
    ]


def pinned_model(core: int, pid_path: Path) -> Any:
    """Return the bundled model, in a process that runs on one core and writes its id to a file."""
    import torch

    from pixel_reasoner.models.local import LocalModel

    pid_path.write_text(str(os.getpid()))
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    return LocalModel("tiny", device="cpu")


# --- training ---

SFT = """
traces = ["{traces}"]
out = "{out}"
[trl]
learning_rate = 1e-3
per_device_train_batch_size = 1
gradient_accumulation_steps = 1
max_steps = 12
save_steps = 2
save_total_limit = 2
report_to = "none"
"""
RL = """
out = "{out}"
questions_per_sync = 4
group_size = 2
minibatch = 8
rollouts_at_once = 4
max_turns = 3
max_new_tokens = 96
[pixelworld]
families = ["attribute"]
count = 8
[trl]
per_device_train_batch_size = 2
learning_rate = 1e-4
temperature = 1.3
max_steps = 3
save_steps = 1
save_total_limit = 2
max_completion_length = 512
report_to = "none"
"""


def compare_training(kind: str, nodes: TwoNodes, folder: Path) -> list[Any]:
    """Train with torchrun and with Ray Train, for SFT also while a node is killed; compare losses and weights."""
    from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize

    synthesize(
        SynthSpec(source="pixelworld", families="attribute", count=80, out=folder / "traces")
    )
    nodes.start_second()
    text = SFT if kind == "sft" else RL
    for name in ("torchrun", "ray"):
        _train(kind, name, text, folder, nodes)
    one, other, killed = (folder / f"{kind}-{name}" for name in ("torchrun", "ray", "killed"))
    path = f"train {kind} --ray, 2 workers on 2 nodes, gloo, and torchrun"
    results = [_training_result(path, one, other)]
    if kind == "sft":
        _train(kind, "killed", text, folder, nodes, kill_after=5)
        path = (
            "train sft --ray, the second node killed after step 5 and started again, and torchrun"
        )
        results.append(_training_result(path, one, killed))
    return results


def _train(
    kind: str, name: str, text: str, folder: Path, nodes: TwoNodes, kill_after: int = 0
) -> None:
    out = folder / f"{kind}-{name}"
    path = folder / f"{kind}-{name}.toml"
    path.write_text(text.format(traces=folder / "traces", out=out), encoding="utf-8")
    command = ["-m", "pixel_reasoner.cli", "train", kind, str(path)]
    if name == "torchrun":
        command = ["-m", "torch.distributed.run", "--nproc_per_node", "2", *command]
    else:
        command += ["--ray", nodes.address, "--ray-workers", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    with (folder / f"{kind}-{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=log, stderr=log, env=environment
        )
        while kill_after and _last_step(out) < kill_after and process.poll() is None:
            time.sleep(0.05)
        if kill_after:
            print(f"train: node killed after step {_last_step(out)}", flush=True)
            nodes.kill_second()
            nodes.start_second()
        code = process.wait()
    print(
        f"train {kind}, {name}: exit code {code}, {time.perf_counter() - started:.0f} s", flush=True
    )
    if code:
        raise RuntimeError((folder / f"{kind}-{name}.log").read_text(encoding="utf-8")[-2000:])


def _rows(out: Path) -> list[dict[str, Any]]:
    path = out / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if "loss" in row]


def _last_step(out: Path) -> int:
    rows = _rows(out)
    return rows[-1]["step"] if rows else 0


def _training_result(path: str, one: Path, other: Path) -> Any:
    from clusters.record import Result

    pairs = list(zip(_rows(one), _rows(other), strict=True))
    worst = max(abs(a[key] - b[key]) for a, b in pairs for key in ("loss", "grad_norm"))
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (one, other)]
    largest = max(abs(row["loss"]) for row, _ in pairs)
    return Result(
        path,
        "largest difference of losses and gradient norms",
        f"{worst:.1e} in {len(pairs)} steps (largest loss {largest:.3g}); weights "
        f"{'identical' if weights[0] == weights[1] else 'differ'}",
        "1e-3",
        worst <= 1e-3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--keep", type=Path, help="file of finished sections, to run them one by one"
    )
    arguments = parser.parse_args()
    from clusters import record

    done: dict[str, Any] = {}
    if arguments.keep and arguments.keep.exists():
        done = json.loads(arguments.keep.read_text(encoding="utf-8"))
    folder = Path(tempfile.mkdtemp(prefix="ray-runs-"))
    try:
        with two_nodes() as nodes:
            for name in arguments.only:
                started = time.perf_counter()
                results = _run_section(name, nodes, folder, arguments)
                seconds = time.perf_counter() - started
                done[name] = {"seconds": seconds, "results": [one._asdict() for one in results]}
                if arguments.keep:
                    arguments.keep.write_text(json.dumps(done), encoding="utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results = [
        record.Result(**one) for name in SECTIONS for one in done.get(name, {}).get("results", ())
    ]
    seconds = sum(one["seconds"] for one in done.values())
    if done.keys() == set(SECTIONS):
        record.save("ray", results, ["ray", "torch", "transformers", "trl"], seconds=seconds)
    else:
        record.print_table("ray", results)
    if not all(one.passed for one in results):
        raise SystemExit(1)


def _run_section(
    name: str, nodes: TwoNodes, folder: Path, arguments: argparse.Namespace
) -> list[Any]:
    if name == "speed":
        return measure_speed(folder / "speed", arguments.repetitions)
    if name == "rows":
        return compare_rows(nodes, folder / "eval", arguments.kills, arguments.seed)
    if name == "workflows":
        return compare_workflows(nodes, folder)
    return compare_training(name, nodes, folder)


if __name__ == "__main__":
    main()
