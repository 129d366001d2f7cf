"""Commands `compare` and `report`: reports of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from pixel_reasoner.cli.adaptivity_output import print_adaptivity_difference
from pixel_reasoner.cli.choices import completing, report_sections
from pixel_reasoner.cli.options import (
    AllowMediaOption,
    MediaUrlOption,
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
    progress_bars,
    warn,
)

if TYPE_CHECKING:
    from pixel_reasoner.reports.build import WrittenReport

LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Maximum number of questions on the page [default: all]"),
]
ComparisonPageOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Also write an HTML page with all traces next to each other, for example compare.html.",
    ),
]
PageOption = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        help="The HTML page. A report of more than 25 MB is a folder with index.html.",
    ),
]
TableOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--table", help="Also write the table of metrics, as .md, .csv or .tex. May be repeated."
    ),
]
ReferencesOption = Annotated[
    bool, typer.Option("--references", help="Also show published results of the benchmark.")
]
SectionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--section",
        metavar="NAME",
        autocompletion=completing(report_sections),
        help="Also show this section of a plug-in. May be repeated.",
    ),
]


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(help="Folder of the run to compare with.")],
    more: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of further runs. Each is compared with the first."),
    ] = None,
    scorer: ScorerOption = "typed",
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Compare the common questions even if the runs contain different ones.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print all metrics as JSON; of three or more runs, a list."),
    ] = False,
    out: ComparisonPageOption = None,
    limit: LimitOption = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also write the differences by category, as .md, .csv or .tex. May be repeated."
        ),
    ] = None,
    allow_media: AllowMediaOption = None,
    media_url: MediaUrlOption = None,
) -> None:
    """Compare two or more runs over the same questions, with a paired test.

    Differing settings that affect the results are listed. Runs over different questions are rejected.

    Examples:
        pixel-reasoner compare runs/after runs/before --out compare.html

        pixel-reasoner compare runs/rl runs/sft runs/base --out compare.html
    """
    _check_paths(out, table)
    import json

    from pixel_reasoner import api

    others = [second, *(more or ())]
    parsed = api.parse_scorer(scorer)
    results = [api.compare(first, other, parsed, anyway=anyway) for other in others]
    _write_comparison(results, [first, *others], out, table or (), limit, allow_media or ())
    if as_json:
        print(json.dumps(results if more else results[0], indent=2))
        return
    for other, found in zip(others, results, strict=True):
        if more:
            print_line(f"{first} against {other}")
        for name, (one, another) in found["differing"].items():
            print_line(f"differing: {name}: {one} against {another}")
        print_comparison(found, f"{first} alone", f"{other} alone", str(first), str(other))
        if "adaptivity" in found:
            print_adaptivity_difference(found["adaptivity"], str(first), str(other))


def _write_comparison(
    results: Sequence[Mapping[str, Any]],
    runs: Sequence[Path],
    out: Path | None,
    tables: Sequence[Path],
    limit: int | None,
    allow_media: Sequence[Path],
) -> None:
    """Write the page and the tables of a comparison."""
    from pixel_reasoner import api

    first, second, *more = runs
    if out is None:
        api.write_comparison_tables(results, runs, tables)
        return
    with progress_bars() as progress:
        written = api.write_comparison(
            *(results, first, second, out),
            limit,
            allow_media,
            more=more,
            tables=tables,
            start_progress=progress.start,
        )
    _print_written(written, out, limit, is_quiet=True)


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
        typer.Argument(
            help="Folder of a run or of training data, a traces.jsonl, several evaluations, or training runs."
        ),
    ],
    out: PageOption = Path("report.html"),
    limit: LimitOption = None,
    table: TableOption = None,
    references: ReferencesOption = False,
    section: SectionOption = None,
    allow_media: AllowMediaOption = None,
    media_url: MediaUrlOption = None,
    training: TrainingOptions = TrainingOptions(),
) -> None:
    """Write a report as an HTML page that needs no network: metrics, charts and all traces of a run with boxes, crops and answers.

    Questions of an evaluation with --compare show both answers next to each other, harm of operations first, then gain.
    Several evaluations give one table, which marks runs that are not comparable. Training data: kinds of traces,
    deliberate mistakes, duplicates, dropped rows. Training runs (SFT, RL): curves and sampled rollouts; runs that differ
    only in the random seed are one line with a band.

    Examples:
        pixel-reasoner report runs/video --out video.html

        pixel-reasoner report runs/vstar --out vstar.html --table vstar.md --table vstar.tex --references

        pixel-reasoner report runs/vstar-7b runs/vstar-3b --out leaderboard.html --table leaderboard.csv

        pixel-reasoner report runs/synth --masks tiny --out data.html

        pixel-reasoner report runs/with-curiosity runs/without --out curves.html

        pixel-reasoner report runs/rl --watch --every 30 --out rl.html
    """
    _check_paths(out, table)

    from pixel_reasoner import api

    def write(refresh_s: float = 0.0) -> WrittenReport:
        with progress_bars() as progress:
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
                progress=progress,
            )

    _write_or_watch(write, sources, out, limit, training)


def _write_or_watch(
    write: Callable[..., WrittenReport],
    sources: list[Path],
    out: Path,
    limit: int | None,
    training: TrainingOptions,
) -> None:
    """Write a page once, or again and again. Print the first page, and when the jobs are finished."""
    if not training.watch:
        reject_options(given_options(training, ["every"]), "without --watch")
        _print_written(write(), out, limit)
        return
    from pixel_reasoner import api

    pages = api.watch_report(sources, write, training.every, _warn_of_kept_page)
    for number, page in enumerate(pages):
        if not number:
            _print_written(page.written, out, limit)
        if page.is_last:
            print_line("The run is finished; the page is complete.")
        elif not number:
            again = f"It is written again every {training.every:g} s until the run is finished."
            print_line(f"{again} Ctrl-C stops.")


def _warn_of_kept_page(error: Exception) -> None:
    warn(f"the page before is kept: {error}")


def _check_paths(out: Path | None, tables: Sequence[Path] | None) -> None:
    """Raise an error if a file cannot be written because of existing files, before anything is computed."""
    from pixel_reasoner.reports.page import is_report_folder
    from pixel_reasoner.reports.tables import check_suffix

    if out is not None and not is_report_folder(out):
        check_output_file(out, "--out")
    for path in tables or ():
        check_output_file(path, "--table")
        check_suffix(path)


def _print_written(
    written: WrittenReport, out: Path, limit: int | None, *, is_quiet: bool = False
) -> None:
    for path in written.tables if not is_quiet else ():
        print_line(f"Table: {path}")
    if written.is_shortened and not is_quiet:
        print_line(f"Only the first {limit} questions are shown; increase --limit to show more.")
    if written.out != out:
        text = (
            f"The report is too large for one file: open {written.out}; copy its folder as a whole."
        )
        warn(text)
    if written.curves:
        print_line(f"{written.curves} curves: {written.out}")
    print_report_written(written.out, written.unshown, quiet=is_quiet or bool(written.curves))
