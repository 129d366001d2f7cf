"""A function over many items in several processes, with results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_ITEMS_PER_TASK = 4


def map_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int
) -> Iterator[_Result]:
    """Yield the result of each item, in order; only a few tasks are submitted or done and not yet taken.

    Args:
        function: can be pickled.
        items: drawn as results are taken.
        workers: processes; 1 works in this process.

    >>> list(map_in_order(abs, [-1, 2], 1))
    [1, 2]
    """
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[list[_Result]]] = deque()
    # Spawned, not forked: the progress bar has its own thread.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _end_with, (os.getpid(),)) as pool:
        try:
            rest = iter(items)
            while chunk := list(islice(rest, _ITEMS_PER_TASK)):
                waiting.append(pool.submit(_results, function, chunk))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _end_with(parent: int) -> None:
    """End this worker when its parent process is gone: after a kill nothing else ends it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _results(function: Callable[[_Item], _Result], chunk: list[_Item]) -> list[_Result]:
    return [function(item) for item in chunk]
