"""Traces: boxes are validated once, traces are unchanged by serialization and use little memory."""

from __future__ import annotations

import json
import math
import tracemalloc

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.errors import InputError, OutputError
from pixel_reasoner.schema.geometry import WHOLE, Box, BoxError
from pixel_reasoner.schema.question import AnswerType, Evidence, MediaItem, Question, load_questions
from pixel_reasoner.schema.settings import RunSettings
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Conversation,
    Observation,
    Picture,
    StopReason,
    Text,
    Thought,
    ToolCall,
    Trace,
    Turn,
    load_traces,
    save_traces,
)

QUESTION = Question(id="1", text="What is it?", media=(MediaItem(kind="image", path="a.png"),))
TRACE = Trace(question=QUESTION, stop=StopReason.ANSWERED, answer="a cat")

shares = st.integers(0, 100).map(lambda share: share / 100)
spans = st.lists(shares, min_size=2, max_size=2, unique=True).map(sorted)
boxes = st.tuples(spans, spans).map(lambda n: Box(n[0][0], n[1][0], n[0][1], n[1][1]))
numbers = shares | st.floats() | st.integers(-2, 2) | st.booleans() | st.none() | st.just("0.5")


# --- boxes ---


@given(st.lists(numbers, min_size=3, max_size=5))
def test_a_box_accepts_exactly_the_valid_numbers(values):
    valid = (
        len(values) == 4
        and all(type(v) in (int, float) and math.isfinite(v) and 0 <= v <= 1 for v in values)
        and values[0] < values[2]
        and values[1] < values[3]
    )
    if valid:
        assert Box.of(values) == tuple(values)
    else:
        with pytest.raises(BoxError, match="box"):
            Box.of(values)


@given(boxes, boxes)
def test_a_box_within_a_region_stays_inside_it(inner, outer):
    box = inner.within(outer)
    near = 1e-9
    assert outer.x1 - near <= box.x1 <= box.x2 <= outer.x2 + near
    assert outer.y1 - near <= box.y1 <= box.y2 <= outer.y2 + near
    assert max(box) <= 1
    assert box.area == pytest.approx(inner.area * outer.area, abs=near)


@given(boxes)
def test_a_box_within_the_whole_picture_is_unchanged(box):
    assert box.within(WHOLE) == box
    assert WHOLE.within(box) == pytest.approx(box)


@given(boxes, boxes)
def test_the_intersection_is_symmetric_and_at_most_each_area(first, second):
    shared = first.intersection(second)
    assert shared == second.intersection(first)
    assert 0 <= shared <= min(first.area, second.area) + 1e-12
    assert first.intersection(first) == pytest.approx(first.area)


# --- JSON ---

texts = st.text(max_size=8)
sizes = st.tuples(st.integers(1, 9000), st.integers(1, 9000))
seconds = st.floats(0, 1e6)
ids = st.lists(st.integers(0, 2**31 - 1), max_size=4)
logprobs = st.lists(st.floats(-1e9, 0, width=32), max_size=4)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
questions = st.builds(
    Question,
    media=st.lists(
        st.builds(MediaItem, kind=st.sampled_from(["image", "video", "frames"]), path=texts),
        max_size=2,
    ).map(tuple),
    answer=st.lists(texts, max_size=2).map(tuple),
    answer_type=st.sampled_from(AnswerType),
    options=st.dictionaries(texts, texts, max_size=2),
    needs_look=st.none() | st.booleans(),
    evidence=st.none()
    | st.builds(Evidence, boxes=st.lists(boxes, max_size=2).map(tuple), frames=st.just((1, 2))),
)
pictures = st.builds(
    Picture,
    number=st.integers(1, 99),
    frame=st.none() | st.integers(1, 16),
    time_s=st.none() | seconds,
    box=boxes,
    source_px=sizes,
    seen_px=sizes,
    parent=st.none() | st.integers(1, 99),
)
turns = st.builds(
    Turn,
    text=texts,
    parts=st.lists(
        st.builds(Thought, thought=texts)
        | st.builds(Text, text=texts)
        | st.builds(
            ToolCall, name=texts, arguments=st.dictionaries(texts, json_values, max_size=2)
        ),
        max_size=4,
    ).map(tuple),
    observations=st.lists(
        st.builds(
            Observation,
            text=texts,
            pictures=st.lists(pictures, max_size=2).map(tuple),
            error=st.none() | st.sampled_from(CallErrorKind) | texts,
            call=st.integers(0, 3),
        ),
        max_size=2,
    ).map(tuple),
    mistake=st.booleans(),
    token_ids=ids,
    logprobs=logprobs,
    generate_s=seconds,
    operate_s=seconds,
)
traces = st.builds(
    Trace,
    question=questions,
    pictures=st.lists(pictures, max_size=2).map(tuple),
    turns=st.lists(turns, max_size=2).map(tuple),
    stop=st.sampled_from(StopReason),
    answer=st.none() | texts,
    settings=st.builds(RunSettings, dialect=texts, perturb=st.booleans()),
    seconds=seconds,
)


