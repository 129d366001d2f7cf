"""Pages of several runs: comparisons with the first run, and the table of runs with what makes them incomparable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner import api
from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.compare import compare_runs
from pixel_reasoner.evals.run import Evaluation, evaluate
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports.build import write_comparison, write_run_report
from pixel_reasoner.reports.leaderboard import comparability_note, read_entries
from pixel_reasoner.reports.names import run_names
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits
from report_fixture import draw_scene
from report_reader import WrittenPage, table_rows

ZOOM = (
    '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0.1, 0.1, 0.6, 0.6], "target_image": 1}}\n'
    "</tool_call>"
)
FIRST, SECOND, THIRD = "yyyynnnn", "ynnynnny", "yyyyyyyy"
"""a letter per question: `y` right, `n` wrong"""


def ask_all(
    out: Path, letters: str, zooms: Sequence[int] = (), task: str = "own", **limits: int
) -> Path:
    """Write a run with these answers. Some questions use an operation."""
    (out / "media").mkdir(parents=True)
    draw_scene(out / "media" / "scene.png")
    texts = {"y": r"\boxed{yes}", "n": r"\boxed{no}"}

    def reply(conversation: Any) -> str:
        number = next(n for n in range(8) if f"number {n}?" in str(conversation))
        is_first = not any(message["role"] == "assistant" for message in conversation)
        return ZOOM if number in zooms and is_first else texts[letters[number]]

    questions = [
        Question(
            id=f"q{n}",
            text=f"Is it number {n}?",
            media=(MediaItem(kind="image", path="media/scene.png"),),
            answer=("yes",),
            category="small" if n < 4 else "large",
            group=f"{n}",
        )
        for n in range(len(letters))
    ]
    config = RolloutConfig(limits=RolloutLimits(**limits))
    evaluate(Evaluation(questions, ScriptedModel(reply), config, {"name": task}), out)
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        ask_all(folder / "first", FIRST, zooms=(0, 1)),
        ask_all(folder / "second", SECOND, zooms=(1, 2, 3), max_turns=4),
        ask_all(folder / "third", THIRD),
    ]


@pytest.fixture(scope="module")
def page(runs) -> WrittenPage:
    found = compare_runs(*runs[:2])
    return WrittenPage(write_comparison(found, *runs[:2], runs[0].parent / "two.html").out)


@pytest.fixture(scope="module")
def three(runs) -> WrittenPage:
    found = [compare_runs(runs[0], other) for other in runs[1:]]
    out = runs[0].parent / "three.html"
    return WrittenPage(write_comparison(found, *runs[:2], out, more=runs[2:]).out)


# --- comparisons ---


def test_differences_equal_counts_by_hand(page):
    metrics = {one.name: one for one in page.section("first against second").metrics}
    assert metrics["first"].value == 0.5
    assert metrics["second"].value == 0.375
    assert metrics["difference"].value == 0.125
    assert metrics["only first right"].value == 0.25
    assert metrics["only second right"].value == 0.125
    assert all(one.interval for one in metrics.values())
    assert "p = " in metrics["difference"].explanation
    assert page.filtered(metrics["only first right"].facets) == ["q1", "q2"]
    assert page.filtered(metrics["only second right"].facets) == ["q7"]


def test_each_question_is_in_one_cell_of_wins_and_losses(page, three):
    for shown, titles in ((page, ["second"]), (three, ["second", "third"])):
        for name in titles:
            section = shown.section(f"Wins and losses: first against {name}")
            cells = [cell for row in section.cells for cell in row]
            ids = [shown.filtered(cell.facets) for cell in cells]
            assert [len(some) for some in ids] == [cell.value for cell in cells]
            assert sorted(id_ for some in ids for id_ in some) == [f"q{n}" for n in range(8)]


def test_wins_and_losses_equal_counts_by_hand(page):
    cells = page.section("Wins and losses").cells
    assert [[cell.value for cell in row] for row in cells] == [[2, 2], [1, 3]]
    assert cells[0][1].text == "2 (25.0%)"


def test_traces_of_all_runs_are_next_to_each_other(page, three):
    for item in page.items:
        assert [one.name for one in item.traces] == ["first", "second"]
    for item in three.items:
        assert [one.name for one in item.traces] == ["first", "second", "third"]
        number = int(item.question.id[1:])
        right = [one.outcome == "right" for one in item.traces]
        assert right == [letters[number] == "y" for letters in (FIRST, SECOND, THIRD)]


def test_questions_with_different_outcomes_are_first(page):
    ids = [entry.id for entry in page.report.entries]
    assert ids[:3] == ["q7", "q1", "q2"]
    assert set(ids[3:6]) == {"q4", "q5", "q6"}


def test_the_use_of_operations_equals_counts_by_hand(page):
    first, second = table_rows(page.section("Use of operations"))
    assert (first["operations"], second["operations"]) == (0.25, 0.375)
    assert (first["RaPR"], second["RaPR"]) == (0.25, 0.375)
    assert (first["more operations"], second["more operations"]) == (None, 2)
    assert second["fewer operations"] == 1
    assert page.filtered({"operation-use": ("more operations in second",)}) == ["q2", "q3"]
    assert page.filtered({"operation-use": ("fewer operations in second",)}) == ["q0"]


def test_differences_by_category_equal_counts_by_hand(page):
    rows = {row["group"]: row for row in table_rows(page.section("Differences by category"))}
    assert rows["small"]["first"] == 1.0
    assert rows["small"]["second"] == 0.5
    assert rows["small"]["difference"] == 0.5
    assert rows["large"]["difference"] == -0.25
    assert rows["all"]["questions"] == rows["small"]["questions"] + rows["large"]["questions"]


def test_only_differing_settings_are_listed(page, three):
    rows = {row["setting"]: row for row in table_rows(page.section("Differing settings"))}
    assert set(rows) == {"limits.max_turns"}
    assert (rows["limits.max_turns"]["first"], rows["limits.max_turns"]["second"]) == ("6", "4")
    (row,) = table_rows(three.section("Differing settings"))
    assert (row["first"], row["second"], row["third"]) == ("6", "4", "6")


def test_equal_settings_are_stated(runs, tmp_path):
    found = compare_runs(runs[0], runs[2])
    page = WrittenPage(write_comparison(found, runs[0], runs[2], tmp_path / "page.html").out)
    assert "None" in page.section("Differing settings").text


def test_a_run_equals_itself(runs, tmp_path):
    found = compare_runs(runs[0], runs[0])
    page = WrittenPage(write_comparison(found, runs[0], runs[0], tmp_path / "page.html").out)
    assert page.report.title == "first (1) against first (2)"
    (difference,) = [
        one for one in page.section("first (1) against").metrics if one.name == "difference"
    ]
    assert difference.value == 0
    assert page.filtered({"comparison": ("first (1) right, first (2) wrong",)}) == []


def test_tables_of_several_runs_have_a_row_per_run_and_category(runs, tmp_path):
    found = [compare_runs(runs[0], other) for other in runs[1:]]
    api.write_comparison_tables(found, runs, [tmp_path / "t.csv"])
    header, *rows = (tmp_path / "t.csv").read_text().splitlines()
    assert header.startswith("run,group,questions,first,other run,difference")
    assert len(rows) == 2 * 3
    assert [row.split(",")[0] for row in rows] == ["second"] * 3 + ["third"] * 3


# --- the table of runs ---


def leaderboard(runs: Sequence[Path], out: Path) -> WrittenPage:
    return WrittenPage(write_run_report(runs, out).out)


def test_each_run_has_a_row_with_its_metrics(runs, tmp_path):
    page = leaderboard(runs, tmp_path / "page.html")
    rows = {row["run"]: row for row in table_rows(page.section("Metrics of each run"))}
    assert {name: row["accuracy"] for name, row in rows.items()} == {
        "first": 0.5,
        "second": 0.375,
        "third": 1.0,
    }
    assert rows["second"]["RaPR"] == 0.375
    assert rows["first"]["questions"] == 8
    assert page.report.kind == "leaderboard"
    assert page.items == []
    (series,) = page.chart("Accuracy of each run").series
    assert series.y == (1.0, 0.5, 0.375)


def test_comparable_runs_are_first_the_best_of_them_at_the_top(runs):
    assert [one.name for one in read_entries(runs)] == ["third", "first", "second"]


def test_a_run_with_another_decisive_setting_names_it_and_why(runs, tmp_path):
    table = leaderboard(runs, tmp_path / "page.html").section("Metrics of each run")
    assert table.notes == {
        2: "Not comparable: limits.max_turns is 4 instead of 6: more or fewer operations are possible."
    }


def test_runs_of_other_questions_are_marked(runs, tmp_path):
    other = ask_all(tmp_path / "other", FIRST[:5], task="another")
    table = leaderboard([runs[0], other], tmp_path / "page.html").section("Metrics of each run")
    assert "task.name is another instead of own" in table.notes[1]
    assert table.notes[1].endswith("other questions.")


def test_the_model_may_differ(runs, tmp_path):
    settings = json.loads((runs[0] / "settings.json").read_text())
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("summary.json", "traces.jsonl"):
        (changed / name).write_text((runs[0] / name).read_text())
    settings["model"]["name"] = "larger"
    (changed / "settings.json").write_text(json.dumps(settings))
    table = leaderboard([runs[0], changed], tmp_path / "page.html").section("Metrics of each run")
    assert table.notes == {}


SETTINGS = st.dictionaries(
    st.sampled_from(
        ["task.name", "limits.max_turns", "scorer", "budgets.crop.max_px", "questions"]
    ),
    st.sampled_from(["1", "2"]),
)


@given(SETTINGS, SETTINGS)
def test_a_note_exists_exactly_if_a_decisive_setting_differs(one, other):
    note = comparability_note(one, other)
    assert bool(note) == (one != other)


def test_sources_of_different_kinds_are_refused(runs, tmp_path):
    (tmp_path / "traces.jsonl").touch()
    with pytest.raises(UsageError, match="not a finished evaluation"):
        write_run_report([runs[0], tmp_path], tmp_path / "page.html")
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(UsageError, match="runs of one kind"):
        write_run_report([runs[0], tmp_path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@given(st.lists(st.sampled_from(["a", "b/a", "c/a", "b/c/a", "d"]), min_size=1, max_size=6))
def test_names_of_runs_are_different(names):
    found = run_names([Path("/runs") / name for name in names])
    assert len(set(found)) == len(names)
