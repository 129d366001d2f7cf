"""Adaptive pixel budgets: sizes from the media, the context and the turns to come."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.rollout.budgets import adapt_budgets, parse_budget
from pixel_reasoner.rollout.replay import replay_trace
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import (
    PixelBudget,
    PixelBudgets,
    RolloutConfig,
    RolloutLimits,
    SamplingParams,
)
from pixel_reasoner.schema.trace import Trace

WIDE = PixelBudget(min_px=256 * 256, max_px=1024 * 1024)
BUDGETS = PixelBudgets(picture=WIDE, crop=WIDE, frame=WIDE, selected_frame=WIDE, multiple=32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Paths of a picture of 1,600 x 1,200 and one of 100 x 100 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, size in (("large", (1600, 1200)), ("small", (100, 100))):
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
    return folder


def question(folder, *names: str) -> Question:
    media = tuple(MediaItem(kind="image", path=str(folder / f"{name}.png")) for name in names)
    return Question(id="1", text="What?", media=media)


def num_tokens(context: MediaContext) -> int:
    return sum(one.seen_px[0] * one.seen_px[1] // 32**2 for one in context.pictures)


def adapted(folder, names, config: RolloutConfig, budgets: PixelBudgets = BUDGETS) -> MediaContext:
    asked = question(folder, *names)
    context = MediaContext(asked, budgets)
    return MediaContext(asked, adapt_budgets(budgets, config, context), media=context.media)


@pytest.mark.parametrize("text", ["0", "-1", "small", "1.5", "", "²"])
def test_an_invalid_budget_is_one_line(text):
    with pytest.raises(UsageError, match="--budget fixed, adaptive, or a number"):
        parse_budget(text)


def test_a_fixed_budget_changes_nothing_and_is_the_default(pictures):
    model = ScriptedModel([r"\boxed{red}"], budgets=BUDGETS)
    trace = ask(question(pictures, "large", "small"), model)
    assert (trace.settings.budget, trace.settings.budgets) == ("fixed", BUDGETS)
    assert [one.seen_px for one in trace.pictures] == [(1152, 864), (256, 256)]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(300, 3000))
def test_pictures_of_a_question_have_at_most_the_given_tokens(pictures, count, tokens):
    config = RolloutConfig(budget=tokens)
    context = adapted(pictures, ["large"] * count, config)
    fixed = MediaContext(question(pictures, *["large"] * count), BUDGETS)
    assert num_tokens(context) <= max(tokens, count)
    assert num_tokens(context) <= num_tokens(fixed)
    if num_tokens(fixed) <= tokens:
        assert [one.seen_px for one in context.pictures] == [one.seen_px for one in fixed.pictures]


def test_pictures_leave_room_for_the_turns_to_come(pictures):
    def tokens(max_turns: int, **more) -> int:
        config = RolloutConfig(
            budget="adaptive",
            limits=RolloutLimits(max_turns=max_turns),
            sampling=SamplingParams(max_context_tokens=8192, max_new_tokens=256),
            **more,
        )
        return num_tokens(adapted(pictures, ["large"] * 10, config))

    assert tokens(1) > tokens(3) > 0
    assert tokens(1) == tokens(6, operations=False), "without operations there are no later turns"
    assert tokens(1) + 256 < 8192
    assert tokens(100) >= 1500, "at least about a quarter of the context"


def test_nothing_is_enlarged_more_than_twice_up_to_one_multiple(pictures):
    context = adapted(pictures, ["small", "large"], RolloutConfig(budget="adaptive"))
    assert context.picture(1).seen_px == (192, 192)
    for side in (0.03, 0.05, 0.08, 0.5):
        crop = context.add_crop(2, Box(0.25, 0.25, 0.25 + side, 0.25 + side))
        pairs = zip(crop.seen_px, crop.source_px, strict=True)
        assert all(seen < 2 * source + 32 for seen, source in pairs), crop


def test_a_model_of_one_size_keeps_it(pictures):
    one = PixelBudget(min_px=36864, max_px=36864)
    fixed = PixelBudgets(picture=one, crop=one, frame=one, selected_frame=one, multiple=32)
    context = adapted(pictures, ["small"] * 5, RolloutConfig(budget=10), fixed)
    assert {one.seen_px for one in context.pictures} == {(192, 192)}


def test_similar_frames_of_one_call_are_shown_once_and_the_trace_can_be_replayed(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for number, pixels in enumerate([noise, noise, noise // 2, noise // 2]):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    asked = Question(id="1", text="What?", media=(MediaItem(kind="frames", path=str(folder)),))
    call = '<tool_call>{"name": "select_frames", "arguments": {"target_frames": [1, 2, 3, 4]}}</tool_call>'
    model = ScriptedModel([call, r"\boxed{red}"])
    traces = {
        policy: ask(asked, model, RolloutConfig(budget=policy)) for policy in ("fixed", "adaptive")
    }
    shown = {
        policy: [one.frame for one in trace.executed[0].pictures]
        for policy, trace in traces.items()
    }
    assert shown == {"fixed": [1, 2, 3, 4], "adaptive": [1, 3]}
    same = Trace.from_line(traces["adaptive"].to_line())
    assert replay_trace(same).turns[0].observations == same.turns[0].observations
