"""Command `world render`: PixelWorld files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixel_reasoner.cli.choices import FAMILIES, SPLITS, choice_option
from pixel_reasoner.cli.help import CommandGroup, HelpCommand
from pixel_reasoner.cli.output import print_line, progress_bars

READABLE_FROM_PX = 4
"""minimum height of a legible character, in pixels"""

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="PixelWorld: pictures and clips with known evidence.",
)


@app.command(cls=HelpCommand)
def render(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for files and questions.jsonl.")],
    family: Annotated[
        str,
        choice_option(FAMILIES, "--family", "-f", help="Which scenes."),
    ] = "attribute",
    split: Annotated[str, choice_option(SPLITS, "--split", help="Split of scene seeds.")] = "test",
    seed: Annotated[int, typer.Option(help="Number of the first scene within the split.")] = 0,
    count: Annotated[int, typer.Option(help="Number of questions.")] = 10,
    size_px: Annotated[
        int | None, typer.Option(help="Side of the canvas [default: the size of the family]")
    ] = None,
    detail_px: Annotated[
        int | None,
        typer.Option(help="Height of the decisive character [default: the size of the family]"),
    ] = None,
    check_readable: Annotated[
        bool,
        typer.Option("--check-readable", help="Print the height of the character in the overview."),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="Model whose overview --check-readable measures: `tiny`, a model folder or a dialect."
        ),
    ] = "tiny",
) -> None:
    """Write picture and video files, and questions.jsonl with answers and evidence.

    Examples:
        pixel-reasoner world render --family attribute --count 20 --out scenes

        pixel-reasoner world render --size-px 8192 --detail-px 24 --count 5 --check-readable --out large
    """
    from pixel_reasoner import api

    spec = api.WorldSpec(family, split, seed, count, size_px, detail_px)
    with progress_bars() as progress:
        path = api.render_world(spec, out, progress)
    if check_readable:
        height = api.detail_px_in_overview(spec, model)
        verdict = (
            "unreadable"
            if height < READABLE_FROM_PX
            else "may be legible: choose a smaller detail or a larger canvas"
        )
        print_line(f"The character is {height:.1f} px high in the overview of {model}: {verdict}.")
    print_line(f"{count} questions: {path}")
