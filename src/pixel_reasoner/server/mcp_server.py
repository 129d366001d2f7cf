"""MCP server: tools that open pictures and clips, zoom in, select frames, and ask a model.

    server = build_mcp_server(McpServices(MediaLibrary(folders, decoder), asker))
    server.run("stdio")                          a local client that starts this process

    mounted = mount(app, server, hosts=[...])    an HTTP application; in its lifespan:
    async with mounted.run(): ...

There is no state in sessions: handles are arguments. So every revision of the protocol behaves the same. What a model can
correct is a `ToolError` with a sentence; the SDK hides the text of every other exception.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any, NamedTuple

import anyio
import anyio.to_thread
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pixel_reasoner import __version__
from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES
from pixel_reasoner.operations.signature import Parameter
from pixel_reasoner.server.mcp_ask import (
    MAX_MEDIA,
    MAX_QUESTION_CHARS,
    MAX_TURNS,
    Asked,
    Asker,
    AskResult,
)
from pixel_reasoner.server.mcp_caller import caller_of
from pixel_reasoner.server.mcp_files import shown
from pixel_reasoner.server.mcp_media import MAX_FRAMES, MediaLibrary, OpenOptions
from pixel_reasoner.server.mcp_pictures import MAX_SIDE_PX, MIN_MAX_SIDE_PX, EncodedPicture
from pixel_reasoner.server.mcp_tools import Content, PictureTools, ShowOptions

MAX_REQUEST_BYTES = 24 * 2**20
"""body of an HTTP request: a picture of `MAX_DATA_BYTES` in base64"""
MAX_CONCURRENT_PICTURE_CALLS = 4
_READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_LOCAL_HOSTS = ("127.0.0.1:*", "localhost:*", "[::1]:*")

Media = Annotated[
    str,
    Field(
        description="A handle that an earlier result contains (m-... or p-...), the path of a file, or a picture as "
        "data:image/...;base64, URL."
    ),
]
ReturnImage = Annotated[
    bool, Field(description="Whether the picture is returned; false returns its sizes only.")
]
MaxSide = Annotated[
    int,
    Field(
        ge=MIN_MAX_SIDE_PX,
        le=MAX_SIDE_PX,
        description="Longest side of a returned picture in pixels.",
    ),
]


class McpServices(NamedTuple):
    """What the tools use."""

    library: MediaLibrary
    asker: Asker | None = None
    """answers questions; without it there is no tool `ask`"""
    max_time_s: float = 600.0
    """largest time limit of a question"""


class PictureServer(MCPServer[Any]):
    """MCP server whose errors about arguments are sentences in the style of the operations."""

    def add_tool(self, fn: Callable[..., Any], *positional: Any, **options: Any) -> None:
        """Add a tool. Its description is the docstring without indentation."""
        fn.__doc__ = inspect.cleandoc(fn.__doc__ or "")
        super().add_tool(fn, *positional, **options)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: an unknown tool, wrong arguments, or the sentence of the tool.
        """
        tools = {one.name: one for one in await self.list_tools()}
        if name not in tools:
            raise ToolError(f"there is no tool {shown(name)}; use {', '.join(tools)}")
        properties = tools[name].input_schema["properties"]
        for argument in arguments:
            if argument not in properties:
                names = ", ".join(properties)
                raise ToolError(f"there is no argument {shown(argument)}; use {names}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                sentence = _argument_error(error.__cause__, properties)
                raise ToolError(sentence) from error.__cause__
            if isinstance(
                error.__cause__, ToolError
            ):  # the SDK puts the name of the tool before it
                raise error.__cause__ from None
            raise


def build_mcp_server(services: McpServices) -> PictureServer:
    """Return the MCP server with its tools, always in the same order, and resources."""
    server = PictureServer(
        "pixel-reasoner",
        title="Pixel Reasoner",
        version=__version__,
        instructions=_instructions(services),
        log_level="WARNING",
        cache_hints={"tools/list": CacheHint(ttl_ms=300_000)},
    )
    threads = _Threads()
    _add_open_media(server, services.library, threads)
    _add_looks(server, services.library, threads)
    if services.asker is not None:
        _add_ask(server, services.library, services.asker, services.max_time_s)
    _add_resources(server, services)
    return server


class Mounted(NamedTuple):
    """MCP server in an HTTP application."""

    run: Callable[[], AbstractAsyncContextManager[None]]
    """context manager for the lifespan of the application; it can be entered once"""


def mount(
    app: Starlette,
    server: MCPServer[Any],
    *,
    path: str = "/mcp",
    hosts: Sequence[str] | None = _LOCAL_HOSTS,
    origins: Sequence[str] | None = None,
) -> Mounted:
    """Add the route of a server to a Starlette or FastAPI application. A route for all other paths must come after it.

    Args:
        app: the application; its middleware applies to the route.
        server: from `build_mcp_server`.
        path: of the route.
        hosts: allowed values of the Host header, which protects local servers from web pages; `:*` is any port.
            None if the application checks them.
        origins: allowed values of the Origin header; by default those of `hosts`.
    """
    if hosts is None:
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    else:
        allowed = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
        security = TransportSecuritySettings(
            allowed_hosts=list(hosts), allowed_origins=allowed if origins is None else list(origins)
        )
    mcp_app = server.streamable_http_app(
        streamable_http_path=path,
        max_request_body_size=MAX_REQUEST_BYTES,
        transport_security=security,
    )
    for route in mcp_app.routes:
        if isinstance(route, Route):
            route.app = _RouteApp(route)
    app.router.routes.extend(mcp_app.routes)
    return Mounted(server.session_manager.run)


class _RouteApp:
    """Application of a route of the SDK, with what the server around it needs.

    Logs and metrics contain the route. Sessions of older revisions of the protocol belong to the key that opened them: the
    SDK compares `scope["user"]`.
    """

    def __init__(self, route: Route) -> None:
        self.app, self.route = route.app, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self.route
        client = scope.get("state", {}).get("client")
        if client:
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=client, scopes=[]))
        await self.app(scope, receive, send)


