"""Command `doctor`: check of the installation."""

from __future__ import annotations

from typing import Annotated

import typer

from pixel_reasoner.cli.options import ENDPOINT_VARIABLE, KeyFileOption, ModelOption
from pixel_reasoner.cli.output import print_line

_STYLES = {"ok": "green", "missing": "yellow", "broken": "red"}


def doctor(
    model: ModelOption = "tiny",
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint",
            envvar=ENDPOINT_VARIABLE,
            help="Also test that this server serves --model. May be repeated.",
        ),
    ] = None,
    key_file: KeyFileOption = None,
) -> None:
    """Check this installation: versions, devices, memory, codecs, fonts, write access, extras of each command, plug-ins.

    `missing` is optional. Exit code 1 if anything is broken.

    Examples:
        pixel-reasoner doctor

        pixel-reasoner doctor --model NAME --endpoint http://localhost:8000/v1
    """
    from pixel_reasoner import api

    spec = api.ModelSpec(model, endpoints=tuple(endpoint or ()), key_file=key_file)
    broken = 0
    for finding in api.diagnose(spec):
        broken += finding.status == "broken"
        status = (f"{finding.status:8}", _STYLES[finding.status])
        print_line(status, f"{finding.subject}: {finding.detail}")
    if broken:
        print_line((f"{broken} broken", "red"))
        raise typer.Exit(1)
