"""Command `serve`: an OpenAI-compatible server whose model looks again at pictures."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from pixel_reasoner.cli.choices import PROTOCOLS, REASONING_FIELDS, choice_option
from pixel_reasoner.cli.mcp import check_roots
from pixel_reasoner.cli.options import (
    ENDPOINT_VARIABLE,
    BudgetOption,
    CalibrationOption,
    LocalOptions,
    MaxTurnsOption,
    ModelOption,
    OperationOption,
    ServerKindOption,
    ServerOptions,
    StrategyOption,
    StrictOption,
    TemperatureOption,
    TimeoutOption,
    WithoutOption,
    given_options,
    model_note,
    model_spec,
    reject_options,
    rollout_config,
    with_groups,
)
from pixel_reasoner.cli.output import print_line, warn
from pixel_reasoner.errors import require_extra

if TYPE_CHECKING:
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.server.services import ServerPart
    from pixel_reasoner.server.settings import ServerSettings


@dataclass(frozen=True)
class UpstreamOptions:
    """Options of a model behind other servers."""

    panel: ClassVar[str] = "In front of other servers"

    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint",
            envvar=ENDPOINT_VARIABLE,
            help="Address of an OpenAI-compatible server of --model, for example http://localhost:8000/v1. "
            "May be repeated: requests are distributed.",
        ),
    ] = None
    endpoint_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key for --endpoint [default: the environment variable OPENAI_API_KEY, if it is set]"
        ),
    ] = None
    endpoint_concurrency: Annotated[
        int, typer.Option(min=1, help="Requests to --endpoint at once.")
    ] = 64
    protocol: Annotated[
        str,
        choice_option(
            PROTOCOLS,
            "--protocol",
            help="Tool call protocol of --endpoint: `text` works with every server, `native` uses its tool calls.",
        ),
    ] = "text"
    server: ServerKindOption = None
    timeout_s: TimeoutOption = 300.0


@dataclass(frozen=True)
class AccessOptions:
    """Who may use the server."""

    panel: ClassVar[str] = "Access"

    host: Annotated[
        str,
        typer.Option(help="Address to listen at. 0.0.0.0 for other machines; needs --key-file."),
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 8008
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the keys of clients, one per line, optionally with a name: `alice: KEY`. "
            "Every route except /health, the page of Studio and shared traces needs one."
        ),
    ] = None
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let everybody who reaches --host use the server.")
    ] = False
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also accept this name in the Host header, for example of a proxy. May be repeated.",
        ),
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Also accept requests of pages of this origin, for example https://chat.example.org. May be repeated.",
        ),
    ] = None
    allow_media_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Fetch pictures from this host if a request names them by URL. May be repeated. "
            "By default nothing is fetched.",
        ),
    ] = None
    allow_endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Let users of Studio connect a model server at this host, for example localhost:8000; `public` for "
            "every public host. May be repeated. [default: public if only this machine uses the server: without "
            "--key-file, --allow-host and another --host]",
        ),
    ] = None


@dataclass(frozen=True)
class StudioOptions:
    """Further parts of the server."""

    panel: ClassVar[str] = "Studio and MCP"

    no_studio: Annotated[
        bool, typer.Option("--no-studio", help="Leave out the web page (Studio) at /.")
    ] = False
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open Studio in a browser when the server is ready.")
    ] = False
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="Let MCP clients read pictures and videos below this folder. May be repeated.",
        ),
    ] = None


@dataclass(frozen=True)
class ReplyOptions:
    """How requests are answered if they do not state it."""

    panel: ClassVar[str] = "Options"

    served_name: Annotated[
        str | None,
        typer.Option(help="Name of the model for clients [default: the last part of --model]"),
    ] = None
    reasoning_field: Annotated[
        str,
        choice_option(
            REASONING_FIELDS,
            "--reasoning-field",
            help="Where replies contain the thoughts: reasoning_content, reasoning, both, or inline (in content).",
        ),
    ] = "reasoning_content"
    without: WithoutOption = False
    operation: OperationOption = None
    strict: StrictOption = False
    strategy: StrategyOption = "single"
    calibration: CalibrationOption = None
    budget: BudgetOption = "fixed"
    max_turns: MaxTurnsOption = 6
    temperature: TemperatureOption = 0.0


@dataclass(frozen=True)
class LimitOptions:
    """Limits of the server."""

    panel: ClassVar[str] = "Limits"

    max_running: Annotated[int, typer.Option(min=1, help="Requests in progress at once.")] = 64
    max_waiting: Annotated[
        int, typer.Option(min=0, help="Requests that wait; further ones are answered 429.")
    ] = 256
    max_per_key: Annotated[
        int, typer.Option(min=1, help="Requests of one key, in progress or waiting.")
    ] = 256
    max_picture_tokens: Annotated[
        int, typer.Option(min=1, help="Picture tokens of all requests, in progress or waiting.")
    ] = 2_000_000
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Size of a request, in MB.")] = 32.0
    max_upload_mb: Annotated[
        float, typer.Option(min=0.001, help="Size of an uploaded file, in MB.")
    ] = 256.0
    max_store_mb: Annotated[
        float, typer.Option(min=1, help="Size of the store of pictures and videos, in MB.")
    ] = 4096.0
    max_traces_mb: Annotated[
        float,
        typer.Option(min=1, help="Size of stored traces, in MB; the oldest ones are deleted."),
    ] = 4096.0
    max_traces_days: Annotated[
        float,
        typer.Option(min=0.001, help="Age of stored traces, in days; older ones are deleted."),
    ] = 30.0
    max_media: Annotated[
        int, typer.Option(min=1, help="Pictures and videos of a request, with its history.")
    ] = 32
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens per message of the model; requests may ask for less.")
    ] = 1024
    request_timeout_s: Annotated[
        float, typer.Option(min=0.1, help="Time limit of a request, in seconds.")
    ] = 600.0
    drain_timeout_s: Annotated[
        float, typer.Option(min=0, help="Time for requests in progress after SIGTERM, in seconds.")
    ] = 30.0


@with_groups
def serve(
    model: ModelOption = "tiny",
    upstream: UpstreamOptions = UpstreamOptions(),
    access: AccessOptions = AccessOptions(),
    store: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures, videos and traces [default: a temporary folder]"),
    ] = None,
    studio: StudioOptions = StudioOptions(),
    replies: ReplyOptions = ReplyOptions(),
    limits: LimitOptions = LimitOptions(),
    local: LocalOptions = LocalOptions(),
) -> None:
    """Serve a model that looks again, by the API of OpenAI. Any client works without changes: set its base URL.

    Studio, a web page to ask in a browser, is at /. MCP clients connect to /mcp.

    With --endpoint it is a proxy in front of another server. Clients then get the same model with operations.

    Examples:
        pixel-reasoner serve --open

        pixel-reasoner serve --model Qwen/Qwen2.5-VL-7B-Instruct --endpoint http://localhost:8000/v1

        pixel-reasoner serve --model FOLDER --host 0.0.0.0 --key-file keys.txt

        curl http://127.0.0.1:8008/v1/models
    """
    with require_extra("serve", "serve a model"):
        import fastapi  # noqa: F401
        import mcp  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    settings = _settings(replies, access, limits, store)
    check_roots(studio.root or [])
    if studio.no_studio and studio.open_browser:
        reject_options(["--open"], "with --no-studio")
    if not upstream.endpoint:
        reject_options(given_options(upstream), "without --endpoint")
    servers = ServerOptions(
        endpoint=upstream.endpoint,
        protocol=upstream.protocol,
        server=upstream.server,
        key_file=upstream.endpoint_key_file,
        timeout_s=upstream.timeout_s,
    )
    spec = model_spec(model, local, servers, concurrency=upstream.endpoint_concurrency)
    _serve(spec, settings, access.key_file, replies.served_name, studio)


def _settings(
    replies: ReplyOptions, access: AccessOptions, limits: LimitOptions, store: Path | None
) -> ServerSettings:
    from pixel_reasoner.api import check_strategy
    from pixel_reasoner.server.fetch import check_media_host
    from pixel_reasoner.server.settings import (
        SERVER_MEDIA_LIMITS,
        ReasoningField,
        ServerSettings,
    )

    config = rollout_config(
        operations=not replies.without,
        added=replies.operation or (),
        strict=replies.strict,
        budget=replies.budget,
        max_turns=replies.max_turns,
        max_new_tokens=limits.max_new_tokens,
        temperature=replies.temperature,
        seed=0,
    )
    check_strategy(replies.strategy, config, replies.calibration)
    return ServerSettings(
        strategy=replies.strategy,
        calibration=replies.calibration,
        host=access.host,
        port=access.port,
        no_auth=access.no_auth,
        allowed_hosts=tuple(access.allow_host or ()),
        allowed_origins=tuple(access.allow_origin or ()),
        media_hosts=tuple(map(check_media_host, access.allow_media_host or ())),
        endpoint_hosts=_endpoint_hosts(access),
        store=store,
        reasoning_field=ReasoningField(replies.reasoning_field),
        config=config.model_copy(update={"media": SERVER_MEDIA_LIMITS}),
        max_running=limits.max_running,
        max_waiting=limits.max_waiting,
        max_per_key=limits.max_per_key,
        max_picture_tokens=limits.max_picture_tokens,
        max_body_bytes=int(limits.max_body_mb * 1e6),
        max_upload_bytes=int(limits.max_upload_mb * 1e6),
        max_store_bytes=int(limits.max_store_mb * 1e6),
        max_traces_bytes=int(limits.max_traces_mb * 1e6),
        max_traces_age_s=limits.max_traces_days * 86400.0,
        max_media=limits.max_media,
        max_new_tokens=limits.max_new_tokens,
        request_timeout_s=limits.request_timeout_s,
        drain_timeout_s=limits.drain_timeout_s,
    )


def _endpoint_hosts(access: AccessOptions) -> tuple[str, ...]:
    """Return the hosts of model servers that users of Studio may connect."""
    from pixel_reasoner.server.endpoint_access import PUBLIC, check_endpoint_host
    from pixel_reasoner.server.settings import LOOPBACK_NAMES

    is_own = access.host in LOOPBACK_NAMES and not access.key_file and not access.allow_host
    hosts = map(check_endpoint_host, access.allow_endpoint or ())
    return tuple(dict.fromkeys((*hosts, PUBLIC) if is_own else hosts))


def _serve(
    spec: ModelSpec,
    settings: ServerSettings,
    key_file: Path | None,
    served_name: str | None,
    studio: StudioOptions,
) -> None:
    from pixel_reasoner.server.app import create_app
    from pixel_reasoner.server.auth import read_keys
    from pixel_reasoner.server.logs import set_up_logs
    from pixel_reasoner.server.run import listen, serve
    from pixel_reasoner.server.spans import configured_spans

    keys = read_keys(key_file) if key_file else ()
    spec.check()
    short = spec.name.rstrip("/").rpartition("/")[2]
    names = dict.fromkeys(name for name in (served_name or short, spec.name, short) if name)

    def load() -> Any:
        loaded = spec.load(operations=bool(settings.config.operations))
        if loaded.note:
            warn(f"note: {loaded.note}")
        return loaded

    parts = [*_parts(spec, studio), *configured_spans(next(iter(names)), os.environ)]
    app = create_app(settings, load, names=tuple(names), keys=keys, parts=parts)
    listening = listen(settings)
    set_up_logs()

    def show_address() -> None:
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print_line(
            ("Serving ", "bold"),
            (next(iter(names)), "bold cyan"),
            " at ",
            (f"{address}/v1", "bold underline"),
            "  (Ctrl-C to stop)",
        )
        if not studio.no_studio:
            print_line(("Studio ", "bold"), "at ", (f"{address}/", "bold underline"))
        if studio.open_browser:
            _open_browser(f"{address}/")
        if settings.no_auth and not keys and not settings.is_loopback:
            warn("warning: everybody who reaches this address can use the server (--no-auth)")

    stopped_by = serve(app, listening, show_address)
    if stopped_by == signal.SIGINT:
        raise typer.Exit(130)


def _parts(spec: ModelSpec, studio: StudioOptions) -> list[ServerPart]:
    """Return the parts of the server."""
    from pixel_reasoner.models.folder import BUNDLED_MODELS
    from pixel_reasoner.server.mcp_part import McpPart
    from pixel_reasoner.server.studio_page import StudioPart
    from pixel_reasoner.server.traces import TracesPart

    roots = [root.expanduser() for root in studio.root or ()]
    parts: list[ServerPart] = [TracesPart(), McpPart(roots, model_note(spec))]
    if not studio.no_studio:
        is_bundled = not spec.endpoints and spec.name in BUNDLED_MODELS
        parts.append(StudioPart(is_bundled=is_bundled))
    return parts


def _open_browser(address: str) -> None:
    """Open a page without waiting: the server starts to answer after this."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
