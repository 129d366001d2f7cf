"""Preemption: SIGTERM, SIGUSR1 or a file `stop` ends training after a checkpoint, and the same command continues it.

All processes agree after every step, so a signal to one of them stops all at the same step. A second signal ends its
process immediately. RL stops at the end of a policy sync, because a checkpoint has no rollouts.

transformers' `enable_jit_checkpoint` is not used: each of its processes decides alone, and the others would wait for it
in the next collective call.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from pixel_reasoner.errors import PreemptedError
from pixel_reasoner.train import distributed

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
STOP = "stop"
"""name of the file in the folder of a run. torchrun kills its processes 30 s after a signal; a file has no such limit"""


class PreemptionCallback(TrainerCallback):
    """Callback that saves a checkpoint and stops training when a process is asked to.

    Args:
        trainer: trainer of the run.
        out: folder of the run.
    """

    def __init__(self, trainer: Any, out: Path) -> None:
        self.trainer, self.path = trainer, out / STOP
        self.cause = ""
        """name of the signal or the file that asked this process to stop"""
        self.stopped_at = 0
        """step of the checkpoint; 0 if training was not stopped"""
        self._handlers: dict[signal.Signals, Any] = {}
        """handlers before training"""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Install the signal handlers. Python allows it only in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {one: signal.signal(one, self._request) for one in SIGNALS}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restore the signal handlers."""
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Restore the signal handlers, also after an error. May be called twice."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop if any process is asked to. Collective."""
        if state.is_world_process_zero and not self.cause and self.path.exists():
            self.cause = str(self.path)
        is_requested = bool(distributed.gather_sum(float(bool(self.cause)), self.trainer))
        is_finished = state.global_step >= state.max_steps
        if is_requested and not is_finished and state.global_step % _steps_per_sync(args) == 0:
            control.should_save = control.should_training_stop = True
            self.stopped_at = state.global_step

    def finish(self) -> None:
        """Remove the stop file after training.

        Raises:
            PreemptedError: training was stopped before its last step.
        """
        if distributed.is_main_process(self.trainer):
            self.path.unlink(missing_ok=True)
        if self.stopped_at:
            raise PreemptedError(
                expected="a finished run",
                got=f"{self.cause or 'a signal to another process'} after checkpoint-{self.stopped_at}",
                fix="run the same command again, it continues there",
            )

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.cause:
            signal.signal(number, self._handlers[signal.Signals(number)])
            os.kill(os.getpid(), number)
        self.cause = signal.Signals(number).name


def _steps_per_sync(args: Any) -> int:
    """Return the number of gradient steps per policy sync of an RL run, 1 for SFT."""
    if not hasattr(args, "steps_per_generation"):
        return 1
    return int(args.steps_per_generation // args.gradient_accumulation_steps * args.num_iterations)
