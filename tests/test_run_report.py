"""Report of an evaluation: its numbers equal counts by hand, and every link shows the traces that it counts."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pixel_reasoner.errors import InputError
from pixel_reasoner.evals.run import Evaluation, evaluate, evaluate_compared
from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports import build
from pixel_reasoner.reports.build import write_run_report
from pixel_reasoner.reports.charts import MAX_OPTIONS, charts_section, confusion_section
from pixel_reasoner.reports.page import PageLimits
from pixel_reasoner.reports.scan import (
    Choice,
    Count,
    ScannedTrace,
    scan_run,
    size_group,
    size_groups,
)
from pixel_reasoner.runs.trace_file import StoredTraces, TraceFile
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import StopReason, Trace, Turn, load_traces, save_traces
from pixel_reasoner.scoring.grading import Scorer
from report_fixture import HOSTILE, all_traces, draw_scene
from report_reader import WrittenPage, table_rows

ZOOM = (
    '<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0.1, 0.1, 0.6, 0.6], "target_image": 1}}\n'
    "</tool_call>"
)
RIGHT_WITH, RIGHT_WITHOUT = {0, 1, 2, 3}, {2, 3, 4, 5}
"""numbers of the questions that are answered right with operations, and without"""


def reply(conversation: Any) -> str:
    """Zoom for even questions, and answer right depending on the number: all four effects occur."""
    number = next(n for n in range(8) if f"number {n}?" in str(conversation))
    has_operations = "zoom_in" in str(conversation[0])
    is_first = not any(message["role"] == "assistant" for message in conversation)
    if has_operations and is_first and number % 2 == 0:
        return f"I look.\n{ZOOM}"
    right = RIGHT_WITH if has_operations else RIGHT_WITHOUT
    return r"\boxed{A}" if number in right else r"\boxed{B}" if number < 7 else "I cannot say."


def questions() -> list[Question]:
    return [
        Question(
            id=f"q{n}",
            text=f"Is it number {n}?",
            media=(MediaItem(kind="image", path="media/scene.png"),),
            answer=("A",),
            answer_type=AnswerType.CHOICE,
            options={"A": "yes", "B": "no"},
            category=("first", "second\nline", HOSTILE)[n % 3],
            group=f"{n}",
            evidence=Evidence(boxes=(Box(0.2, 0.2, 0.25 if n < 4 else 0.5, 0.25),)),
        )
        for n in range(8)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "a run"
    (run / "media").mkdir(parents=True)
    draw_scene(run / "media" / "scene.png")
    rows = {"read": 9, "dropped": {HOSTILE: {"count": 1, "rows": [HOSTILE]}}, "noted": {}}
    evaluation = Evaluation(
        questions(), ScriptedModel(reply), RolloutConfig(), {"name": "vstar"}, rows=rows
    )
    evaluate_compared(evaluation, run)
    return run


@pytest.fixture(scope="module")
def page(run) -> WrittenPage:
    return WrittenPage(write_run_report([run], run.parent / "page.html", references=True).out)


def metrics(page: WrittenPage) -> dict[str, Any]:
    return {one.name: one for one in page.section("Metrics").metrics}


# --- numbers ---


def test_metrics_equal_counts_by_hand(page):
    values = {name: metric.value for name, metric in metrics(page).items()}
    expected = {
        "accuracy": 0.5,
        "without operations": 0.5,
        "gain": 0.25,
        "harm": 0.25,
        "difference": 0.0,
        "RaPR": 0.5,
        "evidence shown": 0.5,
        "unparsed": 0.125,
        "operations": 0.5,
    }
    assert {name: values[name] for name in expected} == expected
    assert "score" not in values, "it equals the accuracy"
    assert all(one.explanation.endswith(".") for one in metrics(page).values())
    assert all(metrics(page)[name].interval for name in list(expected)[:5])


def test_the_link_of_a_metric_shows_the_questions_that_it_counts(page):
    for name, numbers in {
        "accuracy": RIGHT_WITH,
        "gain": {0, 1},
        "harm": {4, 5},
        "RaPR": {0, 2, 4, 6},
        "evidence shown": {0, 2, 4, 6},
        "unparsed": {7},
    }.items():
        shown = page.filtered(metrics(page)[name].facets)
        assert sorted(shown) == [f"q{n}" for n in sorted(numbers)], name


@pytest.mark.parametrize("title", ["Effect of operations", "Answered against expected option"])
def test_a_cell_of_a_matrix_shows_its_number_of_traces_and_each_trace_is_in_one(page, title):
    cells = [cell for row in page.section(title).cells for cell in row]
    shown = [page.filtered(cell.facets) for cell in cells]
    assert [len(ids) for ids in shown] == [cell.value for cell in cells]
    assert sorted(id_ for ids in shown for id_ in ids) == [f"q{n}" for n in range(8)]


def test_the_matrix_of_effects_equals_counts_by_hand(page):
    cells = page.section("Effect of operations").cells
    assert [[cell.value for cell in row] for row in cells] == [[2, 2], [2, 2]]
    assert cells[0][1].text == "gain: 2 (25.0%)"


def test_the_confusion_matrix_equals_counts_by_hand(page):
    section = page.section("Answered against expected option")
    assert (section.rows, section.columns) == (("A",), ("A", "B", "no answer"))
    assert [cell.value for cell in section.cells[0]] == [4, 3, 1]


def test_a_click_on_a_bar_shows_its_number_of_traces(page):
    chart = page.chart("Operations per question")
    everything, right = chart.series
    assert (everything.y, right.y) == ((4, 4), (2, 2))
    for label, count in zip(chart.x_labels, everything.y, strict=True):
        assert len(page.filtered({chart.facet: (label,)})) == count


def test_accuracy_by_evidence_size_equals_counts_by_hand(page):
    chart = page.chart("Accuracy by size of the evidence")
    assert chart.x_labels == ("0.1 % to 0.32 %", "0.32 % to 1 %", "1 % to 3.2 %")
    (series,) = chart.series
    assert series.y == (1.0, None, 0.0)
    assert series.sizes == (4, 0, 4)
    assert series.low[0] == pytest.approx(0.025 ** (1 / 4), abs=1e-4)  # exact, of four clusters
    assert len(page.filtered({chart.facet: ("1 % to 3.2 %",)})) == 4


def test_the_chart_of_categories_has_one_point_each(page):
    (series,) = page.chart("Accuracy against RaPR").series
    by_name = dict(zip(series.labels, zip(series.x, series.y, strict=True), strict=True))
    assert by_name["first"] == (pytest.approx(2 / 3, abs=1e-4), pytest.approx(2 / 3, abs=1e-4))
    assert sum(series.sizes) == 8


def test_the_table_has_a_row_of_all_and_one_per_category(page):
    rows = table_rows(page.section("Metrics by kind of question"))
    assert [row["group"] for row in rows][:2] == ["all", "first"]
    assert rows[0]["accuracy"] == 0.5
    assert rows[0]["questions"] == 8
    assert sum(row["questions"] for row in rows[1:]) == 8


# --- head and settings ---


def test_the_head_names_benchmark_model_and_costs(page):
    facts = {fact.name: fact.value for fact in page.report.facts}
    assert facts["benchmark"] == "vstar"
    assert facts["model"].startswith("scripted")
    assert facts["evaluated rows"] == "8 of 9 (88.9%)"
    assert {"dialect", "date", "version", "time"} <= set(facts)
    assert page.report.kind == "run"
    assert page.report.made_by.startswith("pixel-reasoner ")


def test_every_setting_of_the_run_is_shown(page, run):
    shown = {fact.name for fact in page.report.settings}
    settings = json.loads((run / "settings.json").read_text())
    assert {name for name, value in settings.items() if not isinstance(value, dict)} <= shown
    assert {"task.name", "limits.max_turns", "sampling.temperature", "scorer", "questions"} <= shown
    assert any(name.startswith("budgets.crop.") for name in shown)


def test_dropped_rows_are_counted_with_their_reason(page):
    (row,) = table_rows(page.section("Rows of the benchmark"))
    assert row == {"reason": HOSTILE, "effect": "dropped", "rows": 1, "examples": HOSTILE}


def test_published_results_are_shown_only_if_asked_for(page, run, tmp_path):
    assert "Published, not measured here" in page.titles()
    plain = WrittenPage(write_run_report([run], tmp_path / "page.html").out)
    assert "Published, not measured here" not in plain.titles()


# --- traces ---


def test_both_answers_to_a_question_are_next_to_each_other(page):
    for item, entry in zip(page.items, page.report.entries, strict=True):
        assert [one.name for one in item.traces] == ["with operations", "without operations"]
        number = int(item.question.id[1:])
        right = [one.outcome == "right" for one in item.traces]
        assert right == [number in RIGHT_WITH, number in RIGHT_WITHOUT]
        assert entry.outcomes == tuple(one.outcome for one in item.traces)


def test_the_same_picture_is_shown_once(page):
    for item in page.items:
        with_, without = item.traces
        assert [one.name for one in with_.media] == [one.name for one in without.media]
        assert with_.pictures[0].view.ref == without.pictures[0].view.ref


def test_harm_is_first_then_gain_then_wrong_in_both_then_right_in_both(page):
    effects = [entry.facets["effect-of-operations"][0] for entry in page.report.entries]
    assert effects == ["harm"] * 2 + ["gain"] * 2 + ["neither"] * 2 + ["both"] * 2
    assert page.report.entries[0].id == "q4", "with an operation"


def test_a_run_without_a_comparison_has_one_answer_and_no_effects(run, tmp_path):
    page = WrittenPage(write_run_report([run / "without"], tmp_path / "page.html").out)
    assert [len(item.traces) for item in page.items] == [1] * 8
    assert "Effect of operations" not in page.titles()
    assert "gain" not in metrics(page)
    assert page.items[0].traces[0].name == ""


def test_a_failed_request_counts_in_no_metric_and_is_first(run, tmp_path):
    model = ScriptedModel(reply)
    broken = questions()[1].model_copy(
        update={"id": "broken", "media": (MediaItem(kind="image", path="media/gone.png"),)}
    )
    (tmp_path / "run/media").mkdir(parents=True)
    draw_scene(tmp_path / "run/media/scene.png")
    evaluate(
        Evaluation([*questions()[:4], broken], model, RolloutConfig(), {"name": "own"}),
        tmp_path / "run",
    )
    page = WrittenPage(write_run_report([tmp_path / "run"], tmp_path / "page.html").out)
    assert page.report.entries[0].id == "broken"
    assert metrics(page)["failed requests"].value == 1
    assert page.filtered(metrics(page)["failed requests"].facets) == ["broken"]
    assert metrics(page)["accuracy"].value == 1.0
    assert len(page.filtered(metrics(page)["accuracy"].facets)) == 4
    assert "broken" not in page.filtered({"outcome": ("wrong", "unparsed", "right")})


def test_samples_of_a_question_are_separate_entries_with_avg_and_pass(tmp_path):
    asked = [one.model_copy(update={"media": ()}) for one in questions()[:2]]
    traces = [
        Trace(question=question, sample=sample, stop=StopReason.ANSWERED, answer=answer)
        for question, answers in zip(asked, ("AB", "AA"), strict=True)
        for sample, answer in enumerate(answers)
    ]
    save_traces(traces, tmp_path / "traces.jsonl")
    (tmp_path / "summary.json").write_text(json.dumps(summarize(traces)))
    page = WrittenPage(write_run_report([tmp_path], tmp_path / "page.html").out)
    assert Counter(entry.id for entry in page.report.entries) == {"q0": 2, "q1": 2}
    values = {name: one.value for name, one in metrics(page).items()}
    assert (values["avg@2"], values["pass@2"]) == (0.75, 1.0)
    assert {dict(item.traces[0].facts).get("sample") for item in page.items} == {None, "2"}


def test_a_limit_shortens_the_list_and_is_stated(run, tmp_path):
    written = write_run_report([run], tmp_path / "page.html", limit=3)
    page = WrittenPage(written.out)
    assert written.is_shortened
    assert len(page.items) == 3
    assert "first 3 of 8" in page.report.warnings[0]
    assert metrics(page)["accuracy"].value == 0.5
    assert not write_run_report([run], tmp_path / "page.html", limit=8).is_shortened


def test_progress_counts_the_written_questions(run, tmp_path):
    seen: list[object] = []

    def start(title: str, total: int | None) -> Any:
        seen.append(total)
        return seen.append

    write_run_report([run], tmp_path / "page.html", start_progress=start)
    assert seen == [8, *range(1, 9)]


def test_a_large_report_is_a_folder_and_its_page_is_returned(run, tmp_path, monkeypatch):
    original = build.write_rows
    monkeypatch.setattr(
        build,
        "write_rows",
        lambda *args, **more: original(*args, **more, limits=PageLimits(max_page_bytes=10)),
    )
    written = write_run_report([run], tmp_path / "page.html")
    assert written.out == tmp_path / "page" / "index.html"
    assert len(WrittenPage(written.out).items) == 8


def test_an_unfinished_run_is_shown_with_a_warning(run, tmp_path):
    for name in ("traces.jsonl", "settings.json"):
        (tmp_path / name).write_text((run / name).read_text())
    page = WrittenPage(write_run_report([tmp_path], tmp_path / "page.html").out)
    assert "not finished" in page.report.warnings[0]
    assert len(page.items) == 8
    with pytest.raises(InputError, match="it resumes"):
        write_run_report([tmp_path], tmp_path / "page.html", tables=[tmp_path / "t.md"])


def test_a_file_of_traces_is_shown_up_to_the_limit(run, tmp_path):
    for limit, is_shortened in ((7, True), (8, False), (None, False)):
        written = write_run_report([run / "traces.jsonl"], tmp_path / "page.html", limit=limit)
        assert written.is_shortened is is_shortened
        assert len(WrittenPage(written.out).items) == (limit or 8)


# --- the first pass ---


def scanned(number: int, **fields: Any) -> ScannedTrace:
    """Return the numbers of a trace with some fields replaced."""
    question = Question(id=f"{number}", text="?", media=(), answer=("A",), group=f"{number}")
    from pixel_reasoner.reports.scan import _scan

    trace = Trace(question=question, stop=StopReason.ANSWERED, answer="A")
    return _scan(0, trace, Scorer.TYPED)._replace(**fields)


OPTIONS = st.sampled_from([*"ABCDEFGHIJKLMNOPQ", "several", "no answer"])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.builds(Choice, OPTIONS, OPTIONS), min_size=1, max_size=60))
def test_each_choice_question_is_in_exactly_one_cell(choices):
    traces = [scanned(number, choice=choice) for number, choice in enumerate(choices)]
    section = confusion_section(traces)
    cells = [cell for row in section.cells for cell in row]
    assert sum(cell.value for cell in cells) == len(choices)
    for cell in cells:
        shown = [
            one
            for one in traces
            if all(set(one.facets[name]) & set(values) for name, values in cell.facets.items())
        ]
        assert len(shown) == cell.value
    for names in (section.rows, section.columns):
        assert len(set(names)) == len(names) <= MAX_OPTIONS + 3


def test_counts_are_points_with_the_number_of_questions():
    pairs = [(2, 2), (2, 2), (2, 3), (5, 4), (5, 900)]
    traces = [scanned(n, numbered=Count(*pair)) for n, pair in enumerate(pairs)]
    (chart,) = [one for one in charts_section(traces).charts if one.title.startswith("Counts")]
    (series,) = chart.series
    points = dict(zip(zip(series.x, series.y, strict=True), series.sizes, strict=True))
    assert points == {(2, 2): 2, (2, 3): 1, (5, 4): 1}
    assert "The mean error is +0.00. Not drawn: 1 of 5" in chart.explanation
    assert chart.diagonal


@given(st.floats(min_value=0, max_value=1))
def test_every_evidence_size_is_in_one_group(share):
    names = list(size_groups())
    assert names.count(size_group(share)) == 1
    if share < 1:
        assert names.index(size_group(share)) <= names.index(size_group(min(1, 2 * share + 1e-12)))


def test_traces_are_read_by_their_place_in_any_order(run):
    file = TraceFile(run)
    stored = list(file.scan())
    expected = [trace.question.id for trace in load_traces(run / "traces.jsonl")]
    assert [one.trace.question.id for one in stored] == expected
    lazy = StoredTraces(file, [one.offset for one in reversed(stored)])
    assert [trace.question.id for trace in lazy] == expected[::-1]
    assert lazy[:2][1] == stored[-2].trace


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_places_are_right_with_a_byte_order_mark_and_empty_lines(tmp_path, mark):
    asked = [Question(id=f"ä{n}", text="?", media=()) for n in range(3)]
    lines = [Trace(question=one, stop=StopReason.NO_ANSWER).to_line() for one in asked]
    path = tmp_path / "traces.jsonl"
    path.write_text(mark + "\n\n".join(lines) + "\n", encoding="utf-8")
    file = TraceFile(path)
    offsets = [one.offset for one in file.scan()]
    assert [file.read(offset).question.id for offset in offsets] == ["ä0", "ä1", "ä2"]


def test_a_line_that_is_not_a_trace_is_an_error_with_its_number(tmp_path):
    (tmp_path / "traces.jsonl").write_text("\n{\n")
    with pytest.raises(InputError, match="line 2"):
        list(TraceFile(tmp_path).scan())
    (tmp_path / "traces.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="readable JSONL"):
        list(TraceFile(tmp_path).scan())


@pytest.mark.medium
def test_the_first_pass_keeps_a_small_part_of_the_traces(tmp_path):
    asked = (Question(id=f"{n}", text="x" * 20_000, media=(), answer=("a",)) for n in range(1000))
    text = "y" * 10_000
    save_traces(
        (Trace(question=one, turns=(Turn(text=text),), stop=StopReason.ANSWERED) for one in asked),
        tmp_path / "traces.jsonl",
    )
    tracemalloc.start()
    found = scan_run(tmp_path, Scorer.TYPED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.traces) == 1000
    assert peak < 0.1 * (tmp_path / "traces.jsonl").stat().st_size


def test_lines_of_a_newer_version_are_left_out_and_named(tmp_path):
    lines = [trace.to_line() for trace in all_traces(tmp_path).values()][:2]
    lines.insert(1, lines[0].replace('"schema_version":2', '"schema_version":99'))
    (tmp_path / "traces.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_run_report([tmp_path], tmp_path / "page.html")
    found = WrittenPage(tmp_path / "page.html").report
    assert len(found.entries) == 2
    assert any("1. line 2: schema version 99" in warning for warning in found.warnings)


def test_a_file_without_any_trace_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "What?"}\n{}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        write_run_report([tmp_path / "rows.jsonl"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
