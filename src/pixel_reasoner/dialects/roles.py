"""Roles of the arguments of an operation, and its definition as a JSON schema.

A dialect converts arguments by role, never by the name of the operation: boxes into its coordinates, pictures into its
names. This module is the only place in the package that reads the operations.
"""

from __future__ import annotations

from typing import Any

from pixel_reasoner.operations.base import ArgumentRole, MediaKind
from pixel_reasoner.operations.registry import OPERATIONS

ToolDefinition = dict[str, Any]
"""`{"type": "function", "function": {"name": ..., "description": ..., "parameters": <JSON schema>}}`"""

_USUAL_ROLES = {
    "bbox_2d": ArgumentRole.BOX,
    "target_image": ArgumentRole.PICTURE,
    "target_frames": ArgumentRole.FRAMES,
}


def role_of(operation: str, argument: str) -> ArgumentRole:
    """Return the role of an argument. Where the operation does not define it, its name decides.

    >>> role_of("zoom_in", "bbox_2d").value, role_of("zoom_in", "label").value
    ('box', 'value')
    """
    found = OPERATIONS.get(operation).roles.get(argument) if operation in OPERATIONS else None
    return found or _USUAL_ROLES.get(argument, ArgumentRole.VALUE)


def operation_names() -> list[str]:
    """Return the names of all operations that are registered."""
    return OPERATIONS.names()


def has_operation(name: str) -> bool:
    """Return whether an operation of this name is registered."""
    return name in OPERATIONS


def definition_of(operation: str) -> ToolDefinition:
    """Return the definition of an operation, in the project's own names and coordinates.

    Raises:
        UnknownNameError: there is no such operation; the nearest names are listed.
    """
    return OPERATIONS.get(operation).tool_schema


def parameters_of(operation: str) -> tuple[str, ...]:
    """Return the names of the arguments of an operation."""
    return tuple(parameter.name for parameter in OPERATIONS.get(operation).parameters)


def required_parameters_of(operation: str) -> tuple[str, ...]:
    """Return the names of the arguments that a call must give."""
    return tuple(one.name for one in OPERATIONS.get(operation).parameters if one.required)


def needs_video(operation: str) -> bool:
    """Return whether an operation is for videos alone."""
    return OPERATIONS.get(operation).media == {MediaKind.VIDEO}


__all__ = [
    "ArgumentRole",
    "ToolDefinition",
    "definition_of",
    "has_operation",
    "needs_video",
    "operation_names",
    "parameters_of",
    "required_parameters_of",
    "role_of",
]
