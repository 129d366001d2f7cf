"""Command `survey`: many media, each with the same questions, in a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.options import (
    AllowMediaOption,
    LocalOptions,
    MaxNewTokensOption,
    MaxTurnsOption,
    MediaUrlOption,
    ModelOption,
    OperationOption,
    SamplingSeedOption,
    ServerOptions,
    TemperatureOption,
    WithoutOption,
    model_note,
    model_spec,
    required_out,
    rollout_config,
    with_groups,
)
from pixel_reasoner.cli.output import INCOMPLETE, print_line, progress_bars, warn
from pixel_reasoner.cli.ray import RayOptions, model_on_ray

if TYPE_CHECKING:
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.schema.settings import RolloutConfig
    from pixel_reasoner.workflow_api import SurveySpec, SurveySummary

MediaArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MEDIA]...",
        help="Pictures, clips, documents (PDF, TIFF), folders, globs, zip files, or tables (CSV, JSONL, Parquet) of paths;"
        " URLs of objects, or below which all are asked about (s3://bucket/images/).",
    ),
]
_MAX_SHOWN = 8


@dataclass(frozen=True)
class MediaOptions:
    """How media are divided."""

    panel: ClassVar[str] = "Media"

    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of a running camera: each new file is asked about when it is completely written. Ctrl-C ends it.",
        ),
    ] = None
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Divide clips into windows of this length: 10s, 1m."),
    ] = None
    shots: Annotated[bool, typer.Option("--shots", help="Divide clips into shots.")] = False
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Column of tables with the path [default: path, file, image, ...]"
        ),
    ] = None
    max_pages: Annotated[
        int,
        typer.Option(min=1, help="Pages of one document; of a longer one the rest is reported."),
    ] = 1000
    pdf_password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the passwords of protected PDFs, one per line [default: the environment variable PDF_PASSWORD, if it is set]",
        ),
    ] = None
    decode_workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Processes that decode media: a file that crashes its decoder is one row with an error. 0: this process, which is faster.",
        ),
    ] = 0
    allow_media: AllowMediaOption = None
    media_url: MediaUrlOption = None
    shard: Annotated[
        str,
        typer.Option(
            help="Only the i-th of n shards of the media: i/n, from 1. `merge` joins them."
        ),
    ] = "1/1"


@dataclass(frozen=True)
class AnswerOptions:
    """Sampling."""

    panel: ClassVar[str] = "Sampling"

    samples: Annotated[
        int,
        typer.Option(
            min=1,
            help="Answers per question. Their agreement decides whether a row is unsure; needs a --temperature above 0.",
        ),
    ] = 1
    temperature: TemperatureOption = 0.0
    sample_seed: SamplingSeedOption = 0
    max_turns: MaxTurnsOption = 6
    max_new_tokens: MaxNewTokensOption = 1024
    batch_size: Annotated[int, typer.Option(min=1, help="Number of concurrent requests.")] = 16


@with_groups
def survey(
    media: MediaArgument = None,
    questions: Annotated[
        Path,
        typer.Option(
            "--questions",
            "-q",
            metavar="FILE",
            help="TOML file; `pixel-reasoner init survey` writes a commented one.",
        ),
    ] = Path("survey.toml"),
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the run. An existing run is resumed."),
    ] = None,
    model: ModelOption = "tiny",
    media_options: MediaOptions = MediaOptions(),
    answers: AnswerOptions = AnswerOptions(),
    without: WithoutOption = False,
    operation: OperationOption = None,
    report_rows: Annotated[
        int,
        typer.Option(
            min=0, help="Rows with traces in report.html, unsure ones first; 0: no report."
        ),
    ] = 200,
    local: LocalOptions = LocalOptions(),
    servers: ServerOptions = ServerOptions(),
    cluster: RayOptions = RayOptions(),
) -> None:
    """Ask the same questions about many pictures, pages and clips, and write a table: JSONL, CSV, Parquet and a report.

    A file that cannot be used is one row with the reason; the rest goes on. Exit code 0: all rows are complete; 3: some
    rows failed, and the same command tries them again; 2: a mistake in the command or the questions.

    Examples:
        pixel-reasoner init survey

        pixel-reasoner survey photos scans.pdf --questions survey.toml --out runs/photos

        pixel-reasoner survey "clips/*.mp4" --every 10s --samples 3 --temperature 0.7 --out runs/clips

        pixel-reasoner survey --watch /mnt/camera --out runs/camera
    """
    out = required_out(out)
    config = rollout_config(
        operations=not without,
        added=operation or (),
        max_turns=answers.max_turns,
        max_new_tokens=answers.max_new_tokens,
        temperature=answers.temperature,
        seed=answers.sample_seed,
    )
    spec = _spec(questions, media or [], out, config, (media_options, answers, report_rows))
    _run(spec, model_spec(model, local, servers, concurrency=answers.batch_size), cluster)


def _spec(
    questions: Path,
    media: list[str],
    out: Path,
    config: RolloutConfig,
    options: tuple[MediaOptions, AnswerOptions, int],
) -> SurveySpec:
    from pixel_reasoner import workflow_api as api

    divided, answers, report_rows = options
    return api.SurveySpec(
        questions=tuple(api.read_question_file(questions)),
        media=tuple(media),
        watch=divided.watch,
        out=out,
        config=config,
        samples=answers.samples,
        batch_size=answers.batch_size,
        shard=api.parse_shard(divided.shard),
        every_s=None if divided.every is None else api.parse_seconds(divided.every),
        shots=divided.shots,
        column=divided.column,
        max_pages=divided.max_pages,
        allow_media=tuple(divided.allow_media or ()),
        pdf_passwords=api.read_passwords(divided.pdf_password_file),
        decode_workers=divided.decode_workers,
        report_rows=report_rows,
    )


def _run(spec: SurveySpec, model: ModelSpec, cluster: RayOptions) -> None:
    from pixel_reasoner import workflow_api as api
    from pixel_reasoner.workflows.survey.run import survey_decoder

    if note := model_note(model):
        warn(f"note: {note}")
    decoder = survey_decoder(spec)
    with (
        model_on_ray(cluster, model, spec.config, spec.batch_size, decoder) as on_ray,
        progress_bars() as progress,
    ):
        summary = api.write_survey(spec, on_ray or model, progress, warn)
    _print_summary(summary)
    if summary.num_failed:
        raise typer.Exit(INCOMPLETE)


def merge_survey(shards: list[Path], out: Path) -> None:
    """Merge the shards of a survey and print its summary."""
    from pixel_reasoner import workflow_api as api

    summary = api.merge_surveys(shards, out, warn)
    _print_summary(summary, "the command of the survey without --shard, and with this --out,")
    if summary.num_failed:
        raise typer.Exit(INCOMPLETE)


def _print_summary(summary: SurveySummary, command: str = "the same command") -> None:
    counts = ", ".join(f"{count:,} {status}" for status, count in summary.counts.items())
    rows = "1 row" if summary.num_rows == 1 else f"{summary.num_rows:,} rows"
    print_line((rows, "bold"), f": {counts or 'none'}")
    for question, answers in summary.answers.items():
        shown = [f"{answer} {count:,}" for answer, count in list(answers.items())[:_MAX_SHOWN]]
        more = ", ..." * (len(answers) > _MAX_SHOWN)
        print_line(f"  {question}: {', '.join(shown)}{more}")
    for one in list(summary.errors.values())[:_MAX_SHOWN]:
        more = f" (and {one.num_rows - 1:,} more)" * (one.num_rows > 1)
        warn(f"error: {one.example}{more}: {one.reason}")
    if summary.num_failed:
        warn(f"the column `error` has the reasons; {command} tries these rows again")
    print_line(
        f"Written: {', '.join(path.name for path in summary.paths)} in {summary.paths[0].parent}"
    )
