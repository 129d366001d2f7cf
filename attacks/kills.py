"""Kill long commands at random times, resume them until they finish, and compare with an uninterrupted run.

    python -m attacks.kills --count 100 --seed 0                    # all commands
    python -m attacks.kills --count 100 --forked                    # import libraries once: more kills in the same time
    python -m attacks.kills --count 5 --commands synth-1 eval

Commands: synth with 1 and 2 workers, eval, train sft and train rl, each at the smallest size that has several checkpoints. Traces,
media and summaries must be equal except for times. Weights and logged losses of training must be equal. Log-probabilities may differ
by 1e-4: the batches, and therefore the rounding, depend on the speed of the machine. Prints one line at the end.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from attacks.commands import Commands, Plan, attack_commands

CLOCKS = frozenset(
    {"seconds", "generate_s", "operate_s", "seconds_per_question", "traces_per_second", "step_time"}
    | {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
)
"""fields that measure time"""
MAX_KILLS = 3
"""kills of one run before it may end"""
SFT = """
traces = ["{traces}"]
out = "{out}"
[trl]
learning_rate = 1e-3
per_device_train_batch_size = 1
gradient_accumulation_steps = 1
max_steps = 6
save_steps = 1
save_total_limit = 2
report_to = "none"
"""
RL = """
out = "{out}"
questions_per_sync = 2
group_size = 2
minibatch = 4
rollouts_at_once = 4
max_turns = 2
max_new_tokens = 16
sample_every = 1
[pixelworld]
families = ["attribute"]
count = 4
[trl]
per_device_train_batch_size = 4
learning_rate = 1e-4
max_steps = 3
save_steps = 1
save_total_limit = 2
max_completion_length = 256
report_to = "none"
"""


class Attack(NamedTuple):
    """One command that is killed."""

    arguments: Callable[[Path, Path], list[str]]
    """(folder of inputs, folder of the run) -> arguments of the command line"""
    content: Callable[[Path], dict[str, Any]]
    """returns the content that must be equal"""


def _synth(workers: int) -> Attack:
    def arguments(inputs: Path, out: Path) -> list[str]:
        command = ["synth", "pixelworld", "--families", "attribute,video", "--count", "60"]
        return [*command, "--workers", str(workers), "--out", str(out)]

    return Attack(arguments, files_without_times)


def _eval(inputs: Path, out: Path) -> list[str]:
    command = ["eval", "pixelworld", "--count", "6", "--compare", "--max-new-tokens", "48"]
    return [*command, "--batch-size", "2", "--cache", str(out / "cache.db"), "--out", str(out)]


def _train(kind: str, text: str) -> Callable[[Path, Path], list[str]]:
    def arguments(inputs: Path, out: Path) -> list[str]:
        path = out.with_suffix(".toml")
        path.write_text(text.format(traces=inputs / "synth", out=out))
        return ["train", kind, str(path)]

    return arguments


# --- content that must be equal ---


class ApproxFloat(float):
    """Number that equals any number within 1e-4.

    >>> ApproxFloat(0.5) == ApproxFloat(0.50001), ApproxFloat(0.5) == ApproxFloat(0.501)
    (True, False)
    """

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - float(other)) < 1e-4

    def __ne__(self, other: object) -> bool:
        return not self == other


def files_without_times(out: Path) -> dict[str, Any]:
    """Return the content of all files for users, with JSON without times."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        if ".store/" in name or path.suffix == ".db":
            continue
        found[name] = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            text = path.read_text(encoding="utf-8")
            values = [text] if path.suffix == ".json" else text.splitlines()
            found[name] = [without_times(json.loads(value)) for value in values]
    return found


def without_times(value: Any) -> Any:
    """Return a JSON value without time fields, and with log-probabilities as `ApproxFloat`."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if not _is_clock(name)}
        logprobs = [ApproxFloat(one) for one in kept.pop("logprobs", None) or ()]
        return {**{name: without_times(one) for name, one in kept.items()}, "logprobs": logprobs}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def _is_clock(name: str) -> bool:
    return name in CLOCKS or name.startswith(("seconds/", "perf/"))


def training_results(out: Path) -> dict[str, Any]:
    """Return the weights and losses of a training run, and the names of its files."""
    (state,) = sorted(out.glob("checkpoint-*/trainer_state.json"))[-1:]
    history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    found = {name: one for name, one in files_without_times(out).items() if _is_result(name)}
    names = {str(path.relative_to(out)) for path in out.rglob("*") if ".store" not in path.parts}
    return {"losses": without_times(history), "names": names, **found}


def _is_result(name: str) -> bool:
    return name.startswith(("model/", "questions/", "samples/")) and not name.endswith(".html")


ATTACKS = {
    "synth-1": _synth(1),
    "synth-2": _synth(2),
    "eval": Attack(_eval, files_without_times),
    "sft": Attack(_train("sft", SFT), training_results),
    "rl": Attack(_train("rl", RL), training_results),
}


# --- runs ---


def finish(commands: Commands, command: list[str]) -> None:
    """Run a command until it ends.

    Raises:
        RuntimeError: the command failed.
    """
    if (done := commands.run(command)).code:
        raise RuntimeError(f"exit code {done.code}: {done.errors[-600:]}")


def differing_names(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names with different content.

    >>> differing_names({"a": 1, "b": 2}, {"a": 1, "c": 3})
    ['b', 'c']
    """
    names = sorted({*one, *other})
    return [name for name in names if one.get(name, ...) != other.get(name, ...)]


def prepare(inputs: Path, commands: Commands) -> None:
    """Write the traces that training needs."""
    command = ["synth", "pixelworld", "--families", "attribute", "--count", "8"]
    finish(commands, [*command, "--out", str(inputs / "synth")])


def attack(
    name: str, folder: Path, count: int, rng: random.Random, commands: Commands
) -> Counter[str]:
    """Kill a command, resume it until it finishes, and compare. Repeat `count` times."""
    kind, whole, cut = ATTACKS[name], folder / name / "whole", folder / name / "run"
    whole.parent.mkdir(parents=True)
    command = kind.arguments(folder / "inputs", cut)
    # Some files contain the path of the run, so both runs use the same path. Move the uninterrupted run away.
    started = time.monotonic()
    finish(commands, command)
    duration_s = time.monotonic() - started
    cut.rename(whole)
    expected = kind.content(whole)
    counts: Counter[str] = Counter()
    for _ in range(count):
        is_done, kills = False, 0
        for _ in range(rng.randint(1, MAX_KILLS)):
            done = commands.run(command, rng.uniform(0.1, 1.1) * duration_s)
            if done.code:
                raise RuntimeError(f"exit code {done.code}: {done.errors[-600:]}")
            is_done = done.code == 0
            if is_done:
                break
            kills += 1
        if not is_done:
            finish(commands, command)
        found = differing_names(expected, kind.content(cut))
        counts.update(runs=1, kills=kills, failed=int(bool(found)))
        if found:
            print(f"{name}: {len(found)} differ after {kills} kills: {found[:6]}", flush=True)
            cut.rename(folder / name / f"failed-{counts['failed']}")
        shutil.rmtree(cut, ignore_errors=True)
    return counts


if __name__ == "__main__":
    sys.exit(attack_commands(Plan("kills", __doc__, list(ATTACKS), 100, prepare, attack)))
