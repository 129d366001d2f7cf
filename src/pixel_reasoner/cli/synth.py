"""Command `synth`: expert traces from annotated questions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from pixel_reasoner.cli.choices import (
    ANALYSES,
    FAMILIES,
    OCR_MODES,
    OPERATION_FAMILIES,
    choice_option,
    completing,
    sources,
)
from pixel_reasoner.cli.options import (
    AllowMediaOption,
    MediaRootOption,
    MediaUrlOption,
    OperationOption,
    ShardOption,
    given_options,
    reject_options,
    with_groups,
    with_operations,
)
from pixel_reasoner.cli.output import print_line, progress_bars, warn
from pixel_reasoner.cli.ray import RayOptions, ray_cluster
from pixel_reasoner.cli.world_options import HeightsOption, WorldVersionOption

if TYPE_CHECKING:
    from pixel_reasoner.api import LabellerSpec, SynthSpec

_MAX_DROPPED = 3
"""number of dropped rows that are printed"""
SourceArgument = Annotated[
    str,
    typer.Argument(
        autocompletion=completing(sources),
        help="pixelworld, jsonl, text, visa, star, sa1b, pixel_reasoner_rl, or of a plug-in",
    ),
]


@dataclass(frozen=True)
class RowOptions:
    """Options for the source questions."""

    panel: ClassVar[str] = "Questions"

    data: Annotated[
        Path | None, typer.Option(help="Folder or file of the data set (not for pixelworld).")
    ] = None
    allow_media: AllowMediaOption = None
    media_url: MediaUrlOption = None
    media_root: MediaRootOption = None
    families: Annotated[
        str,
        typer.Option(
            *("--families", "--family"),
            metavar="NAME,NAME|all",
            help=f"Families of PixelWorld, separated by commas: {', '.join(FAMILIES)}; for single operations also "
            f"{', '.join(OPERATION_FAMILIES)}.",
        ),
    ] = "all"
    count: Annotated[
        int, typer.Option(min=1, help="Maximum number of traces, over all shards.")
    ] = 1000
    world: WorldVersionOption = 1
    heights: HeightsOption = None
    per_scene: Annotated[
        int, typer.Option(min=1, help="Maximum number of traces per scene (PixelWorld).")
    ] = 6
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of scenes, wording and regions.")
    ] = 0
    box_unit: Annotated[
        str | None,
        typer.Option(
            help="Unit of boxes in own rows without a unit: pixel, fraction or permille (0 to 1000) [default: pixel]"
        ),
    ] = None
    box_format: Annotated[
        str | None, typer.Option(help="Format of these boxes: xyxy or xywh [default: xyxy]")
    ] = None
    frame_base: Annotated[
        int | None,
        typer.Option(help="Number of the first frame in own rows: 0 or 1 [default: 1]"),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of `SynthSpec` that the options set."""
        from pixel_reasoner.workflows.world2 import parse_heights

        fields = asdict(self)
        del fields["media_url"]  # set for the process
        heights = parse_heights(self.heights)
        return fields | {"allow_media": tuple(self.allow_media or ()), "heights": heights}


@dataclass(frozen=True)
class TraceOptions:
    """Options for the content of traces."""

    panel: ClassVar[str] = "Traces"

    text_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Share of traces without an operation (PixelWorld and text)."
        ),
    ] = 0.2667
    refused_share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of traces with an operation that start with a rejected call.",
        ),
    ] = 0.05
    mistakes: Annotated[
        bool,
        typer.Option(
            help="Whether some traces contain a deliberate mistake and its correction. --no-mistakes is for ablations."
        ),
    ] = True
    margin: Annotated[
        float,
        typer.Option(
            min=0.0, help="Margin of a crop around the evidence, as a multiple of its size."
        ),
    ] = 0.25
    min_side: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Smallest side of a crop, as a share of the picture."),
    ] = 0.12
    regions: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of regions per picture (sa1b)."),
    ] = 3
    operation: OperationOption = None

    def fields(self) -> dict[str, Any]:
        """Return these options as fields of `SynthSpec`."""
        return {
            "text_share": self.text_share,
            "error_share": self.refused_share,
            "mistakes": self.mistakes,
            "margin": self.margin,
            "min_side": self.min_side,
            "regions": self.regions,
            "operations": with_operations(self.operation or ()),
        }


@dataclass(frozen=True)
class DocumentOptions:
    """Options for the text of documents."""

    panel: ClassVar[str] = "Documents (text)"

    per_page: Annotated[int, typer.Option(min=1, help="Maximum number of traces about a page.")] = 6
    ocr: Annotated[
        str,
        choice_option(
            OCR_MODES,
            "--ocr",
            help="Pages that are read by OCR: those without a text layer if the extra is installed, none, or all.",
        ),
    ] = "auto"
    legible_px: Annotated[
        float,
        typer.Option(
            min=1.0,
            help="Height in pixels of a line of text in the model's picture from which it can read it; smaller text needs an operation.",
        ),
    ] = 12.0


