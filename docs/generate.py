"""Write the reference pages that come from the code: `--help` of every command, and keys of config files.

    python docs/generate.py        # writes the pages of `PAGES` into docs/reference, and the results in clusters.md and families.md

A test compares the files with what this script returns.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import typer
from pydantic.json_schema import models_json_schema

from pixel_reasoner.cli import app
from pixel_reasoner.dialects import Dialect, get_dialect
from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.known_families import UNSUPPORTED
from pixel_reasoner.reports import schema as reports
from pixel_reasoner.reports.page import ITEMS_PER_PART
from pixel_reasoner.schema.trace import Picture, ToolCall
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import MonitorConfig, RlRun, SftRun
from pixel_reasoner.train.vllm.options import VllmOptions

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
    "SFT and RL: table `[monitor]`": (
        MonitorConfig,
        "Measurement of a run: MFU and stack dumps. May change when a run is resumed.",
    ),
    "RL: table `[pixelworld]`": (WorldMix, "Questions of PixelWorld."),
    "RL: table `[vllm]`": (VllmOptions, "vLLM servers that generate the rollouts."),
}


def command_line() -> str:
    """Return the page of all commands, each with its `--help`."""
    parts = [
        "# Command line\n",
        NOTE,
        "This page contains the output of `--help` of every command. Every error of a user is one message and "
        "exit code 2. Exit code 1 means that a check failed, 3 that some files or all questions of a batch failed. Ctrl-C is exit code 130.\n",
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
        for before, after in itertools.pairwise(body)
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


# --- the format of reports ---


def report_format() -> str:
    """Return the page of the data format of reports."""
    parts = [
        "# Report format\n",
        NOTE,
        f"The viewer of a report reads JSON of this format, version {reports.FORMAT_VERSION}. A report is a `Report`; its "
        "traces are `Item` objects, one per entry and in the same order. Fields with default values may be missing. "
        "[JSON Schema](report.schema.json) of both.\n",
        "In a page, `Report` is the content of the element `#report`, item *n* that of `#item-n`, and a picture that of "
        "`#file-NAME` in base64. In a folder, `index.html` contains `Report`; `parts/N.js` contains "
        f"{ITEMS_PER_PART} items as the argument of a function call, and `pictures/NAME` is a picture or a clip.\n",
        "Texts are plain text with visible control characters. Boxes are left, top, right, bottom as fractions of the "
        "full-resolution source.\n",
    ]
    for kind in _report_classes():
        parts += [
            f"## {kind.__name__}\n",
            f"{inspect.getdoc(kind)}\n",
            "\n".join(_table(kind)) + "\n",
        ]
    return "\n".join(parts)


def _report_classes() -> list[type]:
    """Return the classes of the format, `Report` and `Item` first."""
    found = [
        one
        for one in vars(reports).values()
        if inspect.isclass(one) and one.__module__ == reports.__name__
    ]
    first = [reports.Report, reports.Item]
    return [*first, *(one for one in found if one not in first)]


def report_schema() -> str:
    """Return the JSON Schema of reports and their items."""
    _, schema = models_json_schema(
        [(one, "serialization") for one in (reports.Report, reports.Item)],
        title=f"Pixel Reasoner report, format version {reports.FORMAT_VERSION}",
    )
    return json.dumps(schema, indent=1) + "\n"


# --- executed cluster paths ---

CLUSTERS = Path(__file__).parent / "clusters.md"
CLUSTER_RESULTS = Path(__file__).parents[1] / "dev" / "clusters"
_BEGIN, _END = "<!-- generated: executed paths -->\n", "<!-- end -->\n"


def clusters() -> str:
    """Return the page of cluster paths with the results in `dev/clusters`."""
    before, rest = CLUSTERS.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    parts = [_executed(path) for path in sorted(CLUSTER_RESULTS.glob("*.json"))]
    return before + _BEGIN + "\n" + "\n".join(parts) + "\n" + _END + after


def _executed(path: Path) -> str:
    """Return the section of one part, a file of `benchmarks/clusters/record.py`."""
    value = json.loads(path.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in value["versions"].items())
    rows = [
        f"| {one['path']} | {one['measure']} | {one['value']} | {one['floor']} | {'yes' if one['passed'] else '**no**'} |"
        for one in value["results"]
    ]
    return (
        f"## Executed: {value['part']}\n\n"
        f"{value['date']}, {value['machine']}, {value['seconds']} s: {versions}.\n\n"
        "| path | measured | value | required | reached |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


# --- model families ---

FAMILIES_PAGE = Path(__file__).parent / "families.md"
FAMILY_RESULTS = Path(__file__).parents[1] / "dev" / "families.json"
_FAMILIES_BEGIN = "<!-- generated: families -->\n"


def families() -> str:
    """Return the page of model families with the results in `dev/families.json`."""
    before, rest = FAMILIES_PAGE.read_text(encoding="utf-8").split(_FAMILIES_BEGIN)
    after = rest.split(_END)[1]
    value = json.loads(FAMILY_RESULTS.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in value["versions"].items())
    parts = [
        "## Families\n",
        f"{value['date']}, {value['machine']}: {versions}. {len(value['families'])} model types.\n",
        "| model types | dialect | checkpoints | a call | a box | visual tokens | video processor | generation | chat template of the tests |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(" | ".join, _family_rows(value["families"])),
        "\n## Results\n",
        "| model type | ask: zooms, clip, batch | SFT step | RL step | CPU seconds |\n| --- | --- | --- | --- | --- |",
        *(
            f"| `{name}` | {one['ask']} | {one['sft']} | {one['rl']} | {one['cpu_s']} |"
            for name, one in value["families"].items()
        ),
        "\n## Model types that are not supported\n",
        "transformers lists these as models of pictures and text.\n",
        "| model type | reason |\n| --- | --- |",
        *(f"| `{name}` | {reason} |" for name, reason in UNSUPPORTED.items()),
    ]
    return before + _FAMILIES_BEGIN + "\n" + "\n".join(parts) + "\n\n" + _END + after


def _family_rows(results: dict[str, dict[str, str]]) -> Iterator[list[str]]:
    """Yield a row for the model types of each dialect that are tested alike."""
    for name in dict.fromkeys(one["dialect"] for one in results.values()):
        types = [key for key, one in results.items() if one["dialect"] == name]
        dialect = get_dialect(name)
        templates = dict.fromkeys(results[one]["template"] for one in types)
        engine = [one for one in types if one in FAMILIES]
        missing = [one for one in types if one not in FAMILIES]
        generation = [f"engine: {', '.join(engine)}"] if engine else []
        generation += [f"`generate`: {', '.join(missing)}"] if missing else []
        videos = dict.fromkeys(results[one]["video"] for one in types)
        yield [
            "| " + ", ".join(f"`{one}`" for one in types),
            f"`{name}`",
            dialect.facts.checkpoints or dialect.models,
            f"`{_call(dialect)}`",
            dialect.grid.words,
            dialect.facts.visual_tokens or _budget(dialect),
            ", ".join("yes" if one == "processor" else "no" for one in videos),
            "; ".join(generation),
            ", ".join(templates) + " |",
        ]


def _call(dialect: Dialect) -> str:
    """Return a call of the dialect in one line."""
    picture = Picture(number=1, medium=0, source_px=(640, 480), seen_px=(640, 480))
    call = ToolCall(
        name="zoom_in", arguments={"bbox_2d": [0.25, 0.5, 0.75, 1.0], "target_image": 1}
    )
    return " ".join(dialect.write_call(call, [picture]).split()).replace("|", "\\|")


def _budget(dialect: Dialect) -> str:
    budgets = dialect.budgets
    return (
        f"pictures of {budgets.picture.min_px:,} to {budgets.picture.max_px:,} px, "
        f"crops of {budgets.crop.min_px:,} to {budgets.crop.max_px:,} px"
    )


PAGES = {
    "command-line.md": command_line,
    "config.md": config,
    "report-format.md": report_format,
    "report.schema.json": report_schema,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    CLUSTERS.write_text(clusters(), encoding="utf-8")
    FAMILIES_PAGE.write_text(families(), encoding="utf-8")
