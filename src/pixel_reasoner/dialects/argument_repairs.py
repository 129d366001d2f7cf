"""Repairs of the values of a call: names, nesting and types of arguments, typed by the schema of the operation.

A value is changed only if the schema requires another type and the text has exactly one value of it. Units, the order of
corners, missing numbers and the choice among several pictures are never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.picture_names import NumberedFrom
from pixel_reasoner.dialects.roles import ArgumentRole
from pixel_reasoner.dialects.syntax.base import WrittenCall
from pixel_reasoner.dialects.value_types import (
    MAX_CHARS,
    NO_VALUE,
    allowed_types,
    from_text,
    is_finite_number,
    typed_items,
    typed_value,
)
from pixel_reasoner.schema.repairs import RepairKind
from pixel_reasoner.schema.trace import CallErrorKind, Picture

if TYPE_CHECKING:
    from pixel_reasoner.dialects.arguments import ArgumentConventions

BOX_NAMES = ("bbox_2d", "bbox", "box_2d", "box")
"""names of a box in other families; its numbers are in the order of the dialect"""


class RepairedCall(NamedTuple):
    """Call with repaired arguments."""

    written: WrittenCall
    kinds: tuple[tuple[RepairKind, str], ...] = ()
    """kinds of repairs, and their arguments with names of this project"""
    error: tuple[CallErrorKind, str] | None = None


def repair_arguments(
    conventions: ArgumentConventions,
    written: WrittenCall,
    pictures: Sequence[Picture],
) -> RepairedCall:
    """Return a call whose arguments have the names and types of the schema, where they are certain.

    Args:
        conventions: names and coordinates of the family.
        written: with names and coordinates of the family. If its syntax writes values without types
            (`WrittenCall.is_text`), typing them is no repair.
        pictures: all pictures in the context of the model.
    """
    operation, _ = conventions.match_operation(written)
    if not roles.has_operation(operation):
        return RepairedCall(written)
    own = conventions.family_arguments(operation)
    names = own or {name: name for name in roles.get_parameters(operation)}
    arguments, kinds = _renamed_box(operation, dict(written.arguments), names)
    schemas = roles.get_definition(operation)["function"]["parameters"]["properties"]
    for theirs in [name for name in arguments if names.get(name)]:
        ours, value = names[theirs], arguments[theirs]
        if value is None:
            del arguments[theirs]
            continue
        role = roles.get_role(operation, ours)
        if role is ArgumentRole.PICTURE and not isinstance(conventions.picture_names, NumberedFrom):
            continue
        if written.is_text and isinstance(value, str):
            value = typed_value(value, schemas.get(ours, {}))
        typed, found = _typed(value, role, schemas.get(ours, {}))
        arguments[theirs] = typed
        kinds += [(kind, ours) for kind in found]
    call = written._replace(arguments=arguments)
    return _with_picture(conventions, operation, RepairedCall(call, tuple(kinds)), pictures)


def _renamed_box(
    operation: str, arguments: dict[str, Any], names: Mapping[str, str]
) -> tuple[dict[str, Any], list[tuple[RepairKind, str]]]:
    """Return arguments with the box under its name, if exactly one alias names it."""
    boxes = [
        one for one in names if names[one] and _role(operation, names[one]) is ArgumentRole.BOX
    ]
    aliases = [one for one in BOX_NAMES if one in arguments and one not in names]
    if len(boxes) != 1 or boxes[0] in arguments or len(aliases) != 1:
        return arguments, []
    renamed = {boxes[0] if key == aliases[0] else key: one for key, one in arguments.items()}
    return renamed, [(RepairKind.ARGUMENT_NAME, names[boxes[0]])]


def _role(operation: str, argument: str) -> ArgumentRole:
    return roles.get_role(operation, argument)


def _with_picture(
    conventions: ArgumentConventions,
    operation: str,
    call: RepairedCall,
    pictures: Sequence[Picture],
) -> RepairedCall:
    """Return the call with the number of its picture: the only picture, or an error that asks which one."""
    own = conventions.family_arguments(operation)
    names = own or {name: name for name in roles.get_parameters(operation)}
    required = conventions.required_arguments(operation)
    needed = roles.get_required_parameters(operation)
    given = {names.get(one) for one in call.written.arguments}
    if not given.issuperset(
        one for one in needed if _role(operation, one) is not ArgumentRole.PICTURE
    ):
        return call  # the operation rejects the call
    for theirs, ours in names.items():
        is_missing = theirs in required and theirs not in call.written.arguments
        if not (ours and is_missing and _role(operation, ours) is ArgumentRole.PICTURE):
            continue
        if len(pictures) > 1:
            valid = conventions.picture_names.valid_names(pictures)
            why = f"{theirs} is missing; there are {len(pictures)} pictures: give {theirs}; {valid}"
            return call._replace(error=(CallErrorKind.BAD_ARGUMENTS, why))
        only = conventions.picture_names.name(1, pictures)
        arguments = {**call.written.arguments, theirs: only}
        kinds = (*call.kinds, (RepairKind.MISSING_ARGUMENT, ours))
        call = RepairedCall(call.written._replace(arguments=arguments), kinds)
    return call


# --- values ---


def _typed(
    value: Any, role: ArgumentRole, schema: Mapping[str, Any]
) -> tuple[Any, list[RepairKind]]:
    """Return a value in the type of the schema, and the repairs; the unchanged value if none is certain."""
    if role is ArgumentRole.BOX:
        return _typed_box(value)
    kinds = allowed_types(schema)
    typed: Any = NO_VALUE
    if isinstance(value, str) and len(value) <= MAX_CHARS and "string" not in kinds:
        found = (from_text(value.strip(), kind) for kind in kinds)
        typed = next((one for one in found if one is not NO_VALUE), NO_VALUE)
    if ("array" in kinds and isinstance(value, list)) or isinstance(typed, list):
        whole = value if typed is NO_VALUE else typed
        items = typed_items(whole, str(schema.get("items", {}).get("type", "")))
        typed = typed if items is None else items
    return (value, []) if typed is NO_VALUE else (typed, [RepairKind.VALUE_TYPE])


def _typed_box(value: Any) -> tuple[Any, list[RepairKind]]:
    """Return the four numbers of a box and the repairs; the unchanged value if they are not certain."""
    kinds: list[RepairKind] = []
    numbers = value
    if isinstance(value, str) and len(value) <= MAX_CHARS:
        numbers = from_text(value.strip(), "array")
        kinds.append(RepairKind.BOX_AS_STRING)
    if isinstance(numbers, list):
        flat = _unnested(numbers)
        if flat is not None:
            numbers = flat
            kinds.append(RepairKind.NESTED_BOX)
        typed = typed_items(numbers, "number")
        if typed is not None:
            numbers = typed
            kinds.append(RepairKind.VALUE_TYPE)
    is_box = isinstance(numbers, list) and len(numbers) == 4 and all(map(is_finite_number, numbers))
    return (numbers, kinds) if kinds and is_box else (value, [])


def _unnested(numbers: list[Any]) -> list[Any] | None:
    """Return the only box of a list, or the box of two corners; None for anything else."""
    if len(numbers) == 1 and isinstance(numbers[0], list) and len(numbers[0]) == 4:
        return list(numbers[0])
    if len(numbers) == 2 and all(isinstance(one, list) and len(one) == 2 for one in numbers):
        return [*numbers[0], *numbers[1]]
    return None