@dataclass(frozen=True)
class LabellerOptions:
    """Options of the labeller."""

    panel: ClassVar[str] = "Labeller"

    analysis: Annotated[
        str, choice_option(ANALYSES, "--analysis", help="Writer of the findings of a crop.")
    ] = "template"
    labeller: Annotated[
        list[str] | None,
        typer.Option(
            help="An OpenAI-compatible endpoint with a vision model, for example http://localhost:8000/v1. May be repeated:"
            " requests are distributed. Its key is the environment variable OPENAI_API_KEY."
        ),
    ] = None
    labeller_model: Annotated[
        str | None, typer.Option(help="Name of the model at the endpoint.")
    ] = None
    labeller_calls: Annotated[
        int | None,
        typer.Option(min=0, help="Maximum number of requests; cached answers do not count."),
    ] = None
    labeller_concurrency: Annotated[
        int, typer.Option(min=1, help="Maximum number of concurrent requests.")
    ] = 8
    labeller_timeout: Annotated[
        float, typer.Option(min=0.001, help="Timeout of a request, in seconds.")
    ] = 60.0
    labeller_cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of cached answers, which several runs may share [default: labels in --out]"
        ),
    ] = None

    def spec(self) -> LabellerSpec:
        """Return the labeller that the options specify."""
        from pixel_reasoner.api import LabellerSpec

        return LabellerSpec(
            urls=tuple(self.labeller or ()),
            model=self.labeller_model,
            analysis=self.analysis,
            max_calls=self.labeller_calls,
            concurrency=self.labeller_concurrency,
            timeout_s=self.labeller_timeout,
            cache=self.labeller_cache,
        )


@with_groups
def synth(
    source: SourceArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the traces. An existing run is resumed.")
    ],
    rows: RowOptions = RowOptions(),
    shard: ShardOption = "1/1",
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Model to be trained: `tiny`, a model folder, a hub id owner/name, or a dialect.",
        ),
    ] = "tiny",
    traces: TraceOptions = TraceOptions(),
    documents: DocumentOptions = DocumentOptions(),
    labeller: LabellerOptions = LabellerOptions(),
    cluster: RayOptions = RayOptions(),
) -> None:
    """Write expert traces from annotated questions: operations, mistakes and their correction.

    Examples:
        pixel-reasoner synth pixelworld --count 2000 --workers 2 --out runs/synth

        pixel-reasoner synth jsonl --data my_rows.jsonl --model pixel_reasoner --out runs/mine

        pixel-reasoner synth text --data my_documents --out runs/documents

        pixel-reasoner synth sa1b --data sa1b --labeller http://localhost:8000/v1 --labeller-model NAME --out runs/sa1b

        pixel-reasoner check runs/synth
    """
    cluster.check()
    _check_effect(source, rows, traces, documents)
    from pixel_reasoner import api

    spec = api.SynthSpec(
        source=source,
        out=out,
        **rows.fields(),
        shard=api.parse_shard(shard),
        workers=workers,
        model=model,
        **asdict(documents),
        **traces.fields(),
        labeller=labeller.spec(),
    )
    _print_summary(_synthesize(spec, cluster), out)


def _synthesize(spec: SynthSpec, cluster: RayOptions) -> dict[str, Any]:
    """Write the traces, in processes of this machine or on a cluster."""
    from pixel_reasoner import api

    if cluster.ray is None:
        with progress_bars() as progress:
            return api.synthesize(spec, progress)
    reject_options(["--workers"] if spec.workers > 1 else [], "with --ray")
    with ray_cluster(cluster, gpus=0.0) as options:
        from pixel_reasoner.integrations.ray_synth import map_units_on_ray

        with progress_bars() as progress:
            return api.synthesize(
                replace(spec, workers=options.num_actors),
                progress,
                map_units=partial(map_units_on_ray, options=options),
            )


def _check_effect(
    source: str, rows: RowOptions, traces: TraceOptions, documents: DocumentOptions
) -> None:
    """Reject options that belong to another source."""
    if source != "sa1b":
        reject_options(given_options(traces, ["regions"]), f"on {source}: it is an option of sa1b")
    if source != "text":
        options = given_options(documents, ["per_page", "ocr", "legible_px"])
        reject_options(options, f"on {source}: it is an option of text")
    if source == "pixelworld":
        reject_options(given_options(rows, ["data"]), "on pixelworld, which is generated")
        return
    options = given_options(rows, ["families", "per_scene", "world", "heights"])
    if source != "text":
        options += given_options(traces, ["text_share"])
    reject_options(options, f"on {source}: it is an option of pixelworld")


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    path, rate = out / "traces.jsonl", summary["traces_per_second"]
    print_line(f"{summary['count']} traces: {path}  ({rate} a second)")
    for title in ("kinds", "dropped", "labeller"):
        if summary.get(title):
            print_line(
                f"{title}: " + ", ".join(f"{name} {n}" for name, n in summary[title].items())
            )
    if summary["settings"].get("documents") and set(summary["kinds"]) == {"text"}:
        warn(
            "no trace uses an operation: the model can read all of the text in its picture of the whole page; "
            "a higher --legible-px asks for crops"
        )
    if summary["dropped"]:
        _warn_of_dropped(out / "dropped.jsonl")


def _warn_of_dropped(path: Path) -> None:
    """Print the first dropped rows, and the path of the list of all."""
    import json

    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in islice(file, _MAX_DROPPED)]
    except OSError:  # the list was deleted after the run
        return
    for row in rows:
        warn(f"dropped: {row['where']}: {row['reason']}: {row['detail']}")
    warn(f"all dropped rows: {path}")
