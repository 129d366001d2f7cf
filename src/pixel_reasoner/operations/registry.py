"""Registry of operations, and the set of enabled operations of a run.

An operation is defined in one file, in this package or in another distribution:

    @operation
    def rotate(context: MediaContext, quarter_turns: int, target_image: PictureArgument = 1) -> list[Picture]: ...

    [project.entry-points."pixel_reasoner.operations"]
    rotate = "my_package.rotate:rotate"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, overload

from pixel_reasoner.errors import PluginError, one_line
from pixel_reasoner.operations.base import (
    ArgumentRole,
    Drawing,
    MediaKind,
    OperationFunction,
    OperationSpec,
    assert_valid_operation,
    call_as_written,
    quote_name,
)
from pixel_reasoner.operations.signature import bad_function
from pixel_reasoner.plugin_checks import is_instance
from pixel_reasoner.registry import Registry
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import CallErrorKind, Observation, ToolCall

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

OPERATIONS = Registry[OperationSpec](
    "operation",
    package="pixel_reasoner.operations",
    check=is_instance("operation", OperationSpec, "@operation"),
)


@overload
def operation(run: OperationFunction) -> OperationSpec: ...
@overload
def operation(
    *, media: Iterable[MediaKind] = (), **fields: Any
) -> Callable[[OperationFunction], OperationSpec]: ...
def operation(
    run: OperationFunction | None = None, *, media: Iterable[MediaKind] = (), **fields: Any
) -> OperationSpec | Callable[[OperationFunction], OperationSpec]:
    """Register a typed function as an operation; the decorated name is its `OperationSpec`.

    It can be used without parentheses where the defaults are right.

    Args:
        run: what is decorated.
        media: kinds of media that it is offered for; by default videos for an operation on frames, else both kinds.
        fields: other fields of `OperationSpec`.

    Raises:
        PluginError: a signature or docstring that a schema cannot be made of, a wrong field, or a name that is taken.

    The parameters of the function become the schema of the calls, its docstring their description (docs/extend.md):

    >>> @operation(media={MediaKind.IMAGE})
    ... def rotate(context: MediaContext, quarter_turns):
    ...     "Rotate a picture."
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.PluginError: expected the operation rotate with the return type `list[Picture]`; got 'no annotation' at <doctest pixel_reasoner.operations.registry.operation[0]>:1. Fix: annotate it so
    """
    if run is None:
        return lambda function: _register(function, frozenset(media), fields)
    return _register(run, frozenset(media), fields)


def _register(
    run: OperationFunction, media: frozenset[MediaKind], fields: dict[str, Any]
) -> OperationSpec:
    try:
        spec = OperationSpec.from_function(run, media=media or frozenset(MediaKind), **fields)
        if not media and spec.arguments_with_role(ArgumentRole.FRAMES):
            spec = replace(spec, media=frozenset({MediaKind.VIDEO}))
        assert_valid_operation(spec)
    except (AssertionError, TypeError, ValueError, LookupError) as error:
        if isinstance(error, PluginError):
            raise
        raise bad_function(run, "valid fields", one_line(error), "correct it") from error
    return OPERATIONS.register(spec.name, spec)


@dataclass(frozen=True)
class OperationSet:
    """Enabled operations of a run, in order.

    >>> operations = OperationSet.of(["zoom_in", "select_frames"])
    >>> operations.names
    ('zoom_in', 'select_frames')
    """

    specs: tuple[OperationSpec, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> OperationSet:
        """Return the set of registered operations with these names.

        Raises:
            UnknownNameError: an unregistered name; the message lists the nearest names.
            PluginError: an unusable plug-in.
        """
        return cls(tuple(OPERATIONS.get(name) for name in dict.fromkeys(names)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(spec.name for spec in self.specs)

    @property
    def tool_schemas(self) -> list[dict[str, Any]]:
        """OpenAI function schemas of all operations, in order."""
        return [spec.tool_schema for spec in self.specs]

    def get(self, name: str) -> OperationSpec | None:
        """Return the operation with a name; None if the set does not contain it."""
        return next((spec for spec in self.specs if spec.name == name), None)

    def for_media(self, media: Iterable[MediaItem]) -> OperationSet:
        """Return the operations that support at least one of these media.

        >>> clip = MediaItem(kind="frames", path="clip")
        >>> default_operations().for_media([clip]).names
        ('zoom_in', 'select_frames')
        >>> default_operations().for_media([MediaItem(kind="image", path="a.png")]).names
        ('zoom_in',)
        """
        kinds = {MediaKind.IMAGE if one.kind == "image" else MediaKind.VIDEO for one in media}
        return OperationSet(tuple(spec for spec in self.specs if spec.media & kinds))

    def run(self, call: ToolCall, context: MediaContext) -> Observation:
        """Execute a call and return new pictures, or the reason for its rejection. Never raises.

        >>> from pixel_reasoner.media.context import UNSCALED, MediaContext
        >>> from pixel_reasoner.schema.question import Question
        >>> context = MediaContext(Question(id="1", text="What is it?", media=()), UNSCALED)
        >>> default_operations().run(ToolCall(name="zoom", arguments={}), context).text
        "there is no operation 'zoom'; use zoom_in or select_frames"
        >>> default_operations().run(ToolCall(name="zoom_in", arguments={"bbox_2d": "left"}), context).text
        'bbox_2d must be a list of numbers'
        """
        spec = self.get(call.name)
        if spec is None:
            return Observation(
                text=f"there is no operation {quote_name(call.name)}; use {' or '.join(self.names)}",
                error=CallErrorKind.UNKNOWN_OPERATION,
            )
        return spec.execute(call, context)

    def __iter__(self) -> Iterator[OperationSpec]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __contains__(self, name: object) -> bool:
        return name in self.names


@cache
def default_operations() -> OperationSet:
    """Return the operations that are enabled by default."""
    return OperationSet.of(DEFAULT_OPERATIONS)


def draw_result(call: ToolCall, observation: Observation) -> list[Drawing]:
    """Return the views on which a report shows a result that is text; none if its operation is not installed."""
    if call.name not in OPERATIONS:
        return []
    try:
        return OPERATIONS.get(call.name).draw(call, observation)
    except PluginError:
        return []


def describe_call(call: ToolCall) -> str:
    """Return a one-phrase description of a call; the call in function notation if its operation is not installed.

    >>> describe_call(ToolCall(name="select_frames", arguments={"target_frames": [3]}))
    'look at frame 3'
    """
    if call.name not in OPERATIONS:
        return call_as_written(call)
    try:
        return OPERATIONS.get(call.name).describe(call)
    except PluginError:
        return call_as_written(call)
