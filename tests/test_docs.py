"""Docs are complete and correct: commands, keys of runs and rows, kinds of traces, links."""

from __future__ import annotations

import importlib
import re
import runpy
import tomllib
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest

from documented_commands import ROOT, all_commands, documented_commands, parse
from pixel_reasoner.cli.choices import sources, tasks
from pixel_reasoner.data.expert import Kind
from pixel_reasoner.errors import install_command
from pixel_reasoner.evals.benchmarks import insert_table
from pixel_reasoner.models.openai_chat import PROFILES
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.sources.base import SOURCES
from pixel_reasoner.sources.jsonl import ROW_KEYS
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.vllm.options import VllmOptions
from pixel_reasoner.workflows.inspection.spec import (
    Alignment,
    Decision,
    DefectClass,
    Difference,
    InspectionSpec,
    Region,
)
from pixel_reasoner.workflows.survey.question_file import KEYS, TOP_KEYS
from pixel_reasoner.workflows.survey.questions import AnswerKind
from pixel_reasoner.workflows.survey.table_row import Status, SurveyRow

COMMANDS = documented_commands()
_INSPECTION_KEYS = [
    *InspectionSpec.model_fields,
    *DefectClass.model_fields,
    *Region.model_fields,
    *Alignment.model_fields,
    *Difference.model_fields,
    *Decision.model_fields,
]
_SURVEY_ROW = SurveyRow(id="a:q", path="a", status=Status.ANSWERED)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text(*names: str) -> str:
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)


@pytest.mark.parametrize("command", [name for name, _ in all_commands()])
def test_every_command_is_documented(command):
    documented = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    documented += text("Makefile", "runs/tiny.sh", "CHANGELOG.md")
    assert re.search(rf"(pixel-reasoner|\$tool) {command}\b", documented)


def explained(page: str) -> set[str]:
    """Return names with an explanation of at least two words, in the next table cell or in the comment of an example."""
    names: set[str] = set()
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        is_row = line.startswith("|") and len(cells) > 1
        if is_row and cells[1] != "see above" and len(re.findall(r"\w+", cells[1])) > 1:
            names.update(re.findall(r"`([^`]+)`", cells[0]))
        if example := re.match(r"(?:\[(\w+)\]|(\w+) = .*?) +# \w+\W+\w+", line):
            names.add(example[1] or example[2])
    return names


def test_a_key_without_text_is_not_explained():
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
        ("docs/rl.md", keys(RlRun, RewardConfig, WorldMix, VllmOptions)),
        ("docs/synthesize.md", [*ROW_KEYS, *Kind, *SOURCES]),
        ("docs/inspect.md", [*_INSPECTION_KEYS]),
        ("docs/survey.md", [*KEYS, *TOP_KEYS, *AnswerKind, *_SURVEY_ROW.to_dict()]),
    ],
    ids=["sft", "rl", "rows", "inspect", "survey"],
)
def test_every_key_of_a_run_and_of_a_row_is_explained(page, names):
    assert [name for name in names if name not in explained(text(page))] == []


