"""Commands in README, docs, run files, scripts and `--help`, as a user copies them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import typer

from pixel_reasoner.cli import app

ROOT = Path(__file__).parents[1]
TOOLS = {"pixel-reasoner", ".venv/bin/pixel-reasoner", "$tool", "$launch"}
OTHERS = {"accelerate", "hf", "bash", "make", "pip", "python", "source", "torchrun", "trl"}
"""programs whose lines are recognised as commands, next to anything in an environment"""


class Documented(NamedTuple):
    """Command and its location."""

    where: str
    words: list[str]

    @property
    def arguments(self) -> list[str] | None:
        """Return the arguments of `pixel-reasoner`, or None for another program."""
        words = self.words
        if "pixel_reasoner.cli" in words:
            return words[words.index("pixel_reasoner.cli") + 1 :]
        return words[1:] if words[0] in TOOLS else None


def documented_commands() -> list[Documented]:
    """Return all commands of all files."""
    found: list[Documented] = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
        found += _commands(path.name, "\n".join(blocks))
    for path in sorted((ROOT / "runs").glob("*.toml")):
        comments = re.findall(r"^# +(.*)$", path.read_text("utf-8"), re.M)
        found += _commands(path.name, "\n".join(comments))
    for path in sorted((ROOT / "runs").glob("*.sh")):
        found += _commands(path.name, path.read_text("utf-8"))
    for name, command in all_commands():
        help_ = re.findall(r"^ +(pixel-reasoner .*)$", command.help or "", re.M)
        found += _commands(f"{name} --help", "\n".join(help_))
    return found


def all_commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Yield every command with its name, for example `world render`."""
    for name, command in typer.main.get_command(app).commands.items():
        below = getattr(command, "commands", {})
        yield from ((f"{name} {sub}", one) for sub, one in below.items())
        if not below:
            yield name, command


def _commands(where: str, text: str) -> Iterator[Documented]:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)  # the default of a variable
    for name, value in re.findall(r"^(\w+)=(\S+)$", text, re.M):
        if f"${name}" not in TOOLS:
            text = re.sub(rf"\${name}\b", value, text)
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"^(\$ |for \w+ in [^;]*; do )", "", line.strip()).removesuffix("; done")
        if not re.match(r"[\w$./-]+ ", line):
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # prose with an apostrophe
            continue
        for part in " ".join(map(shlex.quote, words)).split(" '&&' "):
            words = shlex.split(part)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words and (words[0] in TOOLS | OTHERS or words[0].startswith(".venv")):
                yield Documented(where, words)


@cache
def _command() -> typer.core.TyperGroup:
    return typer.main.get_command(app)


def parse(arguments: list[str]) -> tuple[str, dict[str, object]]:
    """Parse a command line as `pixel-reasoner` does, without running it. Returns the command's name and its values."""
    command, names = _command(), []
    rest = list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        names.append(rest.pop(0))
        command = command.commands[names[-1]]
    return " ".join(names), command.make_context(" ".join(names), rest).params
