"""Generation backend for remote servers, with one worker thread per request in progress.

    submit ──> waiting (by priority) ──> worker thread: messages as JSON, HTTP request ──> queue of deltas ──> poll

`cancel` closes the connection of a request, so that the server stops generating. Its slot is free immediately, even if
the thread of the cancelled request is still running.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from pixel_reasoner.errors import CancelledError, EndpointError, PixelReasonerError
from pixel_reasoner.models.api import (
    Capabilities,
    Completion,
    ContextFull,
    Delta,
    GenerationRequest,
)
from pixel_reasoner.models.http_connection import CancelToken
from pixel_reasoner.models.http_errors import RequestFailed
from pixel_reasoner.models.openai_chat import MessageWriter
from pixel_reasoner.models.openai_stream import OnDelta

MAX_IDLE_S = 10.0
"""idle time after which a worker thread ends"""
_THREADS_PER_REQUEST = 4
"""maximum threads per request in progress; threads of cancelled requests may end late, for example while connecting"""


class TurnGenerator(Protocol):
    """Generator of single turns. Thread-safe."""

    @property
    def capabilities(self) -> Capabilities:
        """Return the capabilities of the servers, including the maximum concurrency."""

    def generate_turn(
        self,
        request: GenerationRequest,
        writer: MessageWriter,
        token: CancelToken,
        on_delta: OnDelta | None,
    ) -> Completion | ContextFull:
        """Return one turn. `on_delta` is called with new text and whether it is reasoning."""
        ...


@dataclass(eq=False, slots=True)
class _Job:
    """Unfinished request."""

    request: GenerationRequest
    token: CancelToken = field(default_factory=CancelToken)
    writer: MessageWriter = field(default_factory=MessageWriter)
    is_running: bool = False


class RemoteBackend:
    """Backend of a model on remote servers. Not thread-safe. It can be used again after `close`."""

    def __init__(self, generator: TurnGenerator) -> None:
        self._generator = generator
        self._max_running = generator.capabilities.max_concurrency or 1
        self._condition = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._waiting: list[tuple[int, int, _Job]] = []
        """heap of waiting requests: higher priority first, then in order of submission"""
        self._order = itertools.count()
        self._num_running = 0
        self._num_idle = 0
        self._num_threads = 0
        self._is_closed = False
        self._writers: dict[str, MessageWriter] = {}
        self._fatal: BaseException | None = None
        """error to raise in the next `poll`"""
        self._deltas = SimpleQueue[tuple[_Job, Delta | BaseException]]()

    @property
    def capabilities(self) -> Capabilities:
        """Return the capabilities of the servers."""
        return self._generator.capabilities

    # --- called by the scheduler ---

    def submit(self, request: GenerationRequest) -> None:
        """Accept a request. It waits while the maximum number of requests is in progress."""
        job = _Job(request)
        with self._condition:
            assert request.id not in self._jobs, f"request {request.id} is already in progress"
            self._jobs[request.id] = job
            self._is_closed = False
            heapq.heappush(self._waiting, (-request.priority, next(self._order), job))
            self._start_workers()

    def poll(self, timeout_s: float, num_busy_cores: int = 0) -> list[Delta]:
        """Return new deltas; wait for the first one at most `timeout_s` seconds.

        Raises:
            EndpointError: all servers fail. All requests are cancelled; later requests are attempted again.
        """
        del num_busy_cores  # servers generate
        deadline = time.monotonic() + timeout_s
        deltas: list[Delta] = []
        while self._fatal is None:
            try:
                remaining_s = 0.0 if deltas else max(0.0, deadline - time.monotonic())
                job, delta = self._deltas.get(remaining_s > 0, remaining_s or None)
            except Empty:
                return deltas
            if self._jobs.get(job.request.id) is not job:
                continue  # cancelled
            if isinstance(delta, BaseException):
                self._fatal = delta
                break
            deltas.append(delta)
            if delta.is_last:
                self._jobs.pop(job.request.id)
        if deltas:
            return deltas
        error, self._fatal = self._fatal, None
        self.close()
        raise error

    def cancel(self, id: str) -> None:
        """Stop a request and abort its connection. Unknown and finished requests are ignored."""
        with self._condition:
            job = self._jobs.pop(id, None)
            if job is None:
                return
            self._waiting = [entry for entry in self._waiting if entry[2] is not job]
            heapq.heapify(self._waiting)
            if job.is_running:
                self._end(job)
        job.token.cancel()

    def release(self, session: str) -> None:
        """Cancel the requests of a conversation, and drop its messages."""
        with self._condition:
            ids = [id for id, job in self._jobs.items() if job.request.session == session]
            self._writers.pop(session, None)
        for id in ids:
            self.cancel(id)

    def close(self) -> None:
        """Cancel all requests, drop all messages, and end the worker threads."""
        with self._condition:
            self._fatal = None
            self._waiting.clear()  # first, because cancelling a request would start the next one
            ids = list(self._jobs)
        for id in ids:
            self.cancel(id)
        with self._condition:
            self._writers.clear()
            self._is_closed = True
            self._condition.notify_all()

    # --- worker threads ---

    def _start_workers(self) -> None:
        """Wake or start a worker for each request that may run. The lock must be held."""
        num_startable = min(len(self._waiting), self._max_running - self._num_running)
        self._condition.notify(num_startable)
        limit = self._max_running * _THREADS_PER_REQUEST
        for _ in range(min(num_startable - self._num_idle, limit - self._num_threads)):
            self._num_threads += 1
            self._num_idle += 1  # before it has started, so that the next request can use it
            threading.Thread(target=self._work, name="remote", daemon=True).start()

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            delta = self._run(job)
            with self._condition:
                self._num_idle += 1
                if job.is_running:
                    self._end(job)
            if delta is not None:
                self._deltas.put((job, delta))

    def _next_job(self) -> _Job | None:
        """Return the next request to run; None if the thread must end: after `close` or `MAX_IDLE_S`."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_closed or self._can_run(), MAX_IDLE_S)
            self._num_idle -= 1
            if not self._can_run():
                self._num_threads -= 1
                return None
            job = heapq.heappop(self._waiting)[2]
            job.is_running = True
            job.writer = self._writers.setdefault(job.request.session, job.writer)
            self._num_running += 1
            return job

    def _can_run(self) -> bool:
        return bool(self._waiting) and self._num_running < self._max_running

    def _end(self, job: _Job) -> None:
        """Free the slot of a request. The lock must be held."""
        job.is_running = False
        self._num_running -= 1
        self._start_workers()

    def _run(self, job: _Job) -> Delta | BaseException | None:
        """Return the last delta of a request, or an error that affects all requests."""
        request = job.request

        def on_delta(text: str, is_reasoning: bool) -> None:
            self._deltas.put((job, Delta(request.id, text=text, is_reasoning=is_reasoning)))

        started = time.perf_counter()
        try:
            completion = self._generator.generate_turn(
                request, job.writer, job.token, on_delta if request.stream else None
            )
        except CancelledError:
            return None
        except RequestFailed as error:
            return Delta(request.id, error=error)
        except EndpointError as error:
            return error
        except PixelReasonerError as error:
            return Delta(request.id, error=error)
        except BaseException as error:  # noqa: BLE001  raised by `poll`
            return error
        return Delta(request.id, completion=completion, seconds=time.perf_counter() - started)
