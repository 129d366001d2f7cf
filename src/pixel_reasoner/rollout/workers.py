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
"""returns the next prompt of a rollout; None when it stopped"""

_INTERRUPT_S = 0.05
"""how often a wait looks for interruptions"""


@dataclass(eq=False)
class _Started(Generic[OwnerT]):
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
        """Jobs that take a core at the moment."""
        return self._num_running

    def limit(self, num_threads: int) -> None:
        """Let at most this many jobs run at once from now on. Those that run go on."""
        with self._lock:
            self._limit = min(num_threads, self.num_threads)
            self._fill()

    def start(self, owner: OwnerT, job: Job, *, first: bool = False) -> None:
        """Start a job as soon as a thread is free, before or after those that wait."""
        future: Future[Messages | None] = Future()
        self._jobs[future] = _Started(owner)
        with self._lock:
            (self._waiting.appendleft if first else self._waiting.append)((future, job))
            self._fill()

    def wait(self, num_jobs: int, timeout_s: float, *, is_interrupted: Callable[[], bool]) -> None:
        """Wait until some jobs ended. Those that took longer than `timeout_s` before are not waited for again.

        Args:
            num_jobs: how many; all of them when there are fewer.
            timeout_s: longest wait.
            is_interrupted: whether something else needs attention.
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
            pending = wait(pending, min(left_s, _INTERRUPT_S), FIRST_COMPLETED).not_done

    def wait_for_late(self, timeout_s: float) -> None:
        """Wait for any job, those that took long included."""
        wait(self._jobs, timeout_s, FIRST_COMPLETED)

    @property
    def are_late(self) -> bool:
        """Whether all jobs took longer than they were waited for."""
        return all(started.is_late for started in self._jobs.values())

    def take_done(self) -> list[tuple[OwnerT, Future[Messages | None]]]:
        """Return the jobs that ended, in the order in which they were started."""
        done = [future for future in self._jobs if future.done()]
        return [(self._jobs.pop(future).owner, future) for future in done]

    def close(self) -> None:
        """Forget jobs that have not started."""
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
        except BaseException as error:  # noqa: BLE001 - whoever takes the job sees it
            future.set_exception(error)
        with self._lock:
            self._num_running -= 1
            self._fill()
        self._on_done()
