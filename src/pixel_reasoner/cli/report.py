"""Commands `compare` and `report`: what runs show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixel_reasoner.cli.options import ScorerOption
from pixel_reasoner.cli.output import print_comparison, print_report_written, say


def compare(
    first: Annotated[Path, typer.Argument(help="The folder of a run.")],
    second: Annotated[Path, typer.Argument(help="The folder of the run it is set against.")],
    scorer: ScorerOption = "typed",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare what both were asked, though it differs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write a page, such as compare.html.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Traces on the page at most.")] = 200,
) -> None:
    """Set two runs over the same questions against each other, with a paired test.

    Settings that decide the number and differ are named. Runs that were asked other questions are refused.

    Examples:
        pixel-reasoner compare runs/after runs/before --out compare.html
    """
    import json

    from pixel_reasoner import api

    found = api.compare(first, second, api.parse_scorer(scorer), anyway=anyway)
    if out is not None:
        written = api.write_comparison(found, first, second, out, limit)
        print_report_written(out, written.unshown, quiet=True)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, (one, other) in found["differing"].items():
        say(f"differing: {name}: {one} against {other}")
    print_comparison(found, f"{first} alone", f"{second} alone", str(first), str(second))


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(help="A run's folder or a traces.jsonl; several RL runs to compare."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path(
        "report.html"
    ),
    limit: Annotated[int, typer.Option(min=1, help="Traces on the page at most.")] = 500,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="Also write a run's table, as .md or .csv; may be repeated."),
    ] = None,
    references: Annotated[
        bool, typer.Option("--references", help="Show published figures of the benchmark beside.")
    ] = False,
) -> None:
    """Write one self-contained page: a run's figures and traces with boxes, crops, thoughts and answers, or the curves of RL runs.

    The traces of a run that was asked with --compare come in an order: those that looking again harmed first, then those that it helped.

    Examples:
        pixel-reasoner report runs/video --out video.html

        pixel-reasoner report runs/vstar --out vstar.html --table vstar.md --table vstar.csv --references

        pixel-reasoner report runs/with-curiosity runs/without --out curves.html
    """
    from pixel_reasoner import api

    written = api.report(
        sources, out, limit=limit, tables=tuple(table or ()), references=references
    )
    if written.curves:
        say(f"{written.curves} curves: {out}")
        return
    for path in written.tables:
        say(f"Table: {path}")
    if written.is_shortened:
        say(f"Only the first {limit} traces are shown; --limit shows more.")
    print_report_written(out, written.unshown)
