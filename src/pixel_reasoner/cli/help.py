"""Classes of commands: how `--help` looks (plain text, examples as they can be copied, options in groups), and renamed names.

Plain text takes half the time of typer's panels (rich and a Markdown parser), and it can be piped.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from pixel_reasoner.deprecated import new_arguments, new_name
from pixel_reasoner.errors import UsageError

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

MAX_WIDTH = 100
_OPTIONS = "Options"
OTHER_NAMES = {
    **dict.fromkeys(
        ("--picture", "--pictures", "--images", "--img", "--photo", "--file"), ("--image",)
    ),
    **dict.fromkeys(("--clip", "--movie", "--videos"), ("--video",)),
    **dict.fromkeys(("--folder", "--frame"), ("--frames",)),
    **dict.fromkeys(("--output", "--out-dir", "--output-dir", "--save"), ("--out", "--report")),
    **dict.fromkeys(("--dataset", "--input", "--rows", "--questions"), ("--data",)),
    **dict.fromkeys(("--url", "--api", "--base-url", "--host"), ("--endpoint",)),
    **dict.fromkeys(("--temp",), ("--temperature",)),
    **dict.fromkeys(("--max-tokens",), ("--max-new-tokens",)),
    **dict.fromkeys(("--num", "--number", "--n"), ("--count", "--limit")),
    **dict.fromkeys(("--jobs", "--num-workers", "--processes"), ("--workers",)),
    **dict.fromkeys(("--checkpoint", "--model-path"), ("--model",)),
    **dict.fromkeys(("--ops", "--tool", "--tools"), ("--operations", "--operation")),
}
"""name in other programs -> our options; the first that the command has is suggested"""


class HelpCommand(TyperCommand):
    """Command whose help keeps indented lines unchanged and groups options by `rich_help_panel`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse arguments. Renamed options work, with a warning.

        Raises:
            UsageError: an option with another name here, or a file without its option.
        """
        arguments = new_arguments(_path(ctx), args)
        known = {name for one in self.get_params(ctx) for name in one.opts}
        _reject_other_names(arguments, known, _path(ctx))
        try:
            return super().parse_args(ctx, arguments)
        except Exception as error:
            extra = re.search(r"unexpected extra argument\S* \((.+)\)", str(error))
            if extra and "--image" in known:
                raise _file_without_option(extra[1]) from error
            raise

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


def _reject_other_names(arguments: Sequence[str], known: Collection[str], command: str) -> None:
    """Raise an error for an option that has another name in this command.

    Raises:
        UsageError: the message has the name to use.

    >>> _reject_other_names(["--picture=a.png"], ["--image"], "ask")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected an option of `ask`; got --picture. Fix: use --image
    """
    for argument in arguments[: arguments.index("--") if "--" in arguments else None]:
        option = argument.partition("=")[0]
        if option in known:
            continue
        for name in OTHER_NAMES.get(option, ()):
            if name in known:
                raise UsageError(
                    expected=f"an option of `{command}`", got=option, fix=f"use {name}"
                )


def _file_without_option(extra: str) -> UsageError:
    """Return the error for an argument after the question, which is usually a file."""
    suffix = extra.rpartition(".")[2].lower()
    option = "--video" if suffix in ("mp4", "webm", "mkv", "avi", "mov") else "--image"
    return UsageError(
        expected="one question in quotes, and files after options",
        got=f"another argument: {extra}",
        fix=f"write {option} before a file, for example {option} {extra.split()[0]}",
    )


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
