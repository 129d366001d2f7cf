"""Command `check-model`: what a model folder is, and whether it can be used."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pixel_reasoner.cli.choices import completing, dialects
from pixel_reasoner.cli.options import JsonOption
from pixel_reasoner.cli.output import print_line
from pixel_reasoner.text import visible

if TYPE_CHECKING:
    from pixel_reasoner.models.check_model import ModelCheck


def check_model(
    folder: Annotated[str, typer.Argument(help="Model folder, hub id or bundled model.")],
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="DIALECT",
            autocompletion=completing(dialects),
            help="Prompt format [default: from the folder, or detected from it]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a model folder: family, files, chat template, tokens of pictures, engine, and one rendered prompt.

    Weights are not loaded. Exit code 2 if the model cannot be used: every problem is one line with the next step.

    Examples:
        pixel-reasoner check-model tiny

        pixel-reasoner check-model Qwen/Qwen3-VL-8B-Instruct --json
    """
    import json

    from pixel_reasoner import api

    check = api.check_model(folder, dialect)
    if as_json:
        print(json.dumps(asdict(check), indent=2))
    else:
        _print(check)
    if check.problems:
        raise typer.Exit(2)


def _print(check: ModelCheck) -> None:
    print_line(f"{check.folder}: {check.architecture or 'unknown architecture'}")
    print_line(f"dialect: {check.dialect or 'none'}")
    sections = {
        "files": check.files,
        "chat template": check.template,
        "tokens": check.tokens,
        "use": check.runs,
    }
    for title, rows in sections.items():
        if rows:
            print_line(f"{title}:")
        for name, value in rows.items():
            print_line(f"  {name}: {visible(value)}")
    if check.prompt:
        print_line("prompt of a question with a call and its result:")
        for line in check.prompt.splitlines():
            print_line(f"  {visible(line)}")
    for problem in check.problems:
        print_line(
            ("problem: ", "red"),
            visible(f"expected {problem['expected']}; got {problem['got']}. Fix: {problem['fix']}"),
        )
