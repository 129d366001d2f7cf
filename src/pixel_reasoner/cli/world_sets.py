"""Commands `world verify` and `world probe`: fixed sets of PixelWorld 2, and the wording of questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pixel_reasoner.cli.choices import SPLITS, choice_option
from pixel_reasoner.cli.options import reject_options
from pixel_reasoner.cli.output import print_line, progress_bars, warn
from pixel_reasoner.cli.world_options import WorldVersionOption

WORLD_SETS = ("small", "4k", "8k")
"""fixed sets of PixelWorld 2"""
FIXED_SPLITS = ("validation", "test")
MAX_NAMED = 5
"""number of listed seeds that differ"""

FamiliesOption = Annotated[
    str, typer.Option("--family", "-f", help="`all`, or some families, separated by commas.")
]


def verify(
    set_: Annotated[
        str, choice_option(WORLD_SETS, "--set", help="Which fixed set of PixelWorld 2.")
    ] = "small",
    split: Annotated[
        str, choice_option(FIXED_SPLITS, "--split", help="Split of the set.")
    ] = "test",
    family: FamiliesOption = "all",
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of seeds per family [default: all]")
    ] = None,
) -> None:
    """Generate a fixed set again and compare the SHA-256 of its questions and pixels with the recorded ones.

    Exit code 1 means that a seed differs.

    Examples:
        pixel-reasoner world verify --set small --split test

        pixel-reasoner world verify --family where --count 1
    """
    from pixel_reasoner.workflows.world2 import verify_world

    families = None if family == "all" else tuple(family.split(","))
    with progress_bars() as progress:
        update = progress.start("verifying", None)
        number, different = verify_world(set_, split, families, count, update)
    for one in different[:MAX_NAMED]:
        warn(f"differs: {one.family}, seed {one.number} of the split {split}")
    print_line(
        f"{number - len(different)} of {number} seeds of {set_}/{split} give the recorded questions and pixels"
    )
    if different:
        raise typer.Exit(1)


def probe(
    world: WorldVersionOption = 2,
    family: FamiliesOption = "all",
    split: Annotated[str, choice_option(SPLITS, "--split", help="Split of scene seeds.")] = "test",
    count: Annotated[int, typer.Option(min=2, help="Questions per family.")] = 240,
    run: Annotated[
        Path | None,
        typer.Option(help="Probe the questions of this run, and also the use of operations in it."),
    ] = None,
) -> None:
    """Measure how well the wording of a question predicts whether an operation is needed: a test of the benchmark.

    A logistic regression over word n-grams is cross-validated within each family. Balanced accuracy 0.5 is chance: the
    wording says nothing, so a model can only decide from the pixels.

    Examples:
        pixel-reasoner world probe --world 2

        pixel-reasoner world probe --world 1 --family attribute

        pixel-reasoner world probe --run runs/heights
    """
    from pixel_reasoner import api
    from pixel_reasoner.workflows.world_probe import probe_run, probe_world

    if run is not None:
        reject_options(["--family"] if family != "all" else [], "with --run")
        for title, found in probe_run(run).items():
            _print_probe(found, f"{title} of an operation")
        return
    spec = api.WorldSpec(family, split, 0, count, world=world)
    _print_probe(probe_world(spec), "need of an operation")


def _print_probe(found: dict[str, dict[str, Any]], title: str) -> None:
    print_line(f"{title}, predicted from the wording (chance 0.5):")
    for name, one in found.items():
        if one["accuracy"] is None:
            print_line(f"  {name:12} always or never")
            continue
        low, high = one["interval"]
        print_line(
            f"  {name:12} {one['accuracy']:.3f}  ({low:.3f} to {high:.3f}, {one['count']} questions)"
        )
