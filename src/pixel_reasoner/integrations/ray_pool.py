"""Pool of Ray actors that execute jobs. A job whose actor is lost is executed again by another one.

    pool = ActorPool(create, options, per_actor=16, on_change=event.set)
    pool.submit("question-1", payload)
    pool.take_results()                  # finished jobs; also starts waiting ones, and replaces lost actors

Ray core instead of Ray Data: jobs depend on results (follow-up questions, votes, a quota of traces), and an actor that
answers in batches of `map_batches` waits for the slowest row of each. Each key gives one result, however often its job
started.
"""

from __future__ import annotations

import platform
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from pixel_reasoner.errors import EndpointError, PixelReasonerError, UsageError, one_line
from pixel_reasoner.integrations.ray_cluster import RayOptions, can_hold_actor, check_head
from pixel_reasoner.rollout.state import versions

MAX_LOST = 3
"""actors that a job may lose before it counts as the reason"""
NO_ACTOR_TIMEOUT_S = 30.0
"""time without any node that is large enough, after which the run ends"""
START_TIMEOUT_S = 900.0
"""time in which one actor must have loaded its model"""
MAX_FAILED_STARTS = 5
"""tries to start actors after which the run ends, if none is left. They take 30 s: Ray needs time to notice a lost node"""
_CHECK_INTERVAL_S = 2.0
_MAX_RESTART_WAIT_S = 15.0


class Failure(NamedTuple):
    """Error that affects all jobs. Actors return it, because Ray wraps what they raise."""

    error: PixelReasonerError


class Started(NamedTuple):
    """Result of `start` of an actor."""

    node: str
    """name of its machine"""
    versions: dict[str, str]
    about: Any
    """what must be equal for all actors"""


class Lost(NamedTuple):
    """Result of a job that lost too many actors."""

    reason: str


@dataclass(eq=False)
class _Job:
    key: str
    payload: Any
    num_lost: int = 0


@dataclass(eq=False)
class _Actor:
    handle: Any
    jobs: dict[str, _Job] = field(default_factory=dict)
    is_ready: bool = False
    is_lost: bool = False


def started(about: Any = None) -> Started:
    """Return the result of `start` in an actor."""
    return Started(platform.node(), versions(), about)


