"""Whether a dialect can write the calls of an operation, found by writing one and parsing it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.parse import CallFormat
from pixel_reasoner.dialects.roles import ArgumentRole
from pixel_reasoner.schema.trace import Picture, ToolCall

_EXAMPLES: dict[str, Any] = {
    "number": 1.5,
    "integer": 2,
    "string": "a sign",
    "boolean": True,
    "array": [],
    "object": {},
}
_PICTURES = tuple(
    Picture(number=number, medium=0, source_px=(1000, 1000), seen_px=(1000, 1000), parent=parent)
    for number, parent in ((1, None), (2, 1))
)


def can_express(dialect: CallFormat, operation: str) -> bool:
    """Return whether a call with values for all arguments is parsed back without loss.

    >>> from pixel_reasoner.dialects import COMPACT
    >>> can_express(COMPACT, "compare")
    True
    """
    call = ToolCall(name=operation, arguments=example_arguments(dialect, operation, _PICTURES))
    try:
        parsed = dialect.parse(dialect.write_turn("I look.", call, _PICTURES), _PICTURES)
    except AssertionError:  # the dialect has no form for such an argument
        return False
    return not parsed.errors and parsed.executable_calls == [call]


def example_arguments(
    dialect: CallFormat, operation: str, pictures: Sequence[Picture]
) -> dict[str, Any]:
    """Return arguments for every role that any dialect can write exactly."""
    schemas = roles.get_definition(operation)["function"]["parameters"]["properties"]
    values: dict[ArgumentRole, Any] = {
        ArgumentRole.BOX: [0, 0, 1, 1],
        ArgumentRole.PICTURE: len(pictures),
        ArgumentRole.FRAMES: [1, 3],
        ArgumentRole.POINTS: [[0, 0], [1, 1]],
        ArgumentRole.BOXES: [[0, 0, 1, 1]],
        ArgumentRole.SEGMENTS: [[1, 0, 0, 1]],
    }
    found = {}
    for argument, schema in schemas.items():
        role = roles.get_role(operation, argument)
        if role is ArgumentRole.PICTURE and not dialect.can_name_pictures:
            if argument in roles.get_required_parameters(operation):
                found[argument] = 1
            continue
        example = schema.get("enum", [_EXAMPLES.get(schema.get("type", ""), "a sign")])[0]
        found[argument] = values.get(role, example)
    return found
