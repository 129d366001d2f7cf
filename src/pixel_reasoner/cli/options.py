"""Options that several commands share, alone and in groups.

A group is a dataclass whose fields are options; `--help` shows them under its `panel`. `with_groups` expands a parameter of such a type into one option per field:

    @with_groups
    def ask(question: ..., backend: LocalOptions, server: ServerOptions) -> None: ...
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints

import typer

if TYPE_CHECKING:
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.schema.settings import RolloutConfig

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="`tiny` (bundled), a model folder, or a hub id owner/name."),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ... [default: a GPU if there is one]")
]
WithoutOption = Annotated[
    bool,
    typer.Option(
        "--no-operations", help="Offer no operations: the model answers from the overview."
    ),
]
MaxTurnsOption = Annotated[
    int, typer.Option(min=1, help="Maximum number of messages of the model.")
]
MaxNewTokensOption = Annotated[
    int, typer.Option(min=1, help="Maximum number of new tokens per message.")
]
TemperatureOption = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
SamplingSeedOption = Annotated[int, typer.Option(help="Seed of sampling.")]
ScorerOption = Annotated[
    str, typer.Option(help="How answers are compared: typed, harness or released.")
]
ShardOption = Annotated[str, typer.Option(help="Write only the i-th of n shards: i/n, from 1.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
TracesArgument = Annotated[Path, typer.Argument(help="A folder with traces.jsonl, or the file.")]
EndpointsOption = Annotated[
    list[str], typer.Option("--endpoint", help="Address of a server. May be repeated.")
]
ServerKindOption = Annotated[
    str | None,
    typer.Option(
        help="Kind of server, which decides the fields of a request: any, vllm, sglang, llamacpp, ollama, transformers or "
        "hosted [default: as the server reports]",
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        help="File that contains the key [default: the environment variable OPENAI_API_KEY, if it is set]",
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        min=0.001,
        help="Time of a request with its retries, in seconds, for each server.",
    ),
]


@dataclass(frozen=True)
class LocalOptions:
    """Options of a model that runs in this process, of its prompt format and its pixel budgets."""

    panel: ClassVar[str] = "A local model, prompt format and pixels"

    device: DeviceOption = None
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16 [default: as the weights are stored, where the processor supports that]"
        ),
    ] = None
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile norms and MLPs of a local model first: on a GPU, decoding takes less than half the time.",
        ),
    ] = False
    dialect: Annotated[
        str | None,
        typer.Option(
            help="Prompt format [default: as the folder of the model says, or detected from it]"
        ),
    ] = None
    overview_px: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum pixels of the overview of a picture [default: as the folder of the model or the dialect says]",
        ),
    ] = None
    crop_px: Annotated[
        int | None,
        typer.Option(
            min=1, help="Maximum pixels of a picture that an operation returns [default: likewise]"
        ),
    ] = None


@dataclass(frozen=True)
class ServerOptions:
    """Options of a model behind servers."""

    panel: ClassVar[str] = "A model behind servers"

    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint",
            help="Address of an OpenAI-compatible server of --model, such as http://localhost:8000/v1. May be "
            "repeated: requests are distributed.",
        ),
    ] = None
    protocol: Annotated[
        str,
        typer.Option(
            help="How calls are transferred: `text` works with every server, `native` uses its tool calls.",
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
            annotation=_in_panel(types[field.name], group.panel),
        )
        for field in dataclasses.fields(group)
    ]


def _in_panel(annotation: Any, panel: str) -> Any:
    option = copy.copy(annotation.__metadata__[0])  # another command may show it without the group
    option.rich_help_panel = panel
    return Annotated[annotation.__origin__, option]