class ActorPool:
    """Pool of actors. Not thread-safe, except for `on_change`.

    Args:
        create: returns the handle of a new actor with the methods `start()` and `run(key, payload)`; `cancel(key)` if
            `can_cancel`. `start` returns `Started` or `Failure`.
        options: number of actors.
        per_actor: jobs that an actor executes at the same time.
        on_change: called by a thread of Ray when a result can be taken.
        can_cancel: whether jobs in progress can be stopped.
    """

    def __init__(
        self,
        create: Callable[[], Any],
        options: RayOptions,
        *,
        per_actor: int,
        on_change: Callable[[], None] = lambda: None,
        can_cancel: bool = False,
    ) -> None:
        self.options, self.per_actor, self.on_change = options, per_actor, on_change
        self.num_lost_actors = 0
        self._create, self._can_cancel = create, can_cancel
        self._waiting: deque[_Job] = deque()
        self._jobs: dict[str, _Job] = {}
        """jobs that wait or are in progress"""
        self._done: SimpleQueue[tuple[_Actor, str | None, Any]] = SimpleQueue()
        """(actor, key or None for its start, future)"""
        self._first: Started | None = None
        self._alive_at = self._ready_at = self._checked_at = time.monotonic()
        self._num_failed_starts = 0
        self._restart_at = 0.0
        self._actors: list[_Actor] = []
        self._start_actors()

    @property
    def capacity(self) -> int:
        """Number of jobs that can be in progress."""
        return self.options.num_actors * self.per_actor

    @property
    def num_jobs(self) -> int:
        """Number of jobs that wait or are in progress."""
        return len(self._jobs)

    def wait_for_actors(self, count: int = 1) -> Any:
        """Wait until some actors are ready, before the first job, and return what they are about.

        Raises:
            PixelReasonerError: an actor cannot start.
        """
        assert not self._jobs, "results of jobs would be lost"
        changed = threading.Event()
        before, self.on_change = self.on_change, changed.set
        while self._first is None or sum(one.is_ready for one in self._actors) < count:
            self.take_results()
            changed.wait(0.2)
            changed.clear()
        self.on_change = before
        return self._first.about

    def submit(self, key: str, payload: Any) -> None:
        """Add a job. It starts at the next `take_results`."""
        assert key not in self._jobs, f"job {key} is in progress"
        self._jobs[key] = job = _Job(key, payload)
        self._waiting.append(job)

    def cancel(self, key: str) -> None:
        """Drop a job in any state. It has no result."""
        self._jobs.pop(key, None)
        for actor in self._actors:
            if actor.jobs.pop(key, None) is not None and self._can_cancel:
                actor.handle.cancel.remote(key)

    def take_results(self) -> list[tuple[str, Any]]:
        """Return (key, result) of jobs that ended, replace lost actors, and start waiting jobs.

        Raises:
            PixelReasonerError: an actor cannot start, or none is left.
            Exception: a bug in a job.
        """
        results = []
        while True:
            try:
                actor, key, future = self._done.get_nowait()
            except Empty:
                break
            if key is None:
                self._take_start(actor, future)
            else:
                results += self._take_job(actor, key, future)
        self._start_actors()
        self._check_actors()
        self._start_jobs()
        return results

    def close(self) -> None:
        """End all actors."""
        self._waiting.clear()
        self._jobs.clear()
        for actor in self._actors:
            _kill(actor)
        self._actors = []

    # --- actors ---

    def _start_actors(self) -> None:
        """Fill all places. After a failed start, wait a little."""
        if len(self._actors) == self.options.num_actors or time.monotonic() < self._restart_at:
            return
        while len(self._actors) < self.options.num_actors:
            actor = _Actor(self._create())
            self._actors.append(actor)
            self._listen(actor, None, actor.handle.start.remote())

    def _listen(self, actor: _Actor, key: str | None, ref: Any) -> None:
        ref.future().add_done_callback(partial(self._put, actor, key))

    def _put(self, actor: _Actor, key: str | None, future: Any) -> None:
        self._done.put((actor, key, future))
        self.on_change()

    def _take_start(self, actor: _Actor, future: Any) -> None:
        error = future.exception()
        if error is not None:
            self._take_error(actor, error)
            return
        result = future.result()
        if isinstance(result, Failure):
            raise result.error
        self._first = self._first or result
        _check_equal(self._first, result)
        actor.is_ready = True
        self._num_failed_starts = 0

    def _take_job(self, actor: _Actor, key: str, future: Any) -> list[tuple[str, Any]]:
        job = actor.jobs.pop(key, None)
        error = future.exception()
        if error is not None:
            return self._retry(actor, job, error)
        result = future.result()
        if isinstance(result, Failure):
            raise result.error
        if job is None or self._jobs.get(key) is not job:
            return []  # cancelled
        del self._jobs[key]
        return [(key, result)]

    def _retry(
        self, actor: _Actor, job: _Job | None, error: BaseException
    ) -> list[tuple[str, Any]]:
        self._take_error(actor, error)
        if job is None or self._jobs.get(job.key) is not job:
            return []
        job.num_lost += 1
        if job.num_lost > MAX_LOST:
            del self._jobs[job.key]
            return [(job.key, Lost(f"{job.num_lost} actors that answered it were lost"))]
        self._waiting.appendleft(job)
        return []

    def _take_error(self, actor: _Actor, error: BaseException) -> None:
        """Replace a lost actor. Raise any other error."""
        from ray import exceptions

        lost = (
            exceptions.RayActorError,
            exceptions.NodeDiedError,
            exceptions.WorkerCrashedError,
            exceptions.OwnerDiedError,
            exceptions.ObjectLostError,
        )
        if isinstance(error, exceptions.ObjectStoreFullError | exceptions.OutOfDiskError):
            raise EndpointError(
                expected="room in the object store of every node",
                got=type(error).__name__,
                fix="start nodes with more shared memory (`ray start --object-store-memory`, --shm-size), and run the same "
                "command again; finished work is kept",
            ) from None
        if not isinstance(error, lost):
            raise error
        if actor.is_lost:
            return
        actor.is_lost = True
        _kill(actor)
        if actor not in self._actors:
            return  # the pool was closed
        self._actors.remove(actor)
        self.num_lost_actors += 1
        if not actor.is_ready:
            self._count_failed_start(error)

    def _count_failed_start(self, error: BaseException) -> None:
        """Wait longer after each failed try. Actors that fail at the same time are one."""
        now = time.monotonic()
        if now < self._restart_at:
            return
        self._restart_at = now + min(2.0**self._num_failed_starts, _MAX_RESTART_WAIT_S)
        self._num_failed_starts += 1
        if self._num_failed_starts > MAX_FAILED_STARTS and not any(
            one.is_ready for one in self._actors
        ):
            raise EndpointError(
                expected="a node where an actor can start",
                got=f"actors that were lost before, {self._num_failed_starts} times: {_first_line(error)}",
                fix="see `ray logs`: too little memory, another version of Ray, or another RAY_AUTH_MODE; finished work is kept",
            ) from None

    def _check_actors(self) -> None:
        """Raise an error if no actor can start any more."""
        now = time.monotonic()
        is_ready = any(actor.is_ready for actor in self._actors)
        if is_ready:
            self._alive_at = self._ready_at = now
        if now - self._checked_at < _CHECK_INTERVAL_S:
            return
        self._checked_at = now
        check_head()
        if is_ready:
            return
        if can_hold_actor(self.options):
            self._alive_at = now
        if now - self._alive_at > NO_ACTOR_TIMEOUT_S:
            raise EndpointError(
                expected="a node that can hold an actor",
                got=f"none for {NO_ACTOR_TIMEOUT_S:g} s",
                fix="start nodes, and run the same command again; finished work is kept",
            )
        if now - self._ready_at > START_TIMEOUT_S:
            raise EndpointError(
                expected=f"an actor that starts within {START_TIMEOUT_S:g} s",
                got="none: the cluster is full, or the model loads too slowly",
                fix="lower --ray-cpus or --ray-gpus, and see `ray status`; finished work is kept",
            )

    # --- jobs ---

    def _start_jobs(self) -> None:
        while self._waiting:
            ready = [one for one in self._actors if one.is_ready and len(one.jobs) < self.per_actor]
            if not ready:
                return
            job = self._waiting.popleft()
            if self._jobs.get(job.key) is not job:
                continue  # cancelled
            actor = min(ready, key=lambda one: len(one.jobs))
            actor.jobs[job.key] = job
            self._listen(actor, job.key, actor.handle.run.remote(job.key, job.payload))


def _kill(actor: _Actor) -> None:
    import ray
    from ray.exceptions import RayError

    with suppress(RayError):  # its creation failed
        ray.kill(actor.handle)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(ValueError(lines[0] if lines else type(error).__name__))


def _check_equal(first: Started, other: Started) -> None:
    """Raise an error if two actors, or an actor and this process, would give different results."""
    here = versions()
    for one, theirs in ((platform.node(), here), (first.node, first.versions)):
        for name in theirs.keys() & other.versions.keys():
            if theirs[name] != other.versions[name]:
                raise UsageError(
                    expected="the same versions of all packages on every node",
                    got=f"{name} {theirs[name]} on {one}, and {other.versions[name]} on {other.node}",
                    fix="install the same versions, for example with constraints.txt",
                )
    if first.about != other.about:
        raise UsageError(
            expected="the same model on every node",
            got=f"{_difference(first.about, other.about)} on {first.node} and {other.node}",
            fix="copy the same folder to all nodes, or use a shared one",
        )


def _difference(first: Any, other: Any) -> str:
    pairs = zip(first, other, strict=True) if isinstance(first, tuple) else [(first, other)]
    return next(f"{one} and {two}" for one, two in pairs if one != two)
