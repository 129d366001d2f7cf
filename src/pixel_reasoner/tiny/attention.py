"""Attention with an auxiliary loss on two heads: where they attend is returned to the training loop.

Next-token loss alone hardly teaches a small model to point: finding an item and reading its place pay only together.
So, while the model generates a phrase, one head has to attend to the visual token that shows what the phrase is about
(`POINTING_HEAD`). With this dense label, pointing is learned within a hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

Head = tuple[int, int]
"""layer and head"""
POINTING_HEAD: Head = (2, 0)
"""attends to what a phrase is about: deep enough to have processed the question"""
NUMBERING_HEAD: Head = (0, 0)
"""through it the visual tokens of a frame receive the frame number, which precedes them"""
OBSERVED_ATTENTION = "watched"
"""name of the attention implementation that training uses: sdpa, and the weights of two heads"""

_weights: dict[Head, torch.Tensor] | None = None


@contextmanager
def observe_attention() -> Iterator[dict[Head, torch.Tensor]]:
    """Collect the attention weights, (examples, tokens, tokens), of both heads while the context is open."""
    global _weights
    _weights = {}
    try:
        yield _weights
    finally:
        _weights = None


def observed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Compute `sdpa`, which returns no weights, and the weights of the observed heads separately."""
    for layer, head in (POINTING_HEAD, NUMBERING_HEAD):
        if _weights is not None and module.layer_idx == layer:
            scores = (query[:, head] @ key[:, head].transpose(1, 2)).float() * scaling
            length = scores.shape[-1]
            allowed = (
                torch.ones(length, length, dtype=torch.bool, device=scores.device).tril()
                if attention_mask is None
                else attention_mask[:, 0]
            )
            scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
            _weights[layer, head] = scores.softmax(-1)
    out, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **more
    )
    return out, None


AttentionInterface.register(OBSERVED_ATTENTION, observed_attention)
AttentionMaskInterface.register(OBSERVED_ATTENTION, sdpa_mask)
