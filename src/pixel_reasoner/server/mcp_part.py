"""MCP server at `/mcp` of the HTTP server. It asks the served model, in the same batch as all other requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from fastapi import FastAPI
from mcp.server.mcpserver.exceptions import ToolError

from pixel_reasoner.errors import ModelError
from pixel_reasoner.model import Model
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.server.admission import Load
from pixel_reasoner.server.chat import budgets_of, max_picture_tokens
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.mcp_ask import Asker, LazyModel
from pixel_reasoner.server.mcp_caller import Caller, Gate
from pixel_reasoner.server.mcp_files import MediaFolders
from pixel_reasoner.server.mcp_media import MediaLibrary
from pixel_reasoner.server.mcp_server import McpServices, build_mcp_server, mount
from pixel_reasoner.server.reply import count_usage
from pixel_reasoner.server.services import Services


class ServerGate(Gate):
    """Admission and metrics of the HTTP server for questions of MCP clients. Used from the event loop only."""

    def __init__(self, services: Services) -> None:
        self.services = services

    @contextmanager
    def admit(self, caller: Caller) -> Iterator[None]:
        """Count a question as a request.

        Raises:
            ToolError: the server is full, stops, or loads its model.
        """
        services, started = self.services, time.perf_counter()
        try:
            services.check_accepts()
            admitted = services.admission.admit(Load(caller.owner))
            with admitted, services.span_context(caller.scope):
                try:
                    yield
                finally:
                    seconds = time.perf_counter() - started
                    services.metrics.observe(services.metrics.latency, seconds)
        except ApiError as error:
            raise self._refusal(error) from None

    @contextmanager
    def admit_media(
        self, caller: Caller, media: Sequence[MediaItem], num_frames: int
    ) -> Iterator[None]:
        """Add the picture tokens of a question.

        Raises:
            ToolError: too many are in progress.
        """
        reader = self.services.job_reader()
        kinds = [one.kind for one in media]
        tokens = max_picture_tokens(budgets_of(reader.prompt), kinds, num_frames)
        load = Load(caller.owner, num_rollouts=0, picture_tokens=tokens)
        try:
            with self.services.admission.admit(load):
                yield
        except ApiError as error:
            raise self._refusal(error) from None

    def ended(self, trace: Trace) -> None:
        """Count tokens and operations."""
        reader = self.services.job_reader()
        usage = count_usage(trace, budgets_of(reader.prompt))
        self.services.metrics.add_trace(
            trace, usage.prompt_tokens, usage.completion_tokens, usage.picture_tokens
        )

    def _refusal(self, error: ApiError) -> ToolError:
        metrics = self.services.metrics
        metrics.count(metrics.refused, error.code or "")
        later = "" if error.retry_after_s is None else f"; ask again in {error.retry_after_s:.0f} s"
        return ToolError(f"{error.message}{later}")


class McpPart:
    """Part of the server with the route `/mcp`.

    Args:
        roots: folders that clients may read; without any, only pictures inside of requests can be opened.
        note: what the model can and cannot do.
    """

    def __init__(self, roots: Sequence[Path] = (), note: str = "") -> None:
        self.roots, self.note = roots, note

    def mount(self, app: FastAPI, services: Services) -> None:
        """Add the route. The middleware of the server checks key, Host and Origin."""
        library = MediaLibrary(MediaFolders(self.roots), services.decoder)

        def load() -> Model:
            if services.loaded is None:
                raise ModelError(
                    expected="a loaded model", got="one that is being loaded", fix="ask again later"
                )
            return Model(services.loaded.model, services.settings.config)

        asker = Asker(
            library,
            LazyModel(load, self.note),
            max_running=services.admission.max_requests,
            gate=ServerGate(services),
        )
        limit = services.settings.request_timeout_s
        server = build_mcp_server(McpServices(library, asker, limit))
        mounted = mount(app, server, hosts=None)

        @asynccontextmanager
        async def lifespan() -> AsyncIterator[None]:
            try:
                async with mounted.run():
                    yield
            finally:
                library.close()

        services.lifespans.append(lifespan)
