"""Dialects: exact messages of every family, and parsing of any text of a model.

`python tests/test_dialects.py` writes the golden conversations again; review the difference before you keep it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from conftest import draw_clip, draw_photo
from pixel_reasoner.dialects import (
    DIALECTS,
    Dialect,
    ParsedTurn,
    boxed,
    detect_dialect,
    get_dialect,
)
from pixel_reasoner.dialects.answers import AnswerFormat
from pixel_reasoner.dialects.boxes import (
    CLAMPED_PIXELS,
    FRACTIONS,
    NINES,
    PIXELS,
    THOUSANDTHS,
    THOUSANDTHS_YX,
)
from pixel_reasoner.dialects.conformance import (
    assert_valid_dialect,
    distinct_dialects,
    insert_table,
)
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.syntax.hermes import HERMES
from pixel_reasoner.dialects.template_check import assert_template_supports
from pixel_reasoner.errors import ModelError, UnknownNameError, UsageError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.api import Completion
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.operations.registry import default_operations
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, MediaLimits, RolloutConfig
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    StopReason,
    Text,
    Thought,
    ToolCall,
    Trace,
    Turn,
)

GOLDEN = Path(__file__).parent / "golden"
COMPACT, RELEASED = get_dialect("compact"), get_dialect("pixel_reasoner")

QWEN3, QWEN2_5 = get_dialect("qwen3_vl"), get_dialect("qwen2_5_vl")
DEEPEYES, MINI_O3 = get_dialect("deepeyes"), get_dialect("mini_o3")
ALL = dict(DIALECTS.items())
FIRST = ("compact", "pixel_reasoner", "plain", "deepeyes", "mini_o3", "qwen2_5_vl", "qwen3_vl")
WITH_HERMES = {name: ALL[name] for name in FIRST if ALL[name].syntax is HERMES}
GOLDEN_FAMILIES = (
    "gemma3", "gemma4", "glm4v", "kimi_k25", "lfm2_vl", "llama4", "minimax_m3", "mistral3", "muse", "qwen3_5", "qwen3_8",
)  # fmt: skip
"""families whose messages differ in form from all others"""
GRIDS = {one.grid: one for one in reversed(ALL.values())}
DISTINCT = distinct_dialects(with_grid=False)

every_grid = pytest.mark.parametrize(
    "dialect", GRIDS.values(), ids=[one.name for one in GRIDS.values()]
)
every_parser = pytest.mark.parametrize("dialect", DISTINCT.values(), ids=DISTINCT)
every = pytest.mark.parametrize("dialect", ALL.values(), ids=ALL)
every_hermes = pytest.mark.parametrize("dialect", WITH_HERMES.values(), ids=WITH_HERMES)


def pictures(*sizes: tuple[int, int], num_given: int = 1) -> list[Picture]:
    """Return pictures of the prompt. Those after the first `num_given` are results of operations."""
    return [
        Picture(
            number=n, medium=0, source_px=size, seen_px=size, parent=None if n <= num_given else 1
        )
        for n, size in enumerate(sizes, start=1)
    ]


def is_nothing(parsed: ParsedTurn) -> bool:
    """Return whether a turn contains neither a call nor an answer."""
    return parsed.answer is None and not parsed.has_attempted_call


def rejection(parsed: ParsedTurn):
    """Return the error of a turn that is rejected completely."""
    assert parsed.error is not None
    assert parsed.error.call is None
    assert parsed.executable_calls == []
    assert parsed.answer is None
    return parsed.error


def call_text(*, name: object = "zoom_in", **arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


# --- messages ---


def conversation(dialect: Dialect, *, operations: bool) -> list[dict]:
    """Return a conversation with every kind of message: question, crop, tool error, selected frames, crop of a frame, answer."""
    turns = (
        ToolCall(
            name="zoom_in", arguments={"bbox_2d": [0.25, 0.25, 0.75, 0.75], "target_image": 1}
        ),
        ToolCall(
            name="zoom_in", arguments={"bbox_2d": [0.75, 0.25, 0.25, 0.75], "target_image": 1}
        ),
        ToolCall(name="select_frames", arguments={"target_frames": [1, 3]}),
        ToolCall(
            name="zoom_in", arguments={"bbox_2d": [0.25, 0.25, 0.75, 0.75], "target_image": 2}
        ),
    )
    with tempfile.TemporaryDirectory() as name:
        photo, clip = Path(name) / "photo.png", Path(name) / "clip.mp4"
        question = Question(
            id="1",
            text="Which {one}?",
            media=(
                MediaItem(kind="image", path=str(draw_photo(photo))),
                MediaItem(kind="video", path=str(draw_clip(clip))),
            ),
        )
        config = RolloutConfig(operations=operations, media=MediaLimits(num_frames=3))
        rollout = Rollout(question, ScriptedModel([""], dialect=dialect.name), config)
        for call in turns if operations else ():
            if dialect.can_name_pictures or call.arguments.get("target_image", 1) == 1:
                text = dialect.write_turn("I look closer.", call, rollout.context.pictures)
                rollout.take(Completion(text), 0.0)
        rollout.take(Completion(dialect.answer_format.write("B")), 0.0)
    assert rollout.answer == "B"
    labels = {p.number: f"picture {p.number}, {p.seen_px}" for p in rollout.context.pictures}
    return dialect.messages(
        question, rollout.pictures, rollout.turns, labels.__getitem__, operations=operations
    )


def golden_conversations() -> dict[str, list[dict]]:
    return {
        f"{name}-{'with' if operations else 'without'}-operations": conversation(
            dialect, operations=operations
        )
        for name, dialect in ALL.items()
        for operations in (True, False)
        if name in FIRST or (operations and name in GOLDEN_FAMILIES)
    }


def test_every_message_equals_the_golden_file():
    for name, messages in golden_conversations().items():
        expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        assert messages == expected, name


@every
def test_each_turn_only_appends_to_the_messages(dialect):
    """Earlier messages never change."""
    turns = (Turn(text="one"), Turn(text="two"))
    question = Question(id="1", text="?", media=())
    shorter, longer = (dialect.messages(question, (), turns[:n], lambda n: n) for n in (1, 2))
    assert longer[: len(shorter)] == shorter


def test_the_error_of_an_unknown_dialect_lists_all_and_the_nearest():
    with pytest.raises(UsageError, match=r"compact, pixel_reasoner, .*; got 'qwen3vl'") as caught:
        get_dialect("qwen3vl")
    assert isinstance(caught.value, UnknownNameError)
    assert "use 'qwen3_vl'" in caught.value.fix


# --- texts of a model ---

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


@every_hermes
@pytest.mark.parametrize(("text", "why"), MALFORMED.values(), ids=MALFORMED)
def test_the_error_of_a_malformed_call_states_the_problem_and_the_fix(dialect, text, why):
    error = rejection(dialect.parse("I look closer. " + text))
    assert error.kind is CallErrorKind.MALFORMED_CALL
    assert why in error.message
    assert "write" in error.message


@every_hermes
@pytest.mark.parametrize("between", ["", "\n", "and then "])
def test_two_calls_in_one_turn_are_both_rejected(dialect, between):
    error = rejection(dialect.parse(CALL + between + CALL))
    assert error.kind is CallErrorKind.SEVERAL_CALLS
    assert "2 calls in one turn; call one operation at a time" in error.message


@every_hermes
def test_a_call_ends_the_turn_and_any_thought_may_precede_it(dialect):
    thought = r"Perhaps \boxed{red}? I { look } closer. "
    parsed = dialect.parse(thought + call_text(name="select_frames", target_frames=[1]) + " \n")
    call = ToolCall(name="select_frames", arguments={"target_frames": [1]})
    assert parsed == ParsedTurn(parts=(Text(text=thought), call))


def test_arguments_are_optional():
    parsed = COMPACT.parse('<tool_call>{"name": "zoom_in"}</tool_call>')
    assert parsed.executable_calls == [ToolCall(name="zoom_in", arguments={})]


@every
def test_a_turn_without_call_and_answer_is_empty(dialect):
    for text in ("", "I do not know.", r"\boxed{red", r"boxed{red}", "</tool_call>"):
        assert is_nothing(dialect.parse(text))


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
arguments = st.dictionaries(
    st.sampled_from(["bbox_2d", "target_image", "img_idx", "label", "other"]), values
)


@every_parser
@given(text=st.text() | st.lists(pieces | st.text(max_size=3), max_size=20).map("".join))
def test_any_text_is_parsed_without_an_exception(dialect, text):
    parsed = dialect.parse(text)
    assert parsed.answer is None or not parsed.has_attempted_call
    assert len(parsed.executable_calls) <= 1


@every_hermes
@given(
    name=st.text() | st.sampled_from([*DEFAULT_OPERATIONS, "image_zoom_in_tool"]),
    arguments=arguments,
)
@example(name="zoom_in", arguments={"bbox_2d": [10**400, 0, 1, 1]})
@example(name="zoom_in", arguments={"bbox_2d": [float("nan"), 0, 1, 1]})
@example(name="zoom_in", arguments={"bbox_2d": {"x1": 0, "y1": 0, "x2": 1, "y2": 1}})
def test_any_call_is_parsed_and_serialized(dialect, name, arguments):
    text = call_text(name=name, **arguments)
    for known in ((), pictures((640, 480), (96, 64))):
        turn = Turn(text=text, parts=dialect.parse(text, known).parts)
        trace = Trace(
            question=Question(id="1", text="?", media=()), turns=(turn,), stop=StopReason.NO_ANSWER
        )
        back = Trace.from_line(trace.to_line()).turns[0]
        assert (back.text, len(back.calls)) == (text, len(turn.calls))


# --- writing calls ---

fractions = st.floats(0, 1)
ordered = st.lists(fractions, min_size=2, max_size=2, unique=True).map(sorted)


@given(x=ordered, y=ordered, target=st.integers(1, 40))
def test_a_written_call_is_parsed_to_the_same_box_within_two_decimals(x, y, target):
    box = [x[0], y[0], x[1], y[1]]
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": box, "target_image": target})
    said = COMPACT.parse(COMPACT.write_call(call)).call
    assert said.name == "zoom_in"
    assert said.arguments["bbox_2d"] == pytest.approx(box, abs=0.0051)
    assert said.arguments["target_image"] == target


@every_parser
@given(frames=st.lists(st.integers(1, 99)))
def test_written_frames_are_parsed_to_the_same_frames(dialect, frames):
    call = ToolCall(name="select_frames", arguments={"target_frames": frames})
    assert dialect.parse("So:\n" + dialect.write_call(call)).executable_calls == [call]


@every_hermes
def test_calls_are_written_with_a_name_of_the_tool_definitions(dialect):
    for name in DEFAULT_OPERATIONS:
        written = json.loads(dialect.write_call(ToolCall(name=name, arguments={}))[11:-12])
        offer = dialect.system_with_video or dialect.system_with_operations
        assert re.search(rf"\b{written['name']}\b", offer)
        back = dialect.parse(dialect.write_call(ToolCall(name=name, arguments={})))
        assert back.call.name == name


@pytest.mark.parametrize("name", ["crop_image_normalized", "crop_image", "zoom_in"])
def test_all_operation_names_of_upstream_checkpoints_are_accepted(name):
    assert RELEASED.parse(call_text(name=name, target_image=1)).call.name == "zoom_in"


# --- padding ---


def padded(*box: object) -> object:
    return RELEASED.parse(call_text(bbox_2d=box)).call.arguments["bbox_2d"]


def test_upstream_checkpoints_get_a_margin_of_a_tenth_on_every_side():
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
def test_padding_does_not_repair_an_invalid_box(numbers):
    assert padded(*numbers) == list(numbers)


def test_the_dialect_of_this_project_adds_no_padding():
    said = COMPACT.parse(call_text(bbox_2d=[0.4, 0.5, 0.6, 0.7])).call
    assert said.arguments["bbox_2d"] == [0.4, 0.5, 0.6, 0.7]


# --- coordinates ---


@every_grid
@given(x=ordered, y=ordered, size=st.tuples(st.integers(28, 4096), st.integers(28, 4096)))
@example(x=(0.0, 1.0), y=(0.0, 1.0), size=(28, 4096))
def test_a_box_is_rounded_once_by_at_most_half_a_unit(dialect, x, y, size):
    grid, box = dialect.grid, [x[0], y[0], x[1], y[1]]
    written = grid.write(box, size)
    back = grid.read(written, size)
    assert back == [pytest.approx(value, abs=0.5 * grid.step(size) + 1e-12) for value in box]
    assert grid.write(back, size) == written
    assert grid.read([*grid.sides(size)] * 2, size) == [1, 1, 1, 1]


@every_grid
@given(x=ordered, y=ordered, sizes=st.lists(st.tuples(*[st.integers(300, 3000)] * 2), min_size=3))
def test_a_converted_call_has_the_same_region_of_the_same_picture(dialect, x, y, sizes):
    known = pictures(*sizes)
    number = len(sizes) if dialect.can_name_pictures else 1
    box = [x[0], y[0], x[1], y[1]]
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": box, "target_image": number})
    parsed = dialect.parse(dialect.write_turn("So.", call, known), known)
    if parsed.errors:  # thinner than a unit
        assert min(x[1] - x[0], y[1] - y[0]) <= dialect.grid.step(known[number - 1].seen_px)
    said = parsed.call
    assert said.arguments.get("target_image", 1) == number
    half = 0.5 * dialect.grid.step(known[number - 1].seen_px)
    for value, wanted in zip(said.arguments["bbox_2d"], box, strict=True):
        assert abs(value - wanted) <= half + dialect.padding + 1e-9


@pytest.mark.parametrize(
    ("grid", "numbers", "expected"),
    [
        (THOUSANDTHS, [750, 0, 250, 10], "box is inverted: x1=750 must be less than x2=250"),
        (THOUSANDTHS, [1010, 0, 1020, 10], "box is empty: x1=1000 equals x2"),
        (THOUSANDTHS, [1200, 0, 1300, 10], "give [x1, y1, x2, y2] in 0 to 1000 on either side"),
        (PIXELS, [0, 0, 900, 10], "is outside of the picture; give [x1, y1, x2, y2] in pixels"),
        (CLAMPED_PIXELS, [0, 0, 900, 10], None),
        (PIXELS, [0, 480, 10, 480], "box is empty: y1=480 equals y2"),
        (PIXELS, [0, 1, 2], "box needs 4 numbers [x1, y1, x2, y2], got 3"),
        (
            PIXELS,
            [0, 1, 2, float("nan")],
            "y2=nan is not a finite number; give numbers in [0, 480]",
        ),
        (PIXELS, [0, 1, 10**400, 2], "x2=inf is not a finite number; give numbers in [0, 640]"),
        (
            THOUSANDTHS_YX,
            [0, 750, 10, 250],
            "x1=750 must be less than x2=250; give [y1, x1, y2, x2]",
        ),
        (THOUSANDTHS_YX, [0, 0, 1200, 10], "give [y1, x1, y2, x2] in 0 to 1000 on either side"),
        (NINES, [0, 0, 1050, 10], "in 0 to 999 on either side"),
        (FRACTIONS, [0, 0, 1.5, 1], "x2=1.5 is outside [0, 1]; give normalised [x1, y1, x2, y2]"),
        (PIXELS, [-3, 0, 650, 10], None),
        (PIXELS, "left", None),
        (PIXELS, [0, 0, True, 1], None),
    ],
)
def test_the_error_of_an_invalid_box_uses_the_units_of_the_call(grid, numbers, expected):
    why = grid.invalid_reason(numbers, (640, 480))
    assert expected in why if expected else why is None


def parse_zoom(dialect: Dialect, number: object, box: object, name: str) -> ParsedTurn:
    own = dialect.argument_names["zoom_in"]
    index = next(theirs for theirs, ours in own.items() if ours == name)
    known = pictures((640, 480), (560, 420), (280, 140), num_given=1)
    named = {"name": "image_zoom_in_tool", "arguments": {"bbox_2d": box, index: number}}
    value = named if dialect.syntax.has_names else named["arguments"]
    return dialect.parse(f"{dialect.syntax.open}{json.dumps(value)}{dialect.syntax.close}", known)


@pytest.mark.parametrize(
    ("dialect", "number", "box", "region"),
    [
        (QWEN3, 0, [250, 500, 1000, 1000], (1, [0.25, 0.5, 1, 1])),
        (QWEN3, 2, [250, 500, 1003, 1000], (3, [0.25, 0.5, 1, 1])),
        (QWEN2_5, 0, [160, 240, 640, 480], (1, [0.25, 0.5, 1, 1])),
        (QWEN2_5, 1, [140, 210, 565, 428], (2, [0.25, 0.5, 1, 1])),
        (MINI_O3, "original_image", [0.25, 0.5, 1.0, 1.01], (1, [0.25, 0.5, 1, 1])),
        (MINI_O3, "observation_2", [0.25, 0.5, 1.0, 1.0], (3, [0.25, 0.5, 1, 1])),
    ],
)
def test_picture_numbers_and_coordinates_follow_the_family(dialect, number, box, region):
    (said,) = parse_zoom(dialect, number, box, "target_image").executable_calls
    assert said.name == "zoom_in"
    assert (said.arguments["target_image"], said.arguments["bbox_2d"]) == region


@pytest.mark.parametrize(
    ("dialect", "number", "expected"),
    [
        (QWEN3, 3, "there is no picture 3; pictures are numbered 0 to 2"),
        (QWEN3, -1, "there is no picture -1; pictures are numbered 0 to 2"),
        (QWEN2_5, 7.0, "there is no picture 7.0; pictures are numbered 0 to 2"),
        (MINI_O3, "observation_3", "'original_image' or 'observation_1' to 'observation_2'"),
        (MINI_O3, "observation_0", "there is no picture observation_0; source is"),
        (MINI_O3, "observation", "there is no picture observation; source is"),
        (MINI_O3, 1, "there is no picture 1; source is"),
    ],
)
def test_the_error_of_a_missing_picture_uses_the_names_of_the_family(dialect, number, expected):
    parsed = parse_zoom(dialect, number, [0, 0, 1, 1], "target_image")
    assert (parsed.error.kind, parsed.error.call) == (CallErrorKind.NO_SUCH_PICTURE, 0)
    assert expected in parsed.error.message
    assert parsed.call.name == "zoom_in"


def test_the_error_of_an_argument_of_another_family_lists_the_valid_arguments():
    parsed = QWEN3.parse(call_text(name="image_zoom_in_tool", bbox_2d=[0, 0, 9, 9], target_image=1))
    assert (parsed.error.kind, parsed.error.call) == (CallErrorKind.BAD_ARGUMENTS, 0)
    assert (
        parsed.error.message == "there is no argument 'target_image'; use label, bbox_2d, img_idx"
    )
    assert parsed.executable_calls == []


def test_texts_of_operations_use_the_terms_of_the_family(photo):
    question = Question(id="1", text="?", media=(MediaItem(kind="image", path=str(photo)),))
    context = MediaContext(question, QWEN3.budgets)
    said = QWEN3.parse(call_text(name="crop", bbox_2d=[0, 0, 9, 9]), context.pictures).call
    refused = Turn(text="", observations=(default_operations().run(said, context),))
    (part,) = QWEN3.messages(question, context.pictures, [refused], str)[-1]["content"]
    assert "there is no operation 'crop'; use image_zoom_in_tool or select_frames" in part["text"]


def test_deepeyes_zooms_into_the_first_picture_and_its_label_is_ignored():
    known = pictures((640, 480), (280, 140))
    parsed = DEEPEYES.parse(
        "<think>There.</think> "
        + call_text(name="image_zoom_in_tool", bbox_2d=[320, 0, 640, 480], label="a sign"),
        known,
    )
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0.5, 0, 1, 1]})
    assert parsed == ParsedTurn(parts=(Thought(thought="There."), call))
    with pytest.raises(AssertionError, match="names no picture"):
        DEEPEYES.write_call(ToolCall(name="zoom_in", arguments={"target_image": 2}), known)


@pytest.mark.parametrize("dialect", [QWEN3, DEEPEYES, MINI_O3], ids=lambda one: one.name)
def test_a_call_in_a_thought_is_not_a_call(dialect):
    first = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5]})
    known = pictures((640, 480))
    call = dialect.write_call(first, known)
    parsed = dialect.parse(f"<think>{call}</think> " + dialect.answer_format.write("7"), known)
    assert (parsed.answer, parsed.calls, parsed.parts[0]) == ("7", [], Thought(thought=call))
    several = rejection(dialect.parse(f"<think>So.</think> {call} {call}", known))
    assert several.kind is CallErrorKind.SEVERAL_CALLS


@every_parser
@given(text=st.text() | st.lists(pieces | st.text(max_size=3), max_size=20).map("".join))
def test_anything_between_the_tags_is_parsed_without_an_exception(dialect, text):
    tags = dialect.syntax
    parsed = dialect.parse(tags.open + text + tags.close, pictures((640, 480)))
    ends_thought = dialect.separates_thoughts and dialect.thought_tags.close in text
    assert parsed.has_attempted_call or ends_thought or not tags.open


# --- which dialect a model uses ---


@pytest.mark.parametrize(
    ("name", "model_type", "dialect_name"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", "qwen3_vl"),
        ("Qwen/Qwen3-VL-30B-A3B-Thinking", "qwen3_vl_moe", "qwen3_vl"),
        ("qwen3-vl-plus", "", "qwen3_vl"),
        ("runs/mine/sft/model", "qwen3_vl", "qwen3_vl"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl", "qwen2_5_vl"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "", "qwen2_5_vl"),
        ("TIGER-Lab/PixelReasoner-RL-v1", "qwen2_5_vl", "pixel_reasoner"),
        ("TIGER-Lab/PixelReasoner-WarmStart", "", "pixel_reasoner"),
        ("models--TIGER-Lab--PixelReasoner-RL-v1/snapshots/" + "a" * 40, "", "pixel_reasoner"),
        ("ChenShawn/DeepEyes-7B", "qwen2_5_vl", "deepeyes"),
        ("DeepEyes-7B/checkpoint-80", "qwen2_5_vl", "deepeyes"),
        ("honglyhly/DeepEyesV2_7B", "qwen2_5_vl", "qwen2_5_vl"),
        ("Mini-o3/Mini-o3-7B-v1", "qwen2_5_vl", "mini_o3"),
        ("DeepEyes-on-Qwen3", "qwen3_vl", "qwen3_vl"),
        ("/home/pixel-reasoner/models/qwen", "qwen2_5_vl", "qwen2_5_vl"),
        ("llava-hf/llava-1.5-7b-hf", "llava", "plain"),
        ("gpt-9", "", "plain"),
        ("Qwen/Qwen3.5-9B", "", "qwen3_5"),
        ("Qwen/Qwen3.6-27B", "qwen3_5", "qwen3_5"),
        ("Qwen/Qwen3.8-Flash", "qwen3_5_moe", "qwen3_8"),
        ("Qwen/Qwen3.8-Flash", "", "qwen3_8"),
        ("Qwen/Qwen3-5B", "", "plain"),
        ("a/folder", "qwen4_exp", "qwen3_8"),
        ("google/gemma-3-4b-it", "", "gemma3"),
        ("google/gemma-4-E4B-it", "", "gemma4"),
        ("google/diffusion-gemma-4-26B", "", "diffusion_gemma"),
        ("OpenGVLab/InternVL3_5-8B-HF", "internvl", "internvl"),
        ("zai-org/GLM-4.6V-Flash", "", "glm4v"),
        ("zai-org/GLM-5.3-Flash", "glm5_next", "glm5"),
        ("mistralai/Pixtral-12B-2409", "llava", "pixtral"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "", "mistral3"),
        ("openbmb/MiniCPM-V-4_5", "", "minicpm_v4_5"),
        ("openbmb/MiniCPM-V-4.6", "", "minicpm_v"),
        ("moonshotai/Kimi-VL-A3B-Thinking", "", "kimi_vl"),
        ("moonshotai/Kimi-K2.5", "", "kimi_k25"),
        ("LiquidAI/LFM2.5-VL-1.6B", "", "lfm2_vl"),
        ("stepfun-ai/Step-3.7-Flash", "", "step3p7"),
        ("stepfun-ai/step3", "", "step3"),
        ("deepseek-ai/deepseek-vl2-small", "", "deepseek_vl2"),
        ("deepseek-ai/deepseek-vl-7b-chat", "", "deepseek_vl"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "", "llama4"),
    ],
)
def test_a_dialect_is_detected_by_model_type_or_checkpoint_name(name, model_type, dialect_name):
    assert (
        detect_dialect(name, {"model_type": model_type} if model_type else None).name
        == dialect_name
    )


@pytest.mark.parametrize(
    ("name", "model_type", "family"),
    [
        ("google/paligemma2-3b-mix-448", "paligemma", "PaliGemma"),
        ("microsoft/Florence-2-large", "", "Florence-2"),
        ("a/folder", "deepseek_ocr2", "DeepSeek-OCR"),
    ],
)
def test_a_family_without_turns_is_refused_in_one_line(name, model_type, family):
    with pytest.raises(ModelError, match=f"a {family} model, which is prompted by tasks") as error:
        detect_dialect(name, {"model_type": model_type} if model_type else None)
    assert "use a chat model" in error.value.fix
    assert "\n" not in str(error.value)


def test_a_dialect_is_detected_from_a_chat_template():
    config = {"model_type": "qwen2_5_vl"}
    assert detect_dialect("mine", config, "... <grounding> ...") is MINI_O3
    assert detect_dialect("ChenShawn/DeepEyes-7B", config, "... <grounding> ...") is DEEPEYES


def test_two_dialects_with_equal_confidence_are_named_in_the_error():
    with pytest.raises(UsageError, match="deepeyes and mini_o3 equally well") as error:
        detect_dialect("DeepEyes-Mini-o3-merged", {"model_type": "qwen2_5_vl"})
    assert error.value.fix == "name one: --dialect deepeyes, or in the folder's pixel_reasoner.json"


# --- chat templates ---


def qwen3_vl_template() -> Callable[..., str]:
    """Chat template of Qwen3-VL, as shipped with TRL."""
    jinja2 = pytest.importorskip("jinja2")
    spec = importlib.util.find_spec("trl")
    if spec is None:
        pytest.skip("needs the chat templates of TRL")
    path = Path(spec.origin).parent / "chat_templates" / "qwen3_vl.jinja"
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(path.read_text(encoding="utf-8")).render


def test_the_tool_text_of_qwen3_vl_equals_the_output_of_its_template():
    render = qwen3_vl_template()
    question = Question(id="1", text="Which?", media=(MediaItem(kind="video", path="a.mp4"),))
    first, crop = pictures((640, 480), (320, 320))
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 0.5, 0.5], "target_image": 1})
    text = QWEN3.write_turn("I look.", call, [first], about="the sign")
    observation = Observation(text="", pictures=(crop,))
    ours = QWEN3.messages(question, [first], [Turn(text=text, observations=(observation,))], str)
    function = json.loads(text.partition("<tool_call>")[2].partition("</tool_call>")[0])
    native = [
        ours[1],
        {"role": "assistant", "content": "I look.", "tool_calls": [{"function": function}]},
        {"role": "tool", "content": [{"type": "image"}]},
    ]
    assert render(messages=ours) == render(messages=native, tools=QWEN3.tools)


def rendered(messages: list[dict], *, without: str = "", images: int = 9) -> str:
    """Render messages like a template that omits a role, or pictures after the first `images`."""
    rendered_parts = []
    for message in messages:
        if message["role"] != without:
            own = [message.get(key) for key in ("reasoning_content", "tool_calls")]
            rendered_parts += [json.dumps(one) for one in own if one]
        for part in message["content"] if message["role"] != without else ():
            if part["type"] == "text":
                rendered_parts.append(part["text"])
            elif images:
                images -= 1
                rendered_parts.append("<image>")
    return "\n".join(rendered_parts)


@every
def test_a_template_that_renders_all_roles_is_accepted(dialect):
    assert_template_supports(rendered, dialect, "a model")


@every
@pytest.mark.parametrize(
    ("omitted", "why"),
    [
        ({"without": "system"}, "leaves out the system message with the operations"),
        ({"without": "assistant"}, "leaves out assistant messages"),
        ({"images": 1}, "leaves out pictures of operation results"),
        ({"images": 0}, "leaves out pictures of the question"),
    ],
)
def test_a_template_that_omits_roles_or_pictures_is_an_error(dialect, omitted, why):
    if "system" in why and not dialect.carriage.system_role:
        return
    with pytest.raises(ModelError, match=why):
        assert_template_supports(lambda messages: rendered(messages, **omitted), dialect, "a model")


def test_the_error_of_a_template_is_reported():
    def render(messages):
        raise ValueError("System role not supported")

    with pytest.raises(ModelError, match="whose template rejects it: System role not supported"):
        assert_template_supports(render, QWEN3, "a model")


# --- conformance of dialects ---


@every
def test_every_dialect_is_valid(dialect):
    assert 0 <= assert_valid_dialect(dialect, boxes=200) <= 0.5


BROKEN = {
    "a name that is taken": ({"name": "qwen3_vl"}, "the name is taken"),
    "a name with a blank": ({"name": "my own"}, "is no name"),
    "for no model": ({"models": ""}, "`models` is empty"),
    "a tool without a definition": (
        {"system_with_operations": "Look.", "system_with_video": ""},
        "is not listed",
    ),
    "tools of other names": ({"tools": QWEN3.tools[:1]}, "calls name"),
    "arguments that no tool has": ({"argument_names": {"zoom_in": {"box": "bbox_2d"}}}, "takes"),
    "an error that is not returned": ({"error_template": "No."}, "an error is not explained"),
    "answers that are not found": (
        {"answer_format": AnswerFormat(open="A: ", close="", find=boxed)},
        "is parsed as",
    ),
    "no arguments that distinguish operations": (
        {"syntax": MINI_O3.syntax, "argument_names": {}},
        "calls do not distinguish operations",
    ),
}


@pytest.mark.parametrize(("change", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_dialect_does_not_conform(change, why):
    dialect = replace(QWEN3, **{"name": "mine", "suffix_with_operations": "Look.", **change})
    with pytest.raises(AssertionError, match=why):
        assert_valid_dialect(dialect, boxes=10)


def test_an_unregistered_dialect_conforms():
    mine = replace(
        QWEN3, name="mine", match=ModelMatch(), grid=PIXELS, suffix_with_operations="Look."
    )
    assert assert_valid_dialect(mine, boxes=500) <= 0.5


@pytest.mark.medium
def test_the_page_contains_the_table_of_all_dialects():
    page = (Path(__file__).parents[1] / "docs" / "dialects.md").read_text(encoding="utf-8")
    fix = "python -m pixel_reasoner.dialects.conformance docs/dialects.md writes it"
    assert insert_table(page, boxes=2000) == page, fix  # with 20,000 boxes it takes a minute


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
    for dialect in (COMPACT, RELEASED, QWEN3):
        assert dialect.parse(text) == ParsedTurn(parts=(Text(text=text),), answer=answer)


@given(st.text("ab{}\\ ", max_size=20).filter(lambda text: boxed(rf"\boxed{{{text}}}") is not None))
def test_an_answer_is_a_substring_of_the_text(text):
    assert boxed(rf"\boxed{{{text}}}") in text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>red?</think> <answer> blue </answer>", "blue"),
        ("<answer>red</answer> no, <answer>blue</answer>", "blue"),
        (r"<answer>\boxed{B}</answer>", "B"),
        ("<answer></answer>", ""),
        (r"\boxed{blue}", None),
        ("<answer>blue", None),
        ("<think><answer>red</answer></think> I see.", None),
    ],
)
def test_an_answer_between_tags_is_the_last_one(text, answer):
    for dialect in (DEEPEYES, MINI_O3):
        parsed = dialect.parse(text)
        assert (parsed.answer, parsed.has_attempted_call) == (answer, False)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, messages in golden_conversations().items():
        text = json.dumps(messages, indent=1, ensure_ascii=False)
        (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
