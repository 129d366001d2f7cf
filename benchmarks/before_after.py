"""Compare two checkouts, before and after a restructuring: equal results and no loss of speed.

    git worktree add ../before 4ca5f78
    .venv/bin/python benchmarks/before_after.py ../before [--parity] [--speed] [--repeats 5] [--only RL]

Both checkouts run in the same environment, in separate processes, in alternating order (before, after, after, before, ...).

parity   synthesized traces, traces and summary of an evaluation, token ids and loss masks of SFT, losses and rewards of 20 RL
         steps. The current code reads and compares the files of both checkouts
speed    seconds of `ask_many` (local model and server), synthesis, a scripted evaluation, SFT and RL: medians, and the median
         ratio of pairs
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]

SFT = """
model = "tiny"
traces = "synth"
out = "sft"
[trl]
seed = 1
max_steps = 20
per_device_train_batch_size = 4
gradient_accumulation_steps = 1
use_cpu = true
logging_steps = 1
learning_rate = 1e-5
report_to = "none"
"""
RL = """
model = "tiny"
out = "rl"
group_size = 4
questions_per_sync = 4
minibatch = 8
max_turns = 3
max_new_tokens = 48
sample_every = 5
[pixelworld]
count = 16
[trl]
max_steps = 20
learning_rate = 1e-5
report_to = "none"
temperature = 1.0
seed = 1
"""
COMMANDS = {
    "synth": "synth pixelworld --count 300 --out synth",
    "eval": "eval pixelworld --family all --count 16 --compare --disturb --out eval",
    "sampled": "eval pixelworld --family relation --count 12 --samples 2 --temperature 0.8 "
    "--sample-seed 3 --out sampled",
    "sft": "train sft sft.toml",
    "rl": "train rl rl.toml",
}


def environment(checkout: Path) -> dict[str, str]:
    # Keep compiled modules, as an installation does. Otherwise imports dominate the time of short commands.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}


def run(checkout: Path, folder: Path, command: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sft.toml").write_text(SFT)
    (folder / "rl.toml").write_text(RL)
    done = subprocess.run(
        [sys.executable, "-m", "pixel_reasoner.cli", *command.split()],
        cwd=folder,
        env=environment(checkout),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{checkout}: {command}: {done.stderr[-2000:]}"
    return done.stdout + done.stderr


# --- parity ---


def comparable(line: str) -> dict[str, Any]:
    """Return the fields of a trace without times, versions and text parts."""
    from pixel_reasoner.schema.trace import Trace

    trace = Trace.from_line(line)
    fields = trace.model_dump(mode="json", exclude={"seconds", "versions", "sampling", "settings"})
    for turn in fields["turns"]:
        for name in ("generate_s", "operate_s"):
            turn.pop(name)
        turn["parts"] = [part for part in turn["parts"] if "name" in part]
        if not turn["observations"]:  # older versions do not record calls that were not executed
            turn["parts"] = []
    fields["settings"] = trace.settings.model_dump(mode="json", exclude={"model"})
    return fields


def traces_of(path: Path) -> list[dict[str, Any]]:
    return [comparable(line) for line in path.read_text(encoding="utf-8").splitlines()]


def metrics_of(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of each metric, without seconds and settings."""

    def walk(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, one in value.items():
                yield from walk(one, f"{name}.{key}" if name else key)
        else:
            yield name, value

    summary = json.loads(path.read_text(encoding="utf-8"))
    left_out = ("settings", "versions", "hardware")
    for name, value in walk({k: v for k, v in summary.items() if k not in left_out}, ""):
        if "seconds" not in name:
            yield name, value


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a training log without times."""
    timed = ("seconds", "runtime", "per_second", "step_time")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        {name: value for name, value in row.items() if not any(word in name for word in timed)}
        for row in rows
    ]


def losses_of(folder: Path) -> list[Any]:
    states = sorted(folder.glob("checkpoint-*/trainer_state.json"))
    history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"]
    return [(row["step"], row["loss"], row["grad_norm"]) for row in history if "loss" in row]


ENCODE = """
    import hashlib, json, sys
    from pathlib import Path
    import pixel_reasoner
    from pixel_reasoner.evals.run import load_run
    from pixel_reasoner.models.local import load_processor
    try:
        from pixel_reasoner.data.encode import encode
    except ImportError:
        from pixel_reasoner.data.sft import encode
    processor = load_processor(str(Path(pixel_reasoner.__file__).parent / "tiny" / "weights"))
    for trace in load_run(Path(sys.argv[1])):
        one = encode(trace, processor)
        mask = one.loss_mask if hasattr(one, "loss_mask") else one.trained
        pixels = hashlib.sha256(one.inputs["pixel_values"].numpy().tobytes()).hexdigest()
        print(json.dumps([trace.question.id, list(map(int, one.token_ids)), list(map(int, mask)), pixels]))
"""


def encoded(checkout: Path, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ENCODE), str(folder / "synth")],
        env=environment(checkout),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def pop_logprobs(trace: dict[str, Any]) -> list[float]:
    """Remove the log-probabilities from a comparable trace and return them."""
    return [value for turn in trace["turns"] for value in turn.pop("logprobs")]


def is_same(one: Any, other: Any) -> bool:
    """Return whether two results are equal. Log-probabilities of traces may differ by 0.001."""
    is_trace = isinstance(one, dict) and isinstance(one.get("turns"), list)
    if not is_trace:  # a row of a training log has the number of turns
        return bool(one == other)
    values, others = pop_logprobs(one), pop_logprobs(other)
    if one != other or len(values) != len(others):
        return False
    return all(abs(a - b) <= 0.001 for a, b in zip(values, others, strict=True))


def num_differing(before: Any, after: Any) -> int:
    """Return the number of positions at which two lists of equal length differ."""
    assert len(before) == len(after), f"{len(before)} before, {len(after)} after"
    return sum(not is_same(one, other) for one, other in zip(before, after, strict=True))


def parity(before: Path, folder: Path) -> None:
    old, new = folder / "before", folder / "after"
    for command in COMMANDS.values():
        for checkout, place in ((before, old), (HERE, new)):
            run(checkout, place, command)
    print("| compared | number | different |\n| --- | --- | --- |")

    def row(name: str, one: Any, other: Any) -> None:
        print(f"| {name} | {len(one)} | {num_differing(one, other)} |", flush=True)

    for name in ("synth", "eval", "eval/without", "eval/disturbed", "sampled"):
        path = Path(name) / "traces.jsonl"
        row(f"traces of {name}", traces_of(old / path), traces_of(new / path))
    for name in ("eval", "eval/without", "sampled"):
        path = Path(name) / "summary.json"
        row(f"metrics of {name}", list(metrics_of(old / path)), list(metrics_of(new / path)))
    row("token ids, loss masks, pixels of SFT", encoded(before, old), encoded(HERE, new))
    row("losses of 20 SFT steps", losses_of(old / "sft"), losses_of(new / "sft"))
    row("log of 20 RL steps", rows_of(old / "rl/log.jsonl"), rows_of(new / "rl/log.jsonl"))


# --- speed ---

ASK_MANY = """
    import sys, time, warnings; warnings.simplefilter("ignore")
    from pathlib import Path
    try:
        from pixel_reasoner.rollout.ask import ask_many
        from pixel_reasoner.schema.settings import RolloutConfig as Config, SamplingParams
        from pixel_reasoner.schema.question import with_media_root as rooted
        config = Config(sampling=SamplingParams(max_new_tokens=96))
    except ImportError:
        from pixel_reasoner.rollout import Rules as Config, ask_many
        from pixel_reasoner.models import Decoding
        from pixel_reasoner.trace import anchored as rooted
        config = Config(decoding=Decoding(max_new_tokens=96))
    from pixel_reasoner.models.local import LocalModel
    from pixel_reasoner.world import FAMILIES, render, scenes
    folder, model = Path(sys.argv[1]), LocalModel("tiny")
    wanted = [one for family in FAMILIES for one in scenes(family, "test", 0, 40)]
    questions = [rooted(one, folder) for one in render(wanted, folder)]
    list(ask_many(questions[:8], model, config, batch_size=8))
    started = time.perf_counter()
    assert len(list(ask_many(questions, model, config, batch_size=64))) == len(questions)
    print(time.perf_counter() - started)
"""
ASK_SERVER = """
    import multiprocessing, sys, time, warnings, zlib; warnings.simplefilter("ignore")
    from pathlib import Path
    folder, sys.argv = Path(sys.argv[1]), sys.argv[:1]
    sys.path.insert(0, CHECKOUT + "/benchmarks")
    import client
    client.DELAY_S = 0  # the handler below waits instead

    class Handler(client.Handler):
        def send_response(self, *args):
            replies.append(0)
            time.sleep(0.05 + 0.4 * (len(replies) * 7919 % 101) / 100)
            super().send_response(*args)

    def serve(port):
        server = client.Server(("127.0.0.1", 0), Handler)
        port.value = server.server_address[1]
        server.serve_forever()

    replies, port = [], multiprocessing.Value("i", 0)
    multiprocessing.Process(target=serve, args=(port,), daemon=True).start()
    while not port.value:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port.value}/v1"
    try:
        from pixel_reasoner.models.http_pool import RetryPolicy
        from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
        from pixel_reasoner.rollout.ask import ask_many
        from pixel_reasoner.schema.question import with_media_root as rooted
        model = RemoteModel(RemoteConfig("m", (url,), "compact", policy=RetryPolicy(concurrency=64)))
    except ImportError:
        from pixel_reasoner.models.pool import Manners
        from pixel_reasoner.models.remote import RemoteModel, Service
        from pixel_reasoner.rollout import ask_many
        from pixel_reasoner.trace import anchored as rooted
        model = RemoteModel(Service("m", (url,), "compact", manners=Manners(concurrency=64)))
    from pixel_reasoner.world import render, scenes
    questions = [rooted(one, folder) for one in render(scenes("attribute", "test", 0, 400), folder)]
    list(ask_many(questions[:8], model, batch_size=8))
    started = time.perf_counter()
    traces = list(ask_many(questions, model, batch_size=64))
    seconds = time.perf_counter() - started
    assert [trace.answer for trace in traces] == ["7"] * len(questions)
    print(seconds)
