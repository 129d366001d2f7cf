"""Faster implementations with equal results: the Qwen-VL vision encoder on a CPU, and many small kernels on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from pixel_reasoner.models.matmul_attention import trainable_attention

_BATCHED_SEGMENTS = "batched_segments_like_flash"
"""name contains "flash", so that transformers passes all segments with their boundaries in one call"""


def select_cpu_of_deepspeed() -> None:
    """Make DeepSpeed use the CPU where there is no GPU, without a warning. accelerate imports it, if installed, to save a model."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


COMPILED_FAMILIES = ("qwen2_5_vl", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe")
"""model types whose decoder layers `compile_layers` compiles"""
QWEN_VISION = frozenset({*COMPILED_FAMILIES, "qwen3_5", "qwen3_5_moe"})
"""model types with a vision encoder of Qwen-VL"""


def has_qwen_vision(model: Any) -> bool:
    """Return whether a model has a vision encoder of Qwen-VL, for which this module has faster implementations."""
    return model.config.model_type in QWEN_VISION


def optimize_vision_encoder(model: Any) -> None:
    """Patch the vision encoder of a Qwen-VL model with the fastest implementation on its device. Others are unchanged."""
    if not has_qwen_vision(model):
        return
    batch_attention_segments(model.model.visual)
    if model.device.type == "cpu":
        embed_patches_by_matmul(model.model.visual)


def embed_patches_by_matmul(visual: Any) -> None:
    """Embed patches with a matrix product instead of a Conv3d, with equal weights and results.

    A patch has the size of the kernel, so both are the same operation. On a CPU the convolution takes a third of the time
    of the encoder, and its backward pass half of a training step.
    """
    conv = visual.patch_embed.proj

    def forward(patches: torch.Tensor) -> torch.Tensor:
        weight = conv.weight.flatten(1)
        return F.linear(patches.view(-1, weight.shape[1]).to(weight.dtype), weight, conv.bias)

    visual.patch_embed.forward = forward


def batch_attention_segments(visual: Any) -> None:
    """Batch the attention of images and windows of equal size in one call, with equal results.

    Qwen2.5-VL attends within windows of 64 patches. Without flash-attention transformers calls attention once per window
    and layer: 80 calls for an overview of 1,024 visual tokens and a crop of 256. On a GPU the launch of such calls takes
    longer than the computation. A non-default attention implementation is kept.
    """
    if visual.config._attn_implementation == "sdpa":
        visual.config._attn_implementation = _BATCHED_SEGMENTS


def _batched_attention(  # noqa: PLR0913, as transformers calls it
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
    """Attend within segments; (1, heads, patches, dim) each, segment i starts at `cu_seq_lens_q[i]`."""
    inputs = [one[0].transpose(0, 1) for one in (query, key, value)]  # (patches, heads, dim)
    attended, start = [], 0
    for length, alike in groupby(cu_seq_lens_q.diff().tolist()):
        count = len(list(alike))
        end = start + count * length
        some = [one[start:end].unflatten(0, (count, length)).transpose(1, 2) for one in inputs]
        out = trainable_attention(some[0], some[1], some[2], scaling, causal=False)
        attended.append(out.transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(attended)[None], None


AttentionInterface.register(_BATCHED_SEGMENTS, _batched_attention)


def compile_layers(language_model: Any) -> None:
    """Compile norms and MLPs of a language model on first use, which takes seconds.

    On a GPU, kernel launches dominate the decode time of models with a few billion parameters. Attention is not compiled,
    because it depends on the layer index and would be recompiled for each layer.
    """
    for layer in language_model.layers:
        for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
            part.compile(dynamic=True)


def add_names_for_trl(config: Any) -> None:
    """Give the classes of a config the attributes that TRL reads, if they have other names for them.

    These are `num_experts` of a mixture of experts, and `image_token_id`, which Phi-4 has in the config of its vision tower.
    """
    text = config.get_text_config()
    has_experts = hasattr(text, "num_experts_per_tok") and hasattr(text, "num_local_experts")
    if has_experts and not hasattr(text, "num_experts"):
        type(text).num_experts = property(lambda self: self.num_local_experts)
    if not hasattr(config, "image_token_id") and hasattr(config, "vision_config"):
        type(config).image_token_id = property(lambda self: self.vision_config.image_token_id)


_UNSCALED_LOGITS = frozenset({"aya_vision", "cohere2_vision"})
"""model types that ignore the `logit_scale` of their text config, measured with transformers 5.23"""


@contextmanager
def without_unused_logit_scale(config: Any) -> Iterator[None]:
    """Hide a `logit_scale` that the model ignores: TRL multiplies the logits of its losses by it."""
    text = config.get_text_config()
    if config.model_type not in _UNSCALED_LOGITS:
        yield
        return
    scale, text.logit_scale = text.logit_scale, 1.0
    try:
        yield
    finally:
        text.logit_scale = scale
