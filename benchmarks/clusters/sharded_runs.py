"""Data, TOML files and results of the runs of `clusters.sharded` and of `tests/test_sharding.py`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason, Trace, Turn, save_traces
from pixel_reasoner.sources.pixelworld import WorldMix, world_questions
from pixel_reasoner.workflows.world import prompt_settings

TRL = {
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "per_device_train_batch_size": 1,
    "report_to": "none",
    "disable_tqdm": True,
}


def write_traces(folder: Path, count: int, num_texts: int, model: Path | None = None) -> Path:
    """Write expert traces for a model (the bundled one), and others without pictures, one after the other."""
    dialect, budgets = prompt_settings("tiny" if model is None else str(model))
    settings = SynthSettings(
        source="pixelworld",
        count=count,
        families=("attribute",),
        dialect=dialect,
        budgets=budgets,
    )
    synthesize(settings, scene_units(settings), folder)
    traces = sorted(load_run(folder), key=lambda one: len(one.turns))
    texts = [_text_trace(n, traces[0]) for n in range(num_texts)]
    mixed = [one for pair in zip(traces, texts, strict=False) for one in pair]
    save_traces([*mixed, *traces[num_texts:], *texts[count:]], folder / "traces.jsonl")
    return folder


def _text_trace(number: int, like: Trace) -> Trace:
    return Trace(
        question=Question(
            id=f"sum-{number}", text=f"How much is {number} and 1?", media=(), answer=("2",)
        ),
        turns=(Turn(text=f"That is {number + 1}. \\boxed{{{number + 1}}}"),),
        stop=StopReason.ANSWERED,
        answer=str(number + 1),
        settings=like.settings,
    )


def write_questions(folder: Path, count: int) -> Path:
    """Write questions of RL, every second one without a picture."""
    mix = WorldMix(families=("attribute",), count=count // 2, overview_share=0.0)
    seen = list(world_questions(mix, folder))
    texts = [
        Question(id=f"sum-{n}", text=f"How much is {n} and 1?", media=(), answer=(str(n + 1),))
        for n in range(count // 2)
    ]
    lines = [one.to_line() for pair in zip(seen, texts, strict=True) for one in pair]
    (folder / "questions.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def write_toml(path: Path, top: dict[str, Any], trl: dict[str, Any]) -> Path:
    """Write the TOML file of a run, whose folder has the name of the file."""
    values = {"out": path.stem, **top}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    lines += ["[trl]", *(f"{name} = {_toml(value)}" for name, value in (TRL | trl).items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value)


def sft_toml(path: Path, traces: Path, *, steps: int, **top: Any) -> Path:
    """Write a run of warm-start tuning with two traces per step, saved in the middle."""
    trl = {"max_steps": steps, "save_steps": max(1, steps // 2)}
    return write_toml(path, {"traces": traces, "batch_size": 2, **top}, trl)


def rl_toml(path: Path, questions: Path, *, steps: int, **top: Any) -> Path:
    """Write a run of RL on scripted rollouts: two questions with four rollouts per sync, and two steps on them."""
    sizes = {"questions_per_sync": 2, "group_size": 4, "minibatch": 8, "rollouts_at_once": 8}
    limits = {"max_turns": 3, "max_new_tokens": 6, "sample_every": 0, "replay": False}
    trl = {"max_steps": steps, "save_steps": steps, "num_iterations": 2, "top_k": 1}
    trl |= {
        "per_device_train_batch_size": 2,
        "max_completion_length": 300,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
    }
    return write_toml(path, {"questions": [str(questions)], **sizes, **limits, **top}, trl)


def resumed_toml(path: Path, before: Path, step: int) -> Path:
    """Write a run that continues a copy of another one at the checkpoint of a step."""
    shutil.copytree(before.with_suffix(""), path.with_suffix(""))
    out = path.with_suffix("")
    for checkpoint in out.glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{step}":
            shutil.rmtree(checkpoint)
    shutil.rmtree(out / "model", ignore_errors=True)
    settings = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**settings, "out": str(out)}))
    path.write_text(before.read_text().replace(f'"{before.stem}"', f'"{path.stem}"'))
    return path


def steps_of(path: Path) -> dict[int, dict[str, float]]:
    """Return the log of a run: loss and gradient norm by step."""
    rows = map(json.loads, (path.with_suffix("") / "log.jsonl").read_text().splitlines())
    return {row["step"]: row for row in rows if "loss" in row}


def largest_difference(one: Path, other: Path, name: str = "loss") -> float:
    """Return the largest difference of a metric over the steps of two runs, which must have the same steps."""
    first, second = steps_of(one), steps_of(other)
    assert sorted(first) == sorted(second), (one, sorted(first), other, sorted(second))
    return max(abs(first[step][name] - second[step][name]) for step in first)


def shares(path: Path) -> list[float]:
    """Return the share of the weights (ZeRO-2: of the optimizer's states) in each process."""
    found: list[float] = json.loads((path.with_suffix("") / "sharding.json").read_text())["shares"]
    return found


def generated(path: Path) -> list[list[int]]:
    """Return the greedy turns of all syncs of a scripted run, those of all processes in order."""
    files = sorted(path.with_suffix("").glob("generated-*.jsonl"))
    per_process = [[json.loads(row) for row in file.read_text().splitlines()] for file in files]
    return [turn for syncs in zip(*per_process, strict=True) for one in syncs for turn in one]
