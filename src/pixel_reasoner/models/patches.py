"""How a vision tower embeds its patches, faster on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def patches_as_product(visual: Any) -> None:
    """Let a tower of Qwen's VL families embed its patches with a matrix product instead of a Conv3d; weights and results are the same.

    A patch is as large as the kernel, so the two are one operation, but on a CPU the convolution takes a third of the
    tower's time, and its backward pass half of a training step.
    """
    conv = visual.patch_embed.proj

    def forward(patches: torch.Tensor) -> torch.Tensor:
        weight = conv.weight.flatten(1)
        return F.linear(patches.view(-1, weight.shape[1]).to(weight.dtype), weight, conv.bias)

    visual.patch_embed.forward = forward
