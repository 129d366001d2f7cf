"""Sources, benchmarks and rewards: one interface each, and plug-ins of one file in other packages."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from pixel_reasoner.errors import UnknownNameError, UsageError
from pixel_reasoner.evals.benchmarks import BENCHMARKS, get_benchmark
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.scoring.rewards import REWARDS
from pixel_reasoner.sources.base import SOURCES, QuestionSource, open_source
from pixel_reasoner.sources.pixelworld import ALL_FAMILIES, PixelWorldSource, Selection
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize
from pixel_reasoner.world import FAMILIES, render, scenes


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_the_same_interface(name, tmp_path):
    kind = SOURCES.get(name)
    source = kind() if name == "pixelworld" else kind(data=tmp_path)
    assert isinstance(source, QuestionSource)
    assert isinstance(source, Record)
    assert source.describe()["name"] == name == kind.name
    assert kind.summary


def test_a_source_and_its_options_are_checked(tmp_path):
    with pytest.raises(UnknownNameError, match="'pixelworld', the nearest name"):
        open_source("pixelword")
    with pytest.raises(UsageError, match="sa1b: data, regions; got regions: Input should be gr"):
        open_source("sa1b", data=tmp_path, regions=0)
    with pytest.raises(UsageError, match="visa: data; got data: Field required"):
        open_source("visa")


class Generated(PixelWorldSource):
    """Source without files, like a plug-in."""

    name = "generated"


def test_a_generated_source_is_synthesized_without_data(tmp_path, request):
    SOURCES.register("generated", Generated)
    request.addfinalizer(lambda: SOURCES.unregister("generated"))
    summary = synthesize(SynthSpec(source="generated", out=tmp_path / "a", count=3))
    assert summary["count"] == 3
    assert all(one.question.media for one in load_traces(tmp_path / "a" / "traces.jsonl"))
    with pytest.raises(UsageError, match="no --data for generated, which reads no files"):
        synthesize(SynthSpec(source="generated", out=tmp_path / "b", data=tmp_path))
    with pytest.raises(UsageError, match="--data, the folder of the data set; got none"):
        synthesize(SynthSpec(source="visa", out=tmp_path / "c"))


# --- PixelWorld ---


def test_pixelworld_as_a_source_has_the_questions_of_an_evaluation(tmp_path):
    assert ALL_FAMILIES == FAMILIES
    source = open_source("pixelworld", families=("relation", "video"), seed=3, count=3)
    wanted = [*scenes("relation", "test", 3, 3), *scenes("video", "test", 3, 3)]
    assert list(source.questions(tmp_path)) == list(render(wanted, tmp_path))


@pytest.mark.medium
def test_units_of_pixelworld_are_independent_of_each_other(tmp_path):
    source = PixelWorldSource(count=2, selection=Selection.SEVERAL, per_scene=3)
    units = list(source.units(tmp_path))
    forwards = [list(source.rows(unit, tmp_path / "a")) for unit in units]
    backwards = [list(source.rows(unit, tmp_path / "b")) for unit in reversed(units)]
    assert forwards == backwards[::-1]
    assert {len(rows) for rows in forwards} <= {1, 2, 3, 4}
    assert all((tmp_path / "a" / rows[0].media[0].path).exists() for rows in forwards)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"families": ("attribut",)}, "a family of PixelWorld"),
        ({"split": "exam"}, "a split"),
        ({"seed": 10**9}, "seed \\+ count"),
    ],
)
def test_the_error_of_missing_scenes_names_them(options, named, tmp_path):
    with pytest.raises(UsageError, match=named):
        list(PixelWorldSource(**options).questions(tmp_path))


# --- other packages ---

PLUGIN = """
from pixel_reasoner.evals.benchmark import Benchmark, RowDraft
from pixel_reasoner.schema.question import Question
from pixel_reasoner.sources.base import Source


class Riddles(Source):
    name = "riddles"
    summary = "riddles without media"
    count: int = 2

    def units(self, folder):
        yield from range(self.count)

    def rows(self, unit, folder):
        yield Question(id=str(unit), text=f"{unit} + 1?", media=(), answer=(str(unit + 1),))


def read(data, media):
    for unit in range(3):
        yield RowDraft(f"row {unit}", lambda unit=unit: next(Riddles().rows(unit, media)))


BENCHMARK = Benchmark(
    name="riddles", measures="sums", files="none", rows="3", metric="accuracy", read=read
)


def reward_brief(trace):
    return 1.0 if len(trace.turns) == 1 else 0.0
"""
USER = """
from pathlib import Path
from pixel_reasoner.evals.benchmark import select_questions
from pixel_reasoner.evals.benchmarks import BENCHMARKS, get_benchmark
from pixel_reasoner.schema.trace import load_traces
from pixel_reasoner.scoring.rewards import REWARDS
from pixel_reasoner.sources.base import SOURCES, open_source

assert [q.answer for q in open_source("riddles", count=3).questions(Path())] == [("1",), ("2",), ("3",)]
assert open_source("riddles").describe() == {"name": "riddles", "count": 2}
assert "riddles" in SOURCES and "jsonl" in SOURCES
found = select_questions(get_benchmark("riddles"), Path(), Path())
assert [q.id for q in found.questions] == ["0", "1", "2"], found
assert list(BENCHMARKS)[-1] == "riddles"
assert REWARDS.get("brief").__name__ == "reward_brief"
assert "torch" not in __import__("sys").modules
"""


@pytest.mark.medium
def test_a_source_a_benchmark_and_a_reward_of_another_package_are_found(tmp_path):
    (tmp_path / "riddles.py").write_text(PLUGIN)
    info = tmp_path / "riddles-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: riddles\nVersion: 1\n")
    groups = {"sources": "Riddles", "benchmarks": "BENCHMARK"}
    lines = [
        f"[pixel_reasoner.{group}]\nriddles = riddles:{item}\n" for group, item in groups.items()
    ]
    lines.append("[pixel_reasoner.rewards]\nbrief = riddles:reward_brief\n")
    (info / "entry_points.txt").write_text("".join(lines))
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(USER)],
        check=True,
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path])},
    )


def test_the_error_of_an_unknown_benchmark_or_reward_lists_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'hrbench-4k'.*eval --list"):
        get_benchmark("hrbench4k")
    with pytest.raises(UnknownNameError, match="'evidence_hit', the nearest name"):
        REWARDS.get("evidencehit")
    assert list(BENCHMARKS)[:3] == ["vstar", "hrbench-4k", "hrbench-8k"]


@pytest.mark.parametrize(
    "module",
    ["pixel_reasoner.sources.base", "pixel_reasoner.scoring.rewards", "pixel_reasoner.runs.folder"],
)
def test_questions_and_scores_need_no_media_libraries(module):
    code = f"import sys, {module}; from pixel_reasoner.sources.base import SOURCES; list(SOURCES)"
    code += "; print([m for m in ('av', 'numpy', 'PIL', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
