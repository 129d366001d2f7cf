"""Cache of what was read from files, valid until a file changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _Key(NamedTuple):
    path: str
    version: tuple[int, int, int, int]
    """device, inode, size and time of the last change"""
    settings: Hashable


class FileCache(Generic[T]):
    """Least recently used results of reading files. Threads that want the same file wait for the first one.

    Args:
        max_size: total size of the results; a larger one is not kept.
        size_of: return the size of a result, in any unit.
    """

    def __init__(self, max_size: int, size_of: Callable[[T], int]) -> None:
        self._max_size = max_size
        self._size_of = size_of
        self._found: OrderedDict[_Key, T] = OrderedDict()
        self._reading: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, path: Path, settings: Hashable, read: Callable[[], T]) -> T:
        """Return the result of an earlier call for the same unchanged file and settings, or read it.

        Args:
            path: the file.
            settings: what else the result depends on.
            read: called without arguments. An error is raised, not kept.
        """
        stat = path.stat()
        version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        key = _Key(str(path), version, settings)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
            reading = self._reading.setdefault(key, threading.Lock())
        with reading:
            with self._lock:
                if key in self._found:
                    return self._found[key]
            try:
                result = read()
                self._add(key, result)
            finally:
                with self._lock:
                    self._reading.pop(key, None)
        return result

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._found.clear()

    def _add(self, key: _Key, result: T) -> None:
        with self._lock:
            self._found[key] = result
            while self._found and sum(map(self._size_of, self._found.values())) > self._max_size:
                self._found.popitem(last=False)
