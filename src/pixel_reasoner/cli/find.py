"""Command `find`: moments in videos, exports for editors, cuts, reframing, redaction."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.choices import CUT_MODES, REDACTIONS, choice_option
from pixel_reasoner.cli.options import (
    LocalOptions,
    MaxNewTokensOption,
    MaxTurnsOption,
    ModelOption,
    OperationOption,
    SamplingSeedOption,
    ServerOptions,
    TemperatureOption,
    WithoutOption,
    given_options,
    model_note,
    model_spec,
    reject_options,
    required_out,
    rollout_config,
    with_groups,
)
from pixel_reasoner.cli.output import INCOMPLETE, print_line, progress_bars, warn
from pixel_reasoner.cli.ray import RayOptions, model_on_ray
from pixel_reasoner.errors import UsageError

if TYPE_CHECKING:
    from pixel_reasoner.api import AnyModel
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.moments_api import ClipOptions, FindSpec, FindSummary

_MAX_LINES = 20


@dataclass(frozen=True)
class QueryOptions:
    """What is searched."""

    panel: ClassVar[str] = "Search"

    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            "-q",
            metavar="TEXT",
            help="Description of a moment: 'a red car enters'. May be repeated; all are searched in one pass.",
        ),
    ] = None
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file with descriptions: [[query]] text = '...'."),
    ] = None
    spans: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of moments instead of a search: moments.csv of an earlier run, corrected, or an own one.",
        ),
    ] = None
    every: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Time between two frames of the coarse pass: moments of this length are always sampled, shorter ones may be missed.",
        ),
    ] = "0.8s"
    frames: Annotated[int, typer.Option(min=1, help="Frames in one question.")] = 6
    merge_gap: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Moments of one description with a shorter gap become one."
        ),
    ] = "0.25s"
    shots: Annotated[
        bool,
        typer.Option(
            help="Detect shots and short changes: each shot gets at least one frame, and so does a change between two frames of the "
            "coarse pass; crops follow a subject within a shot. All frames are decoded once, at a small size."
        ),
    ] = True
    samples: Annotated[
        int,
        typer.Option(
            min=1,
            help="Answers per question; a frame counts if more than half of them name it. Needs a --temperature above 0.",
        ),
    ] = 1
    temperature: TemperatureOption = 0.0
    sample_seed: SamplingSeedOption = 0
    max_turns: MaxTurnsOption = 6
    max_new_tokens: MaxNewTokensOption = 1024
    batch_size: Annotated[int, typer.Option(min=1, help="Number of concurrent requests.")] = 16


@dataclass(frozen=True)
class OutputOptions:
    """What is made of the moments."""

    panel: ClassVar[str] = "Outputs"

    export: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Formats, separated by commas: edl, fcpxml, otio, srt, vtt, xmp, chapters (ffmetadata), chapters-mp4, or all. "
            "moments.csv is always written.",
        ),
    ] = ""
    handles: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Time added before and after each moment in timelines and clips."
        ),
    ] = "0"
    cut: Annotated[bool, typer.Option("--cut", help="Write each moment as a clip.")] = False
    cut_mode: Annotated[
        str,
        choice_option(
            CUT_MODES,
            "--cut-mode",
            help="`exact` encodes afresh: exactly these frames and samples. `fast` copies, so a clip starts at the key frame "
            "before, and the real start is printed.",
        ),
    ] = "exact"
    reframe: Annotated[
        str | None,
        typer.Option(
            metavar="W:H",
            help="Write clips of another shape, such as 9:16, that follow the subject. Where a crop would lose it, the frame is "
            "padded and the reason printed.",
        ),
    ] = None
    thumbnail: Annotated[
        bool, typer.Option("--thumbnail", help="Write the middle frame of each moment as JPEG.")
    ] = False
    redact: Annotated[
        str | None,
        choice_option(
            REDACTIONS,
            "--redact",
            help="Cover the subjects in a copy of each video, and make clips and thumbnails of this copy. Use `box`, which is opaque: "
            "a blur can be undone by calculation, and a mosaic gives texts and faces back when many frames are combined.",
        ),
    ] = None
    margin: Annotated[
        float,
        typer.Option(
            min=0.0, max=5.0, help="Share of its size that a covered box grows at each side."
        ),
    ] = 0.15
    sound: Annotated[
        bool, typer.Option(help="Keep the sound of clips. It may contain names and voices.")
    ] = True
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace clips and exports of an earlier run.")
    ] = False


@dataclass(frozen=True)
class CostOptions:
    """The estimate before the search."""

    panel: ClassVar[str] = "Cost"

    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print the estimated cost and stop.")
    ] = False
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask whether to continue after the estimate.")
    ] = False


@with_groups
def find(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Videos, folders of videos, or globs.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the run. An existing run is resumed."),
    ] = None,
    model: ModelOption = "tiny",
    annotation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of `world moments`: answers come from its annotation instead of a model, to try this command.",
        ),
    ] = None,
    search: QueryOptions = QueryOptions(),
    outputs: OutputOptions = OutputOptions(),
    cost: CostOptions = CostOptions(),
    report: Annotated[bool, typer.Option(help="Write report.html.")] = True,
    without: WithoutOption = False,
    operation: OperationOption = None,
    local: LocalOptions = LocalOptions(),
    servers: ServerOptions = ServerOptions(),
    cluster: RayOptions = RayOptions(),
) -> None:
    """Find moments in videos by descriptions, with exact ends, and export or cut them.

    "Not found" is a result. The nearest misses are listed apart, and so are parts that were not searched. A video or file that
    cannot be used is one line with the reason; the rest goes on. Exit code 0: complete; 3: some videos or files failed;
    2: a mistake in the command.

    Examples:
        pixel-reasoner find talk.mp4 --query "a slide with a chart" --model FOLDER_OR_HUB_ID --out runs/talk --export edl,vtt

        pixel-reasoner find clips -q "a red car enters" -q "a person waves" --model FOLDER_OR_HUB_ID --out runs/clips --estimate

        pixel-reasoner find --spans runs/talk/moments.csv --out runs/cut --cut --handles 1s --reframe 9:16

        pixel-reasoner find street.mp4 -q "a number plate" --model FOLDER_OR_HUB_ID --out runs/safe --redact box
    """
    cluster.check()
    spec = _spec(
        required_out(out),
        videos or [],
        search,
        outputs,
        report=report,
        without=without,
        added=operation,
    )
    if search.spans is not None:
        reject_options(_search_options(search), "with --spans: nothing is searched")
        reject_options(["--estimate"] if cost.estimate else [], "with --spans: no model is asked")
        _run(spec, None)
        return
    named = model_spec(model, local, servers, concurrency=search.batch_size)
    _search(spec, named, annotation, outputs, cost, cluster)


def _search(
    spec: FindSpec,
    named: ModelSpec,
    annotation: Path | None,
    outputs: OutputOptions,
    cost: CostOptions,
    cluster: RayOptions,
) -> None:
    """Print the estimate, and search after the agreement."""
    from pixel_reasoner import moments_api as api

    scripted = None if annotation is None else api.annotated_model(annotation)
    reject_options(["--ray"] if scripted and cluster.ray else [], "with --annotation")
    note = model_note(named) if scripted is None else ""
    _check_redaction(named, note, outputs.redact)
    _print_estimate(spec, named, note)
    if cost.estimate or not _agreed(cost.yes):
        return
    with model_on_ray(cluster, named, spec.config, spec.search.batch_size) as ray:
        _run(spec, scripted or ray or named)


def _check_redaction(named: ModelSpec, note: str, redact: str | None) -> None:
    """Raise an error if a redaction would rely on a model whose folder has a note: it only supports some pictures."""
    if note and redact is not None:
        raise UsageError(
            expected="a model that finds what --redact covers",
            got=f"{named.name}. {note.partition(':')[0]}",
            fix="name a model that can find it with --model or --endpoint, or give its boxes with --spans FILE",
        )


def _print_estimate(spec: FindSpec, named: ModelSpec, note: str) -> None:
    from pixel_reasoner import moments_api as api

    estimate = api.estimate_find(spec, named)
    if note:  # after the mistakes that the estimate finds
        warn(f"note: {note}")
    for line in estimate.lines:
        print_line((line, "dim"))


def _spec(
    out: Path,
    videos: list[Path],
    search: QueryOptions,
    outputs: OutputOptions,
    *,
    report: bool,
    without: bool,
    added: list[str] | None,
) -> FindSpec:
    from pixel_reasoner import moments_api as api

    queries = [*(search.query or ()), *(api.read_queries(search.queries) if search.queries else ())]
    config = rollout_config(
        operations=not without,
        added=added or (),
        max_turns=search.max_turns,
        max_new_tokens=search.max_new_tokens,
        temperature=search.temperature,
        seed=search.sample_seed,
    )
    return api.FindSpec(
        out=out,
        videos=tuple(map(str, videos)),
        queries=tuple(queries),
        spans=search.spans,
        search=api.SearchOptions(
            step_s=api.parse_duration(search.every, "--every"),
            num_frames=search.frames,
            merge_gap_s=api.parse_duration(search.merge_gap, "--merge-gap"),
            samples=search.samples,
            shots=search.shots,
            batch_size=search.batch_size,
        ),
        config=config,
        formats=api.parse_formats(outputs.export),
        clips=_clip_options(outputs),
        report=report,
    )


def _clip_options(outputs: OutputOptions) -> ClipOptions:
    from pixel_reasoner import moments_api as api

    if not outputs.cut:
        reject_options(given_options(outputs, ["cut_mode"]), "without --cut")
    if outputs.redact is None:
        reject_options(given_options(outputs, ["margin"]), "without --redact")
    return api.ClipOptions(
        cut=outputs.cut_mode if outputs.cut else None,
        reframe=None if outputs.reframe is None else api.parse_aspect(outputs.reframe),
        thumbnails=outputs.thumbnail,
        redact=outputs.redact,  # type: ignore[arg-type]  # one of REDACTIONS
        margin=outputs.margin,
        handles_s=api.parse_duration(outputs.handles, "--handles"),
        sound=outputs.sound,
        overwrite=outputs.overwrite,
    )


def _search_options(search: QueryOptions) -> list[str]:
    """Return the given options that only a search has."""
    names = ["query", "queries", "every", "frames", "merge_gap", "samples"]
    return given_options(search, names)


def _agreed(yes: bool) -> bool:
    """Ask whether to continue, where a person can answer."""
    if yes or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return typer.confirm("Continue?", default=True)


def _run(spec: FindSpec, named: AnyModel | None) -> None:
    from pixel_reasoner import moments_api as api

    with progress_bars() as progress:
        summary = api.write_find(spec, named, progress)
    _print_summary(summary, spec.out)
    if summary.num_failed:
        raise typer.Exit(INCOMPLETE)


def _print_summary(summary: FindSummary, out: Path) -> None:
    from pixel_reasoner import moments_api as api

    lines = list(api.summary_lines(summary))
    for line in lines[:_MAX_LINES]:
        print_line(line)
    if len(lines) > _MAX_LINES:
        print_line(f"... and {len(lines) - _MAX_LINES:,} more lines: {out / 'moments.csv'}")
    for one in summary.made:
        if one.error is None:
            print_line(f"{one.kind}: {one.path}" + (f" ({one.note})" if one.note else ""))
    failed = [f"{one.video}: {one.error}" for one in summary.results if one.error]
    failed += [f"{one.kind} {one.path.name}: {one.error}" for one in summary.made if one.error]
    for text in [*failed, *summary.problems]:
        warn(f"failed: {text}")
    if summary.num_failed:
        warn(f"{summary.num_failed} videos, clips or files failed; the rest is complete")
    if any(one.kind == "redacted" for one in summary.made):
        warn(
            "note: only redacted/, clips/, reframed/ and thumbnails/ are redacted; report.html, contact-sheet.webp and "
            "traces.jsonl show the original"
        )
    print_line(f"Written: {', '.join(sorted(path.name for path in summary.paths))} in {out}")