class _Threads:
    """Runs blocking calls of picture tools, a limited number at once."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(MAX_CONCURRENT_PICTURE_CALLS)

    async def run(self, call: Callable[[], list[Content]]) -> list[str | Image]:
        # A cancelled request returns at once; the thread ends by the time limit of the decoder.
        parts = await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)
        return [_block(one) for one in parts]


def _tools(library: MediaLibrary, ctx: Context[Any, Any]) -> PictureTools:
    """Return the picture tools of the client of a call."""
    return PictureTools(library, caller_of(ctx).owner)


def _add_open_media(server: MCPServer[Any], library: MediaLibrary, threads: _Threads) -> None:
    @server.tool(title="Open a picture or video", annotations=_READ_ONLY, structured_output=False)
    async def open_media(  # noqa: PLR0913 - the arguments of the tool
        media: Media,
        ctx: Context[Any, Any],
        num_frames: Annotated[
            int | None,
            Field(
                ge=1,
                le=MAX_FRAMES,
                description="Frames sampled from a video or folder; 16 by default.",
            ),
        ] = None,
        start_s: Annotated[
            float | None,
            Field(ge=0, description="Start of the part of a video to sample, in seconds."),
        ] = None,
        end_s: Annotated[
            float | None, Field(gt=0, description="End of this part; null for the end.")
        ] = None,
        page: Annotated[
            int | None, Field(ge=1, description="Page of a TIFF picture or a PDF.")
        ] = None,
        return_image: ReturnImage = True,
        max_side: MaxSide = MAX_SIDE_PX,
    ) -> list[str | Image]:
        """Open a picture, a video or a folder of frames. Returns its handle, its size and an overview.

        Of a video, evenly spaced frames are sampled and numbered from 1. To see a part of it in more detail, open the
        handle again with start_s and end_s.
        """
        given = {"num_frames": num_frames, "start_s": start_s, "end_s": end_s, "page": page}
        fields: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        options = OpenOptions(**fields) if fields else None
        show = ShowOptions(return_image, max_side)
        open_one = _tools(library, ctx).open_media
        return await threads.run(partial(open_one, media, options, show))


def _add_looks(server: MCPServer[Any], library: MediaLibrary, threads: _Threads) -> None:
    @server.tool(title="Zoom in", annotations=_READ_ONLY, structured_output=False)
    async def zoom_in(
        media: Media,
        box: Annotated[
            list[float],
            Field(
                description="The region as [x1, y1, x2, y2], from 0 to 1, with (0, 0) at the top left corner of the "
                "picture that media names."
            ),
        ],
        ctx: Context[Any, Any],
        frame: Annotated[
            int | None, Field(description="Number of the frame, for a video or folder of frames.")
        ] = None,
        return_image: ReturnImage = True,
        max_side: MaxSide = MAX_SIDE_PX,
    ) -> list[str | Image]:
        """Zoom in on a region of a picture to see details that are too small in the overview.

        The region is cut from the source at full resolution, also where media is itself the result of a zoom.
        """
        show = ShowOptions(return_image, max_side)
        zoom = _tools(library, ctx).zoom_in
        return await threads.run(partial(zoom, media, box, frame, show))

    @server.tool(title="Select frames", annotations=_READ_ONLY, structured_output=False)
    async def select_frames(
        media: Media,
        frames: Annotated[
            list[int],
            Field(
                description=f"Numbers of up to {MAX_SELECTED_FRAMES} frames, from 1, each at most once."
            ),
        ],
        ctx: Context[Any, Any],
        return_image: ReturnImage = True,
        max_side: MaxSide = MAX_SIDE_PX,
    ) -> list[str | Image]:
        """Look at single frames of a video or folder of frames in full size."""
        show = ShowOptions(return_image, max_side)
        select = _tools(library, ctx).select_frames
        return await threads.run(partial(select, media, frames, show))


def _add_ask(
    server: MCPServer[Any], library: MediaLibrary, asker: Asker, max_time_s: float
) -> None:
    note = f" {asker.model.note}" if asker.model.note else ""

    @server.tool(
        title="Ask a model that looks again",
        annotations=_READ_ONLY,
        structured_output=True,
        description="Ask a vision-language model that uses visual operations itself. Returns its answer and every "
        "step with the region it looked at; zoom_in shows a region by its handle." + note,
    )
    async def ask(
        question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_CHARS)],
        media: Annotated[
            list[str] | str,
            Field(description="Handles, paths or data: URLs of pictures and videos."),
        ],
        ctx: Context[Any, Any],
        operations: Annotated[
            list[str] | None,
            Field(description="Operations of the model; [] for none, null for all of them."),
        ] = None,
        max_turns: Annotated[
            int, Field(ge=1, le=MAX_TURNS, description="Maximum number of messages of the model.")
        ] = 6,
        time_limit_s: Annotated[float, Field(gt=0, description="Time limit in seconds.")] = min(
            120.0, max_time_s
        ),
    ) -> Annotated[CallToolResult, AskResult]:
        if time_limit_s > max_time_s:
            raise ToolError(f"time_limit_s is above the limit of this server, {max_time_s:g}")
        if not question.strip():
            raise ToolError("question is empty; give a question")
        references = [media] if isinstance(media, str) else media
        if not 1 <= len(references) <= MAX_MEDIA:
            raise ToolError(f"media has {len(references)} items; give 1 to {MAX_MEDIA}")
        asked = Asked(
            question=question,
            operations=operations,
            max_turns=max_turns,
            time_limit_s=time_limit_s,
        )
        found = await asker.ask(asked, references, _reporter(ctx), caller_of(ctx))
        fields = found.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(fields, ensure_ascii=False)
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content=fields
        )


def _add_resources(server: MCPServer[Any], services: McpServices) -> None:
    library, asker = services.library, services.asker

    @server.resource(
        "picture://{handle}",
        title="Picture of an earlier result",
        mime_type="image/jpeg",
        description="The picture of a handle: m-... or p-...",
    )
    def picture(handle: str, ctx: Context[Any, Any]) -> bytes:
        try:
            return _tools(library, ctx).picture(handle)
        except ToolError as error:
            raise ResourceNotFoundError(str(error)) from error

    if asker is None:
        return

    @server.resource(
        "trace://{trace_id}",
        title="Record of an answer",
        mime_type="application/json",
        description="All messages, operations and settings of an answer of ask, by its trace_id.",
    )
    def trace(trace_id: str, ctx: Context[Any, Any]) -> str:
        found = asker.trace(trace_id, caller_of(ctx).owner)
        if found is None:
            raise ResourceNotFoundError(
                f"there is no trace {shown(trace_id)}: another server wrote it, or it was removed since"
            )
        return found


def _reporter(ctx: Context[Any, Any]) -> Callable[[float, float, str], Awaitable[None]]:
    async def report(progress: float, total: float, message: str) -> None:
        await ctx.report_progress(progress, total, message)

    return report


def _block(part: Content) -> str | Image:
    if isinstance(part, EncodedPicture):
        return Image(data=part.content, format=part.format)
    return part


def _argument_error(error: ValidationError, properties: dict[str, Any]) -> str:
    """Return the sentence for the first wrong argument, without its value."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0])
    schema = properties[name]
    kinds = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    if first["type"] == "missing":
        return f"{name} is missing; give {_in_words(kinds[0])}"
    if len(first["loc"]) > 1 or first["type"].endswith(("_type", "_parsing", "_from_float")):
        return f"{name} must be {' or '.join(map(_in_words, kinds))}"
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _in_words(schema: dict[str, Any]) -> str:
    return Parameter(name="", json_schema=schema, description="", required=True).type_in_words


def _instructions(services: McpServices) -> str:
    names = services.library.folders.names
    where = (
        f" Paths of files are relative to one of these folders, or absolute: {names}."
        if names
        else ""
    )
    ask = " ask lets another model do this and returns its steps." if services.asker else ""
    return (
        "Look at pictures and videos in more detail. open_media returns a handle and an overview. zoom_in shows a region "
        "at full resolution: use it before you read small text or judge small details. select_frames shows frames "
        f"of a video.{ask}{where}"
    )
