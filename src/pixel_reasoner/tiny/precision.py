"""Precision of training: 16 bits on a GPU and on a CPU with 16-bit products, else 32 bits.

A CPU without such instructions emulates bfloat16, which takes twenty times as long as 32 bits.
"""

from __future__ import annotations

import torch
from torch.optim import _muon

from pixel_reasoner.models.local_weights import has_16_bit_products


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the context of a forward pass on a device."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_is_fast_in_16_bits(device))


def set_precision_of_muon() -> None:
    """Let `torch.optim.Muon` orthogonalize in the precision of the device: by itself it always uses bfloat16."""
    _muon._zeropower_via_newtonschulz = orthogonalize


def orthogonalize(
    grad: torch.Tensor, coefficients: tuple[float, float, float], num_steps: int, eps: float
) -> torch.Tensor:
    """Return nearly the closest orthogonal matrix, by a Newton-Schulz iteration (https://kellerjordan.github.io/posts/muon/).

    Args:
        grad: (rows, columns).
        coefficients: of the first, third and fifth power.
        num_steps: number of iterations.
        eps: smallest norm to divide by.
    """
    first, third, fifth = coefficients
    is_tall = grad.shape[0] > grad.shape[1]
    dtype = torch.bfloat16 if _is_fast_in_16_bits(grad.device) else torch.float32
    x = (grad.T if is_tall else grad).to(dtype)
    x = x / x.norm().clamp(min=eps)
    for _ in range(num_steps):
        square = x @ x.T
        x = first * x + (third * square + fifth * square @ square) @ x
    return x.T if is_tall else x


def _is_fast_in_16_bits(device: torch.device) -> bool:
    return device.type != "cpu" or has_16_bit_products()
