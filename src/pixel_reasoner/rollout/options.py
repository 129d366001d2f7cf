"""Options of one question, by name: what `Model.ask` takes besides the question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt, with_config
from typing_extensions import TypedDict

from pixel_reasoner.operations.registry import OPERATIONS
from pixel_reasoner.schema.options import valid_options
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, RolloutConfig


@with_config(extra="forbid")
class AskOptions(TypedDict, total=False):
    """Options of one question; those that are left out are as the configuration of the model sets them."""

    max_turns: PositiveInt
    """messages of the model, at most"""
    max_pictures: PositiveInt
    """pictures of the question and results of operations together, at most"""
    max_new_tokens: PositiveInt
    """tokens of one message, at most"""
    temperature: NonNegativeFloat
    """0 chooses the most probable token"""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """share of the probability that sampling draws from"""
    seed: int
    """of sampling"""
    operations: bool | tuple[str, ...] | list[str]
    """whether operations are offered, or the names of those that are"""
    num_frames: PositiveInt
    """frames that are sampled from a video"""


_PART_OF = {
    "max_turns": "limits",
    "max_pictures": "limits",
    "max_new_tokens": "sampling",
    "temperature": "sampling",
    "top_p": "sampling",
    "seed": "sampling",
    "num_frames": "media",
}
"""option -> field of `RolloutConfig` that contains it"""


def with_options(config: RolloutConfig, options: Mapping[str, Any]) -> RolloutConfig:
    """Return a configuration with the options that are given.

    Raises:
        UsageError: an unknown option, or a value out of range.

    >>> with_options(RolloutConfig(), {"max_turns": 3, "operations": False}).limits.max_turns
    3
    >>> with_options(RolloutConfig(), {"temprature": 1})
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UsageError: expected an option of a question; got 'temprature'. Fix: use temperature
    """
    if not options:
        return config
    valid = valid_options(AskOptions, options, "an option of a question")
    changed: dict[str, Any] = {}
    if "operations" in valid:
        changed["operations"] = _operations(valid.pop("operations"))
    for name, value in valid.items():
        part = _PART_OF[name]
        before = changed.get(part, getattr(config, part))
        changed[part] = before.model_copy(update={name: value})
    return config.model_copy(update=changed)


def _operations(names: bool | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    if isinstance(names, bool):
        return DEFAULT_OPERATIONS if names else ()
    return tuple(OPERATIONS.get(name).name for name in names)
