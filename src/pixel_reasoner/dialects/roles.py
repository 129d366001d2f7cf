"""Roles of the arguments of operations, and tool definitions as JSON schemas.

A dialect converts arguments by role, never by the name of the operation: boxes to its coordinates, pictures to its
names. Only this module of the package accesses the registry of operations.
"""

from __future__ import annotations

from typing import Any

from pixel_reasoner.operations.base import ArgumentRole, MediaKind
from pixel_reasoner.operations.registry import OPERATIONS

ToolDefinition = dict[str, Any]
"""`{"type": "function", "function": {"name": ..., "description": ..., "parameters": <JSON schema>}}`"""

LIST_ROLES = (ArgumentRole.POINTS, ArgumentRole.BOXES, ArgumentRole.SEGMENTS)
"""roles of lists of coordinates"""
_USUAL_ROLES = {
    "bbox_2d": ArgumentRole.BOX,
    "target_image": ArgumentRole.PICTURE,
    "target_frames": ArgumentRole.FRAMES,
}


def get_role(operation: str, argument: str) -> ArgumentRole:
    """Return the role of an argument. If the operation does not define it, the role is derived from the argument name.

    >>> get_role("zoom_in", "bbox_2d").value, get_role("zoom_in", "label").value
    ('box', 'value')
    """
    found = OPERATIONS.get(operation).roles.get(argument) if operation in OPERATIONS else None
    return found or _USUAL_ROLES.get(argument, ArgumentRole.VALUE)


def operation_names() -> list[str]:
    """Return the names of all registered operations."""
    return OPERATIONS.names()


def has_operation(name: str) -> bool:
    """Return whether an operation with this name is registered."""
    return name in OPERATIONS


def get_definition(operation: str) -> ToolDefinition:
    """Return the tool definition of an operation, with names and coordinates of this project.

    Raises:
        UnknownNameError: unknown operation; the message lists the nearest names.
    """
    return OPERATIONS.get(operation).tool_schema


def get_parameters(operation: str) -> tuple[str, ...]:
    """Return the names of the arguments of an operation."""
    return tuple(parameter.name for parameter in OPERATIONS.get(operation).parameters)


def get_picture_of(operation: str, argument: str) -> str | None:
    """Return the argument that names the picture of a coordinate argument; None if the operation names no picture.

    With several boxes and several pictures, the nth box is on the nth picture; other coordinates are on the first picture.
    """
    if operation not in OPERATIONS:
        return "target_image"
    spec = OPERATIONS.get(operation)
    named = spec.arguments_with_role(ArgumentRole.PICTURE)
    boxes = spec.arguments_with_role(ArgumentRole.BOX)
    if argument in boxes and len(boxes) == len(named):
        return named[boxes.index(argument)]
    return named[0] if named else None


def get_required_parameters(operation: str) -> tuple[str, ...]:
    """Return the names of the required arguments."""
    return tuple(one.name for one in OPERATIONS.get(operation).parameters if one.required)


def needs_video(operation: str) -> bool:
    """Return whether an operation supports only videos."""
    return OPERATIONS.get(operation).media == {MediaKind.VIDEO}


__all__ = [
    "LIST_ROLES",
    "ArgumentRole",
    "ToolDefinition",
    "get_definition",
    "get_parameters",
    "get_picture_of",
    "get_required_parameters",
    "get_role",
    "has_operation",
    "needs_video",
    "operation_names",
]
