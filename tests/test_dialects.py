"""Dialects: what a model is told, word for word, and what becomes of everything it may write.

`python tests/test_dialects.py` writes the golden conversations anew; look at the difference before you keep it.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import draw_clip, draw_photo
from pixel_reasoner.decode import DecodeLimits
from pixel_reasoner.dialects import DIALECTS, Answer, HermesDialect, Malformed, boxed, dialect_named
from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.ops import OPERATIONS
from pixel_reasoner.rollout import Rules, ask
from pixel_reasoner.trace import Box, Medium, OpCall, Question, Refusal, Stop, Trace, Turn

GOLDEN = Path(__file__).parent / "golden"
COMPACT, RELEASED = dialect_named("compact"), dialect_named("pixel_reasoner")

both = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


def call_text(*, name: object = "zoom_in", **arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


# --- what a model is told ---


def conversation(dialect: HermesDialect, *, operations: bool) -> list[dict]:
    """Every kind of message: question, crop, refusal, selected frames, crop of a frame, answer."""
    turns = (
        OpCall(name="zoom_in", arguments={"bbox_2d": [0.25, 0.25, 0.75, 0.75], "target_image": 1}),
        OpCall(name="zoom_in", arguments={"bbox_2d": [0.75, 0.25, 0.25, 0.75], "target_image": 1}),
        OpCall(name="select_frames", arguments={"target_frames": [1, 3]}),
        OpCall(name="zoom_in", arguments={"bbox_2d": [0.25, 0.25, 0.75, 0.75], "target_image": 2}),
    )
    script = [f"I look closer.\n{dialect.write_call(call)}" for call in turns]
    script = [*script, r"\boxed{B}"] if operations else [r"\boxed{B}"]
    with tempfile.TemporaryDirectory() as name:
        photo, clip = Path(name) / "photo.png", Path(name) / "clip.mp4"
        question = Question(
            id="1",
            text="Which {one}?",
            media=(
                Medium(kind="image", path=str(draw_photo(photo))),
                Medium(kind="video", path=str(draw_clip(clip))),
            ),
        )
        rules = Rules(operations=operations, decode=DecodeLimits(num_frames=3))
        trace = ask(question, ScriptedModel(script, dialect=dialect.name), rules)
    seen = {number: f"picture {number}, {p.seen_px}" for number, p in trace.all_pictures.items()}
    return dialect.messages(
        trace.question, trace.pictures, trace.turns, seen.__getitem__, operations=operations
    )


def golden_conversations() -> dict[str, list[dict]]:
    return {
        f"{name}-{'with' if operations else 'without'}-operations": conversation(
            dialect, operations=operations
        )
        for name, dialect in DIALECTS.items()
        for operations in (True, False)
    }


def test_every_message_is_the_golden_one():
    for name, messages in golden_conversations().items():
        expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        assert messages == expected, name


@both
def test_a_conversation_starts_as_it_went_on(dialect):
    """Each turn appends: what was said before is never said differently."""
    turns = (Turn(text="one"), Turn(text="two"))
    question = Question(id="1", text="?", media=())
    shorter, longer = (dialect.messages(question, (), turns[:n], lambda n: n) for n in (1, 2))
    assert longer[: len(shorter)] == shorter


def test_an_unknown_dialect_is_a_usage_error_that_names_all():
    with pytest.raises(UsageError, match="compact, pixel_reasoner; got 'qwen'"):
        dialect_named("qwen")


# --- what a model may write ---

CALL = call_text(bbox_2d=[0, 0, 1, 1])
MALFORMED = {
    "not closed": (CALL.removesuffix("</tool_call>"), "must end the turn with </tool_call>"),
    "text after it": (CALL + " The crop shows a red car.", "must end the turn"),
    "an answer after it": (CALL + r" \boxed{red}", "must end the turn"),
    "closed before": ("</tool_call>" + CALL + "x", "must end the turn"),
    "empty": ("<tool_call></tool_call>", "not valid JSON"),
    "no JSON": ("<tool_call>zoom_in(0, 0, 1, 1)</tool_call>", "not valid JSON"),
    "cut off": ('<tool_call>{"name": "zoom_in", "arg</tool_call>', "not valid JSON"),
    "single quotes": ("<tool_call>{'name': 'zoom_in'}</tool_call>", "not valid JSON"),
    "two objects": ("<tool_call>{} {}</tool_call>", "not valid JSON"),
    "a number too long": ('<tool_call>{"name": 1%s}</tool_call>' % ("0" * 5000), "not valid JSON"),
    "half a character": (call_text(name="\ud800"), "not valid JSON"),
    "half a character as a key": (call_text(**{"\ud800": 1}), "not valid JSON"),
    "too deep": (call_text(bbox_2d=json.loads("[" * 150 + "]" * 150)), "not valid JSON"),
    "absurdly deep": ("<tool_call>%s</tool_call>" % ("[" * 10**5), "not valid JSON"),
    "a list": ("<tool_call>[]</tool_call>", "no name"),
    "null": ("<tool_call>null</tool_call>", "no name"),
    "no name": ('<tool_call>{"arguments": {}}</tool_call>', "no name"),
    "a name that is a number": (call_text(name=1), "no name"),
    "arguments that are a list": (
        '<tool_call>{"name": "zoom_in", "arguments": [1]}</tool_call>',
        "arguments is not an object",
    ),
    "arguments that are null": (
        '<tool_call>{"name": "zoom_in", "arguments": null}</tool_call>',
        "arguments is not an object",
    ),
}


@both
@pytest.mark.parametrize(("text", "why"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_call_is_told_what_is_wrong_and_what_to_write(dialect, text, why):
    said = dialect.parse("I look closer. " + text)
    assert isinstance(said, Malformed)
    assert said.refusal is Refusal.MALFORMED_CALL
    assert why in said.text
    assert "write" in said.text


@both
@pytest.mark.parametrize("between", ["", "\n", "and then "])
def test_two_calls_in_one_turn_are_refused_together(dialect, between):
    said = dialect.parse(CALL + between + CALL)
    assert isinstance(said, Malformed)
    assert said.refusal is Refusal.SEVERAL_CALLS
    assert "2 calls in one turn; call one operation at a time" in said.text


@both
def test_a_call_ends_the_turn_and_thoughts_before_it_are_free(dialect):
    thought = r"Perhaps \boxed{red}? I { look } closer. "
    said = dialect.parse(thought + call_text(name="select_frames", target_frames=[1]) + " \n")
    assert said == OpCall(name="select_frames", arguments={"target_frames": [1]})


def test_arguments_may_be_left_out():
    said = COMPACT.parse('<tool_call>{"name": "zoom_in"}</tool_call>')
    assert said == OpCall(name="zoom_in", arguments={})


@both
def test_a_turn_without_a_call_and_without_an_answer_says_nothing(dialect):
    for text in ("", "I do not know.", r"\boxed{red", r"boxed{red}", "</tool_call>"):
        assert dialect.parse(text) is None


pieces = st.one_of(
    st.sampled_from(["<tool_call>", "</tool_call>", r"\boxed{"]),
    st.sampled_from("{}[]:,\\\n"),
    st.sampled_from(['"name"', '"zoom_in"', '"arguments"', '"bbox_2d"', '"\\ud800"']),
    st.sampled_from(["0.5", "1e999", "NaN", "-1", "null"]),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.sampled_from(["bbox_2d", "target_image", "other"]), values)


@both
@given(text=st.text() | st.lists(pieces | st.text(max_size=3), max_size=20).map("".join))
def test_any_text_is_parsed_without_an_exception(dialect, text):
    said = dialect.parse(text)
    assert said is None or isinstance(said, OpCall | Malformed | Answer)


@both
@given(name=st.text(), arguments=arguments)
@example(name="zoom_in", arguments={"bbox_2d": [10**400, 0, 1, 1]})
@example(name="zoom_in", arguments={"bbox_2d": [float("nan"), 0, 1, 1]})
@example(name="zoom_in", arguments={"bbox_2d": {"x1": 0, "y1": 0, "x2": 1, "y2": 1}})
def test_any_call_is_parsed_and_can_be_recorded(dialect, name, arguments):
    text = call_text(name=name, **arguments)
    said = dialect.parse(text)
    turn = Turn(text=text, call=said if isinstance(said, OpCall) else None)
    trace = Trace(question=Question(id="1", text="?", media=()), turns=(turn,), stop=Stop.NO_ANSWER)
    assert Trace.from_line(trace.to_line()).turns[0].text == text


# --- writing calls ---

fractions = st.floats(0, 1)
ordered = st.tuples(fractions, fractions).filter(lambda pair: pair[0] < pair[1])


@given(x=ordered, y=ordered, target=st.integers(1, 40))
def test_a_written_call_is_parsed_back_up_to_two_decimals(x, y, target):
    box = [x[0], y[0], x[1], y[1]]
    call = OpCall(name="zoom_in", arguments={"bbox_2d": box, "target_image": target})
    said = COMPACT.parse(COMPACT.write_call(call))
    assert said.name == "zoom_in"
    assert said.arguments["bbox_2d"] == pytest.approx(box, abs=0.0051)
    assert said.arguments["target_image"] == target


@both
@given(frames=st.lists(st.integers(1, 99)))
def test_written_frames_are_parsed_back(dialect, frames):
    call = OpCall(name="select_frames", arguments={"target_frames": frames})
    assert dialect.parse("So: " + dialect.write_call(call)) == call


@both
def test_a_call_is_written_with_a_name_that_the_system_message_offers(dialect):
    for name in OPERATIONS:
        written = json.loads(dialect.write_call(OpCall(name=name, arguments={}))[11:-12])
        assert re.search(rf"\b{written['name']}\b", dialect.system_with)
        assert dialect.parse(dialect.write_call(OpCall(name=name, arguments={}))).name == name


@pytest.mark.parametrize("name", ["crop_image_normalized", "crop_image", "zoom_in"])
def test_the_released_checkpoints_may_use_any_of_their_names(name):
    assert RELEASED.parse(call_text(name=name, target_image=1)).name == "zoom_in"


# --- padding ---


def padded(*box: object) -> object:
    return RELEASED.parse(call_text(bbox_2d=box)).arguments["bbox_2d"]


def test_released_checkpoints_get_a_tenth_of_the_picture_more_on_every_side():
    assert padded(0.4, 0.5, 0.6, 0.7) == pytest.approx([0.3, 0.4, 0.7, 0.8])


@given(x=ordered, y=ordered)
def test_padding_ends_at_the_borders_of_the_picture(x, y):
    box = Box.of(padded(x[0], y[0], x[1], y[1]))
    assert box.x1 == pytest.approx(max(0, x[0] - 0.1))
    assert box.y2 == pytest.approx(min(1, y[1] + 0.1))


@pytest.mark.parametrize(
    "numbers",
    [
        (0.6, 0.4, 0.55, 0.7),
        (0.5, 0.5, 0.5, 0.7),
        (0.5, 0.5, 100, 200),
        (-0.05, 0, 1, 1),
        (0.1, 0.2, 0.3),
        ("a", "b", "c", "d"),
        (10**400, 0, 1, 1),
    ],
)
def test_padding_leaves_a_wrong_box_alone_to_be_refused(numbers):
    assert padded(*numbers) == list(numbers)


def test_this_projects_dialect_takes_a_box_as_it_is():
    said = COMPACT.parse(call_text(bbox_2d=[0.4, 0.5, 0.6, 0.7]))
    assert said.arguments["bbox_2d"] == [0.4, 0.5, 0.6, 0.7]


# --- answers ---


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{red}", "red"),
        (r"So it is $\boxed{ red }$.", "red"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{a{b{c}d}e}", "a{b{c}d}e"),
        (r"\boxed{a} no, \boxed{b}", "b"),
        (r"\boxed{a} and \boxed{b", "a"),
        (r"\boxed{a} and \boxed{b{c}", "a"),
        (r"\boxed{a \boxed{b}}", "b"),
        (r"\boxed{a \boxed{b}", "b"),
        ("\\boxed{two\nlines}", "two\nlines"),
        (r"\boxed{}", ""),
    ],
)
def test_the_last_balanced_box_is_the_answer(text, answer):
    assert boxed(text) == answer
    assert COMPACT.parse(text) == RELEASED.parse(text) == Answer(answer)


@given(st.text("ab{}\\ ", max_size=20).filter(lambda text: boxed(rf"\boxed{{{text}}}") is not None))
def test_an_answer_is_a_part_of_the_text(text):
    assert boxed(rf"\boxed{{{text}}}") in text


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, messages in golden_conversations().items():
        text = json.dumps(messages, indent=1, ensure_ascii=False)
        (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
