"""Requests to a rollout scheduler, and handles for their events and results."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from pixel_reasoner.errors import DeadlineError
from pixel_reasoner.schema.events import Event, Failed, Finished, GeneratedText, PartDelta
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Trace

if TYPE_CHECKING:
    from pixel_reasoner.media.cache import MediaCache
    from pixel_reasoner.media.context import MediaContext
    from pixel_reasoner.rollout.hooks import TurnHook
    from pixel_reasoner.rollout.scheduler import RolloutScheduler
    from pixel_reasoner.rollout.state import Rollout

_TEXT_EVENTS = (PartDelta, GeneratedText)
MAX_BUFFERED_EVENTS = 256
"""Events buffered for a slow reader. Beyond this number, adjacent text deltas are joined."""


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """Request to answer one question."""

    question: Question
    config: RolloutConfig = field(default_factory=RolloutConfig)
    id: str = field(default_factory=lambda: uuid4().hex)
    priority: int = 0
    """higher priority is served first"""
    deadline_s: float | None = None
    """time limit in seconds after submission; None for no limit"""
    stream: bool = False
    """whether events, including text, are recorded for `RolloutHandle.events`"""
    keep: bool = False
    """whether another request may continue the conversation; it is kept until `RolloutScheduler.release`"""
    hooks: tuple[TurnHook, ...] = ()
    context: MediaContext | None = None
    """open media of the question"""
    rollout: Rollout | None = None
    """rollout in progress to continue, for example a fork of another"""
    open_rollout: Callable[[MediaCache], Rollout] | None = None
    """returns the rollout; called in a worker thread, with the cache of open media"""


class RolloutObserver(Protocol):
    """Observer of all requests of a scheduler, for example for traces of their time."""

    def submitted(self, request: RolloutRequest) -> None:
        """Called by the thread that submits a request, before its first event."""

    def event(self, event: Event) -> None:
        """Called for every event except text, by the threads of the scheduler; also for requests without `stream`."""


class RolloutHandle:
    """Handle of a submitted request.

    Waiting for a result runs the scheduler in this thread, unless another thread runs it.
    """

    is_observed = True
    """whether observers of the scheduler receive its events"""

    def __init__(self, scheduler: RolloutScheduler, request: RolloutRequest) -> None:
        self.scheduler = scheduler
        self.request = request
        self.submitted_at = time.perf_counter()
        self.trace: Trace | None = None
        self.error: BaseException | None = None
        """error of a failed request"""
        self.is_fatal = False
        """whether the error affects all requests of the backend"""
        self.rollout: Rollout | None = None
        """the rollout so far"""
        self._events: deque[Event] = deque()
        self._num_events = 0
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], Any]] = []

    @property
    def id(self) -> str:
        """The id of the request."""
        return self.request.id

    @property
    def is_done(self) -> bool:
        """Whether the request ended."""
        return self.trace is not None

    def cancel(self) -> None:
        """Stop the request. It ends with a trace with `StopReason.CANCELLED`. No effect on a finished request."""
        self.scheduler.cancel(self.id)

    def result(self, timeout_s: float | None = None) -> Trace:
        """Wait until the request ends and return its trace.

        A failed request returns a trace with `StopReason.FAILED`; `error` contains the exception.

        Raises:
            DeadlineError: the request did not end within `timeout_s`; it continues.
            BaseException: an error that is not specific to this request, for example a bug.
        """
        if not self.scheduler.drive(lambda: self.is_done, timeout_s):
            raise DeadlineError(
                expected=f"a result within {timeout_s:g} s",
                got="no result",
                fix="wait longer, or cancel the request",
            )
        assert self.trace is not None, "a request that is done has a trace"
        return self.trace

    def events(self) -> Iterator[Event]:
        """Yield events until the last one. Requires `stream=True` and a single reader."""
        while True:
            self.scheduler.drive(lambda: bool(self._events) or self.is_done)
            yield from self.take_events()
            if self.is_done and not self._events:
                return

    async def aevents(self) -> AsyncGenerator[Event, None]:
        """Yield events in an event loop. The scheduler runs in a separate thread from now on."""
        async for _ in self._changes():
            for event in self.take_events():
                yield event

    def take_events(self) -> list[Event]:
        """Return the events since the last call. Requires `stream=True` and a single reader."""
        with self._lock:
            waiting, self._events = self._events, deque()
        return list(waiting)

    @contextmanager
    def notifying(self, changed: asyncio.Event) -> Iterator[None]:
        """Set `changed` in this event loop when there are events to take, and when the request ends. Starts the scheduler."""
        self.scheduler.start()
        loop = asyncio.get_running_loop()

        def notify() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._lock:
            self._callbacks.append(notify)
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(notify)

    async def aresult(self) -> Trace:
        """Return the trace in an event loop. The scheduler runs in a separate thread from now on."""
        async for _ in self._changes():
            pass
        assert self.trace is not None, "a request that is done has a trace"
        return self.trace

    async def _changes(self) -> AsyncGenerator[None, None]:
        """Yield after every change, for the last time when the request ended."""
        changed = asyncio.Event()
        with self.notifying(changed):
            while not self.is_done:
                yield
                if not self.is_done:
                    await changed.wait()
                    changed.clear()
            yield

    # --- called by the scheduler ---

    def emit(self, event_type: type[Event], /, **fields: Any) -> None:
        """Append an event if the request is streamed, and pass it to the observers of the scheduler."""
        is_quiet = event_type in _TEXT_EVENTS or not self.is_observed
        observers = () if is_quiet else self.scheduler.observers
        if self.is_done or not (self.request.stream or observers):
            return
        at_s = time.perf_counter() - self.submitted_at
        event = event_type(request_id=self.id, seq=self._num_events, at_s=at_s, **fields)
        for observer in observers:
            observer.event(event)
        if not self.request.stream:
            return
        with self._lock:
            self._num_events += 1
            # A reader that has not taken the last event was notified already: once per batch, not once per token.
            callbacks = [] if self._events else list(self._callbacks)
            if not (len(self._events) >= MAX_BUFFERED_EVENTS and _join(self._events, event)):
                self._events.append(event)
        for notify in callbacks:
            notify()

    def end(self, trace: Trace, error: BaseException | None = None) -> None:
        """Set the result, once."""
        assert self.trace is None, "a request ends once"
        self.error = error
        if error is None:
            self.emit(Finished, trace=trace)
        else:
            self.emit(Failed, error=str(error), trace=trace)
        self.trace = trace
        with self._lock:
            callbacks = list(self._callbacks)
        for notify in callbacks:
            notify()


def _join(events: deque[Event], event: Event) -> bool:
    """Append text to the last event of the same kind if only text events follow it. Returns whether it was appended."""
    if not isinstance(event, _TEXT_EVENTS):
        return False
    for number in range(len(events) - 1, len(events) - 3, -1):
        last = events[number]
        if not isinstance(last, _TEXT_EVENTS) or last.turn != event.turn:
            return False
        if type(last) is type(event) and getattr(last, "kind", None) == getattr(
            event, "kind", None
        ):
            events[number] = event.model_copy(update={"text": last.text + event.text})
            return True
    return False
