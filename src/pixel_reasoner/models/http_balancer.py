"""Server selection for each attempt of a request: load balancing, backoff, failover."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from pixel_reasoner.errors import CancelledError, EndpointError
from pixel_reasoner.models.http_connection import CancelToken, Connection

MAX_PAUSE_S = 120.0
_FIRST_BACKOFF_S = 1.0


class Endpoint:
    """One server, its idle connections and its state."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shown = url.partition("?")[0]
        """URL for messages, without its query, which may contain a key"""
        self.num_active = 0
        self.last_used_s = 0.0
        self.idle: list[Connection] = []
        self.backoff_until = 0.0
        self.backoff_s = _FIRST_BACKOFF_S
        self.error: EndpointError | None = None
        """reason for which the server is excluded; None if it is available"""


class RequestState(NamedTuple):
    """State of a request in progress."""

    token: CancelToken
    deadline: float
    """`time.monotonic` limit for all attempts"""


class Balancer:
    """Load balancer of the servers of one model. Thread-safe."""

    def __init__(self, endpoints: Sequence[Endpoint], first_pause_s: float) -> None:
        self.endpoints = endpoints
        self._first_pause_s = first_pause_s
        self._condition = threading.Condition()
        self._is_stopped = False
        self._stop_error: EndpointError | None = None

    def stop(self, error: EndpointError | None = None) -> None:
        """Cancel pending retries and wake all waiters. Requests in progress continue.

        Args:
            error: exception for stopped requests.
        """
        with self._condition:
            self._stop_error = self._stop_error or error
            self._is_stopped = True
            self._condition.notify_all()

    def assert_open(self) -> None:
        """Raise an error if no further attempt may start.

        Raises:
            EndpointError: `stop` was called.
        """
        if self._is_stopped:
            raise self._stop_error or EndpointError(
                expected="a running evaluation", got="one that ended", fix="run it again"
            )

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopped

    def wake(self) -> None:
        """Wake all waiters, so that they check for cancellation."""
        with self._condition:
            self._condition.notify_all()

    def pick(self, request: RequestState) -> Endpoint | None:
        """Return the available server with the fewest requests (ties: least recently used). Waits for the end of a backoff.

        Returns:
            None after the deadline of the request.
        """
        with self._condition:
            while True:
                if request.token.is_cancelled:
                    raise cancelled_error()
                self.assert_open()
                errors = [one.error for one in self.endpoints]  # `HttpPool.recover` may clear them
                usable = [
                    one for one, error in zip(self.endpoints, errors, strict=True) if error is None
                ]
                if not usable:
                    raise errors[0] or AssertionError("no servers")
                now = time.monotonic()
                if now >= request.deadline:
                    return None
                available = [one for one in usable if one.backoff_until <= now]
                if available:
                    chosen = min(available, key=lambda one: (one.num_active, one.last_used_s))
                    chosen.num_active += 1
                    chosen.last_used_s = now
                    return chosen
                soonest = min(one.backoff_until for one in usable)
                self._condition.wait(min(soonest, request.deadline) - now)

    def pause(
        self, endpoint: Endpoint, number: int, retry_after_s: float, request: RequestState
    ) -> None:
        """Wait before the next attempt, unless another server is available."""
        now = time.monotonic()
        pause_s = self._first_pause_s * 2**number * random.uniform(0.5, 1)
        with self._condition:
            if retry_after_s:
                until = now + min(retry_after_s, MAX_PAUSE_S)
                endpoint.backoff_until = max(endpoint.backoff_until, until)
            others = [one for one in self.endpoints if one is not endpoint and one.error is None]
            if any(one.backoff_until <= now for one in others):
                return
            self._condition.wait_for(
                lambda: self._is_stopped or request.token.is_cancelled,
                max(0.0, min(max(pause_s, retry_after_s), MAX_PAUSE_S, request.deadline - now)),
            )

    def count_success(self, endpoint: Endpoint) -> None:
        """End the backoff of a server after a reply."""
        with self._condition:
            endpoint.backoff_s, endpoint.backoff_until = _FIRST_BACKOFF_S, 0.0

    def back_off(self, endpoint: Endpoint) -> None:
        """Exclude an unreachable server for a while, if there are others."""
        with self._condition:
            now = time.monotonic()
            # Concurrent requests fail together and count as one failure.
            if len(self.endpoints) > 1 and endpoint.backoff_until <= now:
                endpoint.backoff_until = now + endpoint.backoff_s
                endpoint.backoff_s = min(endpoint.backoff_s * 2, MAX_PAUSE_S)

    def release(self, endpoint: Endpoint) -> None:
        """End an attempt that `pick` started."""
        with self._condition:
            endpoint.num_active -= 1
            self._condition.notify_all()


def cancelled_error() -> CancelledError:
    """Return the error of a cancelled request."""
    return CancelledError(expected="a reply", got="a cancelled request", fix="submit it again")
