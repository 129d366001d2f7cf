"""Asynchronous rollouts in a thread of their own: a server generates while this process trains."""

from __future__ import annotations

import threading
import time
from typing import Any

from pixel_reasoner.errors import UsageError
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.train.rollouts.asynchronous import AsyncRollouts, AsyncSizes
from pixel_reasoner.train.rollouts.generator import GeneratedRollout
from pixel_reasoner.train.rollouts.question_order import QuestionOrder
from pixel_reasoner.train.rollouts.turn_source import ContinuousTurnSource

_PAUSE_S = 0.001
"""time in which the trainer can take the lock; Python's locks are not fair"""
_IDLE_S = 0.02


class BackgroundRollouts(AsyncRollouts):
    """Asynchronous rollouts that continue between two calls of `next_groups`.

    One lock protects all state. The thread holds it for one poll; `next_groups` holds it while the weights change.
    """

    _settings: RunSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._is_closed = False

    def next_groups(self, settings: RunSettings) -> list[list[GeneratedRollout]]:
        """Return the groups of the next policy sync, as soon as enough have finished.

        Raises:
            PixelReasonerError: an error of the thread.
        """
        with self._lock:
            self._raise_error()
            self._settings = settings
            self._begin_sync()
        self._start_thread()
        with self._lock:
            while not self._is_ready():
                self._raise_error()
                self._lock.wait(timeout=1.0)
            return self._take_groups()

    def close(self) -> None:
        """End the thread and interrupt all rollouts."""
        self._is_closed = True
        if self._thread is not None:
            self._thread.join()
        super().close()

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._generate, name="rollouts", daemon=True)
            self._thread.start()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _generate(self) -> None:
        while not self._is_closed:
            with self._lock:
                try:
                    self._start_groups(self._settings)
                    is_idle = not self._running
                    if not is_idle:
                        self._advance()
                except BaseException as error:  # noqa: BLE001 - raised in the thread of the trainer
                    self._error = error
                    return
                finally:
                    self._lock.notify_all()
            time.sleep(_IDLE_S if is_idle else _PAUSE_S)


def async_rollouts(trainer: Any) -> AsyncRollouts:
    """Return the asynchronous rollouts of a `PixelReasonerTrainer`: in the background if servers generate.

    Raises:
        UsageError: rollouts that cannot be asynchronous.
    """
    run, source, publisher = trainer.run, trainer.generator.source, trainer.publisher
    if not isinstance(source, ContinuousTurnSource):
        raise UsageError(
            expected="a model whose rollouts the engine or a vLLM server generates, with max_staleness",
            got="rollouts that TRL generates",
            fix="set max_staleness = 0",
        )
    world = trainer.accelerator.num_processes
    groups, rest = divmod(run.questions_per_sync, world)
    if rest:
        raise UsageError(
            expected=f"questions_per_sync that {world} processes share evenly, with max_staleness",
            got=str(run.questions_per_sync),
            fix=f"take a multiple of {world}",
        )
    order = QuestionOrder(
        [Question.from_line(prompt[0]["content"]) for prompt in trainer.train_dataset["prompt"]],
        seed=trainer.args.seed,
        rank=trainer.accelerator.process_index,
        world=world,
    )
    sizes = AsyncSizes(run.group_size, groups, run.max_staleness, run.rollouts_at_once)
    if publisher is None:
        return AsyncRollouts(trainer.generator, source, order, sizes)
    return BackgroundRollouts(
        trainer.generator, source, order, sizes, load_weights=publisher.sync_weights
    )
