"""Worker threads of the scheduler: they open media, execute operations and render prompts."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from pixel_reasoner.models.api import Messages

OwnerT = TypeVar("OwnerT")

Job = Callable[[], Messages | None]
"""returns the next prompt of a rollout, or None if it stopped"""

_INTERRUPT_CHECK_INTERVAL_S = 0.05
"""interval between checks for interruptions during a wait"""


@dataclass(eq=False)
class _Started(Generic[OwnerT]):
    owner: OwnerT
    is_late: bool = False
    """whether an earlier wait for this job timed out"""


class Workers(Generic[OwnerT]):
    """Thread pool whose jobs have owners.

    Args:
        num_threads: by default one for each core, at most eight.
        on_done: called in the thread of each finished job.
    """

    def __init__(self, num_threads: int | None, on_done: Callable[[], None]) -> None:
        self.num_threads = num_threads or min(8, os.cpu_count() or 1)
        self._on_done = on_done
        self._pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="rollout")
        self._lock = Lock()
        self._limit = self.num_threads
        self._num_running = 0
        self._waiting: deque[tuple[Future[Messages | None], Job]] = deque()
        self._jobs: dict[Future[Messages | None], _Started[OwnerT]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def num_running(self) -> int:
        """Number of running jobs."""
        return self._num_running

    def limit(self, num_threads: int) -> None:
        """Set the maximum number of concurrent jobs. Running jobs continue."""
        with self._lock:
            self._limit = min(num_threads, self.num_threads)
            self._fill()

    def start(self, owner: OwnerT, job: Job, *, first: bool = False) -> None:
        """Start a job when a thread is free, before or after all waiting jobs."""
        future: Future[Messages | None] = Future()
        self._jobs[future] = _Started(owner)
        with self._lock:
            (self._waiting.appendleft if first else self._waiting.append)((future, job))
            self._fill()

    def wait(self, num_jobs: int, timeout_s: float, *, is_interrupted: Callable[[], bool]) -> None:
        """Wait until `num_jobs` jobs ended. Jobs that exceeded `timeout_s` before are ignored.

        Args:
            num_jobs: number of jobs; all jobs if there are fewer.
            timeout_s: maximum wait.
            is_interrupted: returns whether to stop waiting.
        """
        deadline = time.monotonic() + timeout_s
        pending = {one for one, started in self._jobs.items() if not started.is_late}
        num_left = max(0, len(pending) - num_jobs)
        while len(pending) > num_left and not is_interrupted():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                for future in pending:
                    self._jobs[future].is_late = True
                return
            pending = wait(
                pending, min(left_s, _INTERRUPT_CHECK_INTERVAL_S), FIRST_COMPLETED
            ).not_done

    def wait_for_late(self, timeout_s: float) -> None:
        """Wait for any job, including late ones."""
        wait(self._jobs, timeout_s, FIRST_COMPLETED)

    @property
    def has_only_late_jobs(self) -> bool:
        """Whether all jobs exceeded the timeout of a wait."""
        return all(started.is_late for started in self._jobs.values())

    def take_done(self) -> list[tuple[OwnerT, Future[Messages | None]]]:
        """Return finished jobs in the order of their start."""
        done = [future for future in self._jobs if future.done()]
        return [(self._jobs.pop(future).owner, future) for future in done]

    def close(self) -> None:
        """Drop jobs that have not started."""
        with self._lock:
            self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self) -> None:
        while self._waiting and self._num_running < self._limit:
            self._num_running += 1
            self._pool.submit(self._run, *self._waiting.popleft())

    def _run(self, future: Future[Messages | None], job: Job) -> None:
        try:
            future.set_result(job())
        except BaseException as error:  # noqa: BLE001 - `take_done` returns it to the owner
            future.set_exception(error)
        with self._lock:
            self._num_running -= 1
            self._fill()
        self._on_done()
