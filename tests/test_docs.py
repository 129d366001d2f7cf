"""The docs name what there is: commands, keys of a run, keys of a row, kinds of traces; links lead somewhere."""

from __future__ import annotations

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


def test_every_key_of_a_run_and_of_a_row_is_explained():
    train, rl, synthesize = text("docs/train.md"), text("docs/rl.md"), text("docs/synthesize.md")
    assert [f.name for f in fields(SftRun) if f"`{f.name}`" not in train and f.name != "trl"] == []
    keys = [f.name for kind in (RlRun, RewardConfig, WorldMix) for f in fields(kind)]
    assert [key for key in keys if f"`{key}`" not in rl and key not in ("trl", "seed")] == []
    assert [key for key in ROW_KEYS if f"`{key}`" not in synthesize] == []
    assert [kind for kind in Kind if f"`{kind}`" not in synthesize] == []
    assert [source for source in SOURCES if f"`{source}`" not in synthesize] == []


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
