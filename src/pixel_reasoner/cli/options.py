"""Options that several commands share, alone and in groups.

A group is a dataclass whose fields are options. `with_groups` expands a parameter of such a type into one option per field:

    @with_groups
    def ask(question: ..., backend: LocalOptions, server: ServerOptions) -> None: ...
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.schema.settings import RolloutConfig

SERVER_PANEL = "A model behind servers"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="`tiny` (in the box), a model folder, or a hub id owner/name."
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ... [default: a GPU if there is one]")
]
WithoutOption = Annotated[
    bool, typer.Option("--no-operations", help="Offer no operations: one look, then words.")
]
MaxTurnsOption = Annotated[int, typer.Option(min=1, help="Messages of the model at most.")]
MaxNewTokensOption = Annotated[int, typer.Option(min=1, help="New tokens per message at most.")]
TemperatureOption = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
SamplingSeedOption = Annotated[int, typer.Option(help="Seed of sampling.")]
ScorerOption = Annotated[
    str, typer.Option(help="Who compares answers: typed, harness or released.")
]
ShardOption = Annotated[str, typer.Option(help="Write only the i-th of n parts: i/n, from 1.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
TracesArgument = Annotated[Path, typer.Argument(help="A folder with traces.jsonl, or the file.")]
EndpointsOption = Annotated[
    list[str], typer.Option("--endpoint", help="Address of a server; may be repeated.")
]
ServerKindOption = Annotated[
    str | None,
    typer.Option(
        help="Its kind, which decides the fields it is sent: any, vllm, sglang, llamacpp, ollama, transformers or "
        "hosted [default: what it says of itself]",
        rich_help_panel=SERVER_PANEL,
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        help="A file that holds the key [default: the environment variable OPENAI_API_KEY, if there is one]",
        rich_help_panel=SERVER_PANEL,
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(min=0.001, help="Seconds to wait for a server.", rich_help_panel=SERVER_PANEL),
]


@dataclass(frozen=True)
class LocalOptions:
    """Options of a model that runs in this process, and what it is shown."""

    device: DeviceOption = None
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16 [default: as the weights are stored, where the processor multiplies that]"
        ),
    ] = None
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile a local model's norms and MLPs first: on a GPU a token then takes less than half as long.",
        ),
    ] = False
    dialect: Annotated[
        str | None,
        typer.Option(
            help="How the model is offered operations [default: what its folder says, or what it looks like]"
        ),
    ] = None
    overview_px: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pixels of a picture's overview at most [default: those of the model's folder or dialect]",
        ),
    ] = None
    crop_px: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels at most of what an operation returns, likewise."),
    ] = None


@dataclass(frozen=True)
class ServerOptions:
    """Options of a model behind servers."""

    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint",
            help="Address of an OpenAI-compatible server that serves --model, such as http://localhost:8000/v1; may be "
            "repeated, requests are shared out.",
            rich_help_panel=SERVER_PANEL,
        ),
    ] = None
    protocol: Annotated[
        str,
        typer.Option(
            help="How operations travel: `text` works with every server, `native` uses its tools.",
            rich_help_panel=SERVER_PANEL,
        ),
    ] = "text"
    server: ServerKindOption = None
    key_file: KeyFileOption = None
    timeout_s: TimeoutOption = 300.0


def model_spec(name: str, local: LocalOptions, servers: ServerOptions, **more: Any) -> ModelSpec:
    """Return the model that options name."""
    from pixel_reasoner.api import ModelSpec

    return ModelSpec(
        name,
        **dataclasses.asdict(local),
        endpoints=tuple(servers.endpoint or ()),
        protocol=servers.protocol,
        server=servers.server,
        key_file=servers.key_file,
        timeout_s=servers.timeout_s,
        **more,
    )


def rollout_config(
    *, operations: bool, max_turns: int, max_new_tokens: int, temperature: float, seed: int
) -> RolloutConfig:
    """Return the rollout configuration that options name."""
    from pixel_reasoner.api import RolloutConfig, RolloutLimits, SamplingParams

    return RolloutConfig(
        operations=operations,
        limits=RolloutLimits(max_turns=max_turns),
        sampling=SamplingParams(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed),
    )


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Expand each parameter that is a group of options into one parameter per option.

    >>> @with_groups
    ... def command(name: str, servers: ServerOptions) -> None:
    ...     print(name, servers.timeout_s)
    >>> command(name="a", timeout_s=5.0)
    a 5.0
    """
    types = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if not dataclasses.is_dataclass(types[name]):
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=types[name], kind=kind))
            continue
        groups[name] = types[name]
        parameters += _options(types[name])

    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            fields = [field.name for field in dataclasses.fields(group) if field.name in values]
            values[name] = group(**{field: values.pop(field) for field in fields})
        command(**values)

    expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
    expanded.__module__ = command.__module__
    expanded.__annotations__ = {one.name: one.annotation for one in parameters}
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return expanded


def _options(group: Any) -> list[inspect.Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=(
                inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
            ),
            annotation=types[field.name],
        )
        for field in dataclasses.fields(group)
    ]
