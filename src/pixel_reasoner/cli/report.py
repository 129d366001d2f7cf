"""Commands `compare` and `report`: reports of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixel_reasoner.cli.choices import completing, report_sections
from pixel_reasoner.cli.options import AllowMediaOption, ScorerOption
from pixel_reasoner.cli.output import (
    check_output_file,
    print_comparison,
    print_line,
    print_report_written,
)


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


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folder of a run or a traces.jsonl, or folders of several RL runs."),
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
) -> None:
    """Write one self-contained page: metrics and traces of a run with boxes, crops, thoughts and answers, or curves of RL runs.

    Traces of an evaluation with --compare are sorted: harm of operations first, then gain.

    Examples:
        pixel-reasoner report runs/video --out video.html

        pixel-reasoner report runs/vstar --out vstar.html --table vstar.md --table vstar.csv --references

        pixel-reasoner report runs/with-curiosity runs/without --out curves.html
    """
    for option, path in (("--out", out), *(("--table", one) for one in table or ())):
        check_output_file(path, option)

    from pixel_reasoner import api

    written = api.report(
        sources,
        out,
        limit=limit,
        tables=tuple(table or ()),
        references=references,
        sections=tuple(section or ()),
        allow_media=allow_media or (),
    )
    if written.curves:
        print_line(f"{written.curves} curves: {out}")
        return
    for path in written.tables:
        print_line(f"Table: {path}")
    if written.is_shortened:
        print_line(f"Only the first {limit} traces are shown; increase --limit to show more.")
    print_report_written(out, written.unshown)