def test_the_table_of_benchmarks_equals_the_code():
    page = text("docs/evaluate.md")
    assert insert_table(page) == page, (
        "python -m pixel_reasoner.evals.benchmarks docs/evaluate.md writes it"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_point_to_existing_files(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_table_of_servers_equals_the_code():
    page = text("docs/models.md")
    for server, profile in PROFILES.items():
        marks = ["sent" if sent else "" for sent in (profile.seed, profile.logprobs)]
        owner = f"`{profile.owner}`" if profile.owner else ""
        cells = [f"`{server}`", f"`{profile.limit}`", *marks, owner]
        assert "| " + " | ".join(cells) + " |" in page.replace("| |", "|  |").replace("| |", "|  |")


@pytest.mark.extras
def test_generated_pages_are_up_to_date():
    script = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    for name, page in script["PAGES"].items():
        assert text(f"docs/reference/{name}") == page(), "python docs/generate.py writes it"
    assert text("docs/clusters.md") == script["clusters"](), "python docs/generate.py writes it"
    assert text("docs/families.md") == script["families"](), "python docs/generate.py writes it"


def test_every_export_is_in_the_reference():
    stub = text("src/pixel_reasoner/__init__.pyi")
    exports = re.findall(r"(\w+) as \1", stub)
    pages = text("docs/reference/python.md", "docs/reference/formats.md")
    documented = set(re.findall(r"^::: [\w.]+\.(\w+)$", pages, re.M))
    for members in re.findall(r"members: \[([^\]]+)\]", pages):
        documented.update(members.split(", "))
    assert [name for name in exports if name not in documented] == []


def test_every_page_is_in_the_navigation_once():
    pages = sorted(
        str(path.relative_to(ROOT / "docs")) for path in PAGES if path.name != "README.md"
    )
    assert sorted(re.findall(r": ([\w/-]+\.md)$", text("mkdocs.yml"), re.M)) == pages


def test_the_readme_is_short():
    assert len(text("README.md").splitlines()) < 120


IMPORT = re.compile(r"^from (pixel_reasoner[\w.]*) import ([\w, ]+)$", re.MULTILINE)


@pytest.mark.extras
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_imports_in_pages_exist(page):
    for module, names in IMPORT.findall(page.read_text(encoding="utf-8")):
        if module.endswith(("inspect_ai_tasks", "lmms_eval_model", "skyrl_env")):
            continue  # extras with an environment of their own
        loaded = importlib.import_module(module)
        missing = [
            name
            for name in names.split(", ")
            if not hasattr(loaded, name) and find_spec(f"{module}.{name}") is None
        ]
        assert missing == [], f"{module}: {missing}"


# --- commands as a user copies them ---


def test_commands_are_found_in_every_kind_of_file():
    where = {one.where for one in COMMANDS}
    assert {"README.md", "train.md", "full.sh", "tiny.sh", "rl-7b.toml", "ask --help"} <= where
    assert len(COMMANDS) > 100


@pytest.mark.parametrize(
    ("where", "arguments"),
    sorted({(one.where, tuple(one.arguments)) for one in COMMANDS if one.arguments}),
    ids=lambda part: part if isinstance(part, str) else " ".join(part)[:60],
)
def test_every_command_line_is_accepted(where, arguments):
    if arguments[0].startswith("--"):
        assert arguments[0] in ("--help", "--version", "--install-completion")
        return
    name, values = parse(list(arguments))
    if name == "eval":
        assert values["list_"] or values["task"] in tasks()
    if name == "synth":
        assert values["source"] in sources()
    if name == "synth" and values["labeller"]:
        assert values["labeller_model"]
    if name in ("train sft", "train rl"):
        path = ROOT / values["run"]
        assert Path(values["run"]) == Path("run.toml") or (
            RlRun if name == "train rl" else SftRun
        ).read(path)


def test_arguments_of_other_programs_exist():
    makefile, extras = text("Makefile"), tomllib.loads(text("pyproject.toml"))
    known = set(extras["project"]["optional-dependencies"])
    for where, words in COMMANDS:
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.M), words
        if words[0] in ("bash", "python", ".venv/bin/python") and words[1] != "-m":
            assert (ROOT / words[1]).exists(), words
        if "pip" in words[0] and "install" in words:
            for names in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
                assert set(names.split(",")) <= known, (where, words)


def test_no_command_installs_this_package_from_a_package_index():
    pages = "\n".join(page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "CHANGELOG.md"])
    assert not re.findall(r"pip install [^\n]*'?pixel-reasoner\[(?![^\n]*@ )", pages)
    assert "pixel-reasoner[" not in install_command("local")


def test_studio_is_shown_first_and_the_demo_ends_with_the_command_that_opens_it():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"!\[[^]]+\]\(([^)]+)\)", readme)[1] == "docs/studio.webp"
    recipe = re.search(
        r"\ndemo:.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8")
    )
    assert re.search(r"@echo .*pixel-reasoner serve --open", recipe[1].splitlines()[-1])


@pytest.mark.parametrize("arguments", [("eval", "--list"), ("--version",)])
def test_cheap_commands_run(run, arguments):
    assert run(*arguments)[0] == 0


PLANS = sorted(
    {
        tuple(one.arguments)
        for one in COMMANDS
        if one.arguments and "--like" in one.arguments and "run.toml" not in one.arguments
    }
)


@pytest.mark.parametrize("arguments", PLANS, ids=" ".join)
def test_every_documented_plan_is_valid(run, monkeypatch, arguments):
    monkeypatch.chdir(ROOT)
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "memory per GPU" in out
