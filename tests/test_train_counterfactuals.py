"""Baselines of calls: the same conversation with a result that shows other pixels of equal size."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.resize import region_px
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.rollout.replay import replay
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import MediaItem, Question, with_media_root
from pixel_reasoner.schema.settings import RunSettings, SamplingParams
from pixel_reasoner.schema.trace import ToolCall, Trace
from pixel_reasoner.scoring.rewards import DeltaBaseline, RewardConfig
from pixel_reasoner.sources.pixelworld import WorldMix, world_questions
from pixel_reasoner.train.config import RlRun
from pixel_reasoner.train.counterfactuals import (
    box_elsewhere,
    check_twins,
    counterfactual_of,
    elsewhere,
    in_twin,
)
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.rl import load_questions
from pixel_reasoner.train.turn_rewards import CallAdvantages
from pixel_reasoner.world.scene import SPLITS
from pixel_reasoner.world.v2 import (
    FAMILIES,
    Params,
    all_questions,
    build_media_item,
    default_size_px,
    make_scene,
    render,
)
from pixel_reasoner.world.v2.params import CLIPS
from pixel_reasoner.world.v2.twins import scene_of, twin_answer, twin_of
from rl_fixture import ScriptedTurns, run_of, trainer_of

PROMPT = folder_settings(BUNDLED_MODELS["tiny"])
ANSWER = r"I see it. \boxed{R}"


def params(family: str = "attribute", evidence_px: int = 4) -> Params:
    side = 64 if family in CLIPS else 192
    return Params.of(default_size_px(family, side), side, evidence_px)


def asked(folder: Path, family: str = "attribute", seed: int = 7, twin: str = "a") -> Question:
    (question,) = render([make_scene(family, seed, params(family), twin)], folder)
    return with_media_root(question, folder)


def zoom(box: Box, image: int = 1) -> str:
    arguments = {"bbox_2d": [round(value, 2) for value in box], "target_image": image}
    return COMPACT.write_turn("I zoom in on it.", ToolCall(name="zoom_in", arguments=arguments))


def select(frames: list[int]) -> str:
    call = ToolCall(name="select_frames", arguments={"target_frames": frames})
    return COMPACT.write_turn("I look at these.", call)


def rolled(question: Question, *turns: str, seed: int = 0) -> Trace:
    settings = RunSettings(sampling=SamplingParams(seed=seed))
    return replay(question, [*turns, ANSWER], PROMPT).trace(settings)


def views(trace: Trace, count: int) -> list[np.ndarray]:
    context = MediaContext.of_trace(trace)
    return [np.asarray(context.view(number)) for number in range(1, count + 1)]


def square(box: Box) -> Box:
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    x1, y1 = (min(max(middle - 0.09, 0.0), 0.82) for middle in (x, y))
    return Box(x1, y1, x1 + 0.18, y1 + 0.18)


def far_from(question: Question) -> Box:
    """Return a box like `square` that shows no pixel of the item that differs between the twins."""
    evidence = question.evidence.boxes[0]
    corners = [Box(x, y, x + 0.18, y + 0.18) for x in (0.0, 0.82) for y in (0.0, 0.82)]
    return next(box for box in corners if not box.intersection(evidence))


# --- places ---

sides = st.integers(8, 300)
fractions = st.floats(0, 1, allow_nan=False)


@given(st.tuples(sides, sides), st.lists(fractions, min_size=4, max_size=4), st.integers(0, 99))
def test_a_box_elsewhere_has_equally_many_pixels_and_none_in_common(size, numbers, seed):
    (x1, x2), (y1, y2) = sorted(numbers[:2]), sorted(numbers[2:])
    box = Box(x1, y1, x2, y2)
    left, top, right, bottom = region_px(size, box)
    other = box_elsewhere(box, size, random.Random(seed))
    has_room = max(left, size[0] - right) >= right - left or max(top, size[1] - bottom) >= (
        bottom - top
    )
    assert (other is not None) == has_room
    if other is None:
        return
    a, b, c, d = region_px(size, other)
    assert (c - a, d - b) == (right - left, bottom - top)
    assert 0 <= a < c <= size[0]
    assert 0 <= b < d <= size[1]
    assert c <= left or a >= right or d <= top or b >= bottom


def test_a_result_elsewhere_has_the_same_size_and_everything_else_is_unchanged(tmp_path):
    trace = rolled(asked(tmp_path), zoom(Box(0.1, 0.2, 0.31, 0.4)), zoom(Box(0.5, 0.5, 0.7, 0.7)))
    other = elsewhere(trace, 1)
    before, after = views(trace, 3), views(other, 3)
    assert [one.shape for one in before] == [one.shape for one in after]
    assert np.array_equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert not np.array_equal(before[2], after[2])
    boxes = [one.turns[1].observation.pictures[0].box for one in (trace, other)]
    assert not boxes[0].intersection(boxes[1])


def test_the_place_elsewhere_depends_on_the_seed_of_the_trace(tmp_path):
    question, call = asked(tmp_path), zoom(Box(0.1, 0.2, 0.31, 0.4))
    same, again, *others = (rolled(question, call, seed=seed) for seed in (0, 0, 1, 2, 3))
    assert elsewhere(same, 0).observations == elsewhere(again, 0).observations
    boxes = {elsewhere(one, 0).turns[0].observation.pictures[0].box for one in (same, *others)}
    assert len(boxes) > 1


def test_a_crop_of_most_of_the_picture_has_no_counterpart(tmp_path):
    assert elsewhere(rolled(asked(tmp_path), zoom(Box(0.2, 0.2, 0.9, 0.9))), 0) is None
    assert elsewhere(rolled(asked(tmp_path), zoom(WHOLE)), 0) is None


def test_selected_frames_are_replaced_by_others_of_the_clip(tmp_path):
    trace = rolled(asked(tmp_path, "video"), select([2, 3, 4]), zoom(Box(0.1, 0.1, 0.4, 0.4), 5))
    other = elsewhere(trace, 0)
    frames = [one.frame for one in other.turns[0].observation.pictures]
    assert len(set(frames)) == 3
    assert not {2, 3, 4} & set(frames)
    assert [one.shape for one in views(other, 19)] == [one.shape for one in views(trace, 19)]
    zoomed = elsewhere(trace, 1).turns[1].observation.pictures[0]
    assert zoomed.frame == 5
    assert not zoomed.box.intersection(Box(0.1, 0.1, 0.4, 0.4))


# --- twins ---


def test_a_result_of_the_twin_is_the_same_crop_of_its_picture(tmp_path):
    questions = [asked(tmp_path, twin=twin) for twin in ("a", "b")]
    box = square(questions[0].evidence.boxes[0])
    here, there = (rolled(question, zoom(box)) for question in questions)
    other = in_twin(here, 0, tmp_path / "twins")
    assert np.array_equal(views(other, 2)[1], views(there, 2)[1])
    assert np.array_equal(views(other, 2)[0], views(here, 2)[0])
    assert not np.array_equal(views(here, 2)[1], views(there, 2)[1])


def test_frames_of_the_twin_are_those_of_its_clip(tmp_path):
    questions = [asked(tmp_path, "video", twin=twin) for twin in ("a", "b")]
    frames = list(questions[0].evidence.frames)
    here, there = (rolled(question, select(frames)) for question in questions)
    other = in_twin(here, 0, tmp_path / "twins")
    shown = len(here.all_pictures)
    for one, same in zip(views(other, shown)[16:], views(there, shown)[16:], strict=True):
        assert np.array_equal(one, same)
    assert not np.array_equal(views(other, shown)[16], views(here, shown)[16])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_scene_of_a_question_is_found_from_its_medium(family):
    for seed in range(3):
        scene = make_scene(family, seed, params(family), "b")
        for question in all_questions(scene, build_media_item(scene)):
            assert scene_of(question) == scene
        assert twin_of(twin_of(scene)) == scene


@pytest.mark.parametrize(
    "name", ["a", "w2-attribute-7-9-9-9px-a", "w2-nothing-7-1024-192-3px-a", "attribute-7"]
)
def test_media_of_other_names_have_no_scene(name):
    item = MediaItem(kind="image", path=f"media/{name}.png")
    question = Question(id="w2-attribute-7-3px-a-read-1", text="?", media=(item,))
    assert scene_of(question) is None
    assert twin_answer(question) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_for_twins_have_another_answer_in_the_twin(family, tmp_path):
    mix = WorldMix(families=(family,), count=4, world=2)
    check_twins(list(world_questions(mix, tmp_path, PROMPT.budgets, twin_questions=True)))


def test_questions_without_another_answer_in_a_twin_are_refused(tmp_path):
    scene = make_scene("attribute", 7, params())
    same = list(all_questions(scene, build_media_item(scene)))[1]
    with pytest.raises(UsageError, match="has the same answer in its twin"):
        check_twins([asked(tmp_path), same])
    of_world_1 = world_questions(WorldMix(families=("attribute",), count=1), tmp_path)
    with pytest.raises(UsageError, match="has no twin"):
        check_twins(list(of_world_1))


# --- runs ---


@pytest.mark.parametrize(
    ("reward", "more", "message"),
    [
        ({"delta_baseline": "elsewhere"}, {}, "delta above 0"),
        ({"delta_baseline": "nowhere", "delta": 1}, {}, "none or elsewhere or twin"),
        ({"delta_baseline": "twin", "delta": 1}, {}, "PixelWorld 2"),
        ({"delta_baseline": "elsewhere", "delta": 1}, {"operations": ("mark",)}, "only zoom_in"),
    ],
)
def test_baselines_that_cannot_work_are_refused(tmp_path, reward, more, message):
    with pytest.raises(UsageError, match=message):
        run_of(tmp_path, reward=RewardConfig(**reward), **more)


def test_the_baseline_is_read_from_the_file_of_a_run(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('out = "rl"\nquestions = ["q"]\n[reward]\ndelta = 0.5\ndelta_baseline = "twin"')
    assert RlRun.read(path).reward.delta_baseline is DeltaBaseline.TWIN


@pytest.fixture(scope="module")
def trainer(tmp_path_factory) -> PixelReasonerTrainer:
    run = run_of(tmp_path_factory.mktemp("run"), reward=RewardConfig(delta=0.5), max_turns=3)
    return trainer_of(run, PixelReasonerTrainer)


@pytest.fixture(scope="module")
def questions(trainer, tmp_path_factory) -> list[Question]:
    """Questions of PixelWorld 2 whose answer is a character."""
    folder = tmp_path_factory.mktemp("questions")
    first = SPLITS["train"][0]
    found = [asked(folder, seed=first + n) for n in range(12)]
    return [one for one in found if one.answer[0] != "none"][:5]


def rises(trainer, baseline: str, question: Question, box: Box) -> dict[int, float]:
    """Return the rises of a rollout with one call."""
    generator = trainer.generator
    before, source = generator.source, ScriptedTurns(trainer.processing_class.tokenizer)
    source.begin([[zoom(box), ANSWER]])
    generator.source = source
    calls = trainer.call_advantages
    calls.counterfactual = counterfactual_of(DeltaBaseline(baseline), Path(trainer.run.out))
    try:
        rollouts = generator.run([question], trainer._current_settings())
        return calls.rises(rollouts, 4)[0]
    finally:
        generator.source, calls.counterfactual = before, None


@pytest.mark.parametrize("baseline", ["elsewhere", "twin"])
def test_a_crop_of_the_evidence_is_paid_more_than_another_one(trainer, questions, baseline):
    hits, misses = (
        [rises(trainer, baseline, one, box(one))[0] for one in questions]
        for box in (lambda one: square(one.evidence.boxes[0]), far_from)
    )
    assert mean(hits) > mean(misses) + 1
    if baseline == "twin":  # both twins show the same pixels there
        assert misses == pytest.approx([0.0] * len(misses), abs=1e-4)


def test_a_call_without_a_counterpart_has_no_rise(trainer, questions):
    trainer._metrics["train"].pop("calls/without_baseline", None)
    assert rises(trainer, "elsewhere", questions[0], WHOLE) == {0: 0.0}
    assert trainer._metrics["train"]["calls/without_baseline"] == [1.0]


def test_without_a_baseline_a_call_is_compared_with_the_turn_before_it(trainer, questions):
    assert trainer.call_advantages.counterfactual is None
    box = square(questions[0].evidence.boxes[0])
    assert rises(trainer, "none", questions[0], box)[0] != 0


def test_a_trainer_uses_the_baseline_of_its_run(tmp_path, trainer):
    run, reward = trainer.run, RewardConfig(delta=0.5, delta_baseline="elsewhere")
    trainer.run = run_of(tmp_path, reward=reward)
    try:
        assert CallAdvantages(trainer, 1.0).counterfactual is elsewhere
    finally:
        trainer.run = run


def test_a_run_on_questions_without_twins_is_refused_before_a_model_is_loaded(tmp_path):
    folder = tmp_path / "questions"
    (folder / "media").mkdir(parents=True)
    scene = make_scene("attribute", 7, params())
    rows = list(render([scene], folder))
    rows += list(all_questions(scene, build_media_item(scene)))[1:2]
    (folder / "questions.jsonl").write_text("".join(one.to_line() + "\n" for one in rows))
    reward = RewardConfig(delta=0.5, delta_baseline="twin")
    run = RlRun(
        out=str(tmp_path / "out"),
        questions=(str(folder),),
        reward=reward,
        questions_per_sync=1,
        group_size=4,
        minibatch=4,
    )
    with pytest.raises(UsageError, match="the same answer in its twin"):
        load_questions(run)
