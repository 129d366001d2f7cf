"""A folder to which a camera adds files: each one is a unit when it is completely written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pixel_reasoner.workflows.survey.media_units import (
    MediaUnit,
    UnitOptions,
    file_units,
    media_files,
    unique_units,
)

SETTLE_S = 1.0
"""time without a change after which a file counts as written"""
POLL_S = 0.5
"""minimum time between two looks into the folder"""
OnMessage = Callable[[str], None]


def watched_units(
    folder: Path,
    options: UnitOptions,
    on_message: OnMessage = lambda text: None,
    *,
    settle_s: float = SETTLE_S,
    poll_s: float = POLL_S,
) -> Iterator[MediaUnit | None]:
    """Yield the units of a folder as files arrive, without an end. None means that there is none now.

    Existing files come first. A file is read once: one that is written again later is not asked again. While the folder is
    missing, for example because a drive is disconnected, its return is waited for.

    Args:
        folder: is searched with its subfolders.
        options: how files are divided.
        on_message: called when the folder disappears and when it is back.
        settle_s: time without a change after which a file counts as written.
        poll_s: minimum time between two looks into the folder.
    """
    watcher = _Watcher(folder, options, on_message, settle_s, poll_s)
    while True:
        name = watcher.next_file()
        if name is None:
            yield None
        else:
            yield from unique_units(file_units(name, options))


class _Watcher:
    def __init__(
        self,
        folder: Path,
        options: UnitOptions,
        on_message: OnMessage,
        settle_s: float,
        poll_s: float,
    ) -> None:
        self._folder, self._options, self._on_message = folder, options, on_message
        self._settle_s, self._poll_s = settle_s, poll_s
        self._taken: set[int] = set()
        """hashes of the names of all files that were returned"""
        self._changed: dict[str, tuple[tuple[int, int], float]] = {}
        """waiting file -> its size and modification time, and since when they are so"""
        self._is_missing = False
        self._next_look = 0.0
        self._files: list[str] = []
        """written files, in order"""

    def next_file(self) -> str | None:
        """Return the next written file; None if there is none now."""
        now = time.monotonic()
        if not self._files and now >= self._next_look:
            self._next_look = now + self._poll_s
            self._look(now)
        if not self._files:
            return None
        name = self._files.pop(0)
        self._taken.add(hash(name))
        return name

    def _look(self, now: float) -> None:
        if not self._is_there():
            return
        waiting = {}
        for name in media_files(str(self._folder), self._options.skip):
            if hash(name) in self._taken:
                continue
            state = _state(name)
            if state is None:  # removed since
                continue
            before, since = self._changed.get(name, (None, now))
            since = since if before == state else now
            # A file that has been old for longer than the camera writes is not waited for.
            is_old = time.time() - state[1] / 1e9 > 2 * self._settle_s
            if state[0] and (is_old or (before == state and now - since >= self._settle_s)):
                self._files.append(name)
            else:
                waiting[name] = (state, since)
        self._changed = waiting

    def _is_there(self) -> bool:
        is_there = self._folder.is_dir()
        if is_there == self._is_missing:
            self._is_missing = not is_there
            self._on_message(
                f"{self._folder} is back"
                if is_there
                else f"{self._folder} is missing: waiting until it is back"
            )
        return is_there


def _state(name: str) -> tuple[int, int] | None:
    """Return the size and modification time of a file; None if it does not exist."""
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