"""
RUNNER = """
    import sys, time
    from pathlib import Path
    from PIL import Image
    from pixel_reasoner.models.scripted import ScriptedModel
    try:
        from pixel_reasoner.evals.run import Evaluation, evaluate
        from pixel_reasoner.schema.question import MediaItem as Medium, Question
        from pixel_reasoner.schema.settings import RolloutConfig as Config
    except ImportError:
        from pixel_reasoner.evals.run import Plan as Evaluation, evaluate
        from pixel_reasoner.trace import Medium, Question
        from pixel_reasoner.rollout import Rules as Config
    folder = Path(sys.argv[1]); folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    media = (Medium(kind="image", path=str(folder / "red.png")),)
    questions = [Question(id=str(n), text="?", media=media, answer=("red",)) for n in range(2000)]
    evaluation = Evaluation(questions, ScriptedModel([r"\\boxed{red}"]), Config(), {"name": "speed"})
    started = time.perf_counter()
    assert evaluate(evaluation, folder / "run")["accuracy"] == 1.0
    print(time.perf_counter() - started)
"""


def seconds_of(checkout: Path, code: str, folder: Path, threads: int) -> float:
    env = {**environment(checkout), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


def seconds_of_synth(checkout: Path, folder: Path) -> float:
    run(checkout, folder, "synth pixelworld --count 600 --out synth")
    return float(json.loads((folder / "synth/summary.json").read_text())["seconds"])


def seconds_of_rl(checkout: Path, folder: Path) -> float:
    run(checkout, folder, COMMANDS["rl"])
    rows = [json.loads(line) for line in (folder / "rl/log.jsonl").read_text().splitlines()]
    return float(sum(row["seconds/step"] for row in rows if "seconds/step" in row))


def seconds_of_sft(checkout: Path, folder: Path) -> float:
    run(checkout, folder, "synth pixelworld --count 60 --out synth")
    output = run(checkout, folder, COMMANDS["sft"])
    found = re.search(r"'train_runtime': '?([\d.]+)", output)
    assert found, "the trainer prints its seconds"
    return float(found[1])


def speed(before: Path, folder: Path, repeats: int, only: str) -> None:
    measures = {
        "ask_many, 200 questions of all families, 64 at once": lambda c, f: seconds_of(
            c, ASK_MANY, f, os.cpu_count() or 1
        ),
        "ask_many, 400 questions to a server that replies after 0.05 to 0.45 s, 64 at once": (
            lambda c, f: seconds_of(c, ASK_SERVER.replace("CHECKOUT", repr(str(c))), f, 1)
        ),
        "synthesis of 600 traces, one worker": seconds_of_synth,
        "evaluation of 2,000 scripted questions": lambda c, f: seconds_of(c, RUNNER, f, 1),
        "20 SFT steps": seconds_of_sft,
        "20 RL steps": seconds_of_rl,
    }
    print("| measured | before, s | after, s | before / after |\n| --- | --- | --- | --- |")
    for name, measure in measures.items():
        if only not in name:
            continue
        times: dict[Path, list[float]] = {before: [], HERE: []}
        for number in range(repeats):
            # Alternate the order: a machine may slow down under load, which favours the first process.
            for checkout in list(times)[:: 1 if number % 2 == 0 else -1]:
                place = folder / f"{len(name)}-{number}-{checkout == HERE}"
                times[checkout].append(measure(checkout, place))
        old, new = (statistics.median(times[one]) for one in (before, HERE))
        # Median over pairs: the speed of a machine drifts by more than the difference.
        ratio = statistics.median(a / b for a, b in zip(times[before], times[HERE], strict=True))
        print(f"| {name} | {old:.2f} | {new:.2f} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="checkout of the earlier commit")
    parser.add_argument("--parity", action="store_true", help="compare results only")
    parser.add_argument("--speed", action="store_true", help="compare speed only")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--only", default="", help="run the measurements whose name contains this text"
    )
    options = parser.parse_args()
    both = options.parity == options.speed
    before = options.before.absolute()
    with tempfile.TemporaryDirectory() as folder:
        if both or options.parity:
            parity(before, Path(folder) / "parity")
        if both or options.speed:
            speed(before, Path(folder) / "speed", options.repeats, options.only)


if __name__ == "__main__":
    main()
