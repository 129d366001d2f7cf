"""Operations: what a model asks for is done, or refused with words it can act on. Nothing ever raises."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations.base import (
    MAX_SELECTED_FRAMES,
    MIN_SIDE_PX,
    OPERATIONS,
    assert_valid_operation,
    run,
    select_frames,
    tool_schema,
    zoom_in,
)
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.trace import CallErrorKind, Picture, ToolCall
from test_album import album_of
from test_decode import write_video

HUGE = 10**4000


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> MediaContext:
    path = tmp_path_factory.mktemp("ops") / "a.png"
    Image.new("RGB", (640, 480)).save(path)
    return album_of(("image", path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> MediaContext:
    return album_of(("video", write_video(tmp_path_factory.mktemp("ops") / "a.mp4", 12)))


def zoom(album: MediaContext, **arguments):
    return run(ToolCall(name="zoom_in", arguments=arguments), album)


def select(album: MediaContext, **arguments):
    return run(ToolCall(name="select_frames", arguments=arguments), album)


# --- what is done ---


def test_zoom_in_returns_the_region_as_a_new_picture(album):
    seen = zoom(album, bbox_2d=[0.25, 0.5, 0.75, 1], target_image=1.0)
    assert (seen.error, seen.text) == (None, "")
    [picture] = seen.pictures
    assert (picture.box, picture.parent) == (Box(0.25, 0.5, 0.75, 1), 1)
    assert picture == album.pictures[-1]


def test_zoom_in_sees_the_first_picture_unless_told(album):
    [picture] = zoom(album, bbox_2d=[0, 0, 0.5, 0.5]).pictures
    assert picture.parent == 1


def test_a_frame_of_a_video_can_be_zoomed_into(clip):
    [picture] = zoom(clip, bbox_2d=[0, 0, 0.5, 0.5], target_image=3).pictures
    assert (picture.frame, picture.time_s) == (3, pytest.approx(0.2))


def test_select_frames_returns_them_in_the_asked_order(clip):
    seen = select(clip, target_frames=[7, 2.0])
    assert seen.error is None
    assert [picture.frame for picture in seen.pictures] == [7, 2]


@given(st.lists(st.sampled_from([0, 1, 0.5, 0.25, -1, 2, math.nan, math.inf]), max_size=5))
def test_zoom_in_accepts_exactly_the_boxes_that_are_boxes(album, numbers):
    try:
        expected, refusal = Box.of(numbers), None
    except BoxError:
        expected, refusal = None, CallErrorKind.BAD_BOX
    seen = zoom(album, bbox_2d=numbers)
    assert seen.error == refusal
    assert [picture.box for picture in seen.pictures] == ([expected] if expected else [])


# --- what is refused, and how ---


@pytest.mark.parametrize(
    ("arguments", "refusal", "text"),
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
def test_a_wrong_zoom_is_refused_with_what_is_allowed(album, arguments, refusal, text):
    before = len(album)
    seen = zoom(album, **arguments)
    assert (seen.error, seen.pictures, len(album)) == (refusal, (), before)
    assert text in seen.text


@pytest.mark.parametrize(
    ("frames", "refusal", "text"),
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
def test_wrong_frames_are_refused_with_what_is_allowed(clip, frames, refusal, text):
    seen = select(clip, target_frames=frames)
    assert (seen.error, seen.pictures) == (refusal, ())
    assert text in seen.text


def test_without_a_video_there_are_no_frames(album):
    assert select(album, target_frames=[1]).error == CallErrorKind.NOT_A_VIDEO


def test_an_unknown_operation_is_answered_with_the_known_ones(album):
    seen = run(ToolCall(name="rotate", arguments={}), album)
    assert seen.error == CallErrorKind.UNKNOWN_OPERATION
    assert seen.text == "there is no operation 'rotate'; use zoom_in or select_frames"


def test_a_region_of_the_smallest_side_is_shown_and_a_zoom_into_it_refused(album):
    [small] = zoom(album, bbox_2d=[0, 0, MIN_SIDE_PX / 640, 1]).pictures
    assert small.source_px == (MIN_SIDE_PX, 480)
    within = zoom(album, bbox_2d=[0, 0, 0.5, 1], target_image=small.number)
    assert within.error == CallErrorKind.BOX_TOO_SMALL


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(HUGE),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from(["bbox_2d", "target_image", "target_frames", "album", "self"]) | st.text(
    max_size=5
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(OPERATIONS)) | st.text(),
    st.dictionaries(names, json_values, max_size=4),
)
def test_no_json_makes_an_operation_raise(clip, name, arguments):
    seen = run(ToolCall(name=name, arguments=arguments), clip)
    assert (seen.error is None) == bool(seen.pictures)
    assert bool(seen.text) == (seen.error is not None)
    assert len(seen.text) < 300


def test_deep_nesting_is_refused_too(album):
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert zoom(album, bbox_2d=deep).error == CallErrorKind.BAD_ARGUMENTS


# --- schemas ---


@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_every_operation_is_valid(operation):
    assert_valid_operation(operation)


def test_a_schema_comes_from_signature_and_docstring():
    function = tool_schema(zoom_in)["function"]
    assert function["name"] == "zoom_in"
    assert function["description"].startswith("Zoom in on a region")
    parameters = function["parameters"]
    assert parameters["required"] == ["bbox_2d"]
    assert parameters["properties"]["bbox_2d"]["items"] == {"type": "number"}
    assert parameters["properties"]["target_image"]["default"] == 1
    assert "album" not in json.dumps(parameters)


def test_the_schema_says_how_many_frames_are_allowed():
    assert (
        f"up to {MAX_SELECTED_FRAMES} frames"
        in tool_schema(select_frames)["function"]["description"]
    )


def rotate(album: MediaContext, degrees: int, picture: int = 1) -> list[Picture]:
    """Turn a picture.

    Args:
        album: The pictures.
        degrees: By how much,
            clockwise.
        picture: Which one.
    """
    return [album.picture(picture)] * degrees


def test_a_new_operation_is_a_function():
    assert_valid_operation(rotate)
    degrees = tool_schema(rotate)["function"]["parameters"]["properties"]["degrees"]
    assert degrees == {"type": "integer", "description": "By how much, clockwise."}


def test_an_operation_that_cannot_be_one_is_told_why():
    def undocumented(album: MediaContext, degrees: int) -> list[Picture]:
        """Turn a picture."""
        return []

    def untyped(album: MediaContext, degrees) -> list[Picture]:
        """Turn a picture."""
        return []

    def without_album(degrees: int) -> list[Picture]:
        """Turn a picture."""
        return []

    def pixels(album: MediaContext) -> np.ndarray:
        """Turn a picture."""
        return np.zeros(1)

    def taken(album: MediaContext) -> list[Picture]:
        """Turn a picture."""
        return []

    taken.__name__ = "zoom_in"
    for operation, why in [
        (undocumented, "`Args:` describes"),
        (untyped, "without a type"),
        (without_album, "first parameter must be"),
        (pixels, "must return"),
        (taken, "the name is taken"),
    ]:
        with pytest.raises(AssertionError, match=why):
            assert_valid_operation(operation)
