"""Parallel map over items in worker processes, with results in input order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from pixel_reasoner.errors import OutputError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_ITEMS_PER_TASK = 4


def map_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Generator[_Result, None, None]:
    """Yield the result of each item in order. Only a few tasks are submitted or finished ahead of the consumer.

    Args:
        function: picklable function.
        items: consumed lazily.
        workers: number of processes; 1 runs in this process.

    >>> list(map_in_order(abs, [-1, 2], 1))
    [1, 2]
    """
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[list[_Result]]] = deque()
    # Spawn instead of fork: the progress bar has its own thread.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _end_with_parent) as pool:
        try:
            rest = iter(items)
            while chunk := list(islice(rest, _ITEMS_PER_TASK)):
                with _no_interrupt():
                    waiting.append(pool.submit(_results, function, chunk))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            raise OutputError(
                expected=f"{workers} worker processes that run to the end",
                got="one that was killed, possibly because of too little memory",
                fix="run the same command again with fewer --workers; finished work is kept",
            ) from error
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Start processes that ignore Ctrl-C: their parent handles it and ends them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this worker when its parent process is gone; nothing else ends it after a kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a worker"

    def wait_for_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()


def _results(function: Callable[[_Item], _Result], chunk: list[_Item]) -> list[_Result]:
    return [function(item) for item in chunk]
