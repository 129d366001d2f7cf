"""Which models the engine runs, and the reason and the cost where it cannot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import AutoConfig

from pixel_reasoner.models.engine.families import FAMILIES


def engine_support(model: Any) -> str | None:
    """Return why the engine cannot run a model; None if it can.

    The model then runs with transformers `generate`, which prefills the whole conversation in every turn.

    Args:
        model: a model, or anything with its `config`.
    """
    model_type = model.config.model_type
    if model_type not in FAMILIES:
        return f"the engine has no family {model_type}"
    return FAMILIES.get(model_type).unsupported(model)


def is_supported(model: Any) -> bool:
    """Return whether the engine supports a model: its family is registered and supports all layers."""
    return engine_support(model) is None


def folder_support(folder: Path) -> str | None:
    """Return why the engine cannot run the model in a folder; None if it can. Only its config is read."""
    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    return engine_support(SimpleNamespace(config=config))


def fallback_note(reason: str) -> str:
    """Return a sentence for users of a model that the engine cannot run: why, and what it costs.

    >>> fallback_note("the engine has no family florence2")[:65]
    '`generate` of transformers runs this model, because the engine ha'
    """
    return (
        f"`generate` of transformers runs this model, because {reason}. Every turn prefills the whole conversation, and "
        "a batch waits for its longest turn."
    )
