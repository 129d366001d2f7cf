"""Classes of commands: how `--help` looks (plain text, examples as they can be copied, options in groups), and renamed names.

Plain text takes half the time of typer's panels (rich and a Markdown parser), and it can be piped.
"""

from __future__ import annotations

import inspect
from itertools import groupby
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from pixel_reasoner.deprecated import new_arguments, new_name

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

MAX_WIDTH = 100
_OPTIONS = "Options"


class HelpCommand(TyperCommand):
    """Command whose help keeps indented lines unchanged and groups options by `rich_help_panel`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse arguments. Renamed options work, with a warning."""
        return super().parse_args(ctx, new_arguments(_path(ctx), args))

    def format_help_text(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the docstring. Indented lines are examples: they are not wrapped."""
        formatter.write_paragraph()
        for is_example, lines in _blocks(inspect.cleandoc(self.help or "")):
            with formatter.indentation():
                if is_example:
                    formatter.write("".join(f"  {line}\n".replace("  \n", "\n") for line in lines))
                else:
                    formatter.write_text("\n".join(lines).strip())

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write arguments, then options without a group, then each group under its name."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], _OPTIONS: []}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None)
            record = parameter.get_help_record(ctx)
            if record is not None:
                name = panel or ("Arguments" if is_argument else _OPTIONS)
                groups.setdefault(name, []).append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


class CommandGroup(TyperGroup):
    """A group of commands. Renamed commands work, with a warning."""

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """Return the command that the first argument names."""
        return super().resolve_command(ctx, [new_name("command", _path(ctx), args[0]), *args[1:]])


def _path(ctx: Context) -> str:
    """Return the name of a command below the program, such as `train sft`; empty for the program itself."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return " ".join(names)


def _blocks(text: str) -> list[tuple[bool, list[str]]]:
    r"""Return the lines of a text in blocks, each with a flag for indentation.

    >>> _blocks("Do it.\n\nExamples:\n    a\n\n    b")
    [(False, ['Do it.', '', 'Examples:']), (True, ['    a', '', '    b'])]
    """
    lines = text.splitlines()
    indented = [line.startswith("    ") for line in lines]
    for number, line in enumerate(lines[:-1]):
        if not line and number and indented[number - 1]:
            indented[number] = indented[number + 1]
    numbered = groupby(range(len(lines)), key=indented.__getitem__)
    return [(is_example, [lines[number] for number in numbers]) for is_example, numbers in numbered]
