"""Stack dumps of all processes of a run whose steps have stopped.

Each process has a thread that notices when no step has finished for some time, and writes the stack of every thread of
the process to `out/stalls/rank-N.txt`. It also runs while the process waits in a collective call. The run continues: a
long step only leaves a file behind. The dumps show which process the others wait for.

A process that blocks Python's global lock cannot write its stacks. The other processes write theirs.
"""

from __future__ import annotations

import datetime
import faulthandler
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

FOLDER = "stalls"
MIN_POLL_S = 0.05


class StallWatchdog(TrainerCallback):
    """Watchdog of one process.

    Args:
        out: folder of the run.
        rank: of this process.
        timeout_s: a step, a validation or a checkpoint may take so long.
    """

    def __init__(self, out: Path, rank: int, timeout_s: float) -> None:
        self.folder, self.rank, self.timeout_s = out / FOLDER, rank, timeout_s
        self._step = 0
        self._last = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall watchdog", daemon=True)

    @property
    def path(self) -> Path:
        """File of the stacks of this process."""
        return self.folder / f"rank-{self.rank}.txt"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block."""
        self._last = time.monotonic()
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note progress."""
        self._step, self._last = state.global_step, time.monotonic()

    on_train_begin = on_evaluate = on_save = on_train_end = on_step_end

    def _watch(self) -> None:
        dumped_at = 0.0
        while not self._stopped.wait(max(MIN_POLL_S, min(5.0, self.timeout_s / 4))):
            last = self._last
            if last != dumped_at and time.monotonic() - last > self.timeout_s:
                dumped_at = last  # once per stall
                self._dump()

    def _dump(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{now}: no step for {self.timeout_s:g} s, after step {self._step}\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
            file.write("\n")
        if self.rank == 0:
            sys.stderr.write(
                f"\nno step has finished for {self.timeout_s:g} s, after step {self._step}: the stacks of all processes "
                f"are in {self.folder}\n"
            )


@contextmanager
def watch_for_stalls(trainer: Any, out: Path, timeout_s: float) -> Iterator[None]:
    """Watch a trainer during the block; 0 s: do not."""
    if not timeout_s:
        yield
        return
    watchdog = StallWatchdog(out, trainer.args.process_index, timeout_s)
    trainer.add_callback(watchdog)
    with watchdog.watching():
        yield
