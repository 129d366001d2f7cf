"""Admission control: what the server accepts is bounded before anything is decoded or fetched.

The scheduler orders accepted requests. This module only counts them: all requests, those of each key, and their estimated
picture tokens. Short requests without pictures, such as for the title of a chat, have slots of their own (fast lane), so that
they are answered while the server is busy. Used from the event loop only.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.settings import ServerSettings

MAX_RETRY_AFTER_S = 60.0
_NUM_RECENT = 64


class Load(NamedTuple):
    """What one request adds to the load."""

    client: str
    num_rollouts: int = 1
    picture_tokens: int = 0
    is_fast: bool = False
    """whether it may use the fast lane"""


class Admission:
    """Counters of accepted requests.

    >>> admission = Admission(ServerSettings(max_running=1, max_waiting=0))
    >>> with admission.admit(Load("alice")):
    ...     try:
    ...         with admission.admit(Load("bob")):
    ...             pass
    ...     except ApiError as error:
    ...         print(error.status, error.message)
    429 1 requests are in progress or waiting, the limit is 1
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.num_requests = 0
        self.num_fast = 0
        self.picture_tokens = 0
        self.by_client: Counter[str] = Counter()
        self._ended_at: deque[float] = deque(maxlen=_NUM_RECENT)

    @property
    def max_requests(self) -> int:
        """Requests in progress or waiting, without the fast lane."""
        return self.settings.max_running + self.settings.max_waiting

    @property
    def is_full(self) -> bool:
        """Whether a request of any size would be refused, except in the fast lane."""
        return self.num_requests >= self.max_requests

    def check_room(self, client: str) -> None:
        """Raise an error if no request of a client can be accepted, before its body is read.

        Raises:
            ApiError: 429.
        """
        if self.num_fast >= self.settings.fast_lane_requests:
            self._check(Load(client))

    @contextmanager
    def admit(self, load: Load) -> Iterator[bool]:
        """Count a request until the end of the `with` block. Yields whether it is in the fast lane.

        Raises:
            ApiError: 429, with the seconds after which a retry may succeed.
        """
        is_fast = load.is_fast and self.num_fast < self.settings.fast_lane_requests
        if not is_fast:
            self._check(load)
        self._add(load, 1, is_fast)
        try:
            yield is_fast
        finally:
            self._add(load, -1, is_fast)
            if load.num_rollouts:
                self._ended_at.append(time.monotonic())

    def _check(self, load: Load) -> None:
        if self.num_requests + load.num_rollouts > self.max_requests:
            raise self._full(
                f"{self.num_requests} requests are in progress or waiting, the limit is {self.max_requests}"
            )
        of_client = self.by_client[load.client]
        if of_client + load.num_rollouts > self.settings.max_per_key:
            raise self._full(
                f"{of_client} requests of this key are in progress or waiting, the limit is {self.settings.max_per_key}"
            )
        # A single request may exceed the limit: it could never be accepted otherwise.
        tokens, limit = self.picture_tokens + load.picture_tokens, self.settings.max_picture_tokens
        if tokens > limit and self.picture_tokens:
            raise self._full(
                f"requests in progress or waiting have about {self.picture_tokens} picture tokens, the limit is {limit}"
            )

    def _add(self, load: Load, sign: int, is_fast: bool) -> None:
        if is_fast:
            self.num_fast += sign * load.num_rollouts
            return
        self.num_requests += sign * load.num_rollouts
        self.picture_tokens += sign * load.picture_tokens
        self.by_client[load.client] += sign * load.num_rollouts
        if not self.by_client[load.client]:
            del self.by_client[load.client]

    def _full(self, message: str) -> ApiError:
        return ApiError(429, message, retry_after_s=self._retry_after_s())

    def _retry_after_s(self) -> float:
        """Return the time in which a tenth of the limit ends, estimated from the last requests."""
        if len(self._ended_at) < 2:
            return 5.0
        seconds = (time.monotonic() - self._ended_at[0]) / len(self._ended_at)
        return min(MAX_RETRY_AFTER_S, max(1.0, seconds * self.max_requests / 10))
