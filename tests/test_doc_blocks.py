"""Code in README and docs runs as it is written; commands of tutorials run at toy size."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import mcp.client.stdio  # noqa: F401 - binds stderr as a default when imported, which must be before capsys
import pytest

from doc_blocks import NOT_RUN, PAGES, TUTORIALS, Block, blocks, run_page

pytestmark = pytest.mark.extras  # runs models
TOY = {
    "tuned-model.md": {
        '("train", 400, 0), ("test", 100, 1)': '("train", 4, 0), ("test", 2, 1)',
        "per_device_train_batch_size = 16": "per_device_train_batch_size = 2",
        "_steps = 60": "_steps = 1",
        "warmup_steps = 5": "warmup_steps = 0",
    },
    "rl.md": {
        "--count 64": "--count 8",
        "--count 100": "--count 2",
        "questions_per_sync = 8": "questions_per_sync = 2",
        "group_size = 8": "group_size = 2",
        "minibatch = 64": "minibatch = 4",
        "rollouts_at_once = 64": "rollouts_at_once = 4",
        "max_steps = 40": "max_steps = 1",
        "max_steps = 5": "max_steps = 1",
        "save_steps = 20": "save_steps = 1",
        "sample_every = 10": "sample_every = 1",
    },
    "benchmark.md": {"--count 100": "--count 2"},
}
"""text of a tutorial -> what the test runs instead"""
TRAINING = {"tuned-model.md", "rl.md"}
WITH_PYTHON = [
    page
    for page in PAGES
    if page.name not in NOT_RUN
    and page not in TUTORIALS
    and any(one.language == "python" for one in blocks(page))
]


@pytest.fixture
def folder(tmp_path, monkeypatch, run) -> Path:
    """Working directory with a picture of PixelWorld as scene.png."""
    monkeypatch.chdir(tmp_path)
    assert run("world", "render", "--count", 1, "--out", "world")[0] == 0
    Path("world/media/attribute-2000000.png").rename("scene.png")
    return tmp_path


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_of_a_page_run(page, folder, run):
    run_page(page, run)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.name in TRAINING else [], id=page.name)
        for page in TUTORIALS
    ],
)
def test_a_tutorial_runs_from_its_first_block_to_its_last(page, folder, run):
    run_page(page, run, TOY.get(page.name, {}))


def test_replacements_for_toy_sizes_match_existing_text():
    for page in TUTORIALS:
        text = page.read_text(encoding="utf-8")
        assert [size for size in TOY.get(page.name, {}) if size not in text] == []


ALL = [(page, block) for page in PAGES for block in blocks(page)]


def test_every_block_has_a_language():
    named = [page.name for page, block in ALL if not block.language]
    assert set(named) <= set(NOT_RUN)


@pytest.mark.parametrize("language", ["toml", "json"])
def test_config_in_pages_can_be_parsed(language):
    parse = {"toml": tomllib.loads, "json": parse_lines}[language]
    for page, block in ALL:
        if block.language == language and not block.not_run:
            try:
                parse(block.text)
            except ValueError as error:
                pytest.fail(f"{page.name}: {error}\n{block.text}")


def parse_lines(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines()]


def test_blocks_are_found_with_the_reason_for_not_running(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: a GPU -->\n```python\n1/0\n```\n\n```toml\n# a.toml\nx = 1\n```\n"
    )
    first, second = blocks(page)
    assert first == Block("python", "1/0\n", "a GPU")
    assert (second.file, second.not_run) == ("a.toml", "")
