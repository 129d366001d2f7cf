"""Forward passes of `GRPOTrainer` with the picture inputs of any family.

TRL passes a fixed list of inputs to the model and cuts them into parts by rules of a few families. Families with other inputs, or
with other shapes of the same inputs, would train without pictures or with those of another row. Therefore the picture inputs of
a batch go to the model as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

PICTURE_NAMES = "picture_names"
"""key of a batch: names of the inputs of the model that come from pictures"""

VISUAL_TOKENS = (
    "image_token_id",
    "image_token_index",
    "image_patch_id",
    "video_token_id",
    "video_token_index",
)
"""names of the placeholders of visual tokens in configs"""


class PictureInputsMixin:
    """Mixin of a `GRPOTrainer` whose batches name their picture inputs (`PICTURE_NAMES`)."""

    _forward_inputs: dict[str, Any] | None = None
    """picture inputs of the batch of the current forward pass"""

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        with self._pictures_of(inputs):
            return super()._compute_loss(model, inputs)  # type: ignore[misc]

    @contextmanager
    def _pictures_of(self, batch: dict[str, Any]) -> Iterator[None]:
        """Pass the picture inputs of a batch to the forward pass inside the context."""
        self._forward_inputs = {name: batch[name] for name in batch.get(PICTURE_NAMES, ())}
        try:
            yield
        finally:
            self._forward_inputs = None

    def _get_per_token_logps_and_entropies(self, model: Any, *inputs: Any, **more: Any) -> Any:
        """Return log-probabilities, with the picture inputs of the batch in one forward pass of all rows."""
        if self._forward_inputs is not None:
            kept = ("compute_entropy", "compute_aux_loss")
            more = {name: value for name, value in more.items() if name in kept}
            model = partial(model, **self._forward_inputs)
        return super()._get_per_token_logps_and_entropies(model, *inputs, **more)  # type: ignore[misc]


def visual_token_ids(config: Any) -> list[int]:
    """Return the ids of the placeholders of visual tokens in the config of a model.

    >>> from types import SimpleNamespace
    >>> visual_token_ids(SimpleNamespace(image_token_id=7, video_token_id=None))
    [7]
    """
    configs = (config, getattr(config, "vision_config", None))  # Phi-4 has it in the latter
    found = [getattr(one, name, None) for one in configs for name in VISUAL_TOKENS]
    return sorted({one for one in found if one is not None})


def suppress_placeholders(args: Any, config: Any) -> None:
    """Suppress generated image and video placeholders: the next turn would need pixels that do not exist."""
    options = args.generation_kwargs or {}
    suppressed = [*options.get("suppress_tokens", ()), *visual_token_ids(config)]
    args.generation_kwargs = {**options, "suppress_tokens": suppressed}
