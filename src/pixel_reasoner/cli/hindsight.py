"""Command `hindsight`: expert traces from recorded rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixel_reasoner.cli.output import print_line, progress_bars


def hindsight(
    rollouts: Annotated[
        list[Path],
        typer.Argument(
            help="Rollouts on PixelWorld: folders of `eval` or `train rl`, or files of traces."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the traces. An existing run is resumed.")
    ],
    keep_hits: Annotated[
        bool,
        typer.Option(
            help="Whether rollouts are kept whose first call shows what was asked, with a right answer."
        ),
    ] = True,
    legible_px: Annotated[
        float,
        typer.Option(min=1.0, help="Height in pixels from which a character in a crop is legible."),
    ] = 8.0,
) -> None:
    """Write expert traces from recorded rollouts: the question is replaced by one about what the first call shows.

    Examples:
        pixel-reasoner eval pixelworld --split train --family attribute --count 100 --temperature 1 --out runs/rollouts

        pixel-reasoner hindsight runs/rollouts --out runs/hindsight

        pixel-reasoner check runs/hindsight
    """
    from pixel_reasoner.workflows.hindsight import HindsightSpec, write_hindsight

    spec = HindsightSpec(
        rollouts=tuple(rollouts), out=out, keep_hits=keep_hits, legible_px=legible_px
    )
    with progress_bars() as progress:
        summary = write_hindsight(spec, progress)
    num_rollouts = summary["settings"]["count"]
    print_line(f"{summary['count']} traces of {num_rollouts} rollouts: {out / 'traces.jsonl'}")
    for title in ("kinds", "dropped"):
        counts = ", ".join(f"{name} {count}" for name, count in summary[title].items())
        print_line(f"{title}: {counts or 'none'}")
    if summary["dropped"]:
        print_line(f"reasons of each: {out / 'dropped.jsonl'}")
