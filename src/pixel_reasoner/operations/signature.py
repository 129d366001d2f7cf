"""Schema of an operation: arguments from the annotations of a function, descriptions from its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from pixel_reasoner.errors import PluginError, one_line
from pixel_reasoner.plugin_checks import place
from pixel_reasoner.schema.record import Record
from pixel_reasoner.schema.trace import Observation, Picture

OperationFunction = Callable[..., list[Picture] | Observation]


class ArgumentRole(StrEnum):
    """Meaning of an argument: dialects convert boxes and picture names to their own form."""

    BOX = "box"
    """normalised [x1, y1, x2, y2] of the picture that the call names, or of the first"""
    PICTURE = "picture"
    """number of a picture, from 1"""
    FRAMES = "frames"
    """numbers of sampled frames, from 1"""
    POINTS = "points"
    """list of normalised [x, y]"""
    BOXES = "boxes"
    """list of normalised [x1, y1, x2, y2]"""
    SEGMENTS = "segments"
    """list of lines from [x1, y1] to [x2, y2], each as normalised [x1, y1, x2, y2]"""
    VALUE = "value"


BoxArgument = Annotated[list[float], ArgumentRole.BOX]
PictureArgument = Annotated[int, ArgumentRole.PICTURE]
FramesArgument = Annotated[list[int], ArgumentRole.FRAMES]
PointsArgument = Annotated[list[list[float]], ArgumentRole.POINTS]
BoxesArgument = Annotated[list[list[float]], ArgumentRole.BOXES]
SegmentsArgument = Annotated[list[list[float]], ArgumentRole.SEGMENTS]
NONE_GIVEN: list[list[float]] = []
"""default of a list of coordinates; never modified"""

_LISTS_IN_WORDS = {
    ArgumentRole.POINTS: "a list of points [x, y]",
    ArgumentRole.BOXES: "a list of boxes [x1, y1, x2, y2]",
    ArgumentRole.SEGMENTS: "a list of segments [x1, y1, x2, y2]",
}


class Parameter(Record):
    """One argument of an operation, as a model reads it."""

    name: str
    json_schema: dict[str, Any]
    description: str
    required: bool
    default: Any = None
    role: ArgumentRole = ArgumentRole.VALUE

    @property
    def type_in_words(self) -> str:
        """Type for error messages.

        >>> Parameter(name="n", json_schema={"type": "integer"}, description="", required=True).type_in_words
        'an integer'
        """
        if self.role in _LISTS_IN_WORDS:
            return _LISTS_IN_WORDS[self.role]
        if "enum" in self.json_schema:
            return f"one of {', '.join(map(str, self.json_schema['enum']))}"
        if "items" in self.json_schema:
            return f"a list of {self.json_schema['items'].get('type', 'value')}s"
        kind = self.json_schema.get("type", "value")
        return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"


def parse_description(function: OperationFunction) -> str:
    """Return what an operation does, from the docstring of its function.

    Raises:
        PluginError: there is no docstring.
    """
    description, _ = _documentation(function)
    if not description:
        raise bad_function(
            function, "a docstring that says what it does", "none", "add one: models read it"
        )
    return description


def parse_parameters(function: OperationFunction) -> tuple[Parameter, ...]:
    """Return the parameters of a function after its context.

    Raises:
        PluginError: a signature or docstring that a schema cannot be made of.
    """
    signature = inspect.signature(function).parameters
    hints = _checked_hints(function, signature)
    names = [one for one in signature if one != "context"]
    _, texts = _documentation(function)
    documented = {*texts} - {"context"}
    if missing := [one for one in names if one not in documented]:
        raise bad_function(
            function,
            "a docstring that describes every argument under `Args:`",
            f"no description of {', '.join(missing)}",
            f"add a line `{missing[0]}: ...`",
        )
    if unknown := sorted(documented - {*names}):
        raise bad_function(
            function,
            f"a docstring whose `Args:` describes {', '.join(names) or 'no argument'}",
            f"a description of {', '.join(unknown)}",
            "remove it or correct its name",
        )
    return tuple(
        Parameter(
            name=one,
            json_schema=_json_schema(function, one),
            description=texts[one],
            required=signature[one].default is _NO_DEFAULT,
            default=_default(signature[one]),
            role=_role(hints[one]),
        )
        for one in names
    )


_NO_DEFAULT = inspect.Parameter.empty
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_CONTEXT_CLASS = "MediaContext"
_CONTEXT_NAMES = {_CONTEXT_CLASS: type(_CONTEXT_CLASS, (), {})}
"""placeholder for the context in annotations: modules of operations may import it for type checkers alone"""


def _checked_hints(
    function: OperationFunction, signature: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """Return the types of the arguments and of the result."""
    try:
        hints = _hints(function)
    except Exception as error:
        raise bad_function(
            function, "annotations that name types", one_line(error), "import or correct the type"
        ) from error
    first = next(iter(signature), "")
    if first != "context" or getattr(hints.get(first), "__name__", "") != _CONTEXT_CLASS:
        raise bad_function(
            function,
            "`context: MediaContext` as the first argument",
            first or "no argument",
            "add it",
        )
    if hints.get("return") not in (list[Picture], Observation):
        got = repr(hints.get("return", "no annotation"))
        raise bad_function(function, "the return type `list[Picture]`", got, "annotate it so")
    if packed := [one for one, what in signature.items() if what.kind not in _BY_NAME]:
        raise bad_function(
            function, "arguments that are given by name", f"*{packed[0]}", "list the arguments"
        )
    if untyped := [one for one in signature if one not in hints]:
        raise bad_function(
            function,
            "a type for every argument",
            f"no annotation of {', '.join(untyped)}",
            f"annotate it, such as `{untyped[0]}: int`",
        )
    return hints


def _hints(function: OperationFunction) -> dict[str, Any]:
    return get_type_hints(function, localns=_CONTEXT_NAMES, include_extras=True)


def _default(parameter: inspect.Parameter) -> Any:
    return None if parameter.default is _NO_DEFAULT else parameter.default


def _role(hint: Any) -> ArgumentRole:
    found = [one for one in get_args(hint) if isinstance(one, ArgumentRole)]
    return found[0] if found else ArgumentRole.VALUE


@cache
def build_adapter(function: OperationFunction, name: str) -> TypeAdapter[Any]:
    """Return the check of the values of an argument."""
    return TypeAdapter(_hints(function)[name])


def _json_schema(function: OperationFunction, name: str) -> dict[str, Any]:
    try:
        return build_adapter(function, name).json_schema()
    except PydanticUserError as error:
        raise bad_function(
            function,
            f"a type of {name} that JSON can express",
            repr(_hints(function)[name]),
            "use numbers, strings, booleans, lists or Literal",
        ) from error


def _documentation(function: OperationFunction) -> tuple[str, dict[str, str]]:
    """Return the description of a function and of each argument, from its docstring."""
    about, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    section = rest.split("\n\n")[0]
    # An argument starts at the section's own indent, the rest of its text is indented further.
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return " ".join(about.split()), {name: " ".join(text.split()) for name, text in entries}


def bad_function(function: OperationFunction, expected: str, got: str, fix: str) -> PluginError:
    """Return the error of a function that is no operation, with its file and line."""
    return PluginError(
        expected=f"the operation {function.__name__} with {expected}",
        got=f"{got} at {place(function)}",
        fix=fix,
    )