@given(traces)
def test_a_trace_is_unchanged_by_serialization(trace):
    line = trace.to_line()
    assert "\n" not in line
    assert Trace.from_line(line) == trace


def test_traces_are_saved_and_loaded_in_order(tmp_path):
    saved = [TRACE.model_copy(update={"answer": answer}) for answer in "abc"]
    assert save_traces(saved, tmp_path / "new folder" / "traces.jsonl") == 3
    assert list(load_traces(tmp_path / "new folder" / "traces.jsonl")) == saved


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "traces.jsonl"
    save_traces([TRACE], path)

    def breaking():
        yield TRACE
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        save_traces(breaking(), path)
    assert list(load_traces(path)) == [TRACE]
    assert list(tmp_path.iterdir()) == [path]


def test_the_error_of_an_unwritable_path_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"traces\.jsonl"):
        save_traces([TRACE], tmp_path / "file" / "traces.jsonl")


@pytest.mark.parametrize("bad", ["not json", "{}", "[]", '{"stop": "answered", "speed": 3}'])
def test_the_error_of_a_bad_line_has_its_number(tmp_path, bad):
    path = tmp_path / "traces.jsonl"
    path.write_text(f"{TRACE.to_line()}\n\n{bad}\n")
    loading = load_traces(path)
    assert next(loading) == TRACE
    with pytest.raises(InputError, match=r"traces\.jsonl, line 3: "):
        next(loading)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.jsonl: No such file"):
        list(load_traces(tmp_path / "gone.jsonl"))


def test_media_of_questions_are_relative_to_their_file(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text(QUESTION.model_dump_json() + "\n")
    [question] = load_questions(path)
    assert question.media[0].path == str(tmp_path / "a.png")


def test_the_error_of_a_bad_question_has_its_line_number(tmp_path):
    (tmp_path / "questions.jsonl").write_text('{"id": "1"}\n')
    with pytest.raises(InputError, match=r"questions\.jsonl, line 1: text"):
        list(load_questions(tmp_path / "questions.jsonl"))


# --- properties of a trace ---


def test_executed_and_rejected_observations_are_distinguished():
    picture = Picture(number=2, medium=0, source_px=(9, 9), seen_px=(9, 9))
    done = Observation(text="", pictures=(picture,))
    refused = Observation(text="no", error=CallErrorKind.BAD_BOX)
    steps = (
        Turn(text="", observations=(done,)),
        Turn(text="", observations=(refused,)),
        Turn(text=""),
    )
    first = picture.model_copy(update={"number": 1})
    trace = TRACE.model_copy(update={"turns": steps, "pictures": (first,)})
    assert (trace.executed, trace.rejected, trace.observations) == (
        [done],
        [refused],
        [done, refused],
    )
    assert trace.all_pictures == {1: first, 2: picture}


@pytest.mark.medium
def test_a_thousand_traces_fit_into_50_megabytes():
    picture = Picture(number=2, medium=0, source_px=(99, 99), seen_px=(99, 99), parent=1)
    tracemalloc.start()
    try:
        held = [long_trace(number, picture) for number in range(1000)]
        used_mb = tracemalloc.get_traced_memory()[0] / 1e6
    finally:
        tracemalloc.stop()
    assert len(held) == 1000
    assert used_mb <= 50


def long_trace(number: int, picture: Picture) -> Trace:
    """Return a trace with three turns of 100 tokens each."""
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0.1, 0.2, 0.3, 0.4 + number / 1e6]})
    observation = Observation(
        text="", pictures=(picture.model_copy(update={"box": Box(0, 0, 0.5, 0.5)}),)
    )
    turns = tuple(
        Turn(
            text=f"{number} " + "and so on " * 40,
            parts=(call,),
            observations=(observation,),
            token_ids=[1000 + number + at for at in range(100)],
            logprobs=[-number / 7 - at for at in range(100)],
        )
        for _ in range(3)
    )
    return Trace(question=QUESTION, pictures=(picture,), turns=turns, stop=StopReason.ANSWERED)


