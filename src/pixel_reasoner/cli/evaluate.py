"""Commands `eval` and `merge`: metrics of a model on a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.choices import (
    ALL_WORLD_FAMILIES,
    CONTROLS,
    SPLITS,
    choice_option,
    completing,
    tasks,
)
from pixel_reasoner.cli.options import (
    AllowMediaOption,
    BudgetOption,
    CalibrationOption,
    LocalOptions,
    MaxTurnsOption,
    MediaRootOption,
    MediaUrlOption,
    ModelOption,
    OperationOption,
    SamplingSeedOption,
    ScorerOption,
    ServerOptions,
    StrategyOption,
    StrictOption,
    TemperatureOption,
    WithoutOption,
    engine_note,
    given_options,
    model_spec,
    reject_options,
    required_out,
    rollout_config,
    with_groups,
)
from pixel_reasoner.cli.output import print_line, print_summary, progress_bars, warn
from pixel_reasoner.cli.ray import RayOptions, model_on_ray
from pixel_reasoner.cli.survey import merge_survey
from pixel_reasoner.cli.world_options import HeightsOption, TwinsOption, WorldVersionOption

if TYPE_CHECKING:
    from pixel_reasoner.api import EvalSpec, ModelSpec, RolloutConfig


TaskArgument = Annotated[
    str,
    typer.Argument(
        autocompletion=completing(tasks), help="`pixelworld`, or a benchmark from --list."
    ),
]
ControlOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="|".join(CONTROLS),
        help="Also ask under a control condition. May be repeated. forced: an answer before any operation is rejected."
        " random-crop: operations show random regions of equal size. blank: their results are grey. oracle: the"
        " evidence is shown first. tiling: tiles with the pixels of one crop instead of operations.",
    ),
]
MaxNewTokensOrDefaultOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Maximum number of new tokens per message [default: 256 for PixelWorld, else 1024]",
    ),
]


@dataclass(frozen=True)
class DataOptions:
    """Options for the benchmark data and the run folder."""

    panel: ClassVar[str] = "Options"

    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder or file: the official files or your own rows; or a data set of the hub, owner/name."
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the run. An existing run is resumed."),
    ] = None
    allow_media: AllowMediaOption = None
    media_url: MediaUrlOption = None
    media_root: MediaRootOption = None


@dataclass(frozen=True)
class DrawOptions:
    """Options for sampling and scoring."""

    panel: ClassVar[str] = "Sampling and scoring"

    scorer: ScorerOption = "typed"
    control: ControlOption = None
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of rows, drawn at random (benchmarks).")
    ] = None
    limit_seed: Annotated[int, typer.Option(help="Random seed of that draw.")] = 0
    strict: StrictOption = False
    samples: Annotated[
        int, typer.Option(min=1, help="Answers per question: avg@k, maj@k and pass@k.")
    ] = 1
    strategy: StrategyOption = "single"
    calibration: CalibrationOption = None
    fit_calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Fit the confidence of --strategy to the grades of this run and write it to this file, for --calibration.",
        ),
    ] = None
    budget: BudgetOption = "fixed"
    temperature: TemperatureOption = 0.0
    sample_seed: SamplingSeedOption = 0
    shard: Annotated[
        str, typer.Option(help="Ask only the i-th of n shards: i/n, from 1. `merge` joins them.")
    ] = "1/1"
    cache: Annotated[
        Path | None,
        typer.Option(help="Response cache file that several runs share. Created if missing."),
    ] = None
    media: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures embedded in the files of the benchmark [default: media in --out]"
        ),
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Number of concurrent questions.")] = 16
    forced_answers: Annotated[
        bool,
        typer.Option(
            "--forced-answers",
            help="Also force an answer before and after each call, to measure which operations help and which hurt.",
        ),
    ] = False


@dataclass(frozen=True)
class WorldOptions:
    """Options of PixelWorld."""

    panel: ClassVar[str] = "PixelWorld"

    family: Annotated[
        str,
        choice_option((*ALL_WORLD_FAMILIES, "all"), "--family", "-f", help="Which scenes."),
    ] = "attribute"
    world: WorldVersionOption = 1
    heights: HeightsOption = None
    twins: TwinsOption = True
    other_world: Annotated[
        bool,
        typer.Option(
            "--other-world", help="Measure a model although it was trained on another --world."
        ),
    ] = False
    split: Annotated[str, choice_option(SPLITS, "--split", help="Split of scene seeds.")] = "test"
    seed: Annotated[
        int,
        typer.Option(
            help="Number of the first scene within the split. The seed of sampling is --sample-seed."
        ),
    ] = 0
    count: Annotated[int, typer.Option(help="Questions per family.")] = 200
    disturb: Annotated[
        bool,
        typer.Option(
            "--disturb",
            help="Also repeat correct questions with an off-target first crop, to measure the recovery rate.",
        ),
    ] = False
    size_px: Annotated[
        int | None,
        typer.Option(help="Side of the canvas [default: the size of the family]"),
    ] = None
    detail_px: Annotated[
        int | None,
        typer.Option(help="Height of the decisive character [default: the size of the family]"),
    ] = None


@with_groups
def evaluate(
    task: TaskArgument = "",
    list_: Annotated[
        bool,
        typer.Option(
            "--list", help="List all benchmarks: what they measure, their files and metrics."
        ),
    ] = False,
    data: DataOptions = DataOptions(),
    model: ModelOption = "tiny",
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Also ask without operations, to measure gain and harm."),
    ] = False,
    without: WithoutOption = False,
    operation: OperationOption = None,
    draw: DrawOptions = DrawOptions(),
    local: LocalOptions = LocalOptions(),
    max_turns: MaxTurnsOption = 6,
    max_new_tokens: MaxNewTokensOrDefaultOption = None,
    world: WorldOptions = WorldOptions(),
    servers: ServerOptions = ServerOptions(),
    cluster: RayOptions = RayOptions(),
) -> None:
    """Measure a model on a benchmark: accuracy, and gain and harm of visual operations.

    Examples:
        pixel-reasoner eval --list

        pixel-reasoner eval vstar --data vstar_bench --model FOLDER_OR_HUB_ID --compare --out runs/vstar

        pixel-reasoner eval pixelworld --family all --compare --disturb --out runs/all

        pixel-reasoner report runs/vstar --out vstar.html
    """
    from pixel_reasoner import api

    if list_:
        _print_benchmarks()
        return
    api.check_benchmark(task)
    _check_effect(task, data, draw, world)
    config = rollout_config(
        operations=not without,
        added=operation or (),
        strict=draw.strict,
        budget=draw.budget,
        max_turns=max_turns,
        max_new_tokens=max_new_tokens or (256 if task == "pixelworld" else 1024),
        temperature=draw.temperature,
        seed=draw.sample_seed,
    )
    named = model_spec(model, local, servers, concurrency=draw.batch_size)
    spec = _eval_spec(
        task, required_out(data.out), named, config, (data, draw, world), compare=compare
    )
    _print_engine_note(named)
    with model_on_ray(cluster, named, config, draw.batch_size) as ray, progress_bars() as progress:
        summary = api.evaluate(spec, progress, model=ray)
    print_summary(summary, spec.out)


def _check_effect(task: str, data: DataOptions, draw: DrawOptions, world: WorldOptions) -> None:
    """Reject options of PixelWorld for a benchmark, and options of a benchmark for PixelWorld."""
    if task != "pixelworld":
        reject_options(given_options(world), f"on {task}: it is an option of pixelworld")
        return
    options = [*given_options(data, ["data"]), *given_options(draw, ["limit", "media"])]
    reject_options(options, "on pixelworld", "leave it out; --count is the number of questions")


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Folders of all shards of one run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the whole run.")],
    scorer: ScorerOption = "typed",
) -> None:
    """Merge the shards of one evaluation or survey.

    Examples:
        pixel-reasoner merge runs/vstar-1 runs/vstar-2 --out runs/vstar

        pixel-reasoner merge runs/photos-* --out runs/photos
    """
    from pixel_reasoner import api
    from pixel_reasoner.workflow_api import is_survey

    if is_survey(runs[0]):
        reject_options(["--scorer"] if scorer != "typed" else [], "on a survey: it has no scores")
        merge_survey(runs, out)
        return
    print_summary(api.merge_runs(runs, out, api.parse_scorer(scorer)), out)


def _eval_spec(
    task: str,
    out: Path,
    model: ModelSpec,
    config: RolloutConfig,
    options: tuple[DataOptions, DrawOptions, WorldOptions],
    *,
    compare: bool,
) -> EvalSpec:
    from pixel_reasoner import api
    from pixel_reasoner.workflows.evaluate import parse_controls
    from pixel_reasoner.workflows.world2 import parse_heights

    data, draw, world = options
    return api.EvalSpec(
        benchmark=task,
        out=out,
        model=model,
        config=config,
        data=data.data,
        media=draw.media,
        limit=draw.limit,
        limit_seed=draw.limit_seed,
        world=api.WorldSpec(
            family=world.family,
            split=world.split,
            seed=world.seed,
            count=world.count,
            size_px=world.size_px,
            detail_px=world.detail_px,
            world=world.world,
            heights=parse_heights(world.heights),
            twins=world.twins,
        ),
        other_world=world.other_world,
        shard=api.parse_shard(draw.shard),
        samples=draw.samples,
        strategy=draw.strategy,
        calibration=draw.calibration,
        fit_calibration=draw.fit_calibration,
        scorer=api.parse_scorer(draw.scorer),
        compare=compare,
        perturb=world.disturb,
        controls=parse_controls(draw.control or ()),
        forced_answers=draw.forced_answers,
        allow_media=tuple(data.allow_media or ()),
        media_root=data.media_root,
        cache=draw.cache,
        batch_size=draw.batch_size,
    )


def _print_engine_note(model: ModelSpec) -> None:
    """Print why and at what cost a model runs without the engine."""
    if note := engine_note(model):
        warn(f"note: {note}")


def _print_benchmarks() -> None:
    """Print the purpose, files and metric of each benchmark."""
    from pixel_reasoner import api

    print_line(
        ("pixelworld", "bold"), "  generated pictures and clips with exact evidence; no --data"
    )
    for benchmark in api.benchmarks():
        print_line("\n", (benchmark.name, "bold"), f"  {benchmark.measures}")
        facts = {
            "files": benchmark.files,
            "rows": benchmark.rows,
            "metric": benchmark.metric,
            "not included": benchmark.needs,
            "from": benchmark.hub,
        }
        for title, text in facts.items():
            if text:
                print_line(f"    {title + ':':13} {text}")
