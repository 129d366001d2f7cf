"""Hindsight questions: a rollout that missed its item becomes a trace about the item that it shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from cli_fixture import assert_refused
from pixel_reasoner.data.check import check_traces
from pixel_reasoner.data.hindsight import best_item, first_result
from pixel_reasoner.data.recorded_scenes import RecordedScene, recorded_scene
from pixel_reasoner.data.regions import NoTrace
from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.rollout.replay import replay
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import Control, RunSettings, TrainingInfo
from pixel_reasoner.schema.trace import ToolCall, Trace, load_traces, save_traces
from pixel_reasoner.workflows.hindsight import HindsightSpec, rollout_files, write_hindsight
from pixel_reasoner.world import make_scene, questions as questions1
from pixel_reasoner.world.draw import write_media
from pixel_reasoner.world.render import build_media_item as build_media_item1
from pixel_reasoner.world.v2 import (
    Params,
    build_media_item,
    draw,
    make_scene as make_scene2,
    questions as questions2,
)
from pixel_reasoner.world.v2.scene import padded_box

PROMPT = folder_settings(BUNDLED_MODELS["tiny"])
SETTINGS = RunSettings(dialect=PROMPT.dialect, budgets=PROMPT.budgets)
PARAMS = Params.of(1024, 192, 3)
CLIP = Params.of(320, 64, 3)


def zoom(box: Box, image: int = 1) -> str:
    arguments = {"bbox_2d": [round(value, 2) for value in box], "target_image": image}
    return COMPACT.write_turn("I zoom in.", ToolCall(name="zoom_in", arguments=arguments))


def select(frames: Sequence[int]) -> str:
    call = ToolCall(name="select_frames", arguments={"target_frames": list(frames)})
    return COMPACT.write_turn("I look at these.", call)


def answer(text: str) -> str:
    return rf"I see it. \boxed{{{text}}}"


def around(box: Box, side: float = 0.2) -> Box:
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    x1, y1 = (min(max(middle - side / 2, 0.0), 1 - side) for middle in (x, y))
    return Box(x1, y1, x1 + side, y1 + side)


def scene_of(world: int, family: str, seed: int):
    """Return a scene, its module of questions, and its medium."""
    if world == 1:
        scene = make_scene(family, seed)
        return scene, questions1, build_media_item1(scene), write_media
    scene = make_scene2(family, seed, CLIP if family == "video" else PARAMS)
    return scene, questions2, build_media_item(scene), draw.write_media


def rollout(folder: Path, question: Question, write, scene, *turns: str, **changes) -> Trace:
    """Return the rollout of a question in which the model writes these turns, with relative media paths."""
    path = folder / question.media[0].path
    if not path.exists():
        write(scene, path)
    found = replay(with_media_root(question, folder), turns, PROMPT).trace(
        SETTINGS.model_copy(update=changes)
    )
    return found.model_copy(update={"question": question})


def missed(folder: Path, world: int, family: str, seed: int, *more: str, **changes) -> Trace:
    """Return a rollout that asks about one item and shows another."""
    scene, module, item, write = scene_of(world, family, seed)
    asked, shown = scene.items[:2]
    question = module.item_question(scene, item, asked)
    call = select(shown.frames) if shown.frames else zoom(around(padded_box(shown)))
    turns = more or (call, answer("nothing"))
    return rollout(folder, question, write, scene, *turns, **changes)


def hit(folder: Path, seed: int, said: str | None = None) -> Trace:
    """Return a rollout of world 1 that shows its item."""
    scene, module, item, write = scene_of(1, "attribute", seed)
    question = module.item_question(scene, item, scene.items[0])
    turns = zoom(around(scene.items[0].box)), answer(said or question.answer[0])
    return rollout(folder, question, write, scene, *turns)


def run_on(folder: Path, traces: Sequence[Trace], **changes) -> dict:
    save_traces(traces, folder / "rollouts" / "traces.jsonl")
    spec = {"rollouts": (folder / "rollouts",), "out": folder / "out"} | changes
    return write_hindsight(HindsightSpec(**spec))


def written(folder: Path) -> list[Trace]:
    return list(load_traces(folder / "out" / "traces.jsonl"))


ALL = [(1, "attribute"), (1, "infographic"), (1, "video")]
ALL += [(2, "attribute"), (2, "where"), (2, "video")]


# --- traces ---


@pytest.mark.parametrize(("world", "family"), ALL)
def test_a_miss_becomes_the_question_about_the_item_that_it_shows(tmp_path, world, family):
    first = 0
    while len(scene_of(world, family, first)[0].items) < 2:
        first += 1
    trace = missed(tmp_path / "rollouts", world, family, first)
    scene, module, item, _ = scene_of(world, family, first)
    summary = run_on(tmp_path, [trace], legible_px=1.0)
    assert summary["kinds"] == {"hindsight": 1}
    (made,) = written(tmp_path)
    assert made.question == module.item_question(scene, item, scene.items[1])
    assert made.answer == made.question.answer[0]
    assert made.turns[0].call == trace.turns[0].call
    assert made.turns[0].observations == trace.turns[0].observations
    assert check_traces(load_run(tmp_path / "out")).passed


@pytest.mark.medium
@hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 40), numbers=st.lists(st.integers(0, 100), min_size=4, max_size=4))
def test_any_call_gives_a_trace_that_passes_the_check_or_a_reason(tmp_path, seed, numbers):
    (x1, x2), (y1, y2) = sorted(numbers[:2]), sorted(numbers[2:])
    folder = tmp_path / f"{seed}-{numbers}"
    call = zoom(Box(x1 / 100, y1 / 100, x2 / 100, y2 / 100))
    trace = missed(folder / "rollouts", 1, "attribute", seed, call, answer("nothing"))
    with suppress(InputError):
        run_on(folder, [trace])
        assert check_traces(load_run(folder / "out")).passed
        (made,) = written(folder)
        assert made.question.id != trace.question.id
        return
    rows = (folder / "out" / "dropped.jsonl").read_text().splitlines()
    assert len(rows) == 1


def test_a_right_call_with_a_right_answer_is_kept_as_it_is(tmp_path):
    trace = hit(tmp_path / "rollouts", 3)
    assert run_on(tmp_path, [trace])["kinds"] == {"kept": 1}
    assert written(tmp_path) == [trace]
    assert check_traces(load_run(tmp_path / "out")).passed


def test_rollouts_of_rl_become_traces_without_their_media(tmp_path):
    trace = missed(tmp_path / "gone", 1, "attribute", 0, training=TrainingInfo(step=7))
    elsewhere = with_media_root(trace.question, "/no/such/machine")
    trace = trace.model_copy(update={"question": elsewhere})
    save_traces([trace], tmp_path / "rl" / "samples" / "rollouts-10.jsonl")
    run_on(tmp_path, [trace], rollouts=(tmp_path / "rl",))
    assert check_traces(load_run(tmp_path / "out")).metrics["kinds"] == {"hindsight": 1}


def test_of_several_items_the_one_nearest_to_the_centre_is_asked_about(tmp_path):
    scene, module, item, write = scene_of(1, "attribute", 0)
    question = module.item_question(scene, item, scene.items[0])
    trace = rollout(tmp_path, question, write, scene, zoom(Box(0, 0, 1, 1)), answer("X"))
    recorded, result = recorded_scene(trace), first_result(trace)
    nearest = min(scene.items, key=lambda one: (one.x - 0.5) ** 2 + (one.y - 0.5) ** 2)
    best = best_item(recorded, result, 1.0).question
    assert best.evidence.subjects == (f"the {nearest.name}",)
    with pytest.raises(NoTrace, match="illegible"):
        best_item(recorded, result, 8.0)


# --- reasons ---


def dropped(tmp_path: Path, trace: Trace, **changes) -> str:
    """Return the reason for which a rollout gives no trace. Another one gives one."""
    other = hit(tmp_path / "rollouts", 30)
    summary = run_on(tmp_path, [other, trace], **changes)
    assert summary["count"] == 1
    row = json.loads((tmp_path / "out" / "dropped.jsonl").read_text())
    assert row["where"].startswith("traces.jsonl 2: ")
    assert summary["dropped"] == {row["reason"]: 1}
    return row["reason"]


def changed(trace: Trace, **fields) -> Trace:
    return trace.model_copy(update={"question": trace.question.model_copy(update=fields)})


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("no_call", lambda at: missed(at, 1, "attribute", 0, answer("R"))),
        (
            "no_item",
            lambda at: missed(at, 1, "attribute", 0, zoom(Box(0, 0, 0.05, 0.05)), answer("R")),
        ),
        ("wrong_answer", lambda at: hit(at, 3, "nothing")),
        ("known_question", lambda at: hit(at, 30)),
        ("held_out", lambda at: missed(at, 1, "attribute", 1_000_000)),
        ("not_pixelworld", lambda at: changed(missed(at, 1, "attribute", 0), id="row-1")),
        ("other_question", lambda at: changed(missed(at, 1, "attribute", 0), text="Which one?")),
        ("control", lambda at: missed(at, 1, "attribute", 0, control=Control.BLANK)),
        ("other_format", lambda at: missed(at, 1, "attribute", 0, dialect="plain")),
    ],
)
def test_a_rollout_without_a_trace_has_a_reason(tmp_path, reason, make):
    assert dropped(tmp_path, make(tmp_path / "rollouts")) == reason


def test_a_rollout_about_several_items_has_a_reason(tmp_path):
    scene = make_scene("count", 0)
    item = build_media_item1(scene)
    question = next(q for q in questions1.all_questions(scene, item) if q.needs_look)
    turns = zoom(around(scene.items[0].box)), answer("1")
    trace = rollout(tmp_path / "rollouts", question, write_media, scene, *turns)
    assert dropped(tmp_path, trace) == "other_family"


def test_a_rollout_that_shows_all_items_is_kept(tmp_path):
    scene = make_scene("relation", 0)
    item = build_media_item1(scene)
    question = next(q for q in questions1.all_questions(scene, item) if q.needs_look)
    calls = [zoom(around(box)) for box in question.evidence.boxes]
    assert len(calls) > 1
    for count, said, expected in (
        (len(calls), question.answer[0], "kept"),
        (len(calls), "nothing", "wrong_answer"),
        (1, question.answer[0], "other_family"),
    ):
        folder = tmp_path / f"{count} {said}"
        turns = *calls[:count], answer(said)
        trace = rollout(folder / "rollouts", question, write_media, scene, *turns)
        if expected != "kept":
            assert dropped(folder, trace) == expected
            continue
        run_on(folder, [trace])
        (kept,) = load_traces(folder / "out" / "traces.jsonl")
        assert kept.turns == trace.turns


def test_a_question_that_the_overview_answers_has_a_reason(tmp_path):
    scene, module, item, write = scene_of(1, "attribute", 0)
    question = next(q for q in module.all_questions(scene, item) if q.needs_look is False)
    turns = zoom(around(scene.items[0].box)), answer("1")
    trace = rollout(tmp_path / "rollouts", question, write, scene, *turns)
    assert dropped(tmp_path, trace) == "needless_call"
    right = rollout(tmp_path / "right", question, write, scene, answer(question.answer[0]))
    run_on(tmp_path / "right", [right])
    (kept,) = load_traces(tmp_path / "right" / "out" / "traces.jsonl")
    assert kept.turns == right.turns


def test_a_selection_of_some_of_the_frames_is_no_miss(tmp_path):
    items = ((n, make_scene("video", n).items) for n in range(99))
    seed = next(n for n, found in items if len(found) > 1 and len(found[0].frames) > 1)
    frame = make_scene("video", seed).items[0].frames[0]
    trace = missed(tmp_path / "rollouts", 1, "video", seed, select([frame]), answer("R"))
    assert dropped(tmp_path, trace) == "partly_shown"


def test_right_rollouts_are_left_out_on_demand(tmp_path):
    traces = [hit(tmp_path / "rollouts", 3), missed(tmp_path / "rollouts", 1, "attribute", 0)]
    summary = run_on(tmp_path, traces, keep_hits=False)
    assert (summary["kinds"], summary["dropped"]) == ({"hindsight": 1}, {"hit": 1})


# --- runs ---


class StopAfter:
    """Progress that interrupts the run at a rollout."""

    def __init__(self, number: int) -> None:
        self.number = number

    def start(self, title: str, total: int | None):
        def update(completed: int, note: str = "") -> None:
            if completed == self.number:
                raise KeyboardInterrupt

        return update


def test_a_stopped_run_continues_to_the_same_bytes_and_knows_its_questions(tmp_path):
    at = tmp_path / "rollouts"
    traces = [missed(at, 1, "attribute", seed) for seed in (0, 1, 0, 2)]
    summary = run_on(tmp_path, traces)
    whole = (tmp_path / "out" / "traces.jsonl").read_bytes()
    spec = HindsightSpec(rollouts=(at,), out=tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        write_hindsight(spec, StopAfter(2))
    assert not (spec.out / "traces.jsonl").exists()
    assert write_hindsight(spec)["dropped"] == summary["dropped"]
    assert (spec.out / "traces.jsonl").read_bytes() == whole
    assert write_hindsight(spec)["count"] == summary["count"]


def test_a_folder_of_other_rollouts_is_not_continued(tmp_path):
    run_on(tmp_path, [missed(tmp_path / "rollouts", 1, "attribute", 0)])
    with pytest.raises(UsageError, match="the same data"):
        run_on(tmp_path, [missed(tmp_path / "rollouts", 1, "attribute", 1)])


def test_files_of_a_training_are_read_in_the_order_of_its_steps(tmp_path):
    for step in (10, 9, 100):
        save_traces([], tmp_path / "samples" / f"rollouts-{step}.jsonl")
    names = [file.name for file in rollout_files(tmp_path)]
    assert names == ["rollouts-9.jsonl", "rollouts-10.jsonl", "rollouts-100.jsonl"]


def test_bad_input_is_one_message(run, tmp_path):
    assert_refused(run("hindsight", tmp_path / "no", "--out", tmp_path / "out"), "does not exist")
    assert_refused(run("hindsight", tmp_path, "--out", tmp_path / "out"), "which has none")
    path = tmp_path / "traces.jsonl"
    path.write_text("{}\n")
    assert_refused(run("hindsight", path, "--out", tmp_path / "out"), "line 1")
    path.write_text("")
    assert_refused(run("hindsight", path, "--out", tmp_path / "out"), "no rollouts")
    save_traces([missed(tmp_path, 1, "attribute", 0, answer("R"))], path)
    refused = run("hindsight", path, "--out", tmp_path / "out")
    assert_refused(refused, "1 no_call", "dropped.jsonl")


def test_the_command_prints_all_counts(run, tmp_path):
    at = tmp_path / "rollouts"
    traces = [hit(at, 3), missed(at, 1, "attribute", 0), missed(at, 1, "attribute", 0)]
    save_traces(traces, at / "traces.jsonl")
    code, out, _ = run("hindsight", at, "--out", tmp_path / "out")
    assert code == 0
    assert "2 traces of 3 rollouts" in out
    assert "kinds: hindsight 1, kept 1" in out
    assert "dropped: known_question 1" in out


def test_the_items_of_a_scene_are_those_of_the_recorded_question(tmp_path):
    for world, family in ALL:
        scene, module, item, _ = scene_of(world, family, 1)
        question = module.item_question(scene, item, scene.items[0])
        size = 320 if family == "video" else 1024
        picture = {"number": 1, "medium": 0, "source_px": (size, size), "seen_px": (64, 64)}
        trace = Trace(question=question, pictures=(picture,), stop="no_answer")
        recorded = recorded_scene(trace)
        assert isinstance(recorded, RecordedScene)
        assert len(recorded.items) == len(scene.items)
        assert len({one.question.id for one in recorded.items}) == len(scene.items)
