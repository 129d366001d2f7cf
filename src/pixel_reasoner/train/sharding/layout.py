"""Layout of a checkpoint: number of processes, kind of sharding and batch size, which decide how a run can resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import write_json

LAYOUT = "processes.json"


class Layout(NamedTuple):
    """Layout of a checkpoint."""

    processes: int
    sharding: str
    batch_size: int
    """traces or rollouts of one gradient step, over all processes"""


def checkpoint_layout(trainer: Any) -> Layout:
    """Return the layout of the checkpoints of a trainer."""
    args, processes = trainer.args, trainer.accelerator.num_processes
    per_process = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return Layout(processes, trainer.run.sharding, per_process * processes)


def save_layout(layout: Layout, checkpoint: Path) -> None:
    """Write the layout into a checkpoint."""
    write_json(layout._asdict(), checkpoint / LAYOUT)


def read_layout(checkpoint: Path) -> Layout | None:
    """Return the layout of a checkpoint; None for one of an older version."""
    path = checkpoint / LAYOUT
    return Layout(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def check_batch_size(trainer: Any, checkpoint: Path) -> None:
    """Raise an error if a run would continue with another batch size, which also changes the order of the data.

    Raises:
        UsageError: another batch size than that of the checkpoint.
    """
    before, now = read_layout(checkpoint), checkpoint_layout(trainer)
    if before is not None and before.batch_size != now.batch_size:
        raise UsageError(
            expected=f"{before.batch_size} examples per gradient step, as in {checkpoint.name}",
            got=f"{now.batch_size} with {now.processes} processes",
            fix="start it with the same number of processes, or set batch_size in the run before its first start",
        )
