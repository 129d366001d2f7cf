"""MCP server at `/mcp` of the HTTP server. It asks the served model, in the same batch as all other requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from pixel_reasoner.errors import ModelError
from pixel_reasoner.model import Model
from pixel_reasoner.server.mcp_ask import Asker, LazyModel
from pixel_reasoner.server.mcp_files import MediaFolders
from pixel_reasoner.server.mcp_media import MediaLibrary
from pixel_reasoner.server.mcp_server import McpServices, build_mcp_server, mount
from pixel_reasoner.server.services import Services


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

        asker = Asker(library, LazyModel(load, self.note))
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
