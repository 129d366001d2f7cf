"""The examples of docs/extend.md, installed as a package of another author, do what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"

USE = r"""
import sys
from pathlib import Path

from PIL import Image

from pixel_reasoner.dialects import DIALECTS, detect_dialect, get_dialect
from pixel_reasoner.dialects.conformance import assert_valid_dialect
from pixel_reasoner.evals.benchmark import select
from pixel_reasoner.evals.benchmarks import get_benchmark
from pixel_reasoner.evals.run import Evaluation, evaluate
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.operations.base import assert_valid_operation
from pixel_reasoner.operations.registry import OPERATIONS, describe_call
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import ToolCall
from pixel_reasoner.scoring.rewards import REWARDS
from pixel_reasoner.sources.base import open_source

folder = Path(sys.argv[1])
assert not {"my_rotate", "my_dialect", "my_sums", "my_reward"} & set(sys.modules)

assert_valid_operation(OPERATIONS.get("rotate"))
Image.new("RGB", (64, 32), "red").save(folder / "a.png")
question = Question(id="1", text="?", media=(MediaItem(kind="image", path=str(folder / "a.png")),))
config = RolloutConfig(operations=("zoom_in", "rotate"))
for name in DIALECTS:
    dialect = get_dialect(name)
    wanted = ToolCall(name="rotate", arguments={"quarter_turns": 1, "target_image": 1})
    start = Rollout(question, FolderSettings(dialect=name), config)
    script = [
        dialect.write_turn("I turn it.", wanted, start.context.pictures),
        dialect.write_turn("It is red.", answer="red"),
    ]
    trace = ask(question, ScriptedModel(script, dialect=name), config)
    [picture] = trace.executed[0].pictures
    assert picture.transforms[0].name == "rotate", name
    assert picture.seen_px[1] >= picture.seen_px[0], "it stands upright now"
    assert trace.answer == "red", (name, trace)
assert describe_call(wanted) == "rotate picture 1 by 90 degrees"

assert_valid_dialect(get_dialect("brief"), boxes=100)
assert detect_dialect("me/brief-vl-7b").name == "brief"

assert [one.answer for one in open_source("sums", count=3).questions(folder)] == [("1",), ("2",), ("3",)]
rows = select(get_benchmark("sums"), folder, folder).questions
from my_model import Parrot

summary = evaluate(Evaluation(rows, Parrot(), RolloutConfig(), {"name": "sums"}), folder / "run")
assert abs(summary["accuracy"] - 1 / 3) < 1e-3, summary["accuracy"]
assert REWARDS.get("brief")(trace) == 1.0
"""


@pytest.fixture
def package(tmp_path) -> Path:
    """The files of the page, as pip would install them."""
    blocks = re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    files = dict(blocks)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = tmp_path / "my_plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugins\nVersion: 1\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.slow
def test_every_example_of_the_page_runs_as_a_package_of_another_author(package):
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USE, str(package)],
        check=True,
        env={"PYTHONPATH": ":".join([str(package), *sys.path])},
    )


def test_each_kind_of_plug_in_is_one_file(package):
    names = {path.name for path in package.glob("my_*.py")}
    assert names == {"my_rotate.py", "my_dialect.py", "my_sums.py", "my_reward.py", "my_model.py"}
