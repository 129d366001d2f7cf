"""Attention as products of matrices, for training small models on a CPU in 16 bits.

The backward pass of torch's fused attention takes three to four times as long there at head dimension 32, and with the
forward pass half of a training step of the bundled model (`benchmarks/training_attention.py`). In return all weights are
kept for the backward pass: (heads, tokens, tokens) numbers for each layer and example.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F

BLOCK = 128
"""queries of a block: causal attention computes no products of a block with later keys"""


def trainable_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, *, causal: bool
) -> torch.Tensor:
    """Return (examples, heads, tokens, dim) attention by the faster way: `matmul_attention`, or that of torch."""
    device = query.device.type
    if device == "cpu" and torch.is_autocast_enabled(device) and query.requires_grad:
        return matmul_attention(query, key, value, scaling, causal=causal)
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scaling)


def matmul_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, *, causal: bool
) -> torch.Tensor:
    """Return (examples, heads, tokens, dim) attention, equal to that of torch up to rounding.

    Under autocast the products are of its type.

    Args:
        query: (examples, heads, tokens, dim); key and value have the same shape.
        key: see `query`.
        value: see `query`.
        scaling: factor of the scores.
        causal: whether a token attends only to itself and to tokens before it.

    >>> same = torch.ones(1, 1, 4, 2)
    >>> matmul_attention(same, same, same, 1.0, causal=True).sum().item()
    8.0
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    shape = query.shape
    with torch.autocast(device, enabled=False):
        flat = [one.reshape(-1, *shape[2:]) for one in (query * scaling, key, value)]
        out: torch.Tensor = _Attention.apply(*flat, causal)
    return out.view(shape)


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    """Attention of (examples * heads, tokens, dim), one block of queries after the other."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, causal: bool) -> Any:
        length = query.shape[1]
        blocks = _blocks(length, causal)
        parts, weights = [], []
        for start, end, keys in blocks:
            mask = _mask(end - start, keys, query.dtype) if causal else query.new_zeros(())
            scores = torch.baddbmm(mask, query[:, start:end], key[:, :keys].transpose(1, 2))
            weights.append(scores.softmax(-1))
            parts.append(weights[-1] @ value[:, :keys])
        out = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        ctx.blocks = blocks
        ctx.save_for_backward(query, key, value, out, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, value, out, *weights = ctx.saved_tensors
        mean = (grad * out).sum(-1, keepdim=True)
        grad_query = torch.empty_like(query)
        grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
        for (start, end, keys), of_block in zip(ctx.blocks, weights, strict=True):
            some = grad[:, start:end]
            grad_value[:, :keys] += of_block.transpose(1, 2) @ some
            values = value[:, :keys].transpose(1, 2)
            scores = torch.baddbmm(mean[:, start:end], some, values, beta=-1).mul_(of_block)
            grad_query[:, start:end] = scores @ key[:, :keys]
            grad_key[:, :keys] += scores.transpose(1, 2) @ query[:, start:end]
        return grad_query, grad_key, grad_value, None


def _blocks(length: int, causal: bool) -> list[tuple[int, int, int]]:
    """Return first query, end of the queries and number of keys of each block."""
    if not causal:
        return [(0, length, length)]
    ends = [min(length, start + BLOCK) for start in range(0, length, BLOCK)]
    return [(start, end, end) for start, end in zip(range(0, length, BLOCK), ends, strict=True)]


@lru_cache(maxsize=128)
def _mask(queries: int, keys: int, dtype: torch.dtype) -> torch.Tensor:
    """Return (queries, keys) what is added to the scores of the last queries: minus infinity for later keys."""
    return torch.full((queries, keys), float("-inf"), dtype=dtype).triu(keys - queries + 1)
