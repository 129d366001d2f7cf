"""Operations: a call is executed or rejected with a usable tool error. No call raises an exception."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner.errors import PluginError, UnknownNameError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations.base import (
    ArgumentRole,
    MediaKind,
    OperationSpec,
    PictureArgument,
    assert_valid_operation,
)
from pixel_reasoner.operations.frames import MAX_SELECTED_FRAMES, select_frames
from pixel_reasoner.operations.registry import (
    OPERATIONS,
    OperationSet,
    default_operations,
    describe_call,
    operation,
)
from pixel_reasoner.operations.zoom import MIN_SIDE_PX, zoom_in
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import CallErrorKind, Picture, ToolCall
from test_decoder import write_video
from test_media_context import context_of

HUGE = 10**4000


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> MediaContext:
    path = tmp_path_factory.mktemp("ops") / "a.png"
    Image.new("RGB", (640, 480)).save(path)
    return context_of(("image", path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> MediaContext:
    return context_of(("video", write_video(tmp_path_factory.mktemp("ops") / "a.mp4", 12)))


def zoom(context: MediaContext, **arguments):
    return default_operations().run(ToolCall(name="zoom_in", arguments=arguments), context)


def select(context: MediaContext, **arguments):
    return default_operations().run(ToolCall(name="select_frames", arguments=arguments), context)


# --- executed calls ---


def test_zoom_in_returns_the_region_as_a_new_picture(context):
    observation = zoom(context, bbox_2d=[0.25, 0.5, 0.75, 1], target_image=1.0)
    assert (observation.error, observation.text) == (None, "")
    [picture] = observation.pictures
    assert (picture.box, picture.parent) == (Box(0.25, 0.5, 0.75, 1), 1)
    assert picture == context.pictures[-1]


def test_zoom_in_uses_the_first_picture_by_default(context):
    [picture] = zoom(context, bbox_2d=[0, 0, 0.5, 0.5]).pictures
    assert picture.parent == 1


def test_zoom_in_accepts_a_frame_of_a_video(clip):
    [picture] = zoom(clip, bbox_2d=[0, 0, 0.5, 0.5], target_image=3).pictures
    assert (picture.frame, picture.time_s) == (3, pytest.approx(0.2))


def test_select_frames_returns_frames_in_the_requested_order(clip):
    observation = select(clip, target_frames=[7, 2.0])
    assert observation.error is None
    assert [picture.frame for picture in observation.pictures] == [7, 2]


@given(st.lists(st.sampled_from([0, 1, 0.5, 0.25, -1, 2, math.nan, math.inf]), max_size=5))
def test_zoom_in_accepts_exactly_the_valid_boxes(context, numbers):
    try:
        expected, error_kind = Box.of(numbers), None
    except BoxError:
        expected, error_kind = None, CallErrorKind.BAD_BOX
    observation = zoom(context, bbox_2d=numbers)
    assert observation.error == error_kind
    assert [picture.box for picture in observation.pictures] == ([expected] if expected else [])


# --- rejected calls ---


@pytest.mark.parametrize(
    ("arguments", "error_kind", "text"),
    [
        ({"bbox_2d": [0.5, 0, 0.2, 1]}, CallErrorKind.BAD_BOX, "inverted"),
        ({"bbox_2d": [0, 0, 1.3, 1]}, CallErrorKind.BAD_BOX, "x2=1.3 is outside [0, 1]"),
        ({"bbox_2d": [0, 0, 0, 1]}, CallErrorKind.BAD_BOX, "empty"),
        ({"bbox_2d": [0, 0, 1]}, CallErrorKind.BAD_BOX, "needs 4 numbers"),
        ({"bbox_2d": [0, 0, math.nan, 1]}, CallErrorKind.BAD_BOX, "not a finite number"),
        ({"bbox_2d": [0, 0, HUGE, 1]}, CallErrorKind.BAD_BOX, "not a finite number"),
        ({"bbox_2d": [0, 0, 7 / 640, 1]}, CallErrorKind.BOX_TOO_SMALL, "7 x 480 pixels; give one of at least 8 x 8"),
        ({"bbox_2d": [0, 0, 1, 1], "target_image": 0}, CallErrorKind.NO_SUCH_PICTURE, "numbered 1 to "),
        ({"bbox_2d": [0, 0, 1, 1], "target_image": 999}, CallErrorKind.NO_SUCH_PICTURE, "no picture 999"),
        ({"bbox_2d": [0, 0, 1, 1], "target_image": HUGE}, CallErrorKind.BAD_ARGUMENTS, "must be an integer"),
        ({"bbox_2d": [0, 0, 1, 1], "target_image": True}, CallErrorKind.BAD_ARGUMENTS, "must be an integer"),
        ({"bbox_2d": [0, 0, 1, 1], "target_image": "1"}, CallErrorKind.BAD_ARGUMENTS, "must be an integer"),
        ({"bbox_2d": [0, 0, 1, 1], "target_image": 3.5}, CallErrorKind.BAD_ARGUMENTS, "must be an integer"),
        ({"bbox_2d": [0, 0, 1, True]}, CallErrorKind.BAD_ARGUMENTS, "bbox_2d must be a list of numbers"),
        ({"bbox_2d": "0 0 1 1"}, CallErrorKind.BAD_ARGUMENTS, "bbox_2d must be a list of numbers"),
        ({"bbox_2d": [[0, 0], [1, 1]]}, CallErrorKind.BAD_ARGUMENTS, "bbox_2d must be a list of numbers"),
        ({"bbox_2d": None}, CallErrorKind.BAD_ARGUMENTS, "bbox_2d must be a list of numbers"),
        ({}, CallErrorKind.BAD_ARGUMENTS, "bbox_2d is missing; give a list of numbers"),
        (
            {"bbox_2d": [0, 0, 1, 1], "label": "dog"},
            CallErrorKind.BAD_ARGUMENTS,
            "no argument 'label'; use bbox_2d, target_image",
        ),
    ],
)  # fmt: skip
def test_the_error_of_a_wrong_zoom_states_the_allowed_values(context, arguments, error_kind, text):
    before = len(context)
    observation = zoom(context, **arguments)
    assert (observation.error, observation.pictures, len(context)) == (error_kind, (), before)
    assert text in observation.text


@pytest.mark.parametrize(
    ("frames", "error_kind", "text"),
    [
        (
            [],
            CallErrorKind.BAD_FRAMES,
            "no frames were named; give 1 to 8 different numbers from 1 to 12",
        ),
        ([0], CallErrorKind.BAD_FRAMES, "no frame 0"),
        ([13], CallErrorKind.BAD_FRAMES, "no frame 13"),
        ([2, 2], CallErrorKind.BAD_FRAMES, "named twice"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], CallErrorKind.BAD_FRAMES, "9 frames are too many"),
        ([1.5], CallErrorKind.BAD_ARGUMENTS, "target_frames must be a list of integers"),
        ([HUGE], CallErrorKind.BAD_ARGUMENTS, "target_frames must be a list of integers"),
        (3, CallErrorKind.BAD_ARGUMENTS, "target_frames must be a list of integers"),
    ],
)
def test_the_error_of_wrong_frames_states_the_allowed_values(clip, frames, error_kind, text):
    observation = select(clip, target_frames=frames)
    assert (observation.error, observation.pictures) == (error_kind, ())
    assert text in observation.text


def test_frame_selection_without_a_video_is_an_error(context):
    assert select(context, target_frames=[1]).error == CallErrorKind.NOT_A_VIDEO


def test_the_error_of_an_unknown_operation_lists_the_known_ones(context):
    observation = default_operations().run(ToolCall(name="rotate", arguments={}), context)
    assert observation.error == CallErrorKind.UNKNOWN_OPERATION
    assert observation.text == "there is no operation 'rotate'; use zoom_in or select_frames"


def test_a_region_of_minimum_size_is_cropped_and_a_zoom_into_it_is_rejected(context):
    [small] = zoom(context, bbox_2d=[0, 0, MIN_SIDE_PX / 640, 1]).pictures
    assert small.source_px == (MIN_SIDE_PX, 480)
    within = zoom(context, bbox_2d=[0, 0, 0.5, 1], target_image=small.number)
    assert within.error == CallErrorKind.BOX_TOO_SMALL


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(HUGE),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(["bbox_2d", "target_image", "target_frames", "context", "self"]) | st.text(
    max_size=5
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(DEFAULT_OPERATIONS)) | st.text(),
    st.dictionaries(names, json_values, max_size=4),
)
def test_no_json_makes_an_operation_raise(clip, name, arguments):
    observation = default_operations().run(ToolCall(name=name, arguments=arguments), clip)
    assert (observation.error is None) == bool(observation.pictures)
    assert bool(observation.text) == (observation.error is not None)
    assert len(observation.text) < 300


def test_deep_nesting_is_rejected(context):
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert zoom(context, bbox_2d=deep).error == CallErrorKind.BAD_ARGUMENTS


# --- failures ---


def _zoom_and_fail(context: MediaContext, target_image: int = 1) -> list[Picture]:
    """Add a crop and fail.

    Args:
        context: The pictures so far.
        target_image: The number of a picture.
    """
    context.add_crop(target_image, Box(0, 0, 0.5, 0.5))
    raise ZeroDivisionError("a mistake of the operation")


def spec_of(run, **fields) -> OperationSpec:
    return OperationSpec.from_function(run, media=frozenset({MediaKind.IMAGE}), **fields)


def test_an_exception_is_an_observation_without_pictures(context, caplog):
    before = list(context.pictures)
    failing = OperationSet((spec_of(_zoom_and_fail),))
    observation = failing.run(ToolCall(name="_zoom_and_fail", arguments={}), context)
    assert observation.error is CallErrorKind.OPERATION_FAILED
    assert observation.text == "_zoom_and_fail failed (ZeroDivisionError); try another call"
    assert context.pictures == before
    assert "a mistake of the operation" in caplog.text, "the traceback is logged"


def test_more_results_than_declared_are_an_error_of_the_operation(context):
    def twice(context: MediaContext) -> list[Picture]:
        """Add two crops.

        Args:
            context: The pictures so far.
        """
        return [context.add_crop(1, Box(0, 0, 0.5, 0.5)) for _ in range(2)]

    call, before = ToolCall(name="twice", arguments={}), len(context)
    assert OperationSet((spec_of(twice),)).run(call, context).error == "operation_failed"
    assert len(context) == before
    assert OperationSet((spec_of(twice, max_results=2),)).run(call, context).error is None
    context.truncate(before)


# --- sets ---


def test_a_call_of_an_operation_outside_the_set_is_rejected(context):
    alone = OperationSet.of(["select_frames"])
    observation = alone.run(ToolCall(name="zoom_in", arguments={"bbox_2d": [0, 0, 1, 1]}), context)
    assert observation.error is CallErrorKind.UNKNOWN_OPERATION
    assert observation.text == "there is no operation 'zoom_in'; use select_frames"


def test_the_error_of_an_unknown_operation_in_a_set_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"use 'zoom_in'.*, the nearest name"):
        OperationSet.of(["zoomin"])


def test_frame_selection_is_available_only_for_videos():
    image, video = (MediaItem(kind=kind, path="x") for kind in ("image", "video"))
    assert default_operations().for_media([image]).names == ("zoom_in",)
    assert default_operations().for_media([image, video]).names == DEFAULT_OPERATIONS


# --- schemas ---


@pytest.mark.parametrize("name", OPERATIONS.names())
def test_every_operation_is_valid(name):
    assert_valid_operation(OPERATIONS.get(name))


def test_a_schema_is_built_from_signature_and_docstring():
    function = zoom_in.tool_schema["function"]
    assert function["name"] == "zoom_in"
    assert function["description"].startswith("Zoom in on a region")
    parameters = function["parameters"]
    assert parameters["required"] == ["bbox_2d"]
    assert parameters["properties"]["bbox_2d"]["items"] == {"type": "number"}
    assert parameters["properties"]["target_image"]["default"] == 1
    assert "context" not in json.dumps(parameters)


def test_the_schema_states_the_maximum_number_of_frames():
    description = select_frames.tool_schema["function"]["description"]
    assert f"up to {MAX_SELECTED_FRAMES} frames" in description


def test_roles_distinguish_boxes_pictures_and_frames():
    roles = {one.name: one.role for spec in default_operations() for one in spec.parameters}
    assert roles == {
        "bbox_2d": ArgumentRole.BOX,
        "target_image": ArgumentRole.PICTURE,
        "target_frames": ArgumentRole.FRAMES,
    }
    assert zoom_in.arguments_with_role(ArgumentRole.BOX) == ["bbox_2d"]


@pytest.mark.parametrize(
    ("name", "arguments", "phrase"),
    [
        (
            "zoom_in",
            {"bbox_2d": [0.125, 0.3, 0.3, 0.48], "target_image": 2.0},
            "zoom in on picture 2, box 0.12 0.30 – 0.30 0.48",
        ),
        ("zoom_in", {"bbox_2d": [0, 0, 1, 1]}, "zoom in on picture 1, box 0.00 0.00 – 1.00 1.00"),
        ("select_frames", {"target_frames": [3.0, 7]}, "look at frames 3, 7"),
        ("select_frames", {"target_frames": [3]}, "look at frame 3"),
        ("select_frames", {"frames": [3]}, "select_frames(frames = [3])"),
        ("of_another_package", {"x": "é"}, 'of_another_package(x = "é")'),
    ],
)
def test_a_call_is_described_in_one_phrase(name, arguments, phrase):
    assert describe_call(ToolCall(name=name, arguments=arguments)) == phrase


def turn_by(context: MediaContext, degrees: int, picture: PictureArgument = 1) -> list[Picture]:
    """Turn a picture.

    Args:
        context: The pictures.
        degrees: By how much,
            clockwise.
        picture: Which one.
    """
    return [context.picture(picture)] * degrees


def test_a_new_operation_is_a_function():
    spec = spec_of(turn_by)
    assert_valid_operation(spec)
    degrees = spec.tool_schema["function"]["parameters"]["properties"]["degrees"]
    assert degrees == {"type": "integer", "description": "By how much, clockwise."}


def test_an_invalid_operation_function_is_an_error_with_the_reason():
    def undocumented(context: MediaContext, degrees: int) -> list[Picture]:
        """Turn a picture."""
        return []

    def untyped(context: MediaContext, degrees) -> list[Picture]:
        """Turn a picture."""
        return []

    def without_context(degrees: int) -> list[Picture]:
        """Turn a picture."""
        return []

    def pixels(context: MediaContext) -> np.ndarray:
        """Turn a picture."""
        return np.zeros(1)

    for function, why in [
        (undocumented, "no description of degrees"),
        (untyped, "no annotation of degrees"),
        (without_context, "as the first argument"),
        (pixels, "the return type"),
    ]:
        with pytest.raises(PluginError, match=why):
            spec_of(function)


def test_an_existing_operation_name_is_an_error():
    def zoom_in(context: MediaContext) -> list[Picture]:
        """Zoom in.

        Args:
            context: The pictures so far.
        """
        return []

    with pytest.raises(PluginError, match="one operation named 'zoom_in'"):
        operation(media={MediaKind.IMAGE})(zoom_in)


def test_an_incomplete_specification_fails_its_conformance_test():
    whole = spec_of(turn_by)
    for change, why in [
        ({"name": "Turn by"}, "not a lower-case name"),
        ({"description": ""}, "does not say what it does"),
        ({"media": frozenset()}, "no kind of media"),
        ({"max_results": 0}, "max_results 0"),
        ({"version": 0}, "version 0"),
        ({"result_budget": "crops"}, "not a field of PixelBudgets"),
        ({"sentence": lambda degrees: ""}, r"does not accept \['picture'\]"),
    ]:
        with pytest.raises(AssertionError, match=why):
            assert_valid_operation(dataclasses.replace(whole, **change))
    wrong = [one.model_copy(update={"default": "1"}) for one in whole.parameters]
    with pytest.raises(AssertionError, match="a default has another type"):
        assert_valid_operation(dataclasses.replace(whole, parameters=tuple(wrong)))


def test_schemas_are_built_without_importing_decoders():
    code = """
