"""Command `mcp`: the MCP server for clients on this computer."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_reasoner.cli.choices import MCP_CLIENTS, choice_option
from pixel_reasoner.cli.interrupt import Terminated
from pixel_reasoner.cli.options import (
    LocalOptions,
    MaxNewTokensOption,
    ModelOption,
    ServerOptions,
    model_note,
    model_spec,
    with_groups,
)
from pixel_reasoner.cli.output import warn
from pixel_reasoner.errors import UsageError, require_extra

if TYPE_CHECKING:
    from pixel_reasoner.models.spec import ModelSpec

_CONFIG_FILES = {
    "claude": "claude_desktop_config.json (Claude Desktop: Settings, Developer, Edit Config)",
    "vscode": ".vscode/mcp.json in the project (VS Code)",
    "cursor": ".cursor/mcp.json in the project, or ~/.cursor/mcp.json (Cursor)",
}
"""client -> file that the configuration belongs into"""


@with_groups
def mcp(
    ctx: typer.Context,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="Let clients read pictures and videos below this folder, and no other files. May be repeated.",
        ),
    ] = None,
    print_config: Annotated[
        str | None,
        choice_option(
            MCP_CLIENTS,
            "--print-config",
            help="Print the configuration for a client, with the other options, and exit.",
        ),
    ] = None,
    no_ask: Annotated[
        bool,
        typer.Option(
            "--no-ask", help="Offer no tool `ask`: clients look themselves, and no model is loaded."
        ),
    ] = False,
    model: ModelOption = "tiny",
    max_new_tokens: MaxNewTokensOption = 1024,
    max_time_s: Annotated[
        float, typer.Option(min=1.0, help="Largest time limit of `ask`, in seconds.")
    ] = 600.0,
    local: LocalOptions = LocalOptions(),
    servers: ServerOptions = ServerOptions(),
) -> None:
    """Serve visual operations to a program that supports MCP: Claude Desktop, VS Code, Cursor and others.

    The program starts this command itself and talks to it over standard input and output. --print-config writes what to
    put into its settings.

    The tools are open_media, zoom_in, select_frames and ask. The first three need no model: the model of the program
    looks itself. ask lets --model answer, which is loaded by the first question. The bundled model only supports
    PixelWorld, so give a larger model, or --no-ask.

    Without --root, only pictures inside of requests (data: URLs) can be opened.

    Examples:
        pixel-reasoner mcp --root ~/Pictures --no-ask --print-config claude

        pixel-reasoner mcp --root ~/Pictures --model NAME --endpoint http://localhost:8000/v1 --print-config vscode

        pixel-reasoner mcp --root ~/Pictures --root ~/Videos
    """
    with require_extra("serve", "run an MCP server"):
        import mcp  # noqa: F401
    spec = model_spec(model, local, servers)
    check_roots(root or [])
    if print_config is not None:
        _print_config(print_config, ctx)
        return
    _serve(root or [], None if no_ask else spec, max_new_tokens, max_time_s)


def _serve(
    roots: list[Path], spec: ModelSpec | None, max_new_tokens: int, max_time_s: float
) -> None:
    """Run until the client closes standard input."""
    import logging

    from pixel_reasoner.media.worker_pool import WorkerPoolDecoder
    from pixel_reasoner.server.mcp_ask import Asker, LazyModel
    from pixel_reasoner.server.mcp_files import MediaFolders
    from pixel_reasoner.server.mcp_media import MediaLibrary
    from pixel_reasoner.server.mcp_server import McpServices, build_mcp_server

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    folders = MediaFolders([root.expanduser() for root in roots])
    if not roots:
        warn("note: without --root, only pictures in data: URLs can be opened")
    code = 0
    with WorkerPoolDecoder() as decoder:
        library = MediaLibrary(folders, decoder)
        lazy = None if spec is None else LazyModel(*_loader(spec, max_new_tokens), decoder)
        asker = None if lazy is None else Asker(library, lazy)
        try:
            build_mcp_server(McpServices(library, asker, max_time_s)).run("stdio")
        except KeyboardInterrupt as error:
            code = 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
        finally:
            if lazy is not None:
                lazy.close()
            library.close()
    if code:
        # A thread of the SDK waits for input, and a normal exit would wait for the thread.
        sys.stderr.flush()
        os._exit(code)


def _loader(spec: ModelSpec, max_new_tokens: int) -> tuple[Any, str]:
    """Return a function that loads the model, and a note about what the model supports.

    Raises:
        UsageError: packages that are not installed.
        ModelError: no such model.
    """
    from pixel_reasoner.model import Model
    from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams

    _check_model(spec)
    config = RolloutConfig(sampling=SamplingParams(max_new_tokens=max_new_tokens))
    return (lambda: Model(spec.load(), config)), model_note(spec)


def _check_model(spec: ModelSpec) -> None:
    """Raise the errors of `spec.check`, but import torch only for options that need it: clients wait for the start."""
    import importlib.util

    from pixel_reasoner.models.hub import local_model
    from pixel_reasoner.models.registry import is_registered

    is_local = not spec.endpoints and not is_registered(spec.name)
    if is_local and spec.device is None and spec.dtype is None:
        local_model(spec.name)
        with require_extra("local", "run a model"):
            for name in ("torch", "transformers"):
                if importlib.util.find_spec(name) is None:
                    raise ImportError(name=name)
    else:
        spec.check()


_PATH_OPTIONS = ("root", "key_file")


def _print_config(client: str, ctx: typer.Context) -> None:
    command = {"command": sys.executable, "args": ["-m", "pixel_reasoner.cli", *_arguments(ctx)]}
    if client == "vscode":
        found: dict[str, Any] = {"servers": {"pixel-reasoner": {"type": "stdio", **command}}}
    else:
        found = {"mcpServers": {"pixel-reasoner": command}}
    print(json.dumps(found, indent=2, ensure_ascii=False))
    warn(f"Put this into {_CONFIG_FILES[client]}")


def _arguments(ctx: typer.Context) -> list[str]:
    """Return the command with the options that were given, with absolute paths: a client has another working directory."""
    words = [ctx.info_name or "mcp"]
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        is_given = source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")
        if not is_given or parameter.name == "print_config":
            continue
        value, option = ctx.params[parameter.name or ""], max(parameter.opts, key=len)
        if value is True:
            words.append(option)
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [option, _absolute(parameter.name or "", one)]
    return words


def _absolute(name: str, value: Any) -> str:
    """Return the text of an option. A path is absolute; --model is one if such a folder exists."""
    # Older versions of typer keep the paths of a repeated option as texts in the context.
    if isinstance(value, Path) or name in _PATH_OPTIONS:
        return str(Path(value).expanduser().absolute())
    if name == "model" and Path(value).is_dir():
        return str(Path(value).absolute())
    return str(value)


def check_roots(roots: list[Path]) -> None:
    """Raise `UsageError` for a --root that is no folder."""
    for root in roots:
        if not root.expanduser().is_dir():
            raise UsageError(
                expected="--root with a folder",
                got=f"{root}, which {'is a file' if root.exists() else 'does not exist'}",
                fix="check the path",
            )
