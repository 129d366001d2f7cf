"""Options that several commands share, alone and in groups.

A group is a dataclass whose fields are options; `--help` shows them under its `panel`. `with_groups` expands a
parameter of such a type into one option per field:

    @with_groups
    def ask(question: ..., backend: LocalOptions, server: ServerOptions) -> None: ...
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints

import typer

from pixel_reasoner.cli.choices import (
    DTYPES,
    PROTOCOLS,
    SCORERS,
    SERVERS,
    choice_option,
    completing,
    dialects,
    operations,
    strategies,
)
from pixel_reasoner.errors import UsageError

if TYPE_CHECKING:
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.schema.settings import RolloutConfig

ENDPOINT_VARIABLE = "PIXEL_REASONER_ENDPOINT"
MEDIA_URL_VARIABLE = "PIXEL_REASONER_MEDIA_URL"
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="PIXEL_REASONER_MODEL",
        help="`tiny` (bundled), a model folder, or a hub id owner/name.",
    ),
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
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Reject malformed calls even where their meaning is certain, instead of repairing them.",
    ),
]
OperationOption = Annotated[
    list[str] | None,
    typer.Option(
        "--operation",
        "--operations",
        metavar="NAME,...",
        autocompletion=completing(operations),
        help="Also offer these operations, separated by commas: compare, mark, measure, read_text, zoom_time, zoom_variants, or of"
        " a plug-in. May be repeated.",
    ),
]
StrategyOption = Annotated[
    str,
    typer.Option(
        "--strategy",
        metavar="NAME[:KEY=VALUE,...]",
        autocompletion=completing(strategies),
        help="How rollouts become one answer, with options: single; majority_vote:k=5,weights=count (the most frequent answer; "
        "or weights=probability; needs a --temperature above 0); tiling:tiles=2; best_of_crops:tiles=3,overlap=0.2; proposals:source=difference,k=8,side=0.2 "
        "(or source=ocr); tree_search:depth=3,overlap=0.3,nodes=32; or of a plug-in.",
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Calibrate the confidence of --strategy with a file of `eval --fit-calibration`.",
    ),
]
BudgetOption = Annotated[
    str,
    typer.Option(
        "--budget",
        metavar="fixed|adaptive|N",
        help="Pixels of pictures: fixed (those of the model), adaptive (smaller where the media or the context allow no "
        "more; similar frames once), or adaptive with at most N visual tokens for the pictures of the question.",
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
ScorerOption = Annotated[str, choice_option(SCORERS, "--scorer", help="How answers are compared.")]
ShardOption = Annotated[str, typer.Option(help="Write only the i-th of n shards: i/n, from 1.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
AllowMediaOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow-media",
        metavar="DIR",
        help="Also allow pictures and videos below this folder, if the data name any there. May be repeated.",
    ),
]


def _allow_media_urls(context: typer.Context, prefixes: list[str] | None) -> list[str] | None:
    """Allow the URL prefixes until the command ends."""
    from pixel_reasoner.schema.media_url import set_media_urls

    set_media_urls(prefixes or ())
    context.call_on_close(lambda: set_media_urls(()))
    return prefixes


MediaUrlOption = Annotated[
    list[str] | None,
    typer.Option(
        "--media-url",
        metavar="PREFIX",
        envvar=MEDIA_URL_VARIABLE,
        callback=_allow_media_urls,
        help="Also read pictures and videos below this URL of an object store, for example s3://bucket/images/. May be"
        " repeated.",
    ),
]
MediaRootOption = Annotated[
    str | None,
    typer.Option(
        "--media-root",
        metavar="URL",
        help="URL that relative media paths of own rows are relative to, for example s3://bucket/images/ [default: the folder of"
        " the file]",
    ),
]
TracesArgument = Annotated[Path, typer.Argument(help="A folder with traces.jsonl, or the file.")]
EndpointsOption = Annotated[
    list[str],
    typer.Option(
        "--endpoint", envvar=ENDPOINT_VARIABLE, help="Address of a server. May be repeated."
    ),
]
ServerKindOption = Annotated[
    str | None,
    choice_option(
        SERVERS,
        "--server",
        help="Kind of server, which determines the request fields [default: reported by the server]",
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        help="File with the key [default: the environment variable OPENAI_API_KEY, if it is set]",
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        min=0.001,
        help="Timeout of a request including retries, in seconds, per server.",
    ),
]


@dataclass(frozen=True)
class LocalOptions:
    """Options of a local model, its prompt format and pixel budgets."""

    panel: ClassVar[str] = "A local model, prompt format and pixels"

    device: DeviceOption = None
    dtype: Annotated[
        str | None,
        choice_option(
            DTYPES,
            "--dtype",
            help="[default: the dtype of the stored weights, if the processor supports it]",
        ),
    ] = None
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile norms and MLPs of a local model: on a GPU, decoding takes less than half the time.",
        ),
    ] = False
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="DIALECT",
            autocompletion=completing(dialects),
            help="Prompt format: compact, deepeyes, mini_o3, pixel_reasoner, plain, qwen2_5_vl, qwen3_vl, or of a plug-in"
            " [default: from the folder of the model, or detected from it]",
        ),
    ] = None
    overview_px: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum pixels of the overview of a picture [default: from the folder of the model, or the dialect]",
        ),
    ] = None
    crop_px: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum pixels of a picture that an operation returns [default: from the folder of the model, or the dialect]",
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
            envvar=ENDPOINT_VARIABLE,
            help="Address of an OpenAI-compatible server of --model, for example http://localhost:8000/v1. May be "
            "repeated: requests are distributed.",
        ),
    ] = None
    protocol: Annotated[
        str,
        choice_option(
            PROTOCOLS,
            "--protocol",
            help="Tool call protocol: `text` works with every server, `native` uses its tool calls.",
        ),
    ] = "text"
    server: ServerKindOption = None
    key_file: KeyFileOption = None
    timeout_s: TimeoutOption = 300.0


LOCAL_ONLY = ("device", "dtype", "compiled")
"""fields of `LocalOptions` without effect on a model behind servers"""


def model_spec(name: str, local: LocalOptions, servers: ServerOptions, **more: Any) -> ModelSpec:
    """Return the model that the options specify.

    Raises:
        UsageError: options of a local model together with servers, or the reverse.
    """
    from pixel_reasoner.api import ModelSpec

    if servers.endpoint:
        reject_options(given_options(local, LOCAL_ONLY), "with --endpoint")
    else:
        reject_options(given_options(servers), "without --endpoint")

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


def model_note(spec: ModelSpec) -> str:
    """Return the note of a local model folder for its users; empty for other models. No model is loaded.

    >>> from pixel_reasoner.api import ModelSpec
    >>> model_note(ModelSpec("tiny"))[:43], model_note(ModelSpec("owner/name"))
    ('This small model only supports PixelWorld: ', '')
    """
    from pixel_reasoner.models.folder import folder_settings, model_folder

    folder = model_folder(spec.name)
    if spec.endpoints or not folder.is_dir():
        return ""
    return folder_settings(folder, spec.dialect).note


def engine_note(spec: ModelSpec) -> str:
    """Return why and at what cost a local model runs without the engine; empty if the engine runs it. No model is loaded.

    >>> from pixel_reasoner.api import ModelSpec
    >>> engine_note(ModelSpec("tiny")), engine_note(ModelSpec("owner/name"))
    ('', '')
    """
    from pixel_reasoner.models.folder import BUNDLED_MODELS

    folder = Path(spec.name)
    if spec.endpoints or spec.name in BUNDLED_MODELS or not (folder / "config.json").is_file():
        return ""
    from pixel_reasoner.models.engine import fallback_note, folder_support

    reason = folder_support(folder)
    return "" if reason is None else fallback_note(reason)


def given_options(group: Any, names: Sequence[str] = ()) -> list[str]:
    """Return the options of a group whose values differ from the defaults; `names` limits them to some fields.

    >>> given_options(ServerOptions(timeout_s=5.0)), given_options(LocalOptions(device="cpu"), ["dtype"])
    (['--timeout-s'], [])
    """
    types = get_type_hints(type(group), include_extras=True)
    return [
        _option_name(field.name, types[field.name])
        for field in dataclasses.fields(group)
        if getattr(group, field.name) != field.default and (not names or field.name in names)
    ]


def _option_name(field: str, annotation: Any) -> str:
    option = annotation.__metadata__[0]
    declared = (
        option.default,
        *(option.param_decls or ()),
    )  # typer stores the first one as a default
    long = (name for name in declared if isinstance(name, str) and name.startswith("--"))
    return next(long, f"--{field.replace('_', '-')}")


def required_out(out: Path | None) -> Path:
    """Return the folder of `--out`.

    Raises:
        UsageError: there is none.
    """
    if out is None:
        raise UsageError(expected="--out, the folder of the run", got="none", fix="add --out DIR")
    return out


def reject_options(names: Sequence[str], where: str, fix: str = "leave it out") -> None:
    """Raise `UsageError` if any option has no effect.

    >>> reject_options(["--dtype"], "with --endpoint")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected only options that have an effect; got --dtype, which has none with --endpoint. Fix: leave it out
    """
    if names:
        raise UsageError(
            expected="only options that have an effect",
            got=f"{names[0]}, which has none {where}",
            fix=fix,
        )


def rollout_config(
    *,
    operations: bool,
    added: Sequence[str] = (),
    max_turns: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    strict: bool = False,
    budget: str = "fixed",
) -> RolloutConfig:
    """Return the rollout configuration that options name.

    Args:
        operations: whether operations are offered.
        added: names of operations besides the default ones; each text may be several, separated by commas.
        max_turns: messages of the model.
        max_new_tokens: per message.
        temperature: of sampling.
        seed: of sampling.
        strict: whether malformed calls are never repaired.
        budget: fixed, adaptive, or a number of visual tokens.

    Raises:
        UsageError: an invalid budget, an unknown operation, one whose packages are missing, or one although none are offered.
        PluginError: an operation of a plug-in that cannot be used.
    """
    from pixel_reasoner.api import RolloutConfig, RolloutLimits, SamplingParams
    from pixel_reasoner.rollout.budgets import parse_budget

    reject_options(["--operations"] if added and not operations else [], "with --no-operations")
    names = with_operations(added) if added else operations
    return RolloutConfig(
        operations=names,
        limits=RolloutLimits(max_turns=max_turns),
        sampling=SamplingParams(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed),
        strict=strict,
        budget=parse_budget(budget),
    )


def with_operations(added: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the default operations and of those that `--operations` adds.

    Raises:
        UsageError: an unknown operation, or one whose packages are missing.
        PluginError: an operation of a plug-in that cannot be used.

    >>> with_operations(["mark, measure", "mark"])
    ('zoom_in', 'select_frames', 'mark', 'measure')
    """
    from pixel_reasoner.operations.registry import OperationSet, default_operations

    names = [name.strip() for text in added for name in text.split(",") if name.strip()]
    found = OperationSet.of((*default_operations().names, *names))
    for spec in found:
        spec.check_available()
    return found.names


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Expand each option group parameter into one parameter per option.

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
    option = copy.copy(annotation.__metadata__[0])  # another command may use it without the group
    option.rich_help_panel = panel
    return Annotated[annotation.__origin__, option]
