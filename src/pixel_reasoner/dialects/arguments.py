"""Conversion of calls between names and coordinates of a model family and those of this project.

Arguments are converted by their role (`dialects.roles`): boxes to fractions, names of pictures to numbers. So calls of
any operation are converted, including operations that are new to the family.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.boxes import FRACTIONS, BoxCoordinates
from pixel_reasoner.dialects.picture_names import FROM_1, PictureNames
from pixel_reasoner.dialects.roles import ArgumentRole
from pixel_reasoner.dialects.syntax.base import OPERATION_KEY, WrittenCall
from pixel_reasoner.dialects.value_types import typed_arguments
from pixel_reasoner.schema.geometry import Box, BoxError, Size
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import CallErrorKind, Picture, ToolCall


class CallError(Record):
    """Reason for which a call or a whole turn is rejected."""

    kind: Annotated[CallErrorKind | str, Field(union_mode="left_to_right")]
    message: str
    """message to the model, with names and units of the family"""
    call: int | None = None
    """index among the calls of the turn, from 0; None if the whole turn is rejected"""


class Converted(NamedTuple):
    """Call with names and coordinates of this project, and its error, if any."""

    call: ToolCall
    error: tuple[CallErrorKind, str] | None = None
    repaired: tuple[str, ...] = ()
    """repaired arguments"""


@dataclass(frozen=True, kw_only=True)
class ArgumentConventions:
    """Names and coordinates of a model family."""

    operation_names: Mapping[str, str] = field(default_factory=dict)
    """operation name of the family -> name of this project, if they differ; the first of several aliases is written"""
    argument_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """operation -> {argument of the family: argument of this project, or empty if it is written but not parsed}"""
    grid: BoxCoordinates = FRACTIONS
    """coordinates of boxes"""
    padding: float = 0.0
    """fraction of the picture added on every side of a box"""
    picture_names: PictureNames = FROM_1

    @cached_property
    def can_name_pictures(self) -> bool:
        """Whether a call can name pictures other than the first."""
        return all(
            ArgumentRole.PICTURE in self._find_roles(operation, own.values())
            for operation, own in self.argument_names.items()
            if ArgumentRole.PICTURE in self._find_roles(operation, roles.get_parameters(operation))
        )

    @staticmethod
    def _find_roles(operation: str, arguments: Any) -> set[ArgumentRole]:
        return {roles.get_role(operation, argument) for argument in arguments if argument}

    # --- names ---

    def family_name(self, operation: str) -> str:
        """Return the operation name of the family."""
        own = (theirs for theirs, ours in self.operation_names.items() if ours == operation)
        return next(own, operation)

    def family_arguments(self, operation: str) -> Mapping[str, str] | None:
        """Return a mapping from arguments of the family to arguments of this project; None if they are equal.

        For operations that are new to the family, boxes and pictures have the argument names of the family.
        """
        own = self.argument_names.get(operation)
        is_known = operation in DEFAULT_OPERATIONS or not roles.has_operation(operation)
        if own is not None or is_known or not self.argument_names:
            return own
        parameters = roles.get_parameters(operation)
        derived: dict[str, str] = {}
        for parameter in parameters:
            role = roles.get_role(operation, parameter)
            if role is ArgumentRole.PICTURE and not self.can_name_pictures:
                continue
            same_role = [one for one in parameters if roles.get_role(operation, one) is role]
            name = self._family_argument(role)
            is_free = name is not None and (name == parameter or name not in parameters)
            derived[name if name and is_free and len(same_role) == 1 else parameter] = parameter
        return derived

    def _family_argument(self, role: ArgumentRole) -> str | None:
        """Return the argument name of the family for boxes, pictures or frames."""
        if role is ArgumentRole.VALUE:
            return None
        named = (
            theirs
            for operation, own in self.argument_names.items()
            for theirs, ours in own.items()
            if ours and roles.get_role(operation, ours) is role
        )
        return next(named, None)

    def translate(self, message: str, operation: str | None = None) -> str:
        """Replace names of operations and arguments in a message by names of the family.

        Args:
            message: with names of this project.
            operation: subject of the message.
        """
        if not self.argument_names:
            return message
        own = {ours: theirs for theirs, ours in reversed(list(self.operation_names.items()))}
        for named in self.argument_names.values():
            own |= {ours: theirs for theirs, ours in named.items() if ours}
        if operation is not None and operation not in self.argument_names:
            derived = self.family_arguments(operation) or {}
            own |= {ours: theirs for theirs, ours in derived.items()}
        return re.sub(r"\w+", lambda word: own.get(word[0], word[0]), message)

    def required_arguments(self, operation: str) -> frozenset[str]:
        """Return the required arguments of an operation, with names of the family."""
        own = self.family_arguments(operation)
        required = roles.get_required_parameters(operation)
        names = {one: one for one in required} if own is None else own
        return frozenset(theirs for theirs, ours in names.items() if ours in required)

    # --- calls ---

    def typed(self, written: WrittenCall) -> WrittenCall:
        """Return a call whose values have the types of the schema of its operation, where its syntax writes only texts.

        Args:
            written: with names and coordinates of the family.
        """
        operation, _ = self.match_operation(written)
        if not written.is_text or not roles.has_operation(operation):
            return written
        ours = roles.get_definition(operation)["function"]["parameters"]["properties"]
        own = self.family_arguments(operation)
        names = {name: name for name in ours} if own is None else own
        schemas = {theirs: ours[name] for theirs, name in names.items() if name in ours}
        return written._replace(
            arguments=typed_arguments(written.arguments, schemas), is_text=False
        )

    def to_project(self, written: WrittenCall, pictures: Sequence[Picture]) -> Converted:
        """Convert a call to names and coordinates of this project.

        Args:
            written: with names and coordinates of the family.
            pictures: all pictures in the context of the model. Without them boxes in pixels are not converted.
        """
        operation, arguments = self.match_operation(written)
        own = self.family_arguments(operation)
        if own is not None:
            unknown = next((name for name in arguments if name not in own), None)
            if unknown is not None:
                why = f"there is no argument {unknown[:40]!r}; use {', '.join(own)}"
                call = ToolCall(name=operation, arguments=arguments)
                return Converted(call, (CallErrorKind.BAD_ARGUMENTS, why))
            arguments = {own[name]: value for name, value in arguments.items() if own[name]}
            arguments = self._add_first_picture(operation, arguments)
        return self._convert_by_role(operation, dict(arguments), pictures)

    def match_operation(self, written: WrittenCall) -> tuple[str, dict[str, Any]]:
        """Return the operation of a call and its arguments. Without a name, the arguments imply the operation."""
        if written.name is not None:
            return self.operation_names.get(written.name, written.name), written.arguments
        named = written.arguments.get(OPERATION_KEY)
        if (
            isinstance(named, str)
            and named not in self.argument_names
            and roles.has_operation(named)
        ):
            rest = {key: one for key, one in written.arguments.items() if key != OPERATION_KEY}
            return named, rest
        operations = list(self.argument_names)
        fitting = [
            name
            for name in operations
            if any(key in written.arguments for key in self.argument_names[name])
        ]
        return (fitting or operations)[0], written.arguments

    def _add_first_picture(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Add the first picture to arguments if the operation requires a picture and the family cannot name one."""
        if (
            operation in DEFAULT_OPERATIONS
            or self.can_name_pictures
            or not roles.has_operation(operation)
        ):
            return arguments
        needed = (
            name
            for name in roles.get_required_parameters(operation)
            if roles.get_role(operation, name) is ArgumentRole.PICTURE
        )
        return dict.fromkeys(needed, 1) | arguments

    def _convert_by_role(
        self, operation: str, arguments: dict[str, Any], pictures: Sequence[Picture]
    ) -> Converted:
        by_role = self._arguments_by_role(operation, arguments)
        error: tuple[CallErrorKind, str] | None = None
        for argument in by_role[ArgumentRole.PICTURE]:
            name = arguments[argument]
            arguments[argument] = self.picture_names.number(name, pictures)
            error = error or self._missing_picture_error(name, arguments[argument], pictures)
        repaired = []
        for argument in by_role[ArgumentRole.BOX]:
            seen_px = _prompt_size(self._picture_of(operation, argument, arguments), pictures)
            numbers = arguments[argument]
            if error is None and seen_px and self.grid != FRACTIONS:
                why = self.grid.invalid_reason(numbers, seen_px)
                error = (CallErrorKind.BAD_BOX, why) if why else None
            fractions = self.grid.read(numbers, seen_px)
            if fractions is not numbers and self.grid.is_clamped(numbers, seen_px):
                repaired.append(argument)
            arguments[argument] = _padded(fractions, self.padding) if self.padding else fractions
        for argument in (one for role in roles.LIST_ROLES for one in by_role[role]):
            seen_px = _prompt_size(self._picture_of(operation, argument, arguments), pictures)
            if error is None and seen_px and self.grid != FRACTIONS:
                why = self.grid.invalid_list_reason(arguments[argument], seen_px)
                error = (CallErrorKind.BAD_BOX, why) if why else None
            if self.grid != FRACTIONS:
                arguments[argument] = self.grid.read_list(arguments[argument], seen_px)
        call = ToolCall(name=operation, arguments=arguments)
        return Converted(call, error, () if error else tuple(repaired))

    def to_family(
        self, call: ToolCall, pictures: Sequence[Picture], about: str = ""
    ) -> WrittenCall:
        """Convert a call to names and coordinates of the family. The inverse of `to_project`, except for padding.

        Args:
            call: with names and coordinates of this project.
            pictures: all pictures in the context of the model; required if boxes are in pixels or pictures have names.
            about: target of the call, for families with a label argument.
        """
        by_role = self._arguments_by_role(call.name, call.arguments)
        number = self._parse_picture(by_role, call.arguments)
        assert number == 1 or self.can_name_pictures, "a call names no picture in this dialect"
        values = dict(call.arguments)
        lists = [one for role in roles.LIST_ROLES for one in by_role[role]]
        boxes = [*by_role[ArgumentRole.BOX], *lists]
        for argument in boxes:
            # For a call with an invalid picture, use the coordinates of the first picture.
            named = self._picture_of(call.name, argument, call.arguments)
            seen_px = _prompt_size(named, pictures) or _prompt_size(1, pictures)
            assert seen_px or self.grid.per_side, f"{call.name}: pixels of an unknown picture"
            write = self.grid.write_list if argument in lists else self.grid.write
            values[argument] = write(values[argument], seen_px)
        own = self.family_arguments(call.name)
        if own is None:
            return WrittenCall(self.family_name(call.name), values, tuple(boxes))
        for argument in own.values():
            if argument and roles.get_role(call.name, argument) is ArgumentRole.PICTURE:
                values[argument] = self.picture_names.name(values.get(argument, 1), pictures)
        named = {
            theirs: values[ours] if ours else about or "the region"
            for theirs, ours in own.items()
            if not ours or ours in values
        }
        rounded = tuple(theirs for theirs, ours in own.items() if ours in boxes)
        return WrittenCall(self.family_name(call.name), named, rounded)

    @staticmethod
    def _arguments_by_role(
        operation: str, arguments: Mapping[str, Any]
    ) -> dict[ArgumentRole, list[str]]:
        found = defaultdict[ArgumentRole, list[str]](list)
        for argument in arguments:
            found[roles.get_role(operation, argument)].append(argument)
        return found

    @staticmethod
    def _picture_of(operation: str, argument: str, arguments: Mapping[str, Any]) -> Any:
        """Return the number of the picture of a coordinate argument, by default 1."""
        named = roles.get_picture_of(operation, argument)
        return 1 if named is None else arguments.get(named, 1)

    @staticmethod
    def _parse_picture(by_role: dict[ArgumentRole, list[str]], arguments: Mapping[str, Any]) -> Any:
        """Return the number of the picture for boxes: the first picture argument, by default 1."""
        named = by_role[ArgumentRole.PICTURE]
        return arguments[named[0]] if named else 1

    def _missing_picture_error(
        self, name: Any, number: Any, pictures: Sequence[Picture]
    ) -> tuple[CallErrorKind, str] | None:
        """Return the error for a picture that does not exist, with names of the family; None if the picture is valid."""
        if not pictures or self.picture_names == FROM_1 or _prompt_size(number, pictures):
            return None
        if isinstance(number, bool) or not isinstance(number, int | float) or number % 1:
            return None  # not an integer: the operation rejects it
        valid = self.picture_names.valid_names(pictures)
        return CallErrorKind.NO_SUCH_PICTURE, f"there is no picture {name!s:.40}; {valid}"


def _prompt_size(number: Any, pictures: Sequence[Picture]) -> Size | None:
    """Return the size of a picture in the prompt; None if there is no such picture."""
    return next((one.seen_px for one in pictures if one.number == number), None)


def _padded(numbers: Any, padding: float) -> Any:
    """Pad a valid box on every side and clamp it to the picture. Invalid boxes are returned unchanged and rejected later."""
    try:
        box = Box.of(numbers)
    except (BoxError, TypeError, OverflowError):  # an integer may exceed the range of a float
        return numbers
    low = [max(0.0, value - padding) for value in box[:2]]
    return low + [min(1.0, value + padding) for value in box[2:]]
