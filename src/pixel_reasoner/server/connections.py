"""Models of other servers that users of Studio connect: tested by a probe, and kept in memory only.

A connection belongs to the key that made it. Its id is secret, and only requests that name it use its model. It ends when it
is not used for `IDLE_S`, when its user ends it, or with the server. Keys of endpoints are part of no log, trace or error.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.server.connect_probe import ModelTest, checked_request
from pixel_reasoner.server.connect_schema import ConnectRequest, ConnectResult
from pixel_reasoner.server.endpoint_access import EndpointAccess
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.served import Served

MAX_CONNECTIONS = 32
MAX_PER_CLIENT = 8
MAX_TESTS = 2
"""servers that are tested at once"""
IDLE_S = 3600.0
PRUNE_INTERVAL_S = 60.0
UseModel = Callable[[GenerationModel, tuple[str, ...]], Served]
"""starts an engine for a model with its names. Blocking"""


@dataclass
class Connection:
    """Connected model."""

    id: str
    client: str
    served: Served
    used_at: float = field(default_factory=time.monotonic)


class Connections:
    """All connections of one server.

    Args:
        access: rules for addresses.
        use_model: starts an engine.
    """

    def __init__(self, access: EndpointAccess, use_model: UseModel) -> None:
        self.access = access
        self._use_model = use_model
        self._by_id: dict[str, Connection] = {}
        self._executor = ThreadPoolExecutor(MAX_TESTS, thread_name_prefix="probe")
        self._tests: list[ModelTest] = []

    @property
    def served(self) -> list[Served]:
        """Engines of all connections."""
        return [one.served for one in list(self._by_id.values())]

    async def connect(self, asked: ConnectRequest, client: str) -> ConnectResult:
        """Test a server, and connect its model if it can be used.

        Raises:
            ApiError: 400, 403 for an address that is not allowed, 429 for too many tests or connections.
        """
        key = checked_request(asked, self.access)
        if len(self._tests) >= MAX_TESTS:
            raise ApiError(429, "other servers are being tested", retry_after_s=5.0)
        test = ModelTest(asked, key, self.access)
        self._tests.append(test)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._open, test, client)
        finally:
            self._tests.remove(test)

    def _open(self, test: ModelTest, client: str) -> ConnectResult:
        """Test a server, and start an engine for its model. Blocking."""
        result, model = test.run()
        if model is None:
            return result
        try:
            self._make_room(client)
            one = Connection(
                secrets.token_urlsafe(24), client, self._use_model(model, (model.name,))
            )
        except BaseException:
            model.close()
            raise
        self._by_id[one.id] = one
        return result.model_copy(update={"connection": one.id})

    def find(self, id: str, client: str) -> Served:
        """Return the engine of a connection.

        Raises:
            ApiError: 404 for one that has ended, or of another key.
        """
        one = self._by_id.get(id)
        if one is None or one.client != client:
            raise ApiError(
                404,
                "the connected model is gone: the server was restarted, or it was not used for an hour; connect it again",
                param="Pixel-Reasoner-Connection",
                code="connection_not_found",
            )
        one.used_at = time.monotonic()
        return one.served

    async def end(self, id: str, client: str) -> None:
        """End a connection with its requests in progress.

        Raises:
            ApiError: 404.
        """
        self.find(id, client)
        await asyncio.to_thread(self._by_id.pop(id).served.engine.close)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """End unused connections in the background."""
        pruning = asyncio.create_task(self._prune_regularly())
        try:
            yield
        finally:
            pruning.cancel()

    def abort_tests(self) -> None:
        """End the tests in progress."""
        for test in list(self._tests):
            test.abort()

    def close(self) -> None:
        """End all connections. Blocking."""
        self.abort_tests()
        self._executor.shutdown(cancel_futures=True)
        while self._by_id:
            self._by_id.popitem()[1].served.engine.close()

    # --- limits ---

    async def _prune_regularly(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_INTERVAL_S)
            await asyncio.to_thread(self.prune)

    def prune(self) -> None:
        """End connections that are not used."""
        for one in self._idle():
            if time.monotonic() - one.used_at > IDLE_S:
                self._drop(one)

    def _make_room(self, client: str) -> None:
        """End the least recently used connections beyond the limits.

        Raises:
            ApiError: 429 if all are in use.
        """
        own = [one for one in self._idle() if one.client == client]
        num_own = sum(one.client == client for one in self._by_id.values())
        for one in own[: max(0, num_own + 1 - MAX_PER_CLIENT)]:
            self._drop(one)
        for one in self._idle()[: max(0, len(self._by_id) + 1 - MAX_CONNECTIONS)]:
            self._drop(one)
        if len(self._by_id) >= MAX_CONNECTIONS:
            raise ApiError(429, f"{MAX_CONNECTIONS} models are connected", retry_after_s=60.0)

    def _idle(self) -> list[Connection]:
        """Return connections without requests in progress, the least recently used first."""
        found = list(self._by_id.values())
        idle = [one for one in found if not one.served.engine.scheduler.num_unfinished]
        return sorted(idle, key=lambda one: one.used_at)

    def _drop(self, one: Connection) -> None:
        if self._by_id.pop(one.id, None) is not None:
            one.served.engine.close()