V1 = {
    "question": {"id": "1", "text": "Which colour?", "media": [{"kind": "image", "path": "a.png"}]},
    "pictures": [{"number": 1, "medium": 0, "source_px": [64, 64], "seen_px": [32, 32]}],
    "turns": [
        {
            "text": "Closer.",
            "call": {"name": "zoom_in", "arguments": {"bbox_2d": [0.5, 0.5, 0.1, 1]}},
            "observation": {"text": "box is inverted", "refusal": "bad_box"},
        },
        {"text": "It is red.", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]},
    ],
    "stop": "answered",
    "answer": "red",
    "settings": {
        "model": {"name": "tiny", "class": "Qwen3VLForConditionalGeneration", "parameters": 9},
        "dialect": "compact",
        "operations": False,
        "decoding": {"temperature": 0.5},
        "decode": {"num_frames": 8},
        "disturb": True,
        "synth": {"version": 3, "kind": "single"},
    },
}


def test_a_trace_of_version_1_is_migrated():
    trace = Trace.from_line(json.dumps(V1))
    first, last = trace.turns
    assert first.call == ToolCall(name="zoom_in", arguments={"bbox_2d": [0.5, 0.5, 0.1, 1]})
    assert first.observation.error is CallErrorKind.BAD_BOX
    assert (last.calls, last.observations, list(last.token_ids)) == ([], (), [1, 2])
    settings = trace.settings
    assert settings.model.architecture == "Qwen3VLForConditionalGeneration"
    assert (settings.operations, settings.sampling.temperature) == ((), 0.5)
    assert (settings.media.num_frames, settings.perturb) == (8, True)
    assert settings.synthesis.kind == "single"
    assert Trace.from_line(trace.to_line()) == trace


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"schema_version": 3, "stop": "answered"}', "schema version 3"),
        ('{"schema_version": 20}', "schema version 20"),
        ('{"schema_version":20,"stop":"x"}', "schema version 20"),
        ('{"schema_version": "new"}', "'new' is not a version"),
        ('{"schema_version": true}', "True is not a version"),
        ("[1]", "a JSON list, not an object"),
        ("[" * 100_000, "the line"),
    ],
)
def test_a_line_of_a_newer_version_is_one_clear_error(line, message):
    with pytest.raises(InputError, match="upgrade") as caught:
        Trace.from_line(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_field_is_named():
    line = TRACE.to_line()
    with pytest.raises(InputError, match="reward: unknown field; a newer version"):
        Trace.from_line(line[:-1] + ',"reward":1}')


def test_a_conversation_numbers_its_exchanges():
    talk = Conversation.of([TRACE, TRACE])
    assert [one.exchange for one in talk.exchanges] == [0, 1]
    assert Conversation.from_line(talk.to_line()) == talk
