"""The rollout scheduler: many rollouts share one generation backend.

Any thread may submit requests at any time; `loop` processes them. One thread at a time runs the loop: a thread that waits
for a result, or a separate thread (`start`). A failing request does not affect others. An error of the backend ends all
requests.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import QueueFullError, UsageError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.models.api import (
    CacheUsage,
    Capabilities,
    GenerationModel,
    SupportsCacheUsage,
)
from pixel_reasoner.rollout.budgets import open_context
from pixel_reasoner.rollout.loop import RolloutLoop
from pixel_reasoner.rollout.request import RolloutHandle, RolloutObserver, RolloutRequest
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.rollout.tasks import Commands, Task
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig

POLL_S = 0.01
"""Maximum wait for the backend while workers are busy or clients may submit commands."""


@runtime_checkable
class SupportsLoop(Protocol):
    """Model whose requests are processed elsewhere, for example on a cluster."""

    def open_loop(self, max_active: int, on_end: Callable[[str], None]) -> RolloutLoop:
        """Return the loop of a scheduler of this model. For the arguments see `RolloutLoop`."""
        ...


class RolloutScheduler:
    r"""Scheduler of rollouts with one model.

    Args:
        model: with a backend, or with `generate`.
        max_active: rollouts in progress at once.
        max_queued: maximum number of waiting requests; further requests raise `QueueFullError`.
        num_workers: threads that open media and execute operations.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> scheduler = RolloutScheduler(ScriptedModel([r"It is red. \boxed{red}"]))
    >>> from pixel_reasoner.schema.question import Question
    >>> handle = scheduler.submit(RolloutRequest(question=Question(id="1", text="Which colour?", media=())))
    >>> handle.result().answer
    'red'
    """

    def __init__(
        self,
        model: GenerationModel,
        *,
        max_active: int = 256,
        max_queued: int = 100_000,
        num_workers: int | None = None,
    ) -> None:
        self.model = model
        self.observers: list[RolloutObserver] = []
        self.max_queued = max_queued
        self._commands = Commands()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._driver = threading.Lock()
        self._numbers = itertools.count()
        self._unfinished: set[str] = set()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._stepped_at = time.monotonic()
        self._loop: RolloutLoop
        if isinstance(model, SupportsLoop):
            self._loop = model.open_loop(max_active, self._ended)
        else:
            self._loop = RolloutLoop(
                model, max_active, num_workers, self._ended, lambda: bool(self._commands)
            )

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the backend."""
        return self._loop.backend.capabilities

    @property
    def cache_usage(self) -> CacheUsage | None:
        """Use of the KV cache of the backend; None if it is not in this process."""
        backend = self._loop.backend
        return backend.cache_usage if isinstance(backend, SupportsCacheUsage) else None

    @property
    def num_copies(self) -> int:
        """Copies of the model that answer requests at the same time, each with a batch of its own."""
        return self._loop.num_copies

    @property
    def is_closed(self) -> bool:
        """Whether the scheduler was closed."""
        return self._is_closed

    @property
    def seconds_since_step(self) -> float:
        """Seconds since the thread of `start` ended a step. Large if the backend hangs."""
        return time.monotonic() - self._stepped_at

    @property
    def decoder(self) -> MediaDecoder:
        """Decoder of the media of further requests."""
        return self._loop.media.decoder

    def decode_with(self, decoder: MediaDecoder) -> None:
        """Set the decoder for media of all further requests, for example `WorkerPoolDecoder`."""
        self._loop.media.decoder = decoder

    @property
    def media(self) -> MediaCache:
        """Cache of open media."""
        return self._loop.media

    def open_rollout(
        self, question: Question, config: RolloutConfig, cache: MediaCache | None = None
    ) -> Rollout:
        """Open the media of a question and return its rollout before the first turn. Nothing is submitted.

        Raises:
            InputError: an unusable media item.
        """
        budgets = self.model.budgets or get_dialect(self.model.dialect).budgets
        context = open_context(cache or self.media, question, budgets, config, self.model)
        return Rollout(question, self.model, config, context)

    @property
    def max_cached_px(self) -> int:
        """Decoded pixels that are kept for further requests, four bytes each."""
        return self._loop.media.max_px

    @max_cached_px.setter
    def max_cached_px(self, max_px: int) -> None:
        self._loop.media.max_px = max_px

    # --- for clients, from any thread ---

    def submit(self, request: RolloutRequest, *, continues: str | None = None) -> RolloutHandle:
        """Accept a request.

        Args:
            request: question, settings, priority, deadline.
            continues: id of a finished request, submitted with `keep`, whose conversation this request continues.

        Raises:
            QueueFullError: too many waiting requests.
            UsageError: the scheduler is closed, or there is no conversation to continue.
        """
        handle = RolloutHandle(self, request)
        with self._lock:
            self._assert_accepts(request)
            before = self._conversation(continues) if continues is not None else None
            session = before.session if before else request.id
            task = Task(handle, next(self._numbers), session, before.rollout if before else None)
            if request.deadline_s is not None:
                task.expires_at = time.monotonic() + request.deadline_s
            for observer in self.observers:
                observer.submitted(request)
            self._commands.submitted.append(task)
            self._unfinished.add(request.id)
            self._wake()
        return handle

    def cancel(self, id: str) -> None:
        """Stop a request in any state. Unknown and finished requests are ignored."""
        with self._lock:
            self._commands.cancelled.append(id)
            self._wake()

    def cancel_all(self) -> None:
        """Stop all requests."""
        with self._lock:
            self._commands.cancelled.extend(self._unfinished)
            self._wake()

    def release(self, id: str) -> None:
        """Release the conversation of a finished request that was submitted with `keep`."""
        with self._lock:
            self._commands.released.append(id)
            self._wake()

    def drive(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Run the loop until a condition holds, or wait while another thread runs it. Returns whether the condition holds."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not until():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._driver.acquire(blocking=False):
                try:
                    wait_s = POLL_S if left is None else min(POLL_S, left)
                    self._loop.step(wait_s, self._take_commands())
                finally:
                    self._driver.release()
                    with self._lock:
                        self._changed.notify_all()
            else:
                with self._lock:
                    if not until():
                        self._changed.wait(0.05 if left is None else min(0.05, left))
        return True

    def start(self) -> None:
        """Run in a separate thread from now on, until `close`."""
        with self._lock:
            if self._thread is not None or self._is_closed:
                return
            self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Cancel all requests and end the worker threads. The backend stays open because the model owns it."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._wake()
        if self._thread is not None:
            self._thread.join()
        with self._driver:
            self._loop.take(self._take_commands())
            self._loop.stop_all()

    @property
    def num_unfinished(self) -> int:
        """Number of submitted requests that have not ended."""
        return len(self._unfinished)

    def _assert_accepts(self, request: RolloutRequest) -> None:
        if self._is_closed:
            raise UsageError(
                expected="a running scheduler", got="a closed one", fix="create another"
            )
        if len(self._unfinished) >= self._loop.max_active + self.max_queued:
            raise QueueFullError(
                expected=f"at most {self.max_queued} waiting requests",
                got="one more",
                fix="submit it again later, or raise max_queued",
            )
        if request.id in self._unfinished or request.id in self._loop.kept:
            raise UsageError(
                expected="a request id that is not in use", got=repr(request.id), fix="use another"
            )

    def _conversation(self, id: str) -> Task:
        task = self._loop.kept.get(id)
        if task is None or task.rollout is None:
            raise UsageError(
                expected="the id of a finished request that was submitted with keep=True",
                got=repr(id),
                fix="submit it with keep=True; least recently used conversations are released",
            )
        return task

    def _take_commands(self) -> Commands:
        with self._lock:
            commands, self._commands = self._commands, Commands()
        return commands

    def _ended(self, id: str) -> None:
        with self._lock:
            self._unfinished.discard(id)

    def _wake(self) -> None:
        """Notify the thread that runs the loop and all waiting threads. The lock must be held."""
        self._changed.notify_all()
        self._loop.wake()

    def _run(self) -> None:
        while not self._is_closed:
            with self._driver:
                is_idle = not self._loop.step(POLL_S, self._take_commands())
            self._stepped_at = time.monotonic()
            with self._lock:
                self._changed.notify_all()
                if is_idle and not self._commands and not self._is_closed:
                    self._changed.wait(0.5)


_schedulers_lock = threading.Lock()


def get_scheduler(model: GenerationModel) -> RolloutScheduler:
    """Return the scheduler of a model, shared by all clients in this process."""
    with _schedulers_lock:
        found: RolloutScheduler | None = getattr(model, "_rollout_scheduler", None)
        if found is None or found.is_closed:
            found = RolloutScheduler(model)
            # Stored on the model so that both have the same lifetime.
            model._rollout_scheduler = found  # type: ignore[attr-defined]
        return found


def share_scheduler(model: GenerationModel, scheduler: RolloutScheduler) -> None:
    """Make a scheduler the one that `get_scheduler` returns for its model."""
    with _schedulers_lock:
        model._rollout_scheduler = scheduler  # type: ignore[attr-defined]
