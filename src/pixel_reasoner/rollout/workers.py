"""Worker threads of the scheduler: they open media, execute operations and render prompts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from pixel_reasoner.models.api import Messages

OwnerT = TypeVar("OwnerT")

Job = Callable[[], Messages | None]
"""returns the next prompt of a rollout; None when it stopped"""


_INTERRUPT_S = 0.05
"""how often a wait looks for interruptions"""


@dataclass(eq=False)
class _Running(Generic[OwnerT]):
    owner: OwnerT
    is_late: bool = False
    """whether it was waited for in vain before"""


class Workers(Generic[OwnerT]):
    """Jobs in threads, each for an owner.

    Args:
        num_threads: by default one for each core, eight at most.
        on_done: called in the thread of a job that ended.
    """

    def __init__(self, num_threads: int | None, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._pool = ThreadPoolExecutor(
            num_threads or min(8, os.cpu_count() or 1), thread_name_prefix="rollout"
        )
        self._jobs: dict[Future[Messages | None], _Running[OwnerT]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def start(self, owner: OwnerT, job: Job) -> None:
        """Start a job."""
        future = self._pool.submit(job)
        self._jobs[future] = _Running(owner)
        future.add_done_callback(lambda _: self._on_done())

    def wait(self, timeout_s: float, *, for_all: bool, is_interrupted: Callable[[], bool]) -> None:
        """Wait for jobs: for one of them or for all. Those that took longer than `timeout_s` before are not waited for again.

        Args:
            timeout_s: longest wait.
            for_all: whether to wait until no job is left.
            is_interrupted: whether something else needs attention.
        """
        deadline = time.monotonic() + timeout_s
        pending = {one for one, running in self._jobs.items() if not running.is_late}
        while pending and not is_interrupted():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                for future in pending:
                    self._jobs[future].is_late = True
                return
            done, pending = wait(pending, min(left_s, _INTERRUPT_S), FIRST_COMPLETED)
            if done and not for_all:
                return

    def wait_for_late(self, timeout_s: float) -> None:
        """Wait for any job, those that took long included."""
        wait(self._jobs, timeout_s, FIRST_COMPLETED)

    @property
    def are_late(self) -> bool:
        """Whether all jobs took longer than they were waited for."""
        return all(running.is_late for running in self._jobs.values())

    def take_done(self) -> list[tuple[OwnerT, Future[Messages | None]]]:
        """Return the jobs that ended, in the order in which they were started."""
        done = [future for future in self._jobs if future.done()]
        return [(self._jobs.pop(future).owner, future) for future in done]

    def close(self) -> None:
        """Cancel jobs that have not started."""
        self._pool.shutdown(wait=False, cancel_futures=True)
