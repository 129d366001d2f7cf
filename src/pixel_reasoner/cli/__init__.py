"""Command line: commands parse options, call `pixel_reasoner.api` and print.

Commands import their dependencies when they run, so `--help` loads neither torch nor pydantic.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, TextIO

import typer

from pixel_reasoner import __version__
from pixel_reasoner.cli import (
    ask,
    check_model,
    doctor,
    evaluate,
    find,
    hindsight,
    init,
    inspect,
    mcp,
    new,
    probe,
    report,
    serve,
    survey,
    synth,
    teach,
    traces,
    train,
    world,
)
from pixel_reasoner.cli.help import MAX_WIDTH, HelpCommand
from pixel_reasoner.cli.interrupt import InterruptibleGroup, Stopped, handle_sigterm
from pixel_reasoner.cli.output import warn
from pixel_reasoner.deprecated import RenamedWarning
from pixel_reasoner.errors import PixelReasonerError
from pixel_reasoner.text import visible

app = typer.Typer(
    name="pixel-reasoner",
    cls=InterruptibleGroup,
    help="Let vision-language models look again: zoom into pictures and select frames while they reason.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH},
)
app.command(cls=HelpCommand)(ask.ask)
app.command("eval", cls=HelpCommand)(evaluate.evaluate)
app.command(cls=HelpCommand)(probe.probe)
app.command(cls=HelpCommand)(serve.serve)
app.command(cls=HelpCommand)(evaluate.merge)
app.command(cls=HelpCommand)(report.compare)
app.command(cls=HelpCommand)(report.report)
app.command(cls=HelpCommand)(survey.survey)
app.command(cls=HelpCommand)(find.find)
app.command(cls=HelpCommand)(synth.synth)
app.command(cls=HelpCommand)(hindsight.hindsight)
app.command(cls=HelpCommand)(traces.check)
app.command(cls=HelpCommand)(traces.export)
app.command("import", cls=HelpCommand)(traces.import_)
app.command(cls=HelpCommand)(teach.teach)
app.command(cls=HelpCommand)(ask.demo)
app.command(cls=HelpCommand)(mcp.mcp)
app.command(cls=HelpCommand)(init.init)
app.command(cls=HelpCommand)(inspect.inspect)
app.command(cls=HelpCommand)(new.new)
app.command(cls=HelpCommand)(doctor.doctor)
app.command("check-model", cls=HelpCommand)(check_model.check_model)
app.add_typer(world.app, name="world")
app.add_typer(train.app, name="train")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"pixel-reasoner {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Let vision-language models look again: zoom into pictures and select frames while they reason."""


def main() -> None:
    """Run the command line. A user's mistake gives one message and exit code 2."""
    handle_sigterm()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RenamedWarning)
            warnings.showwarning = _show_warning
            app()
    except PixelReasonerError as error:
        _stop(f"error: {error}", 2)
    except Stopped as stopped:
        _stop(str(stopped), stopped.code)
    except BrokenPipeError:  # the reader of the output has ended, so no message can reach it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


_show_python_warning = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, RenamedWarning):
        warn(f"warning: {message}")
    else:
        _show_python_warning(message, category, filename, lineno, file, line)


def _stop(message: str, code: int) -> None:
    if _is_first_to_stop():
        print(visible(message), file=sys.stderr)
    sys.exit(code)


def _is_first_to_stop() -> bool:
    """Return whether to print a message. Of the processes of torchrun, only the first that stops prints one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from pixel_reasoner.train.sharding.processes import is_first_to_fail

    return is_first_to_fail()
