"""The same computation, faster: what a tower of Qwen's VL families does on a CPU, and what many small kernels cost on a GPU."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

_TOGETHER = "pieces_together_like_flash"
"""to transformers "flash" in a name means: attends in one call, and is told where pieces begin"""


def speed_up_tower(model: Any) -> None:
    """Let the vision tower of a model of Qwen's VL families run as it is fastest where it lies."""
    pieces_together(model.model.visual)
    if model.device.type == "cpu":
        patches_as_product(model.model.visual)


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


def pieces_together(visual: Any) -> None:
    """Let pictures and windows of one size attend in one call instead of one after the other; results are the same.

    Qwen2.5-VL attends within windows of 64 patches. In transformers, without flash-attention, each is a call of its own in each layer:
    80 for an overview of 1,024 visual tokens and a crop of 256. On a GPU such calls take longer to start than to run.
    Whoever chose another attention than the default keeps it.
    """
    if visual.config._attn_implementation == "sdpa":
        visual.config._attn_implementation = _TOGETHER


def _attend_together(  # noqa: PLR0913, as transformers calls it
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """(1, heads, patches, dim) each; pieces lie one behind the other, from `cu_seq_lens_q[i]` on."""
    inputs = [one[0].transpose(0, 1) for one in (query, key, value)]  # (patches, heads, dim)
    attended, start = [], 0
    for length, alike in groupby(cu_seq_lens_q.diff().tolist()):
        count = len(list(alike))
        end = start + count * length
        some = [one[start:end].unflatten(0, (count, length)).transpose(1, 2) for one in inputs]
        out = F.scaled_dot_product_attention(some[0], some[1], some[2], scale=scaling)
        attended.append(out.transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(attended)[None], None


AttentionInterface.register(_TOGETHER, _attend_together)


def compile_layers(language_model: Any) -> None:
    """Let norms and MLPs of a language model be compiled on first use, which takes seconds.

    On a GPU a token of a few billion parameters is mostly the start of small kernels. Attention stays as it is: it writes into the
    cache of its layer by number, and would be compiled anew for each.
    """
    for layer in language_model.layers:
        for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
            part.compile(dynamic=True)
