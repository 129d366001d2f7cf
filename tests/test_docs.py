"""The docs name what there is: commands, keys of a run, keys of a row, kinds of traces; links lead somewhere."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from pixel_reasoner.cli import app
from pixel_reasoner.data.expert import Kind
from pixel_reasoner.evals.benchmarks import in_page
from pixel_reasoner.models.openai_chat import PROFILES
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.sources.base import SOURCES
from pixel_reasoner.sources.jsonl import ROW_KEYS
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun, SftRun

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(*names: str) -> str:
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)


def commands() -> list[str]:
    found = []
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        below = getattr(command, "commands", {})
        found += [f"{name} {sub}" for sub in below] or [name]
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_is_shown_somewhere(command):
    shown = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown += text("Makefile", "runs/tiny.sh", "CHANGELOG.md")
    assert re.search(rf"(pixel-reasoner|\$tool) {command}\b", shown)


def explained(page: str) -> set[str]:
    """Names with an explanation of at least two words: in the next cell of a table, or in the comment of an example."""
    names: set[str] = set()
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        is_row = line.startswith("|") and len(cells) > 1
        if is_row and cells[1] != "see above" and len(re.findall(r"\w+", cells[1])) > 1:
            names.update(re.findall(r"`([^`]+)`", cells[0]))
        if example := re.match(r"(?:\[(\w+)\]|(\w+) = .*?) +# \w+\W+\w+", line):
            names.add(example[1] or example[2])
    return names


def test_a_key_in_backticks_is_no_explanation():
    assert (
        explained("Set `alpha`, see `beta`.\n| `alpha` | see above | 1 |\n| `beta` | - |") == set()
    )
    assert explained("| `alpha`, `beta` | weight of curiosity | 1 |") == {"alpha", "beta"}
    assert explained("alpha = 0.5\nbeta = 2  # of it\n[trl]  # options of TRL") == {"beta", "trl"}


def keys(*kinds: type) -> list[str]:
    return [field.name for kind in kinds for field in fields(kind)]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/train.md", keys(SftRun)),
        ("docs/rl.md", keys(RlRun, RewardConfig, WorldMix)),
        ("docs/synthesize.md", [*ROW_KEYS, *Kind, *SOURCES]),
    ],
    ids=["sft", "rl", "rows"],
)
def test_every_key_of_a_run_and_of_a_row_is_explained(page, names):
    assert [name for name in names if name not in explained(text(page))] == []


def test_the_table_of_benchmarks_is_that_of_the_code():
    page = text("docs/evaluate.md")
    assert in_page(page) == page, (
        "python -m pixel_reasoner.evals.benchmarks docs/evaluate.md writes it"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_table_of_servers_is_that_of_the_code():
    page = text("docs/models.md")
    for server, profile in PROFILES.items():
        marks = ["sent" if sent else "" for sent in (profile.seed, profile.logprobs)]
        owner = f"`{profile.owner}`" if profile.owner else ""
        cells = [f"`{server}`", f"`{profile.limit}`", *marks, owner]
        assert "| " + " | ".join(cells) + " |" in page.replace("| |", "|  |").replace("| |", "|  |")


IMPORT = re.compile(r"^from (pixel_reasoner[\w.]*) import ([\w, ]+)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_imports_exists(page):
    for module, names in IMPORT.findall(page.read_text(encoding="utf-8")):
        if module.endswith(("inspect_ai_tasks", "lmms_eval_model")):
            continue  # extras with an environment of their own
        loaded = importlib.import_module(module)
        missing = [name for name in names.split(", ") if not hasattr(loaded, name.strip())]
        assert missing == [], f"{module}: {missing}"
