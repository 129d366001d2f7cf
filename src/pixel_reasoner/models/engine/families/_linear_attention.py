"""Padding in layers of gated delta (linear attention): it must neither decay the state nor write to it."""

from __future__ import annotations

from collections import abc
from contextlib import contextmanager
from typing import Any

import torch

from pixel_reasoner.models.engine.families._decoder import DecoderFamily
from pixel_reasoner.models.engine.families.base import EncodedImage

_OFF = -1e4
"""softplus and sigmoid of it are zero in all dtypes"""


class GatedDeltaFamily(DecoderFamily):
    """Decoder with layers of gated delta, such as that of Qwen3.5."""

    def __init__(self) -> None:
        super().__init__(has_states=True)

    def prefill(
        self, model: Any, inputs: dict[str, Any], images: abc.Sequence[EncodedImage]
    ) -> torch.Tensor:
        """Return (sequences, tokens, hidden) states of the last layer."""
        is_padding = inputs["all_ids"].gather(1, inputs["token_index"]) < 0
        with ignore_padding(self.decoder(model), is_padding):
            return super().prefill(model, inputs, images)


@contextmanager
def ignore_padding(decoder: Any, is_padding: torch.Tensor) -> abc.Iterator[None]:
    """Keep the states of linear attention at (sequences, tokens) padding on the right.

    The decay of a token is -exp(A) softplus(a + bias), and sigmoid(b) is the share of the state that it replaces. Both
    projections are set to values for which these are zero. transformers masks the hidden states of padding instead, which
    is exact only on the left of a new sequence.
    """

    def turn_off(module: Any, args: Any, projected: torch.Tensor) -> torch.Tensor:
        return projected.masked_fill(is_padding[..., None], _OFF)

    hooks = []
    if bool(is_padding.any()):
        for module in decoder.modules():
            if hasattr(module, "in_proj_a") and hasattr(module, "in_proj_b"):
                hooks.append(module.in_proj_a.register_forward_hook(turn_off))
                hooks.append(module.in_proj_b.register_forward_hook(turn_off))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
