"""Perturbation: off-target crops replace crops of a model, and the recovery rate is measured."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.dialects import COMPACT, DIALECTS
from pixel_reasoner.evals.run import Evaluation, evaluate, evaluate_perturbed, load_run
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.operations.zoom import sample_off_target_box
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.rollout.perturb import perturb_turn
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Evidence, MediaItem, Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.schema.trace import Picture, ToolCall
from pixel_reasoner.world import render, scenes


def question(**evidence) -> Question:
    return Question(id="q", text="?", media=(), answer=("x",), evidence=Evidence(**evidence))


EVIDENCE = Box(0.4, 0.4, 0.5, 0.5)
ZOOM = 'I look. \n<tool_call>\n{"name": "zoom_in", "arguments": {"bbox_2d": [0.35, 0.35, 0.55, 0.55], "target_image": 1}}\n</tool_call>'


@pytest.mark.parametrize("dialect", [*map(DIALECTS.get, DIALECTS)], ids=DIALECTS)
def test_an_off_target_crop_has_equal_size_and_contains_no_evidence(dialect):
    crop = Box(0.35, 0.35, 0.55, 0.55)
    seen_px = (640, 480)
    shown = [Picture(number=1, medium=0, source_px=seen_px, seen_px=seen_px)]
    written = dialect.write_call(
        ToolCall(name="zoom_in", arguments={"bbox_2d": list(crop), "target_image": 1}), shown
    )
    for n in range(30):
        asked = question(boxes=(EVIDENCE,)).model_copy(update={"id": str(n)})
        text = perturb_turn(f"I look.\n{written}", asked, dialect, shown)
        assert text.startswith(f"I look.\n{dialect.syntax.open}")
        off_target = Box.of(dialect.parse(text, shown).call.arguments["bbox_2d"])
        assert off_target.intersection(EVIDENCE) == 0
        executed = dialect.parse(written, shown).call.arguments["bbox_2d"]
        clamped = (
            off_target.x1 == 0 or off_target.y1 == 0 or off_target.x2 == 1 or off_target.y2 == 1
        )
        assert clamped or off_target.x2 - off_target.x1 == pytest.approx(
            executed[2] - executed[0], abs=0.011
        )
        assert text == perturb_turn(f"I look.\n{written}", asked, dialect, shown)


def test_off_target_frames_replace_selected_frames():
    call = COMPACT.write_call(ToolCall(name="select_frames", arguments={"target_frames": [3, 4]}))
    size = (96, 64)
    shown = [
        Picture(number=n, medium=0, frame=n, source_px=size, seen_px=size) for n in range(1, 17)
    ]
    text = perturb_turn(call, question(frames=(3, 4)), COMPACT, shown)
    frames = COMPACT.parse(text).call.arguments["target_frames"]
    assert len(frames) == 2
    assert not {3, 4} & set(frames)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("\\boxed{7}", question(boxes=(EVIDENCE,))),
        (ZOOM, question()),
        (ZOOM, question(frames=(1,))),
        (ZOOM, question(boxes=(Box(0, 0, 1, 1),))),
        (ZOOM.replace("[0.35", "[0.95"), question(boxes=(EVIDENCE,))),
        ("<tool_call>broken</tool_call>", question(boxes=(EVIDENCE,))),
    ],
)
def test_a_call_that_cannot_be_perturbed_is_not_changed(text, asked):
    assert perturb_turn(text, asked, COMPACT, ()) == text


@given(st.integers(0, 10_000), st.floats(0.05, 0.6), st.floats(0.05, 0.6))
def test_an_off_target_box_is_inside_the_picture(seed, width, height):
    like = Box(0.0, 0.0, round(width, 2), round(height, 2))
    box = sample_off_target_box(like, [EVIDENCE], random.Random(seed))
    if box is not None:
        assert Box.of(box) == box
        assert box.intersection(EVIDENCE) == 0


def scripted(question: Question, times: int) -> list[str]:
    """Return a model that zooms into the right place `times` times, then answers."""
    x1, y1, x2, y2 = question.evidence.boxes[0]
    arguments = {"bbox_2d": [x1, y1, x2, y2], "target_image": 1}
    look = f"I look.\n{COMPACT.write_call(ToolCall(name='zoom_in', arguments=arguments))}"
    return [*[look] * times, f"\\boxed{{{question.answer[0]}}}"]


@pytest.fixture
def asked(tmp_path) -> Question:
    questions = render(scenes("attribute", "test", 0, 8), tmp_path)
    return next(question for question in questions if question.needs_look)


def test_only_the_first_crop_is_perturbed_and_the_trace_can_be_replayed(tmp_path, asked):
    here = with_media_root(asked, tmp_path)
    trace = ask(here, ScriptedModel(scripted(asked, 2)), RolloutConfig(perturb=True))
    first, second = (picture.box for seen in trace.executed for picture in seen.pictures)
    clue = asked.evidence.boxes[0]
    assert first.intersection(clue) == 0
    assert second.intersection(clue) > 0.9 * clue.area
    assert COMPACT.parse(trace.turns[0].text).call == trace.turns[0].call


def test_a_run_with_perturbation_reports_the_recovery_rate(tmp_path, asked):
    overview = asked.model_copy(update={"id": "o", "needs_look": False, "evidence": None})
    other = asked.model_copy(update={"id": "wrong", "answer": ("never",)})
    questions = [asked, overview, other]
    model = ScriptedModel(scripted(asked, 1))
    plan = Evaluation(questions, model, RolloutConfig(), {})
    summary = evaluate_perturbed(evaluate(plan, tmp_path), plan, tmp_path)
    assert summary["disturbed"] == 1
    assert summary["recovery_rate"] == 1.0, "this model answers whatever it sees"
    assert json.loads((tmp_path / "summary.json").read_text())["recovery_rate"] == 1.0
    (again,) = load_run(tmp_path / "disturbed")
    assert again.executed[0].pictures[0].box.intersection(asked.evidence.boxes[0]) == 0


def test_metrics_by_family_are_consistent_with_the_total(tmp_path):
    media = (MediaItem(kind="image", path="x.png"),)
    from pixel_reasoner.evals.stats import summarize
    from pixel_reasoner.schema.trace import StopReason, Trace

    traces = [
        Trace(
            question=Question(id=f"{family}-{n}", text="?", media=media, answer=("a",), needs_look=True),
            stop=StopReason.ANSWERED,
            answer="a" if n % 2 else "b",
        )
        for family, count in (("x", 4), ("y", 2))
        for n in range(count)
    ]  # fmt: skip
    summary = summarize(traces, lambda trace: trace.question.id.partition("-")[0])
    assert {name: one["count"] for name, one in summary["by_family"].items()} == {"x": 4, "y": 2}
    assert summary["by_family"]["x"]["by_category"]["needs_look"]["accuracy"] == 0.5
