"""Replay buffer of one policy sync: selective replay, micro-batches, and batches built ahead of their step."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pixel_reasoner.train.samples import RolloutSample

MicroBatch = Sequence[RolloutSample]


class ReplayBuffer:
    """Micro-batches of one policy sync.

    `get` returns a batch and starts to build the next one in a thread: pictures are decoded, cropped and resized during
    the
    model's computation.

    Args:
        micro_batches: micro-batches in step order.
        build: returns the batch of a micro-batch; called by one thread at a time.
        num_iterations: number of times the micro-batches are used.
    """

    def __init__(
        self,
        micro_batches: Sequence[MicroBatch],
        build: Callable[[MicroBatch], dict[str, Any]],
        num_iterations: int = 1,
    ) -> None:
        self.micro_batches, self.build = micro_batches, build
        self.num_steps = len(micro_batches) * num_iterations
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[dict[str, Any]]] | None = None

    def get(self, step: int) -> dict[str, Any]:
        """Return the batch of a step.

        Args:
            step: steps since the policy sync, from 0 to `num_steps - 1`.

        Raises:
            InputError: a media item that cannot be opened any more.
        """
        if self._next is None or self._next[0] != step:
            self._next = step, self._start(step)
        batch = self._next[1].result()
        is_last = step + 1 >= self.num_steps
        self._next = None if is_last else (step + 1, self._start(step + 1))
        return batch

    def close(self) -> None:
        """Wait for the batch in progress and end the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _start(self, step: int) -> Future[dict[str, Any]]:
        return self._pool.submit(self.build, self.micro_batches[step % len(self.micro_batches)])


def selective_replay(
    samples: Sequence[RolloutSample], exponent: float, rng: random.Random
) -> list[RolloutSample]:
    """Return samples after selective replay (VL-Rethinker, arXiv 2504.08837).

    Rollouts without an advantage (all rewards of the group are equal) are replaced by others of the same sync and
    process, drawn with
    P ~ |advantage|^exponent. If no group has an advantage, the samples are unchanged.
    """
    effective = [one for one in samples if not one.is_uniform and one.advantage]
    if not effective:
        return list(samples)
    weights = [abs(one.advantage) ** exponent for one in effective]
    return [rng.choices(effective, weights)[0] if one.is_uniform else one for one in samples]


def split_micro_batches(
    samples: Sequence[RolloutSample], count: int, accumulation: int
) -> list[list[RolloutSample]]:
    """Split samples into `count` micro-batches of equal size.

    Samples of one gradient step are sorted by length to save padding; their order does not change the step.

    Args:
        samples: in random order.
        count: number of micro-batches.
        accumulation: micro-batches per gradient step.
    """
    size = len(samples) // count
    batches = []
    for start in range(0, len(samples), size * accumulation):
        of_step = sorted(samples[start : start + size * accumulation], key=lambda s: s.num_tokens)
        batches += [of_step[first : first + size] for first in range(0, len(of_step), size)]
    return batches
