"""The rollout scheduler: many rollouts share one generation backend.

    submit → queued → media are opened → generating ⇄ operating → ended
                      (worker threads)   (backend)     (worker threads)

Requests come at any time from any thread. One thread at a time drives the scheduler: whoever waits for a result, or a
thread of its own (`start`). A failing request ends only itself; only an error of the backend as a whole ends all.

Where generation runs on the CPU, worker threads and torch share its cores, and each makes the other slower than one after
the other would be (measured: dev/LOG.md, `ask_many`). There the scheduler lets workers finish before it generates.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from pixel_reasoner.errors import (
    QueueFullError,
    UsageError,
)
from pixel_reasoner.models.api import (
    Completion,
    ContextFull,
    Delta,
    GenerationRequest,
    Messages,
    Model,
    backend_of,
)
from pixel_reasoner.rollout.request import RolloutHandle, RolloutRequest
from pixel_reasoner.rollout.state import Rollout, failed_trace, settings_of
from pixel_reasoner.rollout.tasks import Commands, Task, error_of
from pixel_reasoner.rollout.workers import Workers
from pixel_reasoner.schema.events import (
    CallParsed,
    Observed,
    PartDelta,
    PartKind,
    TurnDone,
    TurnStarted,
)
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason

POLL_S = 0.01
"""Longest wait for the backend while workers or other threads may have something new."""

OPENING_PATIENCE_S = 1.0
"""Longest wait for media and operations, while there is something to generate"""

OPERATING_FRACTION = 0.25
"""Fraction of the batch that waits for its operations before they are executed, where generation shares the cores"""

MAX_KEPT_CONVERSATIONS = 64
"""Conversations that may be continued; the one that was used least recently is released first."""


class RolloutScheduler:
    r"""Answers requests with one model.

    Args:
        model: with a backend, or with `generate`.
        max_active: rollouts in progress at once.
        max_queued: requests that wait; one more is refused.
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
        model: Model,
        *,
        max_active: int = 256,
        max_queued: int = 100_000,
        num_workers: int | None = None,
    ) -> None:
        self.model = model
        self.backend = backend_of(model)
        self.max_active = max_active
        self.max_queued = max_queued
        self._shares_cores = self.backend.capabilities.prefetch_threshold > 0
        self._workers: Workers[Task] = Workers(num_workers, self._notify)
        self._commands = Commands()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._driver = threading.Lock()
        self._numbers = itertools.count()
        self._unfinished: set[str] = set()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._settings: dict[RolloutConfig, RunSettings] = {}
        # State of the driver alone.
        self._queued: list[tuple[int, int, Task]] = []
        self._tasks: dict[str, Task] = {}
        self._generating: dict[str, Task] = {}
        self._to_operate: list[tuple[Task, Completion | ContextFull, float]] = []
        self._kept: OrderedDict[str, Task] = OrderedDict()

    # --- for clients, from any thread ---

    def submit(self, request: RolloutRequest, *, continues: str | None = None) -> RolloutHandle:
        """Accept a request.

        Args:
            request: question, settings, priority, deadline.
            continues: id of a finished request that was submitted with `keep`; its conversation goes on.

        Raises:
            QueueFullError: too many requests wait.
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
            self._commands.submitted.append(task)
            self._unfinished.add(request.id)
            self._changed.notify_all()
        return handle

    def cancel(self, id: str) -> None:
        """Stop a request, whatever its state. Unknown and finished ones are ignored."""
        with self._lock:
            self._commands.cancelled.append(id)
            self._changed.notify_all()

    def release(self, id: str) -> None:
        """Forget the conversation of a finished request that was submitted with `keep`."""
        with self._lock:
            self._commands.released.append(id)
            self._changed.notify_all()

    def drive(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Run until a condition holds, or wait while another thread runs; returns whether it holds."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not until():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self._driver.acquire(blocking=False):
                try:
                    self._step(POLL_S if left is None else min(POLL_S, left))
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
        """Run in a thread of its own from now on, until `close`."""
        with self._lock:
            if self._thread is not None or self._is_closed:
                return
            self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Cancel all requests and end the worker threads. The backend stays open: it belongs to the model."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._driver:
            self._take_commands()
            for task in list(self._tasks.values()):
                self._stop(task, StopReason.CANCELLED)
            for id in list(self._kept):
                self._release_kept(id)
        self._workers.close()

    def settings(self, config: RolloutConfig) -> RunSettings:
        """Return everything that decides the outcome of a request with this configuration."""
        if config not in self._settings:
            if len(self._settings) >= 64:  # per-request seeds would fill it
                self._settings.clear()
            self._settings[config] = settings_of(self.model, config)
        return self._settings[config]

    @property
    def num_unfinished(self) -> int:
        """Requests that were submitted and have not ended."""
        return len(self._unfinished)

    def _assert_accepts(self, request: RolloutRequest) -> None:
        if self._is_closed:
            raise UsageError(
                expected="a scheduler that runs", got="a closed one", fix="create another"
            )
        if len(self._unfinished) >= self.max_active + self.max_queued:
            raise QueueFullError(
                expected=f"at most {self.max_queued} requests that wait",
                got="one more",
                fix="submit it again later, or raise max_queued",
            )
        if request.id in self._unfinished or request.id in self._kept:
            raise UsageError(
                expected="a request id that is not in use", got=repr(request.id), fix="use another"
            )

    def _conversation(self, id: str) -> Task:
        task = self._kept.get(id)
        if task is None or task.rollout is None:
            raise UsageError(
                expected="the id of a finished request that was submitted with keep=True",
                got=repr(id),
                fix="submit it with keep=True; a conversation that was not used for long is released",
            )
        return task

    # --- the loop, in one thread at a time ---

    def _run(self) -> None:
        while not self._is_closed:
            with self._driver:
                is_idle = not self._step(POLL_S)
            with self._lock:
                self._changed.notify_all()
                if is_idle and not self._commands and not self._is_closed:
                    self._changed.wait(0.5)

    def _step(self, timeout_s: float) -> bool:
        """Make some progress; returns whether anything is in progress."""
        self._take_commands()
        self._stop_expired()
        self._open_queued()
        self._operate()
        num_before = len(self._tasks)
        self._collect(timeout_s)
        if len(self._tasks) < num_before:
            return (
                True  # a request ended: its client may submit the next one before more is generated
            )
        if self._generating:
            try:
                deltas = self.backend.poll(
                    timeout_s if self._workers or self._queued else 10 * timeout_s
                )
            except Exception as error:  # noqa: BLE001 - of the backend as a whole: it ends every request
                self._fail_all(error)
                return True
            for delta in deltas:
                self._take_delta(delta)
        elif not self._workers:
            self._wait(timeout_s)
        return bool(self._tasks)

    def _wait(self, timeout_s: float) -> None:
        with self._lock:
            if not self._commands and not self._to_operate and not self._queued:
                self._changed.wait(timeout_s)

    def _take_commands(self) -> None:
        if not self._commands:
            return
        with self._lock:
            commands, self._commands = self._commands, Commands()
            for task in commands.submitted:
                self._tasks[task.handle.id] = task
        for task in commands.submitted:
            heapq.heappush(self._queued, (-task.handle.request.priority, task.seq, task))
        for id in commands.cancelled:
            if id in self._tasks:
                self._stop(self._tasks[id], StopReason.CANCELLED)
        for id in commands.released:
            self._release_kept(id)

    def _stop_expired(self) -> None:
        now = time.monotonic()
        for task in [one for one in self._tasks.values() if one.expires_at is not None]:
            if task.expires_at is not None and task.expires_at <= now:
                self._stop(task, StopReason.DEADLINE)

    # --- opening media and executing operations, in worker threads ---

    def _open_queued(self) -> None:
        num_active = len(self._workers) + len(self._generating) + len(self._to_operate)
        while self._queued and num_active < self.max_active:
            task = heapq.heappop(self._queued)[2]
            if not task.is_over:
                self._workers.start(task, partial(self._open, task))
                num_active += 1

    def _operate(self) -> None:
        """Execute the operations of turns that were generated."""
        waiting = self._to_operate
        # On shared cores they are executed together, on all cores: the engine prefills once many wait anyway.
        enough = len(waiting) >= OPERATING_FRACTION * (len(self._generating) + len(waiting))
        if not waiting or (self._shares_cores and not enough):
            return
        self._to_operate = []
        for task, completion, seconds in waiting:
            if not task.is_over:
                self._workers.start(task, partial(self._advance, task, completion, seconds))

    def _notify(self) -> None:
        with self._lock:
            self._changed.notify_all()

    def _open(self, task: Task) -> Messages | None:
        """Open the media of a question; returns its prompt, None when the rollout stops before its first turn."""
        request = task.handle.request
        if task.continues is not None:
            rollout = task.continues.next_exchange(request.question, request.config)
        else:
            rollout = Rollout(
                request.question, self.model, request.config, request.context, request.hooks
            )
        task.rollout = task.handle.rollout = rollout
        return rollout.messages() if rollout.stop is None else None

    def _advance(
        self, task: Task, completion: Completion | ContextFull, seconds: float
    ) -> Messages | None:
        """Take a turn; returns the next prompt, None when the rollout stopped."""
        rollout, handle = task.rollout, task.handle
        assert rollout is not None, "a turn needs a rollout"
        number = len(rollout.turns)
        rollout.begin_turn(completion, seconds)
        for call in rollout.pending.calls if rollout.pending else ():
            handle.emit(CallParsed, turn=number, call=call)
        rollout.finish_turn()
        if len(rollout.turns) > number:
            for observation in rollout.turns[-1].observations:
                handle.emit(Observed, turn=number, observation=observation)
            handle.emit(TurnDone, turn=number, record=rollout.turns[-1])
        return rollout.messages() if rollout.stop is None else None

    def _collect(self, timeout_s: float) -> None:
        """Take what workers finished. Where nothing else is to be done, wait for them."""
        num_in_progress = len(self._workers) + len(self._generating)
        is_filled = len(self._generating) >= self.backend.capabilities.min_fill * num_in_progress
        # Where generation shares the cores with workers, it goes on when they are finished.
        waits_for_all = self._shares_cores or not is_filled
        if self._workers and not self._generating and self._workers.are_late:
            self._workers.wait_for_late(timeout_s)
        elif self._workers and (waits_for_all or not self._generating):
            self._workers.wait(
                OPENING_PATIENCE_S,
                for_all=waits_for_all,
                is_interrupted=lambda: bool(self._commands),
            )
        for task, future in sorted(self._workers.take_done(), key=lambda pair: pair[0].seq):
            self._take_job(task, future)

    def _take_job(self, task: Task, future: Future[Messages | None]) -> None:
        if task.is_over:
            return
        error = future.exception()
        if error is not None:
            self._fail(task, error)
            return
        messages = future.result()
        if messages is None:
            self._finish(task)
        else:
            self._generate(task, messages)

    # --- generation ---

    def _generate(self, task: Task, messages: Messages) -> None:
        assert task.rollout is not None, "a prompt needs a rollout"
        request, turn = task.handle.request, len(task.rollout.turns)
        task.turn_id = f"{request.id}/{turn}"
        self._generating[task.turn_id] = task
        task.has_streamed = False
        task.handle.emit(TurnStarted, turn=turn)
        self.backend.submit(
            GenerationRequest(
                id=task.turn_id,
                session=task.session,
                messages=messages,
                sampling=request.config.sampling,
                stream=request.stream,
                priority=request.priority,
            )
        )

    def _take_delta(self, delta: Delta) -> None:
        task = self._generating.get(delta.id)
        if task is None:
            return
        text = delta.text
        if isinstance(delta.completion, Completion) and not (text or task.has_streamed):
            text = delta.completion.text  # a backend that does not stream
        if text:
            task.has_streamed = True
            kind = PartKind.THOUGHT if delta.is_reasoning else PartKind.TEXT
            turn = len(task.rollout.turns) if task.rollout else 0
            task.handle.emit(PartDelta, turn=turn, kind=kind, text=text)
        if not delta.is_last:
            return
        del self._generating[delta.id]
        task.turn_id = ""
        if delta.error is not None:
            self._fail(task, delta.error)
        elif delta.completion is not None:
            self._to_operate.append((task, delta.completion, delta.seconds))

    # --- ends ---

    def _finish(self, task: Task) -> None:
        assert task.rollout is not None, "a rollout that stopped"
        self._end(task, task.rollout.trace(self.settings(task.handle.request.config)))

    def _fail(self, task: Task, error: BaseException, *, is_fatal: bool = False) -> None:
        task.handle.is_fatal = is_fatal
        settings = self.settings(task.handle.request.config)
        self._end(task, failed_trace(task.handle.request.question, error, settings), error)

    def _fail_all(self, error: Exception) -> None:
        self._generating.clear()
        for task in list(self._tasks.values()):
            self._fail(task, error, is_fatal=True)

    def _stop(self, task: Task, reason: StopReason) -> None:
        """End a request that is in progress, with the turns that it has."""
        if task.turn_id:
            self._generating.pop(task.turn_id, None)
            self.backend.cancel(task.turn_id)
        rollout, request = task.rollout, task.handle.request
        settings = self.settings(request.config)
        error = error_of(reason, request)
        question = rollout.question if rollout else request.question
        trace = failed_trace(question, error, settings, reason)
        if rollout is not None:
            # Its worker may be adding a turn right now: what was complete is kept.
            kept = {"pictures": rollout.pictures, "turns": tuple(rollout.turns)}
            trace = trace.model_copy(update=kept)
        self._end(task, trace, error)

    def _end(self, task: Task, trace: Any, error: BaseException | None = None) -> None:
        task.is_over = True
        handle = task.handle
        del self._tasks[handle.id]
        keeps = handle.request.keep and error is None
        if keeps:
            self._keep(task)
        elif task.continues is None or error is None:
            self.backend.release(task.session)
        with self._lock:
            self._unfinished.discard(handle.id)
        handle.end(trace, error)

    def _keep(self, task: Task) -> None:
        with self._lock:
            self._kept[task.handle.id] = task
        while len(self._kept) > MAX_KEPT_CONVERSATIONS:
            self._release_kept(next(iter(self._kept)))

    def _release_kept(self, id: str) -> None:
        with self._lock:
            task = self._kept.pop(id, None)
            sessions = {one.session for one in self._kept.values()}
        sessions |= {one.session for one in self._tasks.values()}
        if task is not None and task.session not in sessions:
            self.backend.release(task.session)


_schedulers_lock = threading.Lock()


def scheduler_of(model: Model) -> RolloutScheduler:
    """Return the scheduler of a model; always the same one, shared by all clients in this process."""
    with _schedulers_lock:
        found: RolloutScheduler | None = getattr(model, "_rollout_scheduler", None)
        if found is None or found._is_closed:
            found = RolloutScheduler(model)
            # An attribute, not a table: the scheduler lives as long as its model.
            model._rollout_scheduler = found  # type: ignore[attr-defined]
        return found
