"""Timeouts of requests, with one timer thread for all. Starting a thread for each would cost more than a short request."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Limit:
    """Callback at a deadline; None after the block has ended."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call


class Timer:
    """Timer whose thread runs only while there are pending limits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limits: list[tuple[float, int, _Limit]] = []
        """heap of pending limits, by time"""
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float, call: Callable[[], None]) -> Iterator[None]:
        """Call a function if the block exceeds a time limit. The function must return quickly.

        >>> from time import sleep
        >>> late, timer = [], Timer()
        >>> with timer.limit(0.001, lambda: late.append("first")):
        ...     sleep(0.1)
        >>> with timer.limit(10, lambda: late.append("second")):
        ...     pass
        >>> late
        ['first']
        """
        limit = _Limit(call)
        at_s = time.monotonic() + min(seconds, threading.TIMEOUT_MAX)
        with self._changed:
            entry = (at_s, next(self._order), limit)
            heapq.heappush(self._limits, entry)
            # After a fork the timer thread does not exist in the new process.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="time limits", daemon=True)
                self._thread.start()
            elif self._limits[0] is entry:
                self._changed.notify()
        try:
            yield
        finally:
            limit.call = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._drop_ended()
                if not self._limits:
                    self._thread = None
                    return
                wait_s = self._limits[0][0] - time.monotonic()
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                call = heapq.heappop(self._limits)[2].call
            if call is not None:
                call()

    def _drop_ended(self) -> None:
        while self._limits and self._limits[0][2].call is None:
            heapq.heappop(self._limits)


TIMER = Timer()