import sys
from pixel_reasoner.operations.registry import default_operations, describe_call
assert len(default_operations().tool_schemas) == 2
heavy = {"PIL", "av", "numpy", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# --- plug-ins ---

PLUGIN = '''
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations.base import MediaKind, PictureArgument
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.schema.trace import Picture, Transform

@operation(media={MediaKind.IMAGE}, sentence=lambda quarter_turns, target_image=1: "rotate")
def rotate(
    context: MediaContext, quarter_turns: int, target_image: PictureArgument = 1
) -> list[Picture]:
    """Rotate a picture clockwise.

    Args:
        context: The pictures so far.
        quarter_turns: Number of quarter turns.
        target_image: The number of the picture.
    """
    turn = Transform(name="rotate", arguments={"quarter_turns": quarter_turns})
    return [context.add_region(target_image, transforms=[turn])]
'''

USE_PLUGIN = """
import sys
from PIL import Image
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.operations.base import assert_valid_operation
from pixel_reasoner.operations.registry import OPERATIONS, default_operations
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import RolloutConfig

Image.new("RGB", (64, 32), "red").save(sys.argv[1])
assert "rotate" in OPERATIONS and "broken" in OPERATIONS
assert default_operations().names == ("zoom_in", "select_frames"), "offered only when named"
assert "rotate_plugin" not in sys.modules, "not imported before it is used"
assert_valid_operation(OPERATIONS.get("rotate"))
call = '<tool_call>\\n{"name": "rotate", "arguments": {"quarter_turns": 1}}\\n</tool_call>'
model = ScriptedModel([call, "\\\\boxed{red}"])
question = Question(id="1", text="?", media=(MediaItem(kind="image", path=sys.argv[1]),))
trace = ask(question, model, RolloutConfig(operations=("rotate", "zoom_in")))
[picture] = trace.executed[0].pictures
assert picture.transforms[0].name == "rotate" and trace.answer == "red"
assert list(OPERATIONS.broken()) == ["broken"]
"""


@pytest.mark.medium
def test_an_operation_of_another_package_runs_in_a_rollout(tmp_path):
    """The package has one file and registers the operation by an entry point."""
    (tmp_path / "rotate_plugin.py").write_text(PLUGIN)
    info = tmp_path / "rotate_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rotate-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[pixel_reasoner.operations]\nrotate = rotate_plugin:rotate\nbroken = no_such_module:x\n"
    )
    subprocess.run(
        [sys.executable, "-c", USE_PLUGIN, str(tmp_path / "a.png")],
        check=True,
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path])},
    )
