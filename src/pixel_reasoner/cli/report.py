"""Commands `compare` and `report`: reports of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.choices import completing, report_sections
from pixel_reasoner.cli.options import (
    AllowMediaOption,
    ScorerOption,
    given_options,
    reject_options,
    with_groups,
)
from pixel_reasoner.cli.output import (
    check_output_file,
    print_comparison,
    print_line,
    print_report_written,
    warn,
)

if TYPE_CHECKING:
    from pixel_reasoner.reports.build import WrittenReport


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(help="Folder of the run to compare with.")],
    scorer: ScorerOption = "typed",
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Compare the common questions even if the runs contain different ones.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all metrics as JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write an HTML page, for example compare.html."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of traces on the page.")] = 200,
    allow_media: AllowMediaOption = None,
) -> None:
    """Compare two runs over the same questions, with a paired test.

    Differing settings that affect the results are listed. Runs over different questions are rejected.

    Examples:
        pixel-reasoner compare runs/after runs/before --out compare.html
    """
    if out is not None:
        check_output_file(out, "--out")
    import json

    from pixel_reasoner import api

    found = api.compare(first, second, api.parse_scorer(scorer), anyway=anyway)
    if out is not None:
        written = api.write_comparison(found, first, second, out, limit, allow_media or ())
        print_report_written(out, written.unshown, quiet=True)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, (one, other) in found["differing"].items():
        print_line(f"differing: {name}: {one} against {other}")
    print_comparison(found, f"{first} alone", f"{second} alone", str(first), str(second))


@dataclass(frozen=True)
class TrainingOptions:
    """Options for training data, and for jobs that are running."""

    panel: ClassVar[str] = "Training data and running jobs"

    masks: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Of training data: also show the loss mask of the first 200 traces, as tokens of this model (tiny, a "
            "folder or a hub id). Needs the extra `local`.",
        ),
    ] = None
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Of a running job: write the page again until the run is finished or Ctrl-C. The open page reloads.",
        ),
    ] = False
    every: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="Time between two pages of --watch.")
    ] = 10.0


@with_groups
def report(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folder of a run or training data, a traces.jsonl, or training runs."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML page.")] = Path("report.html"),
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of traces on the page.")] = 500,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="Also write the table of a run, as .md or .csv. May be repeated."),
    ] = None,
    references: Annotated[
        bool, typer.Option("--references", help="Also show published results of the benchmark.")
    ] = False,
    section: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing(report_sections),
            help="Also show this section of a plug-in above the traces. May be repeated.",
        ),
    ] = None,
    allow_media: AllowMediaOption = None,
    training: TrainingOptions = TrainingOptions(),
) -> None:
    """Write one self-contained page about an evaluation, traces, training data, or training runs.

    Training data: kinds of traces, deliberate mistakes, duplicates, dropped rows. Training runs (SFT, RL): curves and
    sampled rollouts; runs that differ only in the random seed are one line with a band.

    Examples:
        pixel-reasoner report runs/video --out video.html

        pixel-reasoner report runs/vstar --out vstar.html --table vstar.md --table vstar.csv --references

        pixel-reasoner report runs/synth --masks tiny --out data.html

        pixel-reasoner report runs/with-curiosity runs/without --out curves.html

        pixel-reasoner report runs/rl --watch --every 30 --out rl.html
    """
    for option, path in (("--out", out), *(("--table", one) for one in table or ())):
        check_output_file(path, option)
    from pixel_reasoner import api

    def write(refresh_s: float = 0.0) -> WrittenReport:
        return api.report(
            sources,
            out,
            limit=limit,
            tables=tuple(table or ()),
            references=references,
            sections=tuple(section or ()),
            allow_media=allow_media or (),
            masks=training.masks,
            refresh_s=refresh_s,
        )

    _write_or_watch(write, sources, limit, training)


def _write_or_watch(
    write: Callable[..., WrittenReport], sources: list[Path], limit: int, training: TrainingOptions
) -> None:
    """Write a page once, or again and again. Print the first page, and when the jobs are finished."""
    if not training.watch:
        reject_options(given_options(training, ["every"]), "without --watch")
        _print_written(write(), limit)
        return
    from pixel_reasoner import api

    pages = api.watch_report(sources, write, training.every, _warn_of_kept_page)
    for number, page in enumerate(pages):
        if not number:
            _print_written(page.written, limit)
        if page.is_last:
            print_line("The run is finished; the page is complete.")
        elif not number:
            again = f"It is written again every {training.every:g} s until the run is finished."
            print_line(f"{again} Ctrl-C stops.")


def _print_written(written: WrittenReport, limit: int) -> None:
    for path in written.tables:
        print_line(f"Table: {path}")
    if written.is_shortened:
        print_line(f"Only the first {limit} traces are shown; increase --limit to show more.")
    if written.curves:
        print_line(f"{written.curves} curves: {written.out}")
    print_report_written(written.out, written.unshown, quiet=bool(written.curves))


def _warn_of_kept_page(error: Exception) -> None:
    warn(f"the page before is kept: {error}")
