"""Running the application in this process with uvicorn: signals, drain, exit."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from pixel_reasoner.errors import OutputError, UsageError
from pixel_reasoner.files import reason
from pixel_reasoner.server.logs import log
from pixel_reasoner.server.services import Services
from pixel_reasoner.server.settings import ServerSettings

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
_CANCEL_MARGIN_S = 5.0
"""time to write the last events after the rollouts were cancelled"""


class DrainingServer(uvicorn.Server):
    """Server that answers what is in progress when it is stopped, within a time limit.

    Args:
        config: of uvicorn.
        services: state of the app.
        on_start: called when the server listens.
    """

    def __init__(
        self, config: uvicorn.Config, services: Services, on_start: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.services = services
        self.on_start = on_start
        self.stopped_by: int | None = None
        """number of the signal"""
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started:
            self.on_start()

    async def on_tick(self, counter: int) -> bool:
        """Stop if the model cannot be loaded. Called ten times a second."""
        if self.services.failure is not None:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting requests, wait for those in progress, then cancel the rest."""
        self.services.is_draining = True
        log("draining", requests=self.services.admission.num_requests)
        self._draining = asyncio.create_task(self._cancel_late())
        try:
            await super().shutdown(sockets)
        finally:
            self._draining.cancel()

    async def _cancel_late(self) -> None:
        await asyncio.sleep(self.services.settings.drain_timeout_s)
        self.services.cancel_all()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain after the first signal. A second Ctrl-C ends at once."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True
        self.stopped_by = self.stopped_by or sig
        self.services.is_draining = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without raising them again: the exit code comes from the command."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(settings: ServerSettings) -> socket.socket:
    """Return a listening socket.

    Raises:
        UsageError: an address that this machine does not have.
        OutputError: a port in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(
            expected="--host with an address of this machine",
            got=f"{settings.host}: {reason(error)}",
            fix="for example 127.0.0.1, or 0.0.0.0 for all",
        ) from error
    # Without the number of the protocol asyncio does not set TCP_NODELAY, and each response takes 40 ms more.
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise OutputError(
            expected="a free port",
            got=f"{settings.host}:{settings.port}: {reason(error)}",
            fix="give another --port",
        ) from error
    return found


def build_server(app: FastAPI, on_start: Callable[[], None] = lambda: None) -> DrainingServer:
    """Return a server of an app of `create_app`."""
    services: Services = app.state.services
    settings = services.settings
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.drain_timeout_s + _CANCEL_MARGIN_S),
        ws="none",
        lifespan="on",
    )
    return DrainingServer(config, services, on_start)


def serve(app: FastAPI, listening: socket.socket, on_start: Callable[[], None]) -> int | None:
    """Serve until a signal. Returns the number of the signal.

    Raises:
        PixelReasonerError: the model cannot be loaded.
    """
    server = build_server(app, on_start)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve([listening]))
    if server.services.failure is not None:
        raise server.services.failure
    return server.stopped_by
