"""Options of PixelWorld 2 that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

WorldVersionOption = Annotated[
    int,
    typer.Option(
        "--world",
        min=1,
        max=2,
        help="Version of PixelWorld: 1, or 2 with several heights of the evidence.",
    ),
]
HeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Heights of the evidence in pixels of the overview, with --world 2, for example 2,4,8 [default: all]"
    ),
]
TwinsOption = Annotated[
    bool, typer.Option(help="Whether both twins of each scene are asked, with --world 2.")
]
