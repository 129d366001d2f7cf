"""Metrics of adaptivity, control conditions of rollouts, and what reports show of both."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixel_reasoner.data.check import check_traces
from pixel_reasoner.errors import UsageError
from pixel_reasoner.evals.adaptivity import (
    Adaptivity,
    AdaptivityRow,
    adaptivity_difference,
    adaptivity_row,
    fit_crossings,
)
from pixel_reasoner.evals.compare import compare_runs
from pixel_reasoner.evals.controls import evaluate_controls
from pixel_reasoner.evals.run import Evaluation, evaluate, evaluate_compared
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.reports.adaptivity import adaptivity_sections
from pixel_reasoner.reports.comparison import comparison_report, scan_comparison
from pixel_reasoner.reports.summary import RunSummary
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.rollout.controls import MAX_REQUESTS, control_config
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import Control, PixelBudget, PixelBudgets, RolloutConfig
from pixel_reasoner.schema.trace import StopReason, load_traces, save_traces
from pixel_reasoner.scoring.places import box_f1, place_score

HEIGHTS = (2, 3, 4, 6, 8, 12)
ZOOM = '<tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0.1, 0.1, 0.4, 0.4], "target_image": 1}}</tool_call>'
ANSWER = r"\boxed{K}"
_SMALL = PixelBudget(min_px=1024, max_px=64 * 64)
BUDGETS = PixelBudgets(
    picture=_SMALL, crop=_SMALL, frame=_SMALL, selected_frame=_SMALL, multiple=32
)


def rows(uses, is_right=lambda px: True, clusters: int = 20) -> Adaptivity:
    """Return metrics of runs in which `uses(height, cluster)` decides on operations."""
    found = Adaptivity()
    for cluster in range(clusters):
        for px in HEIGHTS:
            right = is_right(px)
            found.add(
                AdaptivityRow(
                    cluster,
                    px,
                    px < 5,
                    uses(px, cluster),
                    right,
                    float(right),
                    twins=f"{cluster}/{px}",
                    answer="K",
                    kind="",
                    is_missing=False,
                )
            )
    return found


# --- metrics ---


def test_a_model_that_looks_exactly_where_it_must_is_perfect():
    found = rows(lambda px, cluster: px < 5).result()
    assert found["rapr_difference"]["value"] == 1
    assert found["mcc"]["value"] == 1
    assert found["right_at_once"]["value"] == 1
    assert 4 < found["use_crossing_px"]["value"] < 6


@pytest.mark.parametrize("always", [True, False])
def test_a_habit_has_no_correlation_and_no_crossing(always):
    found = rows(lambda px, cluster: always).result()
    assert found["rapr_difference"]["value"] == 0
    assert found["mcc"]["value"] == 0
    assert found["use_crossing_px"] == {"value": None, "interval": None}


def test_looking_at_random_is_near_zero_and_its_interval_contains_zero():
    rng = random.Random(0)
    found = rows(lambda px, cluster: rng.random() < 0.5, clusters=60).result()
    low, high = found["mcc"]["interval"]
    assert low < 0 < high
    assert abs(found["mcc"]["value"]) < 0.15


def test_the_correlation_is_that_of_the_four_counts():
    # 9 of 10 unreadable questions and 4 of 10 readable ones use an operation.
    found = Adaptivity()
    for n in range(10):
        for needed, used in ((True, n < 9), (False, n < 4)):
            found.add(
                AdaptivityRow(n, 3 if needed else 8, needed, used, True, 1.0, "", "K", "", False)
            )
    tp, fn, fp, tn = 9, 1, 4, 6
    expected = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert found.result()["mcc"]["value"] == pytest.approx(expected, abs=1e-4)


def test_the_fit_finds_the_crossing_of_a_logistic_curve():
    heights = np.array(HEIGHTS, dtype=float)
    num = np.full((2, 6), 1e6)
    shares = 1 / (1 + np.exp(3 * (np.log2(heights) - np.log2([[3.5], [7.0]]))))
    assert fit_crossings(heights, num * shares, num) == pytest.approx([3.5, 7.0], rel=1e-3)


def test_a_crossing_outside_the_measured_heights_is_not_extrapolated():
    heights = np.array(HEIGHTS, dtype=float)
    part = np.array([[0.0, 0, 0, 0, 0, 1]])
    assert np.isnan(fit_crossings(heights, part, np.full((1, 6), 100.0)))[0]


def test_the_interval_of_the_crossing_contains_the_truth():
    rng = random.Random(1)
    chance = lambda px: 1 / (1 + np.exp(3 * (np.log2(px) - np.log2(5))))  # noqa: E731
    found = rows(lambda px, cluster: rng.random() < chance(px), clusters=80).result()
    low, high = found["use_crossing_px"]["interval"]
    assert low < 5 < high
    assert high / low < 2


def test_paired_differences_share_their_draws():
    first, second = (
        rows(lambda px, cluster: px < 5),
        rows(lambda px, cluster: px < 5 or cluster % 2 == 0),
    )
    found = adaptivity_difference(first, second)
    assert found["rapr_readable"]["value"] == pytest.approx(-0.5)
    assert adaptivity_difference(first, first)["mcc"] == {"value": 0.0, "interval": [0.0, 0.0]}


def test_twins_with_one_answer_are_counted():
    found = rows(lambda px, cluster: True)
    found.add(found.rows[0]._replace(answer="K"))
    found.add(found.rows[1]._replace(answer="L", is_right=False))
    twins = found.result()["twins"]
    assert twins["count"] == 2
    assert twins["same_answer"]["value"] == 0.5
    assert twins["both_right"]["value"] == 0.5


@pytest.mark.parametrize("labels", [{}, {"evidence_px": "high"}, {"evidence_px": "-1"}])
def test_questions_without_a_height_have_no_metrics(labels):
    question = Question(id="1", text="?", media=(), labels=labels, needs_look=True)
    assert adaptivity_row(question, 0, (True, 1.0), 0, "") is None


def test_one_kind_of_need_alone_gives_no_metrics():
    found = Adaptivity()
    found.add(AdaptivityRow(0, 3, True, True, True, 1.0, "", "K", "", False))
    assert found.result() is None


# --- positions, boxes, spans ---


@pytest.mark.parametrize(
    ("kind", "answer", "gold", "score"),
    [
        ("point", "0.30, 0.20", "0.32, 0.22", 1),
        ("point", "0.6, 0.2", "0.32, 0.22", 0),
        ("point", "x=0.3, y=0.2", "0.32, 0.22", 1),
        ("point", "0.3", "0.32, 0.22", 0),
        ("boxes", "[0.1, 0.1, 0.3, 0.3]", "[0.1, 0.1, 0.3, 0.3]", 1),
        ("boxes", "none", "[0.1, 0.1, 0.3, 0.3]", 0),
        ("boxes", "[]", "none", 1),
        ("boxes", "[0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8]", "[0.1, 0.1, 0.3, 0.3]", 2 / 3),
        ("span", "5 to 8", "5 to 8", 1),
        ("span", "8 to 5", "5 to 8", 0),
        ("span", "5 to 6", "5 to 8", 0.5),
        ("span", "never", "none", 1),
    ],
)
def test_places_are_scored_by_their_definition(kind, answer, gold, score):
    question = Question(id="1", text="?", media=(), answer_type=AnswerType(kind))
    assert place_score(answer, gold, question) == pytest.approx(score)


def test_a_point_is_right_inside_the_evidence():
    evidence = Evidence(boxes=(Box(0.2, 0.2, 0.6, 0.4),))
    question = Question(id="1", text="?", media=(), answer_type=AnswerType.POINT, evidence=evidence)
    assert place_score("0.58, 0.38", "0.4, 0.3", question) == 1
    assert place_score("0.58, 0.42", "0.4, 0.3", question) == 0


def test_one_box_matches_one_box():
    box = Box(0, 0, 0.5, 0.5)
    assert box_f1([box, box], [box]) == pytest.approx(2 / 3)
    assert box_f1([Box(0, 0, 0.5, 0.14)], [box]) == 0  # IoU 0.28


# --- controls ---


@pytest.fixture
def question(tmp_path) -> Question:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    item = MediaItem(kind="image", path=str(tmp_path / "a.png"))
    return Question(
        id="w2-attribute-1-3px-a-read-1",
        text="Which character?",
        media=(item,),
        answer=("K",),
        labels={"evidence_px": "3", "twin": "a"},
        needs_look=True,
        group="w2-attribute-1",
        evidence=Evidence(boxes=(Box(0.6, 0.6, 0.8, 0.8), Box(0.1, 0.6, 0.3, 0.8))),
    )


def run(question: Question, control: Control, *script: str):
    model = ScriptedModel(list(script), dialect="compact", budgets=BUDGETS)
    return ask(question, model, control_config(RolloutConfig(), control))


def replayed(trace, tmp_path: Path):
    """Return the problems of a check, which executes the trace again and compares the pixels."""
    path = tmp_path / "traces.jsonl"
    save_traces([trace], path)
    return check_traces(load_traces(path), sampled=True).named


def test_forced_rejects_an_answer_before_an_operation(question, tmp_path):
    trace = run(question, Control.FORCED, ANSWER, ZOOM, ANSWER)
    assert [one.error for one in trace.observations] == ["operation_required", None]
    assert trace.answer == "K"
    assert "zoom_in" in trace.observations[0].text
    assert replayed(trace, tmp_path) == []


def test_forced_gives_up_after_some_requests(question):
    trace = run(question, Control.FORCED, *[ANSWER] * 9)
    assert len(trace.observations) == MAX_REQUESTS
    assert trace.stop is StopReason.ANSWERED


def test_random_crops_have_the_size_of_the_call_and_another_place(question, tmp_path):
    trace = run(question, Control.RANDOM_CROP, ZOOM, ANSWER)
    box = trace.executed[0].pictures[0].box
    assert (box.x2 - box.x1, box.y2 - box.y1) == pytest.approx((0.3, 0.3), abs=1e-3)
    assert (box.x1, box.y1) != (0.1, 0.1)
    assert trace.turns[0].calls[0].arguments["bbox_2d"] == [0.1, 0.1, 0.4, 0.4]
    assert replayed(trace, tmp_path) == []


def test_blank_results_are_grey_at_the_usual_size(question, tmp_path):
    trace, usual = (
        run(question, Control.BLANK, ZOOM, ANSWER),
        ask(question, ScriptedModel([ZOOM, ANSWER], dialect="compact", budgets=BUDGETS)),
    )
    (crop,) = trace.crops()
    assert np.unique(np.asarray(crop)).tolist() == [128]
    assert crop.size == usual.crops()[0].size
    assert replayed(trace, tmp_path) == []


def test_the_oracle_shows_every_evidence_item_before_the_answer(question, tmp_path):
    trace = run(question, Control.ORACLE, ANSWER, ANSWER, ANSWER)
    boxes = [one.pictures[0].box for one in trace.executed]
    for evidence, box in zip(question.evidence.boxes, boxes, strict=True):
        assert box.intersection(evidence) == pytest.approx(evidence.area, rel=1e-2)
    assert trace.answer == "K"
    assert replayed(trace, tmp_path) == []


def test_tiles_share_the_pixels_of_one_crop(question, tmp_path):
    trace = run(question, Control.TILING, ANSWER)
    tiles = [one for one in trace.pictures if one.parent is not None]
    assert len(tiles) == 4
    assert sum(one.seen_px[0] * one.seen_px[1] for one in tiles) <= BUDGETS.crop.max_px
    covered = np.zeros((20, 20), dtype=bool)
    for one in tiles:
        x1, y1, x2, y2 = (round(20 * value) for value in one.box)
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    assert replayed(trace, tmp_path) == []


def test_controls_need_operations():
    with pytest.raises(UsageError, match="leave out --no-operations"):
        control_config(RolloutConfig(operations=False), Control.BLANK)


def test_a_control_is_a_setting_of_the_trace(question):
    trace = run(question, Control.BLANK, ZOOM, ANSWER)
    assert trace.settings.control is Control.BLANK
    assert "control" not in ask(question, ScriptedModel([ANSWER])).settings.to_dict()


# --- runs and reports ---


@pytest.fixture
def runs(question, tmp_path):
    questions = [
        question.model_copy(
            update={
                "id": f"w2-attribute-{n}-{px}px-{twin}-read-1", "group": f"w2-attribute-{n}",
                "labels": {"evidence_px": str(px), "twin": twin}, "needs_look": px < 5,
            }
        )
        for n in range(3) for px in (3, 8) for twin in "ab"
    ]  # fmt: skip

    def evaluated(name: str, script: list[str]) -> Path:
        model = ScriptedModel(script, dialect="compact", budgets=BUDGETS)
        plan = Evaluation(questions, model, RolloutConfig(), {"name": "pixelworld"})
        summary = evaluate_compared(plan, tmp_path / name)
        evaluate_controls(summary, plan, [Control.BLANK, Control.FORBIDDEN], tmp_path / name)
        return tmp_path / name

    return evaluated("looks", [ZOOM, ANSWER]), evaluated("answers", [ANSWER])


def test_a_summary_has_adaptivity_and_controls(runs):
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert summary["adaptivity"]["rapr_unreadable"]["value"] == 1
    assert summary["adaptivity"]["rapr_difference"]["value"] == 0
    assert [point["height"] for point in summary["adaptivity"]["curve"]] == [3, 8]
    assert summary["adaptivity"]["twins"]["same_answer"]["value"] == 1
    assert set(summary["controls"]) == {"blank", "forbidden"}
    assert summary["controls"]["blank"]["rapr"] == 1
    assert summary["controls"]["forbidden"]["rapr"] == 0
    more_px = (
        summary["picture_px_per_question"]
        - summary["controls"]["forbidden"]["picture_px_per_question"]
    )
    assert more_px == 64 * 64


def test_a_comparison_has_the_paired_differences(runs):
    found = compare_runs(*runs)
    assert found["adaptivity"]["difference"]["rapr_readable"]["value"] == 1
    assert found["adaptivity"]["second"]["rapr_readable"]["value"] == 0


def test_a_report_shows_the_curve_the_need_and_the_controls(runs):
    summary = RunSummary.model_validate_json((runs[0] / "summary.json").read_text())
    charts, metrics, controls = adaptivity_sections(summary, summary.adaptivity)
    (chart,) = charts.charts
    assert chart.x_labels == ("3 px", "8 px")
    names = {one.name: one for one in chart.series}
    assert names["needs one (renderer)"].y == (1, 0)
    assert names["uses an operation"].y == (1, 1)
    assert "right without operations" in names
    assert "in 100% of the questions that need one, and in 100%" in chart.explanation
    assert {one.name for one in metrics.metrics} >= {"MCC of use and need", "twins both right"}
    assert [row[0] for row in controls.rows] == ["the run", "blank", "forbidden"]


def test_a_run_without_heights_has_no_such_section(question, tmp_path):
    plain = question.model_copy(update={"labels": {}})
    model = ScriptedModel([ANSWER], dialect="compact", budgets=BUDGETS)
    evaluate(Evaluation([plain], model, RolloutConfig(), {"name": "mine"}), tmp_path / "run")
    summary = RunSummary.model_validate_json((tmp_path / "run" / "summary.json").read_text())
    assert summary.adaptivity is None
    assert adaptivity_sections(summary) == []


def test_a_comparison_report_shows_both_curves_and_the_differences(runs):
    found = [compare_runs(*runs)]
    report = comparison_report(scan_comparison(runs, found))
    titles = {section.title: section for section in report.sections}
    names = [one.name for one in titles["Does it look because of the pixels?"].charts[0].series]
    assert {"looks: uses an operation", "answers: uses an operation"} <= set(names)
    table = titles["Adaptivity: looks against answers"]
    assert ("RaPR where not needed", 1, 0, 1, (1, 1)) in [row[:5] for row in table.rows]
