"""Registry of dialects from `dialects.families` and from other distributions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.detect import FALLBACK, MatchConfidence, family_without_chat
from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.plugin_checks import is_instance
from pixel_reasoner.registry import Registry

DIALECTS = Registry[Dialect](
    "dialect",
    package="pixel_reasoner.dialects.families",
    check=is_instance("dialect", Dialect, "`dataclasses.replace` or `Dialect(...)`"),
)


def register(dialect: Dialect) -> Dialect:
    """Register a dialect under its name and return it.

    Raises:
        PluginError: another dialect has this name.
    """
    return DIALECTS.register(dialect.name, dialect)


def get_dialect(name: str) -> Dialect:
    """Return the dialect with a name.

    Raises:
        UnknownNameError: no such dialect; the message lists the nearest names.
        PluginError: the plug-in that provides it cannot be imported, or names its dialect differently.

    >>> get_dialect("compact").padding
    0.0
    """
    return DIALECTS.get(name)


@cache
def call_marks() -> frozenset[str]:
    """Return the marks of calls and thoughts in all dialects. Decoding must keep them if a tokenizer has them as special tokens.

    Without them a call of any family would vanish from the text, and could be neither executed nor repaired.

    >>> {"<|tool_call_start|>", "[TOOL_CALLS]", "<tool_call>"} <= call_marks()
    True
    """
    return frozenset().union(*(dialect.special_tokens for _, dialect in DIALECTS.items()))


def detect_dialect(
    name: str, config: Mapping[str, Any] | None = None, template: str | None = None
) -> Dialect:
    """Detect the dialect of a model. The most specific match wins; without a match the result is `plain`.

    Args:
        name: folder or hub id of the model.
        config: its `config.json`, if available.
        template: its chat template, if available.

    Raises:
        ModelError: the family of the model has no turns.
        UsageError: two dialects match equally well.

    >>> detect_dialect("models/Qwen3-VL-8B-Instruct", {"model_type": "qwen3_vl"}).name
    'qwen3_vl'
    >>> detect_dialect("TIGER-Lab/PixelReasoner-RL-v1", {"model_type": "qwen2_5_vl"}).name
    'pixel_reasoner'
    >>> detect_dialect("gpt-9").name
    'plain'
    """
    model_type = str((config or {}).get("model_type") or "")
    family = family_without_chat(name, model_type)
    if family is not None:
        raise ModelError(
            expected="a model that is trained on conversations",
            got=f"{name}, a {family} model, which is prompted by tasks and has no turns",
            fix="use a chat model of another family, such as Qwen/Qwen3-VL-4B-Instruct",
        )
    found = {
        key: one.match.confidence(name, model_type, template or "") for key, one in DIALECTS.items()
    }
    best = max(found.values())
    fitting = [key for key, confidence in found.items() if confidence is best]
    if best is MatchConfidence.NONE:
        return get_dialect(FALLBACK)
    if len(fitting) > 1:
        raise UsageError(
            expected="a model that uses one dialect",
            got=f"{name}, which matches {' and '.join(fitting)} equally well",
            fix=f"name one: --dialect {fitting[0]}, or in the folder's pixel_reasoner.json",
        )
    return get_dialect(fitting[0])
