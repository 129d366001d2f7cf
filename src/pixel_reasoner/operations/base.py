"""Operation specifications: function, tool schema, and description in reports.

An operation is a typed function of a `MediaContext`. Its signature and docstring define the tool schema and the
validation of arguments. `registry.operation` converts the function to a specification and registers it.

A mistake of the model never raises. It becomes an `Observation` whose message names the mistake and the allowed values.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from pixel_reasoner.operations.signature import (
    ArgumentRole,
    BoxArgument,
    BoxesArgument,
    FramesArgument,
    OperationFunction,
    Parameter,
    PictureArgument,
    PointsArgument,
    SegmentsArgument,
    build_adapter,
    parse_description,
    parse_parameters,
)
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import Evidence, Question
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    FrameSampling,
    Observation,
    Picture,
    ToolCall,
    Transform,
)

if TYPE_CHECKING:  # dialects and reports use schemas without loading decoders
    from pixel_reasoner.media.context import MediaContext

__all__ = [
    "ArgumentRole",
    "BoxArgument",
    "BoxesArgument",
    "CallRejected",
    "Drawing",
    "FramesArgument",
    "MediaKind",
    "OperationFunction",
    "OperationSpec",
    "Parameter",
    "PerturbRequest",
    "PictureArgument",
    "PlanRequest",
    "PointsArgument",
    "SegmentsArgument",
    "assert_valid_operation",
    "call_as_written",
    "quote_name",
]

logger = logging.getLogger(__name__)

MAX_EXACT_INT = 2**53
"""largest integer that a JSON number represents exactly"""


class CallRejected(Exception):
    """Rejection of a call. `text` addresses the model."""

    def __init__(self, error: CallErrorKind | str, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.text = text


class MediaKind(StrEnum):
    """Kinds of media that an operation supports."""

    IMAGE = "image"
    VIDEO = "video"
    """a video or a folder of frames"""


@dataclass(frozen=True, kw_only=True)
class PerturbRequest:
    """Inputs of a perturbation other than the call."""

    evidence: Evidence
    """evidence that the perturbed call must not show"""
    pictures: Sequence[Picture]
    """all pictures so far"""
    rng: random.Random
    padding: float = 0.0
    """fraction of the picture that the dialect adds on every side of a box; boxes of parsed calls include it"""
    rounding: Callable[[Size], float] = lambda size: 0.0
    """picture size -> maximum rounding error of a box coordinate in the dialect, as a fraction of the picture"""


Perturb = Callable[[ToolCall, PerturbRequest], ToolCall | None]
"""returns an off-target variant of a call, or None if there is none"""


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """Inputs of a planned call other than the question."""

    pictures: Sequence[Picture]
    """all pictures so far"""
    sampling: Sequence[FrameSampling]
    """frames that were sampled from each video"""
    zoom_box: Callable[[Box], Box]
    """evidence box -> region to zoom into, on whole hundredths"""


Plan = Callable[[Question, PlanRequest], ToolCall | None]
"""returns the call with which a synthesized trace answers a question, or None if another operation is right"""


class Drawing(NamedTuple):
    """View of a picture on which a report draws a result."""

    picture: int
    """number of the picture"""
    box: Box
    """region in its coordinates"""
    transforms: tuple[Transform, ...]


Draw = Callable[..., list[Drawing]]


@dataclass(frozen=True, kw_only=True)
class OperationSpec:
    """Specification of one operation.

    `from_function` derives name, description and parameters from the function.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    run: OperationFunction
    """(context, **arguments) -> new pictures, already added to the context, or an observation; raises `CallRejected`"""
    media: frozenset[MediaKind]
    """kinds of media that it supports"""
    result_budget: str | PixelBudget
    """pixel budget of its results: name of a field of `PixelBudgets`, or a budget"""
    max_results: int
    """maximum number of pictures returned by one call"""
    sentence: Callable[..., str] | None = None
    """(**arguments) -> description of the call, for reports"""
    perturb: Perturb | None = None
    """off-target variant of a call, for recovery tests; None: calls are never perturbed"""
    synthesis: tuple[str, ...] = ()
    """sentences before a call in synthesized traces, with the fields {subject}, {where} and {other} (the second subject)"""
    plan: Plan | None = None
    """call that answers a question in synthesized traces, where the operation is the right one; None: never called in them"""
    drawing: Draw | None = None
    """(observation, **arguments) -> views on which a report shows a result that is text"""
    check_available: Callable[[], None] = lambda: None
    """raises `UsageError` if a package that the operation needs is not installed"""
    version: int = 1
    """version of the behaviour; increase it if the same call returns other results"""

    @classmethod
    def from_function(
        cls, run: OperationFunction, *, media: frozenset[MediaKind], **fields: Any
    ) -> OperationSpec:
        """Return the specification of a typed function with a Google-style docstring.

        Args:
            run: its first parameter is `context: MediaContext`, it returns `list[Picture]`.
            media: kinds of media that it supports.
            **fields: the other fields.

        Raises:
            PluginError: a signature or docstring that cannot be converted to a schema.
        """
        return cls(
            name=run.__name__,
            description=parse_description(run),
            parameters=parse_parameters(run),
            run=run,
            media=media,
            **{"result_budget": "crop", "max_results": 1, **fields},
        )

    @property
    def tool_schema(self) -> dict[str, Any]:
        """Tool schema in the format of OpenAI functions."""
        properties = {
            one.name: one.json_schema
            | {"description": one.description}
            | ({} if one.required else {"default": one.default})
            for one in self.parameters
        }
        required = [one.name for one in self.parameters if one.required]
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": {"type": "object", "properties": properties, "required": required},
            },
        }

    @cached_property
    def roles(self) -> dict[str, ArgumentRole]:
        """Role of each argument."""
        return {one.name: one.role for one in self.parameters}

    def arguments_with_role(self, role: ArgumentRole) -> list[str]:
        """Return the names of the arguments with a role."""
        return [one.name for one in self.parameters if one.role is role]

    def check_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the arguments of a call and convert them to the types of the signature.

        Raises:
            CallRejected: missing, unknown or mistyped arguments.
        """
        parameters = {one.name: one for one in self.parameters}
        for name in arguments:
            if name not in parameters:
                raise _bad_arguments(
                    f"there is no argument {quote_name(name)}; use {', '.join(parameters)}"
                )
        for name, parameter in parameters.items():
            if parameter.required and name not in arguments:
                raise _bad_arguments(f"{name} is missing; give {parameter.type_in_words}")
        return {name: self._convert(parameters[name], value) for name, value in arguments.items()}

    def execute(self, call: ToolCall, context: MediaContext) -> Observation:
        """Execute a call. The context is unchanged unless the call succeeds.

        Every error becomes an observation. For a mistake of the model the message contains the allowed values. An
        unexpected exception is logged and reported as `OPERATION_FAILED`.
        """
        num_pictures = len(context)
        try:
            result = self.run(context, **self.check_arguments(call.arguments))
            if not isinstance(result, Observation):
                result = Observation(text="", pictures=tuple(result))
            num_results = len(result.pictures)
            assert num_results <= self.max_results, f"{self.name} returned too many pictures"
            return result
        except CallRejected as rejected:
            context.truncate(num_pictures)
            return Observation(text=rejected.text, error=rejected.error)
        except Exception as error:
            context.truncate(num_pictures)
            logger.exception("operation %s failed", self.name)
            return Observation(
                text=f"{self.name} failed ({type(error).__name__}); try another call",
                error=CallErrorKind.OPERATION_FAILED,
            )

    def describe(self, call: ToolCall) -> str:
        """Return a one-phrase description of a call; the call in function notation if its arguments are invalid."""
        if self.sentence is None:
            return call_as_written(call)
        try:
            return self.sentence(**self.check_arguments(call.arguments))
        except CallRejected:
            return call_as_written(call)
        except Exception:
            logger.exception("operation %s cannot describe its call", self.name)
            return call_as_written(call)

    def draw(self, call: ToolCall, observation: Observation) -> list[Drawing]:
        """Return the views on which a report shows the result of an executed call; none if the result is pictures."""
        if self.drawing is None or observation.error is not None:
            return []
        try:
            return self.drawing(observation, **self.check_arguments(call.arguments))
        except CallRejected:
            return []
        except Exception:
            logger.exception("operation %s cannot draw its result", self.name)
            return []

    def _convert(self, parameter: Parameter, value: Any) -> Any:
        adapter = build_adapter(self.run, parameter.name)
        try:
            return adapter.validate_python(_as_json_numbers(value), strict=True)
        except ValidationError as error:
            raise _bad_arguments(f"{parameter.name} must be {parameter.type_in_words}") from error


def call_as_written(call: ToolCall) -> str:
    """Return a call in function notation.

    >>> call_as_written(ToolCall(name="zoom_in", arguments={"target_image": 2}))
    'zoom_in(target_image = 2)'
    """
    arguments = ", ".join(
        f"{name} = {json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in call.arguments.items()
    )
    return f"{call.name}({arguments})"


def quote_name(name: str) -> str:
    """Return a name written by a model, quoted and shortened."""
    return repr(name if len(name) <= 40 else name[:40] + "…")


def assert_valid_operation(spec: OperationSpec) -> None:
    """Check that a specification is complete. Conformance test for new operations.

    >>> from pixel_reasoner.operations.zoom import zoom_in
    >>> assert_valid_operation(zoom_in)
    """
    name = spec.name
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name), f"{name!r}: not a lower-case name"
    assert spec.description, f"{name}: the docstring does not say what it does"
    assert spec.media, f"{name}: no kind of media that it supports"
    assert spec.version >= 1, f"{name}: version {spec.version} is below 1"
    assert spec.max_results >= 1, f"{name}: max_results {spec.max_results} is below 1"
    budget = spec.result_budget
    known = not isinstance(budget, str) or budget in PixelBudgets.model_fields
    assert known, f"{name}: result_budget {budget!r} is not a field of PixelBudgets"
    json.dumps(spec.tool_schema)
    defaults = {one.name: one.default for one in spec.parameters if not one.required}
    try:
        checked = _without_required(spec).check_arguments(defaults)
    except CallRejected as rejected:
        raise AssertionError(f"{name}: a default has another type: {rejected.text}") from rejected
    assert checked == defaults, f"{name}: a default changes when it is checked"
    if spec.sentence is not None:
        accepted = inspect.signature(spec.sentence).parameters
        missing = [one.name for one in spec.parameters if one.name not in accepted]
        assert not missing, f"{name}: the sentence does not accept {missing}"
    for template in spec.synthesis:
        template.format(subject="a", where="b", other="c")


def _without_required(spec: OperationSpec) -> OperationSpec:
    return replace(spec, parameters=tuple(one for one in spec.parameters if not one.required))


def _as_json_numbers(value: Any) -> Any:
    """Convert numbers to JSON semantics: 3.0 becomes the integer 3, and an integer out of range becomes infinite.

    >>> _as_json_numbers([3.0, 0.5, 10**400, True])
    [3, 0.5, inf, True]
    """
    if isinstance(value, list | tuple):
        return [
            [inner if isinstance(inner, list | tuple) else _as_json_numbers(inner) for inner in one]
            if isinstance(one, list | tuple)
            else _as_json_numbers(one)
            for one in value
        ]
    if isinstance(value, int) and abs(value) > MAX_EXACT_INT:
        return math.inf if value > 0 else -math.inf
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT_INT:
        return int(value)
    return value


def _bad_arguments(text: str) -> CallRejected:
    return CallRejected(CallErrorKind.BAD_ARGUMENTS, text)
