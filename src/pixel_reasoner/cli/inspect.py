"""Command `inspect`: visual inspection of parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from pixel_reasoner.cli.choices import choice_option, completing
from pixel_reasoner.cli.options import (
    LocalOptions,
    MaxTurnsOption,
    SamplingSeedOption,
    ServerOptions,
    TemperatureOption,
    given_options,
    model_spec,
    reject_options,
    rollout_config,
    with_groups,
)
from pixel_reasoner.cli.output import INCOMPLETE, print_line, progress_bars, warn
from pixel_reasoner.cli.ray import RayOptions, model_on_ray
from pixel_reasoner.errors import UsageError
from pixel_reasoner.text import counted

if TYPE_CHECKING:
    from pixel_reasoner.inspection_api import Inspection, InspectionRun
    from pixel_reasoner.models.registry import LoadedModel
    from pixel_reasoner.workflows.inspection.spec import SpecFile

LAYOUTS = ("auto", "mvtec", "mvtec2", "visa", "realiad", "anomalib", "plain")
SPLITS = ("test", "validation", "train", "all")
FORMATS = ("coco", "yolo", "label_studio", "fiftyone", "sarif", "junit", "csv", "all")
FINDINGS = 1
"""exit code of more defects than allowed"""


@dataclass(frozen=True)
class PhotoOptions:
    """Options of photos and references."""

    panel: ClassVar[str] = "Photos and references"

    spec: Annotated[
        Path | None,
        typer.Option(
            help="Specification as TOML; `init inspect` writes one [default: no classes, provisional thresholds]"
        ),
    ] = None
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Golden pictures, with a folder per product if there are several [default: of the specification, or "
            "the good training photos of the data]",
        ),
    ] = None
    proposals: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Heat maps of Anomalib or others (.png, .tiff, .npy) with the names of the photos: places to look at.",
        ),
    ] = None
    layout: Annotated[
        str, choice_option(LAYOUTS, "--layout", help="Layout of the data [default: detected]")
    ] = "auto"
    split: Annotated[
        str, choice_option(SPLITS, "--split", help="Split of a data set that has several.")
    ] = "test"
    limit: Annotated[int | None, typer.Option(min=1, help="Number of photos.")] = None
    workers: Annotated[int, typer.Option(min=1, help="Threads that compare photos.")] = 2


@dataclass(frozen=True)
class ModelOptions:
    """Options of the model that looks at proposals."""

    panel: ClassVar[str] = "The model that looks at each proposal"

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="`tiny`, a model folder, or a hub id owner/name [default: none, the score decides]",
        ),
    ] = None
    samples: Annotated[
        int, typer.Option(min=1, help="Answers per question; those that disagree are unsure.")
    ] = 1
    temperature: TemperatureOption = 0.0
    sample_seed: SamplingSeedOption = 0
    max_turns: MaxTurnsOption = 8
    max_new_tokens: Annotated[int, typer.Option(min=1, help="New tokens per message.")] = 1024
    batch_size: Annotated[int, typer.Option(min=1, help="Number of concurrent questions.")] = 16
    decoys: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Chance of a decoy per proposal: a place where nothing differs. A model that accepts it is not trusted.",
        ),
    ] = 0.0


@dataclass(frozen=True)
class ResultOptions:
    """Options of results."""

    panel: ClassVar[str] = "Results"

    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="|".join(FORMATS),
            autocompletion=completing(lambda: FORMATS),
            help="Also write these formats to OUT/exports, separated by commas.",
        ),
    ] = None
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write OUT/report.html.")] = (
        True
    )
    maps: Annotated[
        bool,
        typer.Option(
            "--maps", help="Write maps of scores [default: only for data with masks, for AUPRO]"
        ),
    ] = False
    max_defects: Annotated[
        int | None,
        typer.Option(min=0, help="Exit code 1 if more photos than this have a defect."),
    ] = None
    fail_on_unsure: Annotated[
        bool, typer.Option("--fail-on-unsure", help="With --max-defects: count unsure photos too.")
    ] = False
    max_miss_rate: Annotated[
        float | None,
        typer.Option(
            help="Choose the thresholds on these labelled photos instead, so that at most this share of the defective "
            "ones is missed; OUT/inspect.toml has them."
        ),
    ] = None
    review: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Corrections of the finished run OUT, from Label Studio or COCO: write training rows and regression "
            "tests to OUT/review.",
        ),
    ] = None
    expect: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="regression.jsonl of a review: exit code 1 if a verdict is not the expected one.",
        ),
    ] = None


@with_groups
def inspect(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run. An existing run is resumed.")
    ],
    photos: PhotoOptions,
    models: ModelOptions,
    results: ResultOptions,
    backend: LocalOptions,
    server: ServerOptions,
    cluster: RayOptions,
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Photos: a data set (MVTec AD, MVTec AD 2, VisA, Real-IAD, anomalib), a folder, or files."
        ),
    ] = None,
) -> None:
    """Inspect photos of parts: ok, defect, unsure or error, with box, class, severity and reason.

    Photos are aligned and compared with golden pictures. A model looks at each place that differs, next to the same
    place of a good part, and may reject it; without a model the score decides.

    Exit codes: 0 clean, 1 findings (--max-defects, --expect), 2 misuse, 3 photos that could not be inspected.

    Examples:
        pixel-reasoner inspect photos --reference golden --out runs/check

        pixel-reasoner inspect parts --spec inspect.toml --export sarif,junit --max-defects 0 --out runs/check

        pixel-reasoner inspect parts --split validation --max-miss-rate 0.02 --out runs/thresholds
    """
    from pixel_reasoner import inspection_api

    spec = _spec(photos.spec)
    if results.review is not None:
        _review(results.review, spec, out, data)
        return
    run = _run(data, out, spec, photos, models, results)
    if results.max_miss_rate is not None:
        _choose_thresholds(run, results.max_miss_rate, models)
        return
    options = (models, backend, server, cluster)
    with _opened_model(options, run) as loaded, progress_bars() as progress:
        done = inspection_api.run_inspection(
            run,
            loaded,
            progress,
            exports=_formats(results.export or ()),
            report=results.report,
            expected=results.expect,
        )
    _print(done, run)
    _exit(done, results)


def _spec(path: Path | None) -> SpecFile:
    from pixel_reasoner.workflows.inspection.spec import InspectionSpec, SpecFile, read_spec

    return read_spec(path) if path is not None else SpecFile(InspectionSpec())


def _run(
    data: list[Path] | None,
    out: Path,
    spec: SpecFile,
    photos: PhotoOptions,
    models: ModelOptions,
    results: ResultOptions,
) -> InspectionRun:
    from pixel_reasoner import inspection_api

    config = rollout_config(
        operations=True,
        max_turns=models.max_turns,
        max_new_tokens=models.max_new_tokens,
        temperature=models.temperature,
        seed=models.sample_seed,
    )
    return inspection_api.InspectionRun(
        data=tuple(data or ()),
        out=out,
        spec=spec.spec,
        reference=photos.reference or spec.reference,
        heat_maps=photos.proposals,
        layout=photos.layout,
        split=photos.split,
        limit=photos.limit,
        config=config,
        samples=models.samples,
        batch_size=models.batch_size,
        decoys=models.decoys,
        maps=results.maps,
        workers=photos.workers,
    )


def _formats(given: Sequence[str]) -> list[str]:
    """Return the formats of all options, each a list with commas."""
    return [one.strip() for text in given for one in text.split(",") if one.strip()]


@contextmanager
def _opened_model(
    options: tuple[ModelOptions, LocalOptions, ServerOptions, RayOptions], run: InspectionRun
) -> Iterator[LoadedModel | None]:
    """Yield the model that is named, here or on a cluster, and print its note; None without `--model`."""
    from pixel_reasoner import api

    models, backend, server, cluster = options
    if models.model is None:
        reject_options(
            [name for group in options for name in given_options(group)],
            "without --model",
            "add --model, or leave it out",
        )
        yield None
        return
    named = model_spec(models.model, backend, server)
    with model_on_ray(cluster, named, run.config, run.batch_size) as ray:
        loaded = ray or api.load_model(named, run.config)
        if loaded.note:
            warn(f"note: {loaded.note}")
        yield loaded


def _review(path: Path, spec: SpecFile, out: Path, data: list[Path] | None) -> None:
    from pixel_reasoner import inspection_api

    if data:
        raise UsageError(
            expected="--review of a finished run",
            got=f"photos to inspect too: {data[0]}",
            fix="leave them out; --out names the run",
        )
    done = inspection_api.review_run(path, spec.spec, out)
    print_line(
        f"{counted(done.rows, 'correction')}, {done.changed} of them with another verdict: {done.out}"
    )
    for reason, count in done.skipped.items():
        print_line(f"not used: {count} × {reason}")


def _choose_thresholds(run: InspectionRun, max_miss_rate: float, models: ModelOptions) -> None:
    from pixel_reasoner import inspection_api

    reject_options(["--model"] if models.model else [], "with --max-miss-rate")
    with progress_bars() as progress:
        chosen, path = inspection_api.choose_run_thresholds(run, max_miss_rate, progress)
    limits = chosen.decision
    print_line(f"defect from score {limits.defect_from:g}, look from {limits.look_from:g}")
    print_line(f"miss rate {chosen.miss}; overkill {chosen.overkill}")
    print_line(f"origin: {limits.origin}")
    for text in chosen.warnings:
        warn(f"warning: {text}")
    print_line(f"Written: {path}")


def _print(done: Inspection, run: InspectionRun) -> None:
    """Print counts, rates and paths."""
    summary: dict[str, Any] = done.summary
    counts = ", ".join(f"{count} {name}" for name, count in summary["verdicts"].items())
    print_line(f"{counted(summary['photos'], 'photo')}: {counts}")
    if "parts" in summary:
        parts = dict(summary["parts"])
        total = parts.pop("count")
        print_line(
            f"{counted(total, 'part')}: {', '.join(f'{count} {name}' for name, count in parts.items())}"
        )
    for name, title in (
        ("overkill", "overkill"),
        ("miss", "miss rate"),
        ("unsure_or_error", "left to people"),
    ):
        if (value := summary.get("metrics", {}).get(name)) and value["interval"]:
            low, high = value["interval"]
            print_line(
                f"{title}: {value['value']:.1%} ({low:.1%} to {high:.1%}, {value['count']} of {value['of']})"
            )
    if (smallest := summary["smallest_defect_px"]) is not None:
        print_line(f"smallest defect that the comparison shows: {smallest:g} pixels of the photo")
    for note in done.golden:
        print_line(note)
    for note, count in list(summary["notes"].items())[:5]:
        print_line(f"{count} × {note}")
    for one in done.mismatches:
        print_line(f"{one.id}: expected {one.expected}, got {one.got}")
    limits = run.spec.decision
    print_line(f"thresholds: {limits.defect_from:g} ({limits.origin})")
    for path in (*done.exports, *([done.report] if done.report else [])):
        print_line(f"Written: {path}")


def _exit(done: Inspection, results: ResultOptions) -> None:
    bad = done.num_defects + (done.count("unsure") if results.fail_on_unsure else 0)
    if (results.max_defects is not None and bad > results.max_defects) or done.mismatches:
        raise typer.Exit(FINDINGS)
    if done.count("error"):
        raise typer.Exit(INCOMPLETE)
