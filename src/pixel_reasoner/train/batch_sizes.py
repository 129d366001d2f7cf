"""Batch sizes of an RL run: rollouts of a policy sync, of a gradient step, and of a forward pass."""

from __future__ import annotations

from typing import NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.train.config import RlRun


class BatchSizes(NamedTuple):
    """Batch sizes of a run."""

    processes: int
    rollouts_per_sync: int
    minibatches_per_sync: int
    """gradient steps per policy sync"""
    micro_batch: int
    """rollouts per forward and backward pass of a process"""
    accumulation: int
    """micro-batches per gradient step"""
    rollouts_per_process: int


def batch_sizes(run: RlRun, processes: int) -> BatchSizes:
    """Return the batch sizes of a run for a number of processes.

    Raises:
        UsageError: a size is not a multiple of another.
    """
    micro = run.trl.get("per_device_train_batch_size")
    share, rest = divmod(run.minibatch, processes)
    if rest:
        raise UsageError(
            expected=f"a minibatch that {processes} processes share evenly",
            got=str(run.minibatch),
            fix=f"take a multiple of {processes}",
        )
    if micro is None:
        micro = max(n for n in range(1, min(share, 8) + 1) if share % n == 0)
    if share % micro:
        raise UsageError(
            expected=f"per_device_train_batch_size that divides a process's share of a minibatch, {share}",
            got=str(micro),
            fix="lower it to a divisor",
        )
    rollouts = run.questions_per_sync * run.group_size
    return BatchSizes(
        processes=processes,
        rollouts_per_sync=rollouts,
        minibatches_per_sync=rollouts // run.minibatch,
        micro_batch=micro,
        accumulation=share // micro,
        rollouts_per_process=rollouts // processes,
    )
