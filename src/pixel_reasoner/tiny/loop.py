"""Training loop of one stage: learning rate schedule, log, and checkpoints to resume from.

Batches are a function of the step alone, so a resumed stage trains on the same batches as an uninterrupted one.
"""

from __future__ import annotations

import ctypes
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_path, atomic_writer
from pixel_reasoner.runs.segment import Segment
from pixel_reasoner.tiny.precision import set_precision_of_muon

Metrics = dict[str, float]
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""options of glibc's `mallopt`"""
_IN_LAYER = re.compile(r"\b(blocks|layers|merger|deepstack_merger_list)\.")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Settings of one stage."""

    name: str
    steps: int
    lr: float
    warmup: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    log_every: int = 25
    save_every: int = 100
    measure_every: int = 0
    """steps between measurements; 0: only at the end of the stage"""

    def measured_at(self, done: int) -> bool:
        """Return whether held-out metrics are computed after this number of steps."""
        return done == self.steps or bool(self.measure_every and done % self.measure_every == 0)

    def lr_at(self, step: int) -> float:
        """Return the learning rate: linear warm-up, then a cosine to 2 % of the peak.

        >>> Stage(name="x", steps=100, lr=1.0, warmup=10).lr_at(10)
        1.0
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


def run_stage(
    stage: Stage,
    modules: dict[str, torch.nn.Module],
    parts_of_step: Callable[[int], Iterator[tuple[torch.Tensor, Metrics]]],
    folder: Path,
    measure: Callable[..., Metrics] | None = None,
) -> None:
    """Train until the stage's last step, starting from its checkpoint if there is one.

    Args:
        stage: name, length and learning rate.
        modules: name -> module to save; parameters that require a gradient are trained.
        parts_of_step: step -> parts of its loss, and their metrics. All randomness is derived from the step. The gradient of a
            part is computed before the next part, so that activations of one part are in memory.
        folder: folder of `NAME.pt` (checkpoint) and `NAME.jsonl` (log).
        measure: called with `finished`, returns metrics on held-out scenes.
    """
    parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
    optimizers = _optimizers(stage, modules)
    checkpoint, log = folder / f"{stage.name}.pt", folder / f"{stage.name}.jsonl"
    first = _resume(checkpoint, modules, optimizers)
    if first == stage.steps:
        return
    truncate_log(log, first)
    _keep_freed_memory()
    means, since = _Means(), time.monotonic()
    with _progress() as progress:
        bar = progress.add_task(stage.name, total=stage.steps, completed=first, note="")
        for step in range(first, stage.steps):
            metrics: Metrics = {"loss": 0.0}
            for part, of_part in parts_of_step(step):
                part.backward()
                metrics |= {**of_part, "loss": metrics["loss"] + part.item()}
            _update(optimizers, parameters, stage, step)
            means.add(metrics)
            done = step + 1
            if done % stage.log_every == 0 or done == stage.steps:
                row = {"step": done, **means.take(), "seconds": round(time.monotonic() - since, 1)}
                if measure is not None and stage.measured_at(done):
                    row |= measure(finished=done == stage.steps)
                _append(log, row)
            progress.update(bar, completed=done, note=f"loss {means.last:.3f}")
            if done % stage.save_every == 0 or done == stage.steps:
                save_checkpoint(checkpoint, done, modules, optimizers)


def _keep_freed_memory() -> None:
    """Let glibc reuse memory instead of returning it to the system: new pages took a sixth of a step."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            libc.mallopt(option, 2**31 - 1)


def _update(
    optimizers: list[torch.optim.Optimizer],
    parameters: list[torch.nn.Parameter],
    stage: Stage,
    step: int,
) -> None:
    """Take one optimizer step."""
    for group in (group for one in optimizers for group in one.param_groups):
        group["lr"] = stage.lr_at(step)
    torch.nn.utils.clip_grad_norm_(parameters, stage.clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def save_checkpoint(
    path: Path,
    step: int,
    modules: dict[str, torch.nn.Module],
    optimizers: list[torch.optim.Optimizer],
) -> None:
    """Write a checkpoint atomically."""
    state = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    with atomic_path(path, RuntimeError) as part:
        torch.save(state, part)


def truncate_log(log: Path, step: int) -> None:
    """Drop log rows after a step, because a resumed run writes them again."""
    if log.exists():
        with Segment(log):  # drops an incomplete last row
            rows = log.read_text(encoding="utf-8").splitlines()
        with atomic_writer(log) as file:
            file.writelines(row + "\n" for row in rows if json.loads(row)["step"] <= step)


def _optimizers(stage: Stage, modules: dict[str, torch.nn.Module]) -> list[torch.optim.Optimizer]:
    named = [
        (name, parameter)
        for module in modules.values()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    matrices = [p for name, p in named if p.ndim == 2 and _IN_LAYER.search(name)]
    chosen = {id(parameter) for parameter in matrices}
    rest = [parameter for _, parameter in named if id(parameter) not in chosen]
    adamw = torch.optim.AdamW(rest, lr=stage.lr, weight_decay=stage.weight_decay, betas=(0.9, 0.98))
    if not matrices:
        return [adamw]
    set_precision_of_muon()
    muon = torch.optim.Muon(
        matrices,
        lr=stage.lr,
        weight_decay=stage.weight_decay,
        adjust_lr_fn="match_rms_adamw",  # one learning rate for both optimizers
    )
    return [muon, adamw]


def _resume(
    path: Path,
    modules: dict[str, torch.nn.Module],
    optimizers: list[torch.optim.Optimizer],
) -> int:
    """Load a checkpoint if there is one, and return the number of finished steps."""
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        for optimizer, one in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(one)
        return int(state["step"])
    except Exception as error:  # torch raises any type for a truncated or foreign file
        raise InputError(
            expected="a complete checkpoint of this stage",
            got=f"{path}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}",
            fix="delete it to train the stage again",
        ) from error


def _append(log: Path, row: Metrics) -> None:
    with Segment(log) as file:
        file.append(json.dumps({k: round(v, 5) for k, v in row.items()}).encode() + b"\n")


def _progress() -> Progress:
    columns: Iterable[Any] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns)


class _Means:
    """Means of metrics over the steps since the last `take`. A metric may be missing in a step."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}
        self.last = float("nan")

    def add(self, metrics: Metrics) -> None:
        self.last = metrics["loss"]
        for name, value in metrics.items():
            if not math.isnan(value):
                total = self.sums.setdefault(name, [0.0, 0])
                total[0] += value
                total[1] += 1

    def take(self) -> Metrics:
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums.clear()
        return means
