"""Attention masks by kind of decoder layer: full, sliding window, chunked, and within images in both directions."""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

ATTENTION_KINDS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""kinds of layers with keys and values"""
STATE_KINDS = frozenset({"linear_attention", "conv"})
"""kinds of layers with a state of constant size"""


def layer_kinds(text: Any) -> set[str]:
    """Return the kinds of decoder layers of a text config."""
    if getattr(text, "layer_types", None):
        return set(text.layer_types)
    if getattr(text, "sliding_window", None):
        return {"sliding_attention"}
    return {
        "chunked_attention" if getattr(text, "attention_chunk_size", None) else "full_attention"
    }


def unsupported_attention(text: Any, kinds: abc.Set[str], supported: abc.Set[str]) -> str | None:
    """Return why the engine cannot run layers of these kinds; None if it can."""
    # None: the config of a model that is not loaded.
    if text._attn_implementation not in ("sdpa", None):
        return f"the engine does not run attention {text._attn_implementation}, only sdpa"
    if unknown := sorted(kinds - supported):
        return f"the engine does not run decoder layers of kind {', '.join(unknown)}"
    return None


def attention_masks(text: Any, inputs: dict[str, Any]) -> Any:
    """Return the mask of each kind of layer, or the only mask, as the decoders of transformers take it.

    Args:
        text: config of the decoder.
        inputs: of `ModelFamily.prefill` or `decode`.
    """
    kinds = layer_kinds(text)
    masks = {kind: _mask(text, kind, inputs) for kind in sorted(kinds & ATTENTION_KINDS)}
    if len(masks) == 1:
        return next(iter(masks.values()))
    return {**masks, **dict.fromkeys(kinds & STATE_KINDS)}


def united(masks: Any, pairs: torch.Tensor) -> Any:
    """Return masks in which these pairs of (sequences, 1, new, cached) tokens attend to each other too."""
    if isinstance(masks, dict):
        return {kind: None if mask is None else mask | pairs for kind, mask in masks.items()}
    return masks | pairs


def _mask(text: Any, kind: str, inputs: dict[str, Any]) -> torch.Tensor:
    causal: torch.Tensor = inputs["attention_mask"]
    if kind == "full_attention":
        return causal
    query = inputs["token_index"][:, None, :, None]
    key = torch.arange(causal.shape[-1], device=causal.device)
    if kind == "sliding_attention":
        return causal & (key > query - text.sliding_window)
    return causal & (key // text.attention_chunk_size == query // text.attention_chunk_size)


def same_image_mask(inputs: dict[str, Any], image_token: int) -> torch.Tensor:
    """Return (sequences, 1, new, cached) whether two tokens belong to the same run of visual tokens."""
    is_image = inputs["all_ids"] == image_token
    previous = torch.nn.functional.pad(is_image, (1, 0))[:, :-1]
    groups = torch.where(is_image, (is_image & ~previous).cumsum(dim=1), 0)
    # Padding after the last token of a sequence has indexes beyond its ids.
    index = inputs["token_index"].clamp(max=groups.shape[1] - 1)
    query = groups.gather(1, index)
    return ((query[:, :, None] == groups[:, None]) & (query[:, :, None] > 0))[:, None]
