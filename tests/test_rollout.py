"""Rollout loop: effects of calls, stop reasons, and independence of questions."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from PIL import Image

from conftest import NUM_CLIP_FRAMES, PHOTO_PX, draw_photo
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.models.api import Completion, ContextFull
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import (
    MediaLimits,
    ModelInfo,
    RolloutConfig,
    RolloutLimits,
    RunSettings,
    SamplingParams,
)
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    StopReason,
    ToolCall,
    Trace,
    load_traces,
    save_traces,
)

COMPACT = get_dialect("compact")
RED = r"It is red. \boxed{red}"


def zoom(*box: float, image: int = 1) -> str:
    arguments = {"bbox_2d": list(box), "target_image": image}
    return "Closer.\n" + COMPACT.write_call(ToolCall(name="zoom_in", arguments=arguments))


def select(*frames: int) -> str:
    return COMPACT.write_call(
        ToolCall(name="select_frames", arguments={"target_frames": list(frames)})
    )


def about(*paths, kind: str = "image", name: str = "1") -> Question:
    media = tuple(MediaItem(kind=kind, path=str(path)) for path in paths)
    return Question(id=name, text="Which colour?", media=media, answer=("red",))


def images(conversation) -> list[Image.Image]:
    parts = [part for message in conversation for part in message["content"]]
    return [part["image"] for part in parts if part["type"] == "image"]


def last_text(conversation) -> str:
    return conversation[-1]["content"][-1].get("text", "")


def untimed(trace: Trace) -> dict:
    """Return a trace without times."""
    times = {"seconds": True, "turns": {"__all__": {"generate_s", "operate_s"}}}
    return trace.model_dump(exclude=times)


class Always:
    """Model that returns the same completion in every turn."""

    name, dialect, budgets = "always", "compact", None

    def __init__(self, completion: Completion | ContextFull) -> None:
        self.completion = completion

    def generate(self, conversations, decoding, on_text=None):
        return [self.completion for _ in conversations]

    def describe(self):
        return {"name": self.name}


class Counting(ScriptedModel):
    """Model that records the batch sizes."""

    def generate(self, conversations, decoding, on_text=None):
        self.sizes = [*getattr(self, "sizes", []), len(conversations)]
        return super().generate(conversations, decoding, on_text)


# --- calls and answers ---


def test_a_model_zooms_in_gets_the_crop_and_answers(photo, scripted):
    model = scripted(zoom(0.25, 0.25, 0.5, 0.5), RED, budgets=UNSCALED)
    trace = ask(about(photo), model)
    assert (trace.stop, trace.answer) == (StopReason.ANSWERED, "red")
    assert [turn.text for turn in trace.turns] == [zoom(0.25, 0.25, 0.5, 0.5), RED]
    assert trace.turns[0].call.name == "zoom_in"
    [crop] = trace.executed[0].pictures
    assert (crop.number, crop.parent, crop.box) == (2, 1, Box(0.25, 0.25, 0.5, 0.5))
    overview, crop_image = images(model.conversations[-1])
    assert overview.size == PHOTO_PX
    assert np.array_equal(crop_image, Image.open(photo).crop((160, 120, 320, 240)))


def test_a_zoom_into_a_crop_uses_the_original_pixels(photo, scripted):
    model = scripted(zoom(0.5, 0.5, 1, 1), zoom(0.5, 0, 1, 0.5, image=2), RED, budgets=UNSCALED)
    ask(about(photo), model)
    expected = Image.open(photo).crop((480, 240, 640, 360))
    assert np.array_equal(images(model.conversations[-1])[-1], expected)


def test_pixels_are_scaled_once_from_the_original_to_the_budget(photo, scripted):
    model = scripted(zoom(0.5, 0.5, 1, 1), RED)
    ask(about(photo), model)
    crop = images(model.conversations[-1])[-1]
    whole = Image.open(photo)
    expected = whole.resize(crop.size, Image.Resampling.LANCZOS, box=(320, 240, 640, 480))
    assert crop.size[0] > 320
    assert np.array_equal(crop, expected)


def test_frames_of_a_clip_are_selected_and_zoomed_into(clip, scripted):
    count = NUM_CLIP_FRAMES
    model = scripted(select(2, 5), zoom(0, 0, 0.5, 0.5, image=count + 2), RED)
    trace = ask(about(clip, kind="video"), model)
    assert [picture.frame for picture in trace.pictures] == list(range(1, count + 1))
    selected, crop = (observation.pictures for observation in trace.executed)
    assert [(p.number, p.frame) for p in selected] == [(count + 1, 2), (count + 2, 5)]
    assert [(p.number, p.frame, p.parent) for p in crop] == [(count + 3, 5, count + 2)]


def test_a_model_gets_the_reason_of_a_tool_error_and_can_repair_the_call(photo):
    def repairs(conversation):
        if "box is inverted" in last_text(conversation):
            return zoom(0.25, 0.25, 0.5, 0.5)
        return RED if len(images(conversation)) > 1 else zoom(0.5, 0.25, 0.25, 0.5)

    trace = ask(about(photo), ScriptedModel(repairs))
    first, second, last = trace.turns
    assert first.observation.error is CallErrorKind.BAD_BOX
    assert second.observation.error is None
    assert (last.observation, trace.stop) == (None, StopReason.ANSWERED)
    assert (len(trace.rejected), len(trace.executed)) == (1, 1)


def test_a_malformed_call_gets_an_error_and_the_rollout_continues(photo, scripted):
    model = scripted("<tool_call>zoom</tool_call>", RED)
    trace = ask(about(photo), model)
    assert trace.turns[0].call is None
    assert trace.turns[0].observation.error is CallErrorKind.MALFORMED_CALL
    assert "not valid JSON" in last_text(model.conversations[-1])
    assert trace.answer == "red"


def test_without_operations_there_are_no_tool_definitions_and_a_call_ends_the_rollout(
    photo, scripted
):
    config = RolloutConfig(operations=False)
    model = scripted(zoom(0, 0, 0.5, 0.5), RED)
    trace = ask(about(photo), model, config)
    assert (trace.stop, trace.answer, len(trace.turns)) == (StopReason.NO_ANSWER, None, 1)
    assert trace.observations == []
    assert "zoom_in" not in str(model.conversations[0][0])
    assert ask(about(photo), scripted(RED), config).answer == "red"


def test_a_question_without_media_is_answered(scripted):
    assert ask(about(), scripted(zoom(0, 0, 1, 1), RED)).answer == "red"


def test_progress_is_reported_after_each_turn(photo, scripted):
    texts, progress = [], []
    script = (zoom(0, 0, 0.5, 0.5), RED)
    ask(
        about(photo),
        scripted(*script),
        on_text=texts.append,
        on_turn=lambda rollout: progress.append((len(rollout.turns), len(rollout.context))),
    )
    assert texts == list(script)
    assert progress == [(1, 2), (2, 2)]


def test_token_ids_and_logprobs_are_recorded(photo):
    completion = Completion(text=RED, token_ids=[3, 4], logprobs=[-0.5, -0.25], num_prompt_tokens=7)
    [turn] = ask(about(photo), Always(completion)).turns
    assert (list(turn.token_ids), list(turn.logprobs)) == ([3, 4], [-0.5, -0.25])
    assert turn.num_prompt_tokens == 7


# --- stop reasons ---


@pytest.mark.parametrize(
    ("completion", "stop", "turns"),
    [
        (Completion(RED), StopReason.ANSWERED, 1),
        (Completion("I do not know."), StopReason.NO_ANSWER, 1),
        (Completion(""), StopReason.NO_ANSWER, 1),
        (Completion(zoom(0, 0, 0.5, 0.5)), StopReason.MAX_TURNS, 6),
        (Completion(RED, truncated=True), StopReason.MAX_NEW_TOKENS, 1),
        (ContextFull(num_prompt_tokens=900, limit=800), StopReason.MAX_CONTEXT, 0),
    ],
)
def test_every_rollout_end_has_a_stop_reason(photo, completion, stop, turns):
    trace = ask(about(photo), Always(completion))
    assert (trace.stop, len(trace.turns)) == (stop, turns)
    assert trace.answer == ("red" if stop is StopReason.ANSWERED else None)
    assert [untimed(one) for one in ask_many([about(photo)], Always(completion))] == [
        untimed(trace)
    ]


def test_the_last_allowed_turn_may_be_the_answer(photo, scripted):
    config = RolloutConfig(limits=RolloutLimits(max_turns=2))
    assert (
        ask(about(photo), scripted(zoom(0, 0, 0.5, 0.5), RED), config).stop is StopReason.ANSWERED
    )


def test_more_pictures_than_allowed_end_the_rollout(photo, scripted):
    config = RolloutConfig(limits=RolloutLimits(max_pictures=2))
    model = scripted(zoom(0, 0, 0.5, 0.5))
    trace = ask(about(photo), model, config)
    assert (trace.stop, len(trace.turns)) == (StopReason.MAX_PICTURES, 2)
    assert all(len(images(conversation)) <= 2 for conversation in model.conversations)


def test_a_question_with_too_many_pictures_is_not_generated(clip, scripted):
    config = RolloutConfig(limits=RolloutLimits(max_pictures=NUM_CLIP_FRAMES - 1))
    model = scripted(RED)
    question = about(clip, kind="video")
    alone, [many] = ask(question, model, config), list(ask_many([question], model, config))
    assert (alone.stop, alone.turns, model.conversations) == (StopReason.MAX_PICTURES, (), [])
    assert untimed(alone) == untimed(many)


# --- unusable media ---


@pytest.fixture
def truncated(tmp_path):
    """Picture with a valid header and truncated data."""
    path = draw_photo(tmp_path / "truncated.png")
    path.write_bytes(path.read_bytes()[:50_000])
    return path


def test_ask_raises_for_an_unusable_picture(tmp_path, truncated, scripted):
    for path in (tmp_path / "missing.png", truncated):
        with pytest.raises(InputError, match=path.name):
            ask(about(path), scripted(RED))


def test_ask_many_records_failures_and_answers_the_other_questions(
    photo, tmp_path, truncated, scripted
):
    questions = [
        about(photo, name="good"),
        about(tmp_path / "missing.png", name="missing"),
        about(truncated, name="truncated"),
        about(photo, name="also good"),
    ]
    traces = {t.question.id: t for t in ask_many(questions, scripted(RED), batch_size=4)}
    assert traces.keys() == {question.id for question in questions}
    for name in ("missing", "truncated"):
        assert traces[name].stop is StopReason.FAILED
        assert f"{name}.png" in traces[name].error
        assert traces[name].settings == traces["good"].settings
    assert traces["good"].answer == traces["also good"].answer == "red"
    assert traces["good"].error is None


def test_ask_many_continues_if_every_question_fails(tmp_path, truncated, scripted):
    questions = [about(tmp_path / "no.png", name="a"), about(truncated, name="b")]
    stops = [trace.stop for trace in ask_many(questions, scripted(RED), batch_size=1)]
    assert stops == [StopReason.FAILED, StopReason.FAILED]


def test_an_unknown_dialect_is_a_usage_error_of_ask_many(photo, scripted):
    with pytest.raises(UsageError, match="'klingon'"):
        list(ask_many([about(photo)], scripted(RED, dialect="klingon")))


# --- batches ---


def zoom_by_red(conversation) -> str:
    """Zoom a number of times given by the red value of the picture, then answer."""
    pictures = images(conversation)
    wanted = pictures[0].getpixel((0, 0))[0]
    return zoom(0, 0, 1, 1) if len(pictures) <= wanted else RED


@pytest.fixture
def questions(tmp_path):
    """Six questions of 1, 3, 1, 2, 1 and 1 turns."""
    found = []
    for index, turns in enumerate((1, 3, 1, 2, 1, 1)):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (32, 32), (turns - 1, 0, 0)).save(path)
        found.append(about(path, name=str(index)))
    return found


def test_a_finished_question_frees_its_slot_for_the_next(questions):
    model = Counting(zoom_by_red, budgets=UNSCALED)
    traces = list(ask_many(questions, model, batch_size=2))
    # 0+1, 2+1, 3+1, 3+4, 5
    assert model.sizes == [2, 2, 2, 2, 1]
    assert [len(trace.turns) for trace in traces] == [1, 1, 3, 2, 1, 1]


def test_rounds_keep_the_order_of_questions_for_any_order_of_opened_pictures(
    questions, monkeypatch
):
    others_are_open = threading.Event()

    def opened(question, *rest):
        if question.id == "0":
            assert others_are_open.wait(10)
        elif question.id == "2":
            others_are_open.set()
        return MediaContext(question, *rest)

    monkeypatch.setattr("pixel_reasoner.rollout.state.MediaContext", opened)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    traces = ask_many(questions, ScriptedModel([RED]), batch_size=3)
    assert [trace.question.id for trace in traces] == list("012345")


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_batched_questions_give_the_same_traces_as_single_ones(questions, batch_size):
    model = ScriptedModel(zoom_by_red, budgets=UNSCALED)
    together = {t.question.id: t for t in ask_many(questions, model, batch_size=batch_size)}
    assert len(together) == len(questions)
    for question in questions:
        assert untimed(together[question.id]) == untimed(ask(question, model))


def test_no_questions_give_no_traces(scripted):
    assert list(ask_many([], scripted(RED))) == []


# --- traces ---


def test_a_rollout_is_unchanged_after_save_and_load(photo, clip, tmp_path, scripted):
    script = (zoom(0, 0, 0.5, 0.5), "<tool_call>", select(1, 2), RED)
    question = Question(
        id="1",
        text="?",
        media=(
            MediaItem(kind="image", path=str(photo)),
            MediaItem(kind="video", path=str(clip)),
        ),
    )
    trace = ask(question, scripted(*script))
    assert [bool(turn.observation) for turn in trace.turns] == [True, True, True, False]
    save_traces([trace, trace], tmp_path / "traces.jsonl")
    assert list(load_traces(tmp_path / "traces.jsonl")) == [trace, trace]


def test_a_trace_records_everything_that_affects_it(photo, scripted):
    config = RolloutConfig(
        limits=RolloutLimits(max_turns=3),
        sampling=SamplingParams(temperature=0.5, seed=4),
        media=MediaLimits(num_frames=8),
    )
    trace = ask(about(photo), scripted(RED), config)
    assert trace.settings == RunSettings(
        model=ModelInfo(name="scripted"),
        dialect="compact",
        dialect_hash=COMPACT.fingerprint,
        budgets=COMPACT.budgets,
        operations=("zoom_in", "select_frames"),
        limits=RolloutLimits(max_turns=3, max_pictures=32),
        sampling=config.sampling,
        media=MediaLimits(num_frames=8),
        perturb=False,
        strict=False,
    )
    assert {"python", "pixel-reasoner", "pillow", "av"} <= trace.versions.keys()


def test_budgets_of_the_model_have_priority(photo, scripted):
    trace = ask(about(photo), scripted(RED, budgets=UNSCALED))
    assert trace.settings.budgets == UNSCALED
    assert trace.pictures[0].seen_px == PHOTO_PX


def test_a_trace_contains_no_pixels(photo, scripted):
    trace = ask(about(photo), scripted(*[zoom(0, 0, 0.5, 0.5)] * 5, RED))
    assert len(trace.all_pictures) == 6
    assert len(pickle.dumps(trace)) < 20_000
    assert len(trace.to_line()) < 20_000
