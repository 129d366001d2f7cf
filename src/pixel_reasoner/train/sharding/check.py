"""Check of a run with several processes: weights or optimizer states are sharded, and all processes have the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import write_json
from pixel_reasoner.train.config import RlRun, SftRun

SHARDING = "sharding.json"
"""file with the measured sharding of a run"""
_TOLERANCE = 0.1
"""allowed excess of a process's share over 1 / processes: shards are padded, and small weights stay whole"""


class ShardedSizes(NamedTuple):
    """Numbers of elements of one process."""

    local: int
    """in its shards"""
    total: int
    """in all weights, or for ZeRO-2 in all trained weights"""
    unsharded: int
    """in weights that are not sharded"""


def sharded_sizes(trainer: Any, sharding: str) -> ShardedSizes:
    """Return the sizes of the shards of this process, after the trainer has prepared the model."""
    if sharding == "zero2":
        groups = trainer.model_wrapped.optimizer.single_partition_of_fp32_groups
        weights = [one for one in trainer.model.parameters() if one.requires_grad]
        local = sum(one.numel() for one in groups)
        return ShardedSizes(local, sum(one.numel() for one in weights), 0)
    local = total = unsharded = 0
    for weight in trainer.model.parameters():
        if isinstance(weight, DTensor):  # FSDP2
            local, total = local + weight.to_local().numel(), total + weight.numel()
        elif hasattr(weight, "ds_tensor"):  # ZeRO-3
            local, total = local + weight.ds_tensor.numel(), total + weight.ds_numel
        else:
            unsharded += weight.numel()
    return ShardedSizes(local + unsharded, total + unsharded, unsharded)


class ShardingCallback(TrainerCallback):
    """Stops a run whose weights are not sharded as configured, or whose processes have different losses.

    accelerate replaces some configurations by others without an error, for example FSDP by DDP on a CPU.
    """

    def __init__(self, run: SftRun | RlRun, trainer: Any) -> None:
        self.run, self.trainer = run, trainer
        self._is_compared = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the shards."""
        if not self.run.sharding:
            return
        processes = self.trainer.accelerator.num_processes
        sizes = sharded_sizes(self.trainer, self.run.sharding)
        shares = _gather(sizes.local / sizes.total)
        if sizes.unsharded or max(shares) > 1 / processes + _TOLERANCE * (processes > 1):
            raise UsageError(
                expected=f"weights sharded over {processes} processes, as sharding = {self.run.sharding!r} says",
                got=f"{max(shares):.0%} of them in one process",
                fix="start the run with torchrun, without a configuration of accelerate",
            )
        if state.is_world_process_zero:
            path = Path(self.run.out) / SHARDING
            found = {"sharding": self.run.sharding, "processes": processes, "shares": shares}
            write_json(found, path)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Compare the loss of the first step."""
        if self._is_compared or not logs or "loss" not in logs:
            return
        self._is_compared = True
        rows = _gather((state.global_step, logs["loss"], float(logs.get("grad_norm") or 0.0)))
        if any(row != rows[0] for row in rows):
            raise UsageError(
                expected="the same loss and gradient norm in all processes after the first step",
                got=f"steps, losses and norms {', '.join(map(str, dict.fromkeys(rows)))}",
                fix="check that all processes have the same weights and data",
            )


def _gather(value: Any) -> list[Any]:
    """Return the values of all processes. Collective."""
    if not torch.distributed.is_initialized():
        return [value]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return found
