"""Visual operations: how a model looks again.

An operation is a typed function of an album. Its signature and docstring are the schema that a model reads and
the check of what a model writes. A new one is a function, an entry in `OPERATIONS` and a test that calls
`assert_valid_operation`.

A model's mistake never raises: it becomes an `Observation` that says what was wrong and what is allowed.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.trace import CallErrorKind, Observation, Picture, ToolCall

Operation = Callable[..., list[Picture]]

MIN_SIDE_PX = 8
"""A region with a shorter side has nothing more to show."""

MAX_SELECTED_FRAMES = 8

_MAX_INT = 2**53
"""The largest integer that JSON's numbers are sure to hold."""


class CallRejected(Exception):
    """An operation that cannot be executed, and why. `text` is written for the model."""

    def __init__(self, error: CallErrorKind, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


def zoom_in(album: MediaContext, bbox_2d: list[float], target_image: int = 1) -> list[Picture]:
    """Zoom in on a region of a picture to see details that are too small to read in the overview.

    Args:
        album: The pictures seen so far.
        bbox_2d: The region as [x1, y1, x2, y2], from 0 to 1, with (0, 0) at the top left corner of the picture.
        target_image: The number of the picture to zoom into, from 1.
    """
    if not 1 <= target_image <= len(album):
        raise CallRejected(
            CallErrorKind.NO_SUCH_PICTURE,
            f"there is no picture {target_image}; pictures are numbered 1 to {len(album)}",
        )
    try:
        box = Box.of(bbox_2d)
    except BoxError as error:
        raise CallRejected(CallErrorKind.BAD_BOX, str(error)) from error
    width, height = album.crop_px(target_image, box)
    if min(width, height) < MIN_SIDE_PX:
        raise CallRejected(
            CallErrorKind.BOX_TOO_SMALL,
            f"the box covers only {width} x {height} pixels; "
            f"give one of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels",
        )
    return [album.add_crop(target_image, box)]


def select_frames(album: MediaContext, target_frames: list[int]) -> list[Picture]:
    """Look at up to 8 frames of the video in more detail.

    Args:
        album: The pictures seen so far.
        target_frames: The numbers of the frames, from 1, each at most once.
    """
    if not album.num_frames:
        raise CallRejected(
            CallErrorKind.NOT_A_VIDEO, "there is no video to select frames of; use zoom_in"
        )
    allowed = (
        f"give 1 to {min(MAX_SELECTED_FRAMES, album.num_frames)} different numbers "
        f"from 1 to {album.num_frames}"
    )
    if not target_frames:
        raise CallRejected(CallErrorKind.BAD_FRAMES, f"no frames were named; {allowed}")
    missing = [number for number in target_frames if number not in album.frames]
    if missing:
        raise CallRejected(CallErrorKind.BAD_FRAMES, f"there is no frame {missing[0]}; {allowed}")
    if len(set(target_frames)) < len(target_frames):
        raise CallRejected(CallErrorKind.BAD_FRAMES, f"a frame was named twice; {allowed}")
    if len(target_frames) > MAX_SELECTED_FRAMES:
        raise CallRejected(
            CallErrorKind.BAD_FRAMES, f"{len(target_frames)} frames are too many; {allowed}"
        )
    return album.add_frames(target_frames)


OPERATIONS: dict[str, Operation] = {"zoom_in": zoom_in, "select_frames": select_frames}


def run(call: ToolCall, album: MediaContext) -> Observation:
    """Execute a call: new pictures, or the reason why not. The dialect puts words around the pictures.

    >>> from pixel_reasoner.media.context import UNSCALED
    >>> from pixel_reasoner.schema.question import Question
    >>> album = MediaContext(Question(id="1", text="What is it?", media=()), UNSCALED)
    >>> run(ToolCall(name="zoom", arguments={}), album).text
    "there is no operation 'zoom'; use zoom_in or select_frames"
    >>> run(ToolCall(name="zoom_in", arguments={"bbox_2d": "left"}), album).text
    'bbox_2d must be a list of numbers'
    """
    try:
        operation = OPERATIONS.get(call.name)
        if operation is None:
            raise CallRejected(
                CallErrorKind.UNKNOWN_OPERATION,
                f"there is no operation {_quoted(call.name)}; use {' or '.join(OPERATIONS)}",
            )
        pictures = operation(album, **_checked(operation, call.arguments))
        return Observation(text="", pictures=tuple(pictures))
    except CallRejected as refused:
        return Observation(text=refused.text, error=refused.error)


def tool_schema(operation: Operation) -> dict[str, Any]:
    """What a model is told about an operation, as an OpenAI function schema.

    >>> tool_schema(select_frames)["function"]["parameters"]["required"]
    ['target_frames']
    """
    description, texts = _documentation(operation)
    parameters = _parameters(operation)
    properties = {
        name: _json_type(operation, name)
        | {"description": texts[name]}
        | ({} if parameter.default is parameter.empty else {"default": parameter.default})
        for name, parameter in parameters.items()
    }
    required = [name for name, one in parameters.items() if one.default is one.empty]
    return {
        "type": "function",
        "function": {
            "name": operation.__name__,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": required},
        },
    }


def assert_valid_operation(operation: Operation) -> None:
    """Check that a function can be an operation. For the test of everybody who adds one.

    >>> assert_valid_operation(zoom_in)
    """
    name = operation.__name__
    assert OPERATIONS.get(name, operation) is operation, f"{name}: the name is taken"
    hints = get_type_hints(operation)
    first = next(iter(hints.items()), None)
    assert first == ("album", MediaContext), (
        f"{name}: the first parameter must be `album: MediaContext`"
    )
    untyped = [parameter for parameter in _parameters(operation) if parameter not in hints]
    assert not untyped, f"{name}: parameters without a type: {untyped}"
    assert hints.get("return") == list[Picture], f"{name}: must return list[Picture]"
    description, texts = _documentation(operation)
    assert description, f"{name}: the docstring does not say what it does"
    documented, expected = sorted({*texts} - {"album"}), sorted(_parameters(operation))
    assert documented == expected, f"{name}: `Args:` describes {documented}, expected {expected}"
    json.dumps(tool_schema(operation))


def _checked(operation: Operation, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments in the types of the signature."""
    parameters = _parameters(operation)
    for name in arguments:
        if name not in parameters:
            raise _bad_arguments(
                f"there is no argument {_quoted(name)}; use {', '.join(parameters)}"
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise _bad_arguments(f"{name} is missing; give {_expected(operation, name)}")
    return {name: _typed(operation, name, value) for name, value in arguments.items()}


def _typed(operation: Operation, name: str, value: Any) -> Any:
    try:
        return _adapter(operation, name).validate_python(_as_json_numbers(value), strict=True)
    except ValidationError as error:
        raise _bad_arguments(f"{name} must be {_expected(operation, name)}") from error


def _as_json_numbers(value: Any) -> Any:
    """JSON has one kind of number: 3.0 is the integer 3. What no integer of it can be becomes infinite.

    >>> _as_json_numbers([3.0, 0.5, 10**400, True])
    [3, 0.5, inf, True]
    """
    if isinstance(value, list | tuple):
        return [one if isinstance(one, list | tuple) else _as_json_numbers(one) for one in value]
    if isinstance(value, int) and abs(value) > _MAX_INT:
        return math.inf if value > 0 else -math.inf
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_INT:
        return int(value)
    return value


def _bad_arguments(text: str) -> CallRejected:
    return CallRejected(CallErrorKind.BAD_ARGUMENTS, text)


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "…")


def _parameters(operation: Operation) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(operation).parameters
    return {name: one for name, one in parameters.items() if name != "album"}


@cache
def _adapter(operation: Operation, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(operation)[name])


def _json_type(operation: Operation, name: str) -> dict[str, Any]:
    return _adapter(operation, name).json_schema()


def _expected(operation: Operation, name: str) -> str:
    """A type in words."""
    expected = _json_type(operation, name)
    if "items" in expected:
        return f"a list of {expected['items'].get('type', 'value')}s"
    kind = expected.get("type", "value")
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"


def _documentation(operation: Operation) -> tuple[str, dict[str, str]]:
    """The description of an operation and of each argument, from its docstring."""
    about, _, rest = inspect.cleandoc(operation.__doc__ or "").partition("\nArgs:\n")
    section = rest.split("\n\n")[0]
    # An argument starts at the section's own indent, the rest of its text is indented further.
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return " ".join(about.split()), {name: " ".join(text.split()) for name, text in entries}
