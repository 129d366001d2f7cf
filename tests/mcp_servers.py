"""MCP servers with scripted models, and clients of them.

As a script: `python mcp_servers.py ROOT SECONDS_PER_TURN` serves over standard input and output.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from PIL import Image

from pixel_reasoner.media.decoder import IN_PROCESS
from pixel_reasoner.model import Model
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.mcp_ask import Asker, LazyModel
from pixel_reasoner.server.mcp_files import MediaFolders
from pixel_reasoner.server.mcp_media import MediaLibrary
from pixel_reasoner.server.mcp_server import McpServices, build_mcp_server, mount

ERAS = ("legacy", "auto", "2026-07-28")
"""modes of the SDK's client: handshake, probe, newest revision without a probe"""
ZOOM = (
    '<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0.25, 0.25, 0.5, 0.5]}}</tool_call>'
)
SOURCE = Path(__file__).parents[1] / "src"


def slow_model(seconds_per_turn: float) -> Model:
    """Return a model that zooms in for ever, so that only a limit ends it."""

    def reply(_: object) -> str:
        time.sleep(seconds_per_turn)
        return f"I look. {ZOOM}"

    return Model(ScriptedModel(reply))


def quick_model() -> Model:
    """Return a model that zooms in once and answers."""
    return Model(ScriptedModel([f"I look closer. {ZOOM}", r"It is red. \boxed{red}"]))


def services(root: Path, model: Model | None = None, **options: Any) -> McpServices:
    library = MediaLibrary(MediaFolders([root]), IN_PROCESS)
    asker = None if model is None else Asker(library, LazyModel(lambda: model), **options)
    return McpServices(library, asker)


def parameters(*command: object, **environment: str) -> StdioServerParameters:
    """Return how a client starts a server with the package of this checkout."""
    return StdioServerParameters(
        command=sys.executable,
        args=[str(one) for one in command],
        env={
            "PYTHONPATH": str(SOURCE),
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            **environment,
        },
    )


def with_client(server: Any, use: Callable[[Client], Awaitable[Any]], mode: str = "auto") -> Any:
    """Connect to a server, return the result of `use`."""

    async def run() -> Any:
        async with Client(server, mode=mode) as client:
            return await use(client)

    return asyncio.run(run())


def call(server: Any, name: str, mode: str = "auto", **arguments: Any) -> Any:
    """Call one tool of a server."""
    return with_client(server, lambda client: client.call_tool(name, arguments), mode)


def text(result: Any) -> str:
    return result.content[0].text


def handle(result: Any) -> str:
    assert not result.is_error, text(result)
    return text(result).split(":")[0]


def pictures(result: Any) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(one.data)))
        for one in result.content
        if one.type == "image"
    ]


@contextmanager
def http_server(found: McpServices) -> Iterator[str]:
    """Serve over HTTP on a free port, mounted in an application as `serve` does. Yields the URL."""
    import uvicorn
    from starlette.applications import Starlette

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with mounted.run():
            yield

    app = Starlette(lifespan=lifespan)
    mounted = mount(app, build_mcp_server(found))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        thread.join(10)


if __name__ == "__main__":
    served = services(Path(sys.argv[1]), slow_model(float(sys.argv[2])), max_running=1)
    build_mcp_server(served).run("stdio")
