"""Seconds per gradient step, by phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StepTimer:
    """Timer that sums the seconds of the phases of one gradient step.

    step        the whole step
    generation  generation of turns
    operations  execution of calls
    other       rest of filling the replay buffer: rewards, log-probabilities, replay
    update      forward and backward passes, and the optimizer
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start a new step."""
        self._seconds: dict[str, float] = defaultdict(float, generation=0.0, operations=0.0)

    def add(self, phase: str, seconds: float) -> None:
        """Add seconds to a phase."""
        self._seconds[phase] += seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the duration of the block to a phase."""
        started = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - started)

    def metrics(self) -> dict[str, float]:
        """Return the seconds of each phase. Generation is 0 in a step that reuses rollouts."""
        seconds = dict(self._seconds)
        rollouts = seconds.pop("rollouts", 0.0)
        other = rollouts - seconds["generation"] - seconds["operations"]
        return seconds | {"update": seconds["step"] - rollouts, "other": other}
