"""Keyword options of `Model.ask`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt, with_config
from typing_extensions import TypedDict

from pixel_reasoner.operations.registry import OPERATIONS
from pixel_reasoner.schema.options import valid_options
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, BudgetPolicy, RolloutConfig


@with_config(extra="forbid")
class AskOptions(TypedDict, total=False):
    """Options of one question. Defaults come from the configuration of the model."""

    max_turns: PositiveInt
    """maximum number of assistant messages"""
    max_pictures: PositiveInt
    """maximum number of pictures: pictures of the question plus results of operations"""
    max_new_tokens: PositiveInt
    """maximum number of tokens of one message"""
    temperature: NonNegativeFloat
    """0 for greedy decoding"""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """cumulative probability for nucleus sampling"""
    seed: int
    """random seed of sampling"""
    operations: bool | tuple[str, ...] | list[str]
    """names of the enabled operations; True for the default operations, False for none"""
    num_frames: PositiveInt
    """number of frames sampled from a video"""
    strict: bool
    """whether malformed calls are rejected even where their meaning is certain"""
    budget: BudgetPolicy
    """how pixel budgets depend on the question: `fixed`, `adaptive`, or a number of visual tokens"""


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
    """Return a configuration with some options replaced.

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
    if "strict" in valid:
        changed["strict"] = valid.pop("strict")
    if "budget" in valid:
        changed["budget"] = valid.pop("budget")
    for name, value in valid.items():
        part = _PART_OF[name]
        before = changed.get(part, getattr(config, part))
        changed[part] = before.model_copy(update={name: value})
    return config.model_copy(update=changed)


def _operations(names: bool | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    if isinstance(names, bool):
        return DEFAULT_OPERATIONS if names else ()
    return tuple(OPERATIONS.get(name).name for name in names)
