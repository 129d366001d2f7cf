"""Write the reference pages that come from the code: `--help` of every command, and keys of config files.

    python docs/generate.py        # writes docs/reference/command-line.md and docs/reference/config.md

A test compares the files with what this script returns.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import typer

from pixel_reasoner.cli import app
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun, SftRun

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py. Do not edit. -->\n"
WIDTH = 100

TABLES = {
    "Warm-start tuning: `train sft`": (
        SftRun,
        "Keys at the top of the file. `[trl]` takes every option of `trl.SFTConfig`. "
        "[How to tune a model](../train.md) explains them.",
    ),
    "RL: `train rl`": (
        RlRun,
        "Keys at the top of the file. `[trl]` takes every option of `trl.GRPOConfig`. "
        "[How to train with RL](../rl.md) explains them.",
    ),
    "RL: table `[reward]`": (RewardConfig, "Weights and constants of the reward."),
    "RL: table `[pixelworld]`": (WorldMix, "Questions of PixelWorld."),
}


def command_line() -> str:
    """Return the page of all commands, each with its `--help`."""
    parts = [
        "# Command line\n",
        NOTE,
        "This page contains the output of `--help` of every command. Every error of a user is one message and "
        "exit code 2. Exit code 1 means that a check failed. Ctrl-C is exit code 130.\n",
    ]
    for name, command in commands():
        context = command.make_context(
            f"pixel-reasoner {name}", [], resilient_parsing=True, terminal_width=WIDTH
        )
        parts += [f"## pixel-reasoner {name}\n", f"```text\n{command.get_help(context)}\n```\n"]
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Yield every command with its name, such as `world render`."""
    for name, command in typer.main.get_command(app).commands.items():
        below = getattr(command, "commands", {})
        yield from ((f"{name} {sub}", one) for sub, one in below.items())
        if not below:
            yield name, command


def config() -> str:
    """Return the page of all keys of config files."""
    parts = [
        "# Config files\n",
        NOTE,
        "A training run is one TOML file. Paths are relative to the file. An unknown key, a value of the wrong type "
        "and a combination that cannot work are errors before anything is loaded. `pixel-reasoner init sft` and "
        "`pixel-reasoner init rl` write a commented file to start from.\n",
    ]
    for title, (kind, text) in TABLES.items():
        parts += [f"## {title}\n", f"{text}\n", "\n".join(_table(kind)) + "\n"]
    parts += [
        "## Model folder: `pixel_reasoner.json`\n",
        "A model folder may contain this file next to its weights. Every key is optional.\n",
        "\n".join(_table(FolderSettings)) + "\n",
    ]
    return "\n".join(parts)


def _table(kind: type) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    texts, defaults = _field_docs(kind), _defaults(kind)
    for name, annotation in kind.__annotations__.items():
        if name.startswith("_") or "ClassVar" in str(annotation) or name not in defaults:
            continue
        typed = str(annotation).replace("|", "\\|")
        yield f"| `{name}` | `{typed}` | {defaults[name]} | {texts.get(name, '')} |"


def _field_docs(kind: type) -> dict[str, str]:
    """Return the docstrings below the fields of a class."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    return {
        before.target.id: " ".join(after.value.value.split()).replace("|", "\\|")
        for before, after in zip(body, body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def _defaults(kind: type) -> dict[str, str]:
    """Return the default of each field as it is written in a file."""
    if dataclasses.is_dataclass(kind):
        values = {field.name: _default(field) for field in dataclasses.fields(kind)}
    else:
        model = kind.model_fields  # type: ignore[attr-defined]
        values = {
            name: "required" if one.is_required() else one.get_default(call_default_factory=True)
            for name, one in model.items()
        }
    return {name: _written(value) for name, value in values.items()}


def _default(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "required" if field.default is dataclasses.MISSING else field.default


def _written(value: object) -> str:
    if value is None or value in ("", {}, ()):
        return "none"
    if value == "required":
        return value
    if dataclasses.is_dataclass(value):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{value}`"


PAGES = {"command-line.md": command_line, "config.md": config}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
