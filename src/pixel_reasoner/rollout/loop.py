"""Loop of the rollout scheduler: processes the requests of one backend, step by step.

    queued → media are opened → generating ⇄ operating → ended
             (workers)          (backend)     (workers)

The loop is not thread-safe. If generation runs on the CPU, it leaves one core in four to busy workers and uses fewer
threads itself: torch threads that wait for a core slow down all others (measured: dev/LOG.md).
"""

from __future__ import annotations

import heapq
import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import OutputError, StorageError, UsageError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.models.api import (
    Completion,
    ContextFull,
    Delta,
    GenerationModel,
    GenerationRequest,
    Messages,
    get_backend,
)
from pixel_reasoner.models.openai_stream import TextJoiner
from pixel_reasoner.rollout.budgets import open_context
from pixel_reasoner.rollout.state import Rollout, collect_settings, failed_trace
from pixel_reasoner.rollout.tasks import Commands, Task, stop_error
from pixel_reasoner.rollout.workers import Workers
from pixel_reasoner.schema.events import (
    CallParsed,
    GeneratedText,
    Observed,
    PartDelta,
    PartKind,
    TurnDone,
    TurnStarted,
)
from pixel_reasoner.schema.settings import RolloutConfig, RunSettings
from pixel_reasoner.schema.trace import StopReason, Trace

MAX_OPENING_WAIT_S = 1.0
"""Maximum wait for media and operations while generation requests are pending."""

SWITCH_INTERVAL_S = 5e-5
"""Switch interval of the interpreter during generation on a CPU. A step of the engine has thousands of short operations,
and each could wait for the default of 5 ms while workers run (measured: dev/LOG.md)."""

MAX_OPEN_MEDIA, MAX_OPEN_PX = 16, 50_000_000
"""Size of the media cache: number of entries, and pixels (about 200 MB)."""

MAX_KEPT_CONVERSATIONS = 64
"""Conversations kept for continuation. The least recently used is released first."""

_FATAL_ERRORS = (StorageError, OutputError, UsageError)
"""errors while media are opened that all further questions would have: a store without an answer, a full disk"""

_MAX_SETTINGS = 64
"""Cached settings, by configuration. Bounded because requests may have different seeds."""


