"""Attention with an auxiliary loss on two heads, whose weights are returned to the training loop.

Next-token loss alone hardly trains a small model to point: finding an item and predicting its position help only
together.
So, while the model generates a phrase, one head must attend to the visual token of the object of the phrase
(`POINTING_HEAD`). With this dense label, the model learns to point within a hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pixel_reasoner.models.matmul_attention import trainable_attention

Head = tuple[int, int]
"""(layer, head)"""
POINTING_HEAD: Head = (2, 0)
"""attends to the object of a phrase: deep enough to have processed the question"""
NUMBERING_HEAD: Head = (0, 0)
"""passes the frame number, which precedes a frame, to the visual tokens of the frame"""
OBSERVED_ATTENTION = "watched"
"""name of the attention implementation for training: that of torch or a faster one, plus the weights of two heads"""

_weights: dict[Head, torch.Tensor] | None = None


@contextmanager
def observe_attention() -> Iterator[dict[Head, torch.Tensor]]:
    """Collect the attention weights, (examples, tokens, tokens), of both heads inside the context."""
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
    """Compute attention, which returns no weights, and the weights of the observed heads separately."""
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
    if attention_mask is None:
        causal = query.shape[2] > 1
        out = trainable_attention(query, key, value, scaling, causal=causal).transpose(1, 2)
    else:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
    return out, None


AttentionInterface.register(OBSERVED_ATTENTION, observed_attention)
AttentionMaskInterface.register(OBSERVED_ATTENTION, sdpa_mask)
