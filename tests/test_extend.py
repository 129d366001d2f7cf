"""Each example of docs/extend.md is installed as a package and passes its test in a separate process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from extension_fixture import install, use_each

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
KINDS = {
    *("operations", "transforms", "dialects", "benchmarks", "rewards"),
    *("sources", "models", "strategies", "report_sections"),
}

EVERY_DIALECT = """
from pathlib import Path
from pixel_reasoner.dialects import DIALECTS, get_dialect
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.operations.registry import describe_call
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.trace import ToolCall


def test_all_dialects_render_it(tmp_path):
    Image.new("RGB", (64, 32), "red").save(tmp_path / "a.png")
    picture = MediaItem(kind="image", path=str(tmp_path / "a.png"))
    question = Question(id="1", text="?", media=(picture,))
    config = RolloutConfig(operations=("zoom_in", "rotate"))
    wanted = ToolCall(name="rotate", arguments={"quarter_turns": 1, "target_image": 1})
    for name in DIALECTS:
        dialect = get_dialect(name)
        start = Rollout(question, FolderSettings(dialect=name), config)
        script = [
            dialect.write_turn("I turn it.", wanted, start.context.pictures),
            dialect.write_turn("It is red.", answer="red"),
        ]
        trace = api.ask(question, ScriptedModel(script, dialect=name), config)
        assert trace.executed[0].pictures[0].transforms[0].name == "rotate", name
        assert trace.answer == "red", (name, trace)
    assert describe_call(wanted) == "rotate(quarter_turns = 1, target_image = 1)"


def test_the_script_writes_a_report(tmp_path):
    import os, runpy
    os.chdir(tmp_path)
    runpy.run_path(str(Path(__file__).parent / "show.py"))
    assert "rotate" in Path("report.html").read_text(encoding="utf-8")
"""


def examples() -> dict[str, dict[str, str]]:
    """First group of entry points of an example -> its files."""
    found = {}
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        files = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", section, re.S))
        points = re.findall(
            r'^\[project\.entry-points\."pixel_reasoner\.(\w+)"\]\n(\w+) = "(\S+)"', section, re.M
        )
        files["entry_points.txt"] = "".join(
            f"[pixel_reasoner.{group}]\n{name} = {place}\n" for group, name, place in points
        )
        group = points[0][0]
        found[group] = files
    return found


@pytest.fixture
def packages(tmp_path) -> list[Path]:
    return [install(files, tmp_path / kind, f"my_{kind}") for kind, files in examples().items()]


@pytest.mark.medium
def test_every_example_of_the_page_passes_its_test(packages):
    assert {path.name for path in packages} == KINDS
    rotate = next(path for path in packages if path.name == "operations")
    with (rotate / "test_my_rotate.py").open("a", encoding="utf-8") as file:
        file.write(EVERY_DIALECT)
    use_each([(package, []) for package in packages])


def test_each_kind_of_extension_is_one_file():
    for kind, files in examples().items():
        modules = [name for name in files if name.startswith("my_")]
        assert len(modules) == 1, kind


def test_the_page_lists_every_registry():
    from pixel_reasoner.workflows.plugins import REGISTRIES

    assert {registry.group for registry in REGISTRIES} == {f"pixel_reasoner.{k}" for k in KINDS}
    page = PAGE.read_text(encoding="utf-8")
    assert [one.group for one in REGISTRIES if f"`{one.group}`" not in page] == []


def test_examples_import_only_from_the_modules_that_the_page_names():
    text = PAGE.read_text(encoding="utf-8")
    found = set(re.findall(r"^(?:from|import) (pixel_reasoner\S*)", text, re.M))
    assert found == {"pixel_reasoner", "pixel_reasoner.extend"}