class RolloutLoop:
    """Loop over the requests of one backend.

    Args:
        model: with a backend, or with `generate`.
        max_active: rollouts in progress at once; further requests wait.
        num_workers: threads that open media and execute operations.
        on_end: called with the id of each request that ended.
        has_commands: returns whether clients have pending commands.
    """

    num_copies = 1
    """copies of the model, each of which can have a batch of its own"""

    def __init__(
        self,
        model: GenerationModel,
        max_active: int,
        num_workers: int | None,
        on_end: Callable[[str], None],
        has_commands: Callable[[], bool],
    ) -> None:
        self.model = model
        self.backend = get_backend(model)
        self.max_active = max_active
        self.tasks: dict[str, Task] = {}
        """requests that have not ended, by id"""
        self.kept: OrderedDict[str, Task] = OrderedDict()
        """ended requests whose conversation may be continued, by id"""
        self._on_end = on_end
        self._has_commands = has_commands
        self._shares_cores = self.backend.capabilities.shares_cores
        self._min_fill = self.backend.capabilities.min_fill
        self._changed = threading.Event()
        self._workers: Workers[Task] = Workers(num_workers, self.wake)
        self._queued: list[tuple[int, int, Task]] = []
        self._generating: dict[str, Task] = {}
        self._to_operate: list[tuple[Task, Completion | ContextFull, float]] = []
        self._settings: dict[RolloutConfig, RunSettings] = {}
        self._budgets = model.budgets or get_dialect(model.dialect).budgets
        self.media = MediaCache(max_entries=MAX_OPEN_MEDIA, max_px=MAX_OPEN_PX)

    def wake(self) -> None:
        """Interrupt a wait of the loop. Thread-safe."""
        self._changed.set()

    def step(self, timeout_s: float, commands: Commands) -> bool:
        """Run one step. Returns whether any request is in progress."""
        interval_s = sys.getswitchinterval()
        if self._shares_cores:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            return self._step(timeout_s, commands)
        finally:
            sys.setswitchinterval(interval_s)

    def _step(self, timeout_s: float, commands: Commands) -> bool:
        self.take(commands)
        self._stop_expired()
        self._open_queued()
        self._start_operations()
        num_before = len(self.tasks)
        self._collect(timeout_s)
        if len(self.tasks) < num_before:
            # A request ended: its client may submit the next one before more is generated.
            return True
        if self._generating:
            try:
                wait_s = timeout_s if self._workers or self._queued else 10 * timeout_s
                deltas = self.backend.poll(wait_s, self._workers.num_running)
            except Exception as error:  # noqa: BLE001 - an error of the backend ends every request
                self._fail_all(error)
                return True
            for delta in deltas:
                self._take_delta(delta)
        elif not self._workers and not self._to_operate and not self._queued:
            self._changed.wait(timeout_s)
            self._changed.clear()
        return bool(self.tasks)

    def take(self, commands: Commands) -> None:
        """Execute the pending commands of clients: submit, cancel, release."""
        for task in commands.submitted:
            self.tasks[task.handle.id] = task
            heapq.heappush(self._queued, (-task.handle.request.priority, task.seq, task))
        for id in commands.cancelled:
            if id in self.tasks:
                self._stop(self.tasks[id], StopReason.CANCELLED)
        for id in commands.released:
            self._release_kept(id)

    def stop_all(self) -> None:
        """Cancel all requests and release all conversations."""
        for task in list(self.tasks.values()):
            self._stop(task, StopReason.CANCELLED)
        for id in list(self.kept):
            self._release_kept(id)
        self._workers.close()

    def _stop_expired(self) -> None:
        now = time.monotonic()
        for task in [one for one in self.tasks.values() if one.expires_at is not None]:
            if task.expires_at is not None and task.expires_at <= now:
                self._stop(task, StopReason.DEADLINE)

    # --- opening media and executing operations, in worker threads ---

    def _open_queued(self) -> None:
        num_active = len(self._workers) + len(self._generating) + len(self._to_operate)
        while self._queued and num_active < self.max_active:
            task = self._pop_queued()
            if not task.is_over:
                self._workers.start(task, partial(self._open, task))
                num_active += 1

    def _pop_queued(self) -> Task:
        """Return the next task to start. It may be over."""
        return heapq.heappop(self._queued)[2]

    def _start_operations(self) -> None:
        """Execute the operations of generated turns. They have priority over opening media of new questions."""
        waiting, self._to_operate = self._to_operate, []
        for task, completion, seconds in reversed(waiting):
            if not task.is_over:
                advance = partial(self._advance, task, completion, seconds)
                self._workers.start(task, advance, first=True)

    def _open(self, task: Task) -> Messages | None:
        """Open the media of a question. Returns its prompt, or None if the rollout stops before its first turn."""
        request = task.handle.request
        if request.rollout is not None:
            rollout = request.rollout
        elif request.open_rollout is not None:
            rollout = request.open_rollout(self.media)
        elif task.continues is not None:
            rollout = task.continues.next_exchange(request.question, request.config)
        else:
            question, config = request.question, request.config
            context = request.context or open_context(
                self.media, question, self._budgets, config, self.model
            )
            rollout = Rollout(question, self.model, config, context, request.hooks)
        task.rollout = task.handle.rollout = rollout
        return rollout.messages() if rollout.stop is None else None

    def _advance(
        self, task: Task, completion: Completion | ContextFull, seconds: float
    ) -> Messages | None:
        """Record a turn and execute its calls. Returns the next prompt, or None if the rollout stopped."""
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
        """Collect finished jobs. Wait for workers while the batch is not full enough."""
        num_generating, workers = len(self._generating), self._workers
        self._share_cores()
        num_in_progress = len(workers) + num_generating
        num_missing = math.ceil(self._min_fill * num_in_progress) - num_generating
        if workers and not num_generating and workers.has_only_late_jobs:
            workers.wait_for_late(timeout_s)
        elif workers and num_missing > 0:
            workers.wait(num_missing, MAX_OPENING_WAIT_S, is_interrupted=self._has_commands)
        for task, future in sorted(workers.take_done(), key=lambda pair: pair[0].seq):
            self._take_job(task, future)

    def _share_cores(self) -> None:
        """Divide the cores between generation on a CPU and workers."""
        if self._shares_cores:
            num_cores = self._workers.num_threads
            self._workers.limit(max(1, num_cores // 4) if self._generating else num_cores)

    def _take_job(self, task: Task, future: Future[Messages | None]) -> None:
        if task.is_over:
            return
        error = future.exception()
        if error is not None:
            self._fail(task, error, is_fatal=isinstance(error, _FATAL_ERRORS))
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
        if request.stream:
            task.parser = task.rollout.dialect.parser(task.rollout.context.pictures)
            task.joiner = TextJoiner(
                lambda text: task.handle.emit(GeneratedText, turn=turn, text=text)
            )
        task.handle.emit(TurnStarted, turn=turn)
        self.backend.submit(
            GenerationRequest(
                id=task.turn_id,
                session=task.session,
                messages=messages,
                sampling=request.config.sampling,
                tools=task.rollout.tools() if self.backend.capabilities.native_tools else (),
                stream=request.stream,
                priority=request.priority,
            )
        )

    def _take_delta(self, delta: Delta) -> None:
        task = self._generating.get(delta.id)
        if task is None:
            return
        if task.handle.request.stream:
            _emit_text(task, delta)
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
        self._end(task, task.rollout.trace(self._cached_settings(task.handle.request.config)))

    def _cached_settings(self, config: RolloutConfig) -> RunSettings:
        if config not in self._settings:
            if len(self._settings) >= _MAX_SETTINGS:
                self._settings.clear()
            self._settings[config] = collect_settings(self.model, config)
        return self._settings[config]

    def _fail(self, task: Task, error: BaseException, *, is_fatal: bool = False) -> None:
        task.handle.is_fatal = is_fatal
        settings = self._cached_settings(task.handle.request.config)
        self._end(task, failed_trace(task.handle.request.question, error, settings), error)

    def _fail_all(self, error: Exception) -> None:
        self._generating.clear()
        for task in list(self.tasks.values()):
            self._fail(task, error, is_fatal=True)

    def _stop(self, task: Task, reason: StopReason) -> None:
        """End a request in progress. The trace contains its complete turns."""
        if task.turn_id:
            self._generating.pop(task.turn_id, None)
            self.backend.cancel(task.turn_id)
        rollout, request = task.rollout, task.handle.request
        settings = self._cached_settings(request.config)
        error = stop_error(reason, request)
        question = rollout.question if rollout else request.question
        trace = failed_trace(question, error, settings, reason)
        if rollout is not None:
            # A worker may be adding a turn concurrently; only complete turns are kept.
            kept = {"pictures": rollout.pictures, "turns": tuple(rollout.turns)}
            trace = trace.model_copy(update=kept)
        self._end(task, trace, error)

    def _end(self, task: Task, trace: Trace, error: BaseException | None = None) -> None:
        task.is_over = True
        handle = task.handle
        del self.tasks[handle.id]
        keeps = handle.request.keep and error is None
        if keeps:
            self._keep(task)
        elif task.continues is None or error is None:
            self.backend.release(task.session)
        self._on_end(handle.id)
        handle.end(trace, error)

    def _keep(self, task: Task) -> None:
        self.kept[task.handle.id] = task
        while len(self.kept) > MAX_KEPT_CONVERSATIONS:
            self._release_kept(next(iter(self.kept)))

    def _release_kept(self, id: str) -> None:
        task = self.kept.pop(id, None)
        sessions = {one.session for one in self.kept.values()}
        sessions |= {one.session for one in self.tasks.values()}
        if task is not None and task.session not in sessions:
            self.backend.release(task.session)


def _emit_text(task: Task, delta: Delta) -> None:
    """Emit new text, verbatim and by parts."""
    text, handle = delta.text, task.handle
    parser, joiner, rollout = task.parser, task.joiner, task.rollout
    assert parser is not None, "a streamed turn has a parser"
    assert joiner is not None, "a streamed turn has a joiner"
    assert rollout is not None, "a turn needs a rollout"
    if isinstance(delta.completion, Completion) and not (text or parser.num_scanned):
        text = delta.completion.text  # a backend that does not stream
    turn = len(rollout.turns)
    if text:
        joiner.add(text, delta.is_reasoning)
    if text and delta.is_reasoning:
        handle.emit(PartDelta, turn=turn, kind=PartKind.THOUGHT, text=text)
    elif text:
        for part in parser.feed(text):
            handle.emit(PartDelta, turn=turn, kind=part.kind, text=part.text)
    if delta.is_last:
        joiner.finish()
