"""`new` writes installable packages with passing tests and a working command."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from cli_fixture import assert_refused
from extension_fixture import install, run_python, use_each
from pixel_reasoner.cli.choices import EXTENSIONS
from pixel_reasoner.cli.new import _files, new
from pixel_reasoner.operations.registry import OPERATIONS
from pixel_reasoner.scoring.rewards import REWARDS

MODEL = """
from pixel_reasoner.extend import ScriptedModel

CALL = '<tool_call>{"name": "my_operation", "arguments": {"side": "right"}}</tool_call>'


def make(spec):
    \"\"\"Return a model that calls an operation and answers.\"\"\"
    return ScriptedModel([CALL, "\\\\boxed{yes}"])
"""


PLAN_OPTIONS = ("--like", "Qwen/Qwen2.5-VL-3B-Instruct", "--gpu-gib", "1000")
"""a plan for a model of known size needs no torch, whose import takes seconds"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("packages")
    for kind in EXTENSIONS:
        new(kind, f"my_{kind}", folder / kind)
    return {kind: folder / kind for kind in EXTENSIONS}


def entry_points(package: Path) -> str:
    """Return the file that pip would write."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items())
        for group, entries in project["entry-points"].items()
    )


def commands(package: Path) -> list[list[str]]:
    """Return the commands of the README."""
    [block] = re.findall(r"```\n(.*?)```", (package / "README.md").read_text("utf-8"), re.S)
    return [shlex.split(line) for line in block.splitlines()]


@pytest.mark.medium
def test_the_tests_of_each_package_pass_and_its_command_works(packages, tmp_path):
    model = {
        "my_model.py": MODEL,
        "entry_points.txt": "[pixel_reasoner.models]\nmine = my_model:make\n",
    }
    site = install(model, tmp_path / "site", "my_model")
    used = []
    for kind, package in packages.items():
        install({"entry_points.txt": entry_points(package)}, package, f"my_{kind}")
        program, *use = commands(package)[2]
        assert program == "pixel-reasoner"
        used.append((package, [*use, *(PLAN_OPTIONS if kind == "reward" else ["--model", "mine"])]))
    printed = use_each(used, site)
    assert printed.count(" passed") == len(EXTENSIONS)
    assert printed.count("Answer: yes") == 2, printed
    assert "→ my_operation(" in printed, printed
    assert "evaluated 3 of 3 rows" in printed
    assert "memory per GPU" in printed
    operation = shutil.copytree(packages["operation"], tmp_path / "operation")
    readme = (operation / "README.md").read_text("utf-8")
    [script] = re.findall(r"```python\n(.*?)```", readme, re.S)
    run_python(f"import os; os.chdir({str(operation)!r})\n{script}", "", operation)
    assert "my_operation" in (operation / "report.html").read_text("utf-8")


def test_a_readme_has_three_commands_to_install_test_and_use(packages):
    for package in packages.values():
        assert [words[0] for words in commands(package)] == ["pip", "python", "pixel-reasoner"]


def test_no_placeholder_is_left_in_a_package(packages):
    for package in packages.values():
        for path in package.glob("*.*"):
            assert (
                path.is_dir()
                or path.name == "rl.toml"
                or "$" not in path.read_text(encoding="utf-8")
            ), path


@given(
    name=st.from_regex(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", fullmatch=True),
    kind=st.sampled_from(EXTENSIONS),
)
@settings(max_examples=30)
def test_every_name_gives_modules_that_compile(name, kind):
    texts = {
        "name": f"x_{name}",
        "kind": kind,
        "project": "p",
        "module": "m",
        "item": "i",
        "use": "u",
    }
    for path, text in _files(kind, texts).items():
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize(
    "name", ["operation", "reward", "trace", "context", "annotations", "match"]
)
def test_a_name_that_the_template_uses_works(name):
    texts = {"name": name, "project": "p", "module": "m", "item": name, "use": "u"}
    for kind, registry in (("operation", OPERATIONS), ("reward", REWARDS)):
        exec(compile(_files(kind, {**texts, "kind": kind})["m.py"], "m.py", "exec"), {})
        assert name in registry
        registry.unregister(name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("operation Rotate-Left", ["lower-case", "such as rotate_left"]),
        ("operation 3d", ["such as d"]),
        ("operation a__b", ["such as a_b"]),
        (f"operation {'a' * 41}", ["at most 40"]),
        ("operation class", ["Python", "my_class"]),
        ("reward list", ["Python", "my_list"]),
        ("operation zoom_in", ["exists", "my_zoom_in"]),
        ("dialect compact", ["exists"]),
        ("benchmark pixelworld", ["exists"]),
        ("benchmark vstar", ["exists"]),
        ("reward evidence_hit", ["exists"]),
        ("plugin mine", ["operation, dialect, benchmark, reward"]),
        ("operation mine --out full", ["has files in it", "--out"]),
        ("operation mine --out full/file", ["is a file"]),
        ("operation mine --out full/file/below", ["a writable path"]),
    ],
)
def test_an_invalid_package_is_an_error_and_leaves_no_file(
    run, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert_refused(run("new", *arguments.split()), *words)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "full",
        "full/file",
    ]


def test_an_empty_folder_is_accepted(run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("new", "reward", "mine", "--out", ".")[0] == 0
    assert (Path.cwd() / "pyproject.toml").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
