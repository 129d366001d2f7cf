"""Roles of the arguments of an operation, and its definition as a JSON schema.

A dialect converts arguments by role, never by the name of the operation: boxes into its coordinates, pictures into its
names. This module is the only place in the package that reads the operations.
"""

from __future__ import annotations

import difflib
from enum import StrEnum
from functools import cache
from typing import Any

from pixel_reasoner.errors import UnknownNameError
from pixel_reasoner.operations.base import OPERATIONS, Operation, tool_schema

ToolDefinition = dict[str, Any]
"""`{"type": "function", "function": {"name": ..., "description": ..., "parameters": <JSON schema>}}`"""


class ArgumentRole(StrEnum):
    """What an argument means, and so how a dialect converts it."""

    BOX = "box"
    """region of a picture: four numbers"""
    PICTURE = "picture"
    """number of a picture, from 1"""
    FRAMES = "frames"
    """numbers of sampled frames of a video, from 1"""
    VALUE = "value"
    """anything else; passed on unchanged"""


_ROLES = {
    "bbox_2d": ArgumentRole.BOX,
    "target_image": ArgumentRole.PICTURE,
    "target_frames": ArgumentRole.FRAMES,
}


def role_of(operation: str, argument: str) -> ArgumentRole:
    """Return the role of an argument. An operation that does not exist has the roles of the usual argument names.

    >>> role_of("zoom_in", "bbox_2d").value, role_of("zoom_in", "label").value
    ('box', 'value')
    """
    del operation
    return _ROLES.get(argument, ArgumentRole.VALUE)


def operation_names() -> list[str]:
    """Return the names of all operations that are registered."""
    return list(OPERATIONS)


def has_operation(name: str) -> bool:
    """Return whether an operation of this name is registered."""
    return name in OPERATIONS


def definition_of(operation: str) -> ToolDefinition:
    """Return the definition of an operation, in the project's own names and coordinates.

    Raises:
        UnknownNameError: there is no such operation; the nearest names are listed.
    """
    if operation not in OPERATIONS:
        nearest = difflib.get_close_matches(operation, OPERATIONS, 1, 0.5)
        raise UnknownNameError(
            expected=f"an operation: {', '.join(OPERATIONS)}",
            got=repr(operation),
            fix=f"use {nearest[0]!r}, the nearest name" if nearest else "use one of these",
        )
    return tool_schema(OPERATIONS[operation])


def parameters_of(operation: str) -> tuple[str, ...]:
    """Return the names of the arguments of an operation."""
    return _parameters(OPERATIONS[operation])[0]


def required_parameters_of(operation: str) -> tuple[str, ...]:
    """Return the names of the arguments that a call must give."""
    return _parameters(OPERATIONS[operation])[1]


@cache
def _parameters(operation: Operation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of all arguments, and of those that are required. Read for every call that is parsed."""
    schema = tool_schema(operation)["function"]["parameters"]
    return tuple(schema["properties"]), tuple(schema["required"])


def needs_video(operation: str) -> bool:
    """Return whether an operation takes frames of a video."""
    roles = (role_of(operation, argument) for argument in parameters_of(operation))
    return ArgumentRole.FRAMES in roles
