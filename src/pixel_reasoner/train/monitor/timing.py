"""Seconds of one gradient step, by phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = (
    "generation",
    "operations",
    "reward",
    "logprobs",
    "weights",
    "update",
    "data",
    "ranks",
    "other",
)
"""phases of a gradient step, in order

generation  generation of turns
operations  execution of calls
reward      reward terms of the rollouts
logprobs    log-probabilities of new rollouts, where the loss needs them
weights     sending new weights to vLLM servers
update      forward and backward passes, and the optimizer
data        waiting for batches: reading, decoding, collating
ranks       waiting for other processes
other       rest of filling the replay buffer: padding, advantages, replay
"""


class StepTimer:
    """Timer of the phases of one gradient step. Phases are exclusive: an inner phase pauses the outer one.

    >>> timer = StepTimer()
    >>> with timer.phase("other"), timer.phase("generation"):
    ...     timer.move(0.0, "generation", "operations")
    >>> sorted(timer.finish()) == sorted(["step", "between", *PHASES])
    True
    """

    def __init__(self) -> None:
        self._finished_at = 0.0
        self.start()

    def start(self) -> None:
        """Start a step in the phase `update`."""
        self._seconds: dict[str, float] = defaultdict(float)
        self._phase = "update"
        self._started_at = self._entered_at = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the duration of the block to a phase instead of the current one."""
        outer = self._enter(name)
        try:
            yield
        finally:
            self._enter(outer)

    def move(self, seconds: float, source: str, target: str) -> None:
        """Move seconds from a phase, which may be the current one, to another. A phase keeps at least 0 seconds."""
        self._enter(self._phase)
        seconds = min(seconds, self._seconds[source])
        self._seconds[source] -= seconds
        self._seconds[target] += seconds

    def finish(self) -> dict[str, float]:
        """Return the seconds of each phase, of the `step`, and `between` the last step and this one."""
        self._enter("update")
        now = self._entered_at
        between = self._started_at - self._finished_at if self._finished_at else 0.0
        self._finished_at = now
        phases = {name: self._seconds[name] for name in PHASES}
        return {"step": now - self._started_at, "between": between, **phases}

    def _enter(self, name: str) -> str:
        """Enter a phase, and return the one before it."""
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._entered_at
        before, self._phase, self._entered_at = self._phase, name, now
        return before
