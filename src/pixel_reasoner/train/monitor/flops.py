"""FLOPs of a vision-language model, counted from its shape.

A multiplication and an addition are two FLOPs. A forward pass costs

    2 per weight of a matrix product and token      decoder layers; patches in the vision tower
    4 x heads x head size per layer and pair        attention: scores, and the weighted sum of values
    2 per weight of the output layer                for each token whose logits are computed

and a backward pass twice as much: once for the gradient of the inputs, once for that of the weights (PaLM, arXiv
2204.02311, appendix B; Kaplan et al., arXiv 2001.08361). Frozen weights have no gradient of their own: under a LoRA
the backward pass through a weight costs as much as the forward pass, and a frozen vision tower has no backward pass.

Model FLOPs utilization (MFU) divides these FLOPs by the peak of the device. What an implementation computes twice
(gradient checkpointing, the second prefill of a conversation) is not counted, so numbers of different backends compare.

Departures from PaLM's formula: causal attention counts the pairs that the mask allows, half as many; the vision tower
is counted, windowed attention within its windows. Norms, embeddings and LoRA matrices are left out, about 1 %.
Exact for Qwen2-VL, Qwen2.5-VL and Qwen3-VL; for other families the tower's attention is an estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import nn

from pixel_reasoner.train.distributed import ModuleGroups, module_groups


class ModelShape(NamedTuple):
    """Sizes of a model that determine its FLOPs."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    decoder_weights: float
    """weights of the matrix products of all decoder layers that one token uses"""
    head_weights: float
    """weights of the output layer"""
    vision_weights: float
    """weights of the vision tower that one patch uses"""
    projector_weights: float
    """weights of the projector that one visual token uses"""
    vision_hidden: int
    vision_full_layers: int
    vision_window_layers: int
    window_patches: int
    patches_per_token: int

    @classmethod
    def of(cls, model: Any) -> Self:
        """Return the shape of a model without wrappers. Weights may be sharded, or on the meta device."""
        groups = module_groups(model)
        text, vision = model.config.get_text_config(), model.config.vision_config
        heads = text.num_attention_heads
        depth = _first(vision, "depth", "num_hidden_layers", default=0)
        full = getattr(vision, "fullatt_block_indexes", None)
        num_full = depth if full is None else len(full)
        patch, merge = _first(vision, "patch_size", default=14), _merge(model.config)
        window = int(getattr(vision, "window_size", 0) or 0) // patch
        projector = _weights_of(groups.projector)
        return cls(
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            heads=heads,
            kv_heads=getattr(text, "num_key_value_heads", None) or heads,
            head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
            decoder_weights=_decoder_weights(groups.language, text),
            head_weights=float(text.vocab_size * text.hidden_size),
            vision_weights=_tower_weights(groups),
            projector_weights=projector,
            vision_hidden=_first(vision, "hidden_size", "embed_dim", default=0),
            vision_full_layers=num_full,
            vision_window_layers=depth - num_full,
            window_patches=window * window,
            patches_per_token=merge,
        )


def _first(config: Any, *names: str, default: int) -> int:
    found = (getattr(config, name, None) for name in names)
    return next((int(one) for one in found if isinstance(one, int)), default)


def _merge(config: Any) -> int:
    """Return the number of patches that become one visual token."""
    side = getattr(config.vision_config, "spatial_merge_size", None)
    side = side or getattr(config, "scale_factor", None) or 1
    return int(side) ** 2


def _matrix_weights(module: Any) -> float:
    """Return the weights of the matrix products of a module, without LoRA. Sizes are attributes: weights may be sharded."""
    if isinstance(module, nn.Linear):
        return float(module.in_features * module.out_features)
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        size = torch.Size(module.kernel_size).numel()
        return float(module.in_channels * module.out_channels * size / module.groups)
    return 0.0


def _weights_of(modules: Iterable[Any]) -> float:
    found = {
        id(one): _matrix_weights(one)
        for module in modules
        for name, one in module.named_modules()
        if "lora_" not in name
    }
    return sum(found.values())


def _tower_weights(groups: ModuleGroups) -> float:
    inner = {id(one) for module in groups.projector for one in module.modules()}
    return sum(_matrix_weights(one) for one in groups.vision.modules() if id(one) not in inner)


def _decoder_weights(language: Any, text: Any) -> float:
    """Return the weights that one token uses. Of a mixture of experts, it uses some experts of each layer."""
    layers = language.layers if hasattr(language, "layers") else language.model.layers
    dense = _weights_of([layers])
    experts = sum(one.numel() for one in layers.parameters() if one.ndim == 3)
    used = getattr(text, "num_experts_per_tok", 0) / max(1, getattr(text, "num_experts", 0) or 1)
    return dense + experts * used


class Work(NamedTuple):
    """Tokens and patches of forward passes."""

    tokens: float = 0.0
    pairs: float = 0.0
    """pairs of a token and a token that it attends to"""
    head_tokens: float = 0.0
    """tokens whose logits are computed"""
    patches: float = 0.0
    full_pairs: float = 0.0
    """pairs of patches in full attention, per layer"""
    window_pairs: float = 0.0

    def __add__(self, other: Work) -> Work:  # type: ignore[override]
        """Return the sum of the work of two passes."""
        return Work(*(one + two for one, two in zip(self, other, strict=True)))


def sequence_work(
    shape: ModelShape,
    length: int,
    pictures: Sequence[int] = (),
    *,
    num_cached: int = 0,
    head_tokens: int | None = None,
) -> Work:
    """Return the work of one sequence with causal attention.

    Args:
        shape: of the model.
        length: tokens.
        pictures: visual tokens of each picture that the tower encodes.
        num_cached: tokens at the start whose keys and values are in a cache.
        head_tokens: tokens whose logits are computed; by default all that are not cached.
    """
    patches = [count * shape.patches_per_token for count in pictures]
    window = shape.window_patches
    return Work(
        tokens=length - num_cached,
        pairs=(length * (length + 1) - num_cached * (num_cached + 1)) / 2,
        head_tokens=length - num_cached if head_tokens is None else head_tokens,
        patches=sum(patches),
        full_pairs=sum(count * count for count in patches),
        window_pairs=sum(count * min(count, window or count) for count in patches),
    )


class Flops(NamedTuple):
    """FLOPs of the modules, which may be trained or frozen."""

    decoder: float
    attention: float
    head: float
    vision: float

    @property
    def total(self) -> float:
        """Sum of all modules."""
        return sum(self)


def forward_flops(shape: ModelShape, work: Work) -> Flops:
    """Return the FLOPs of a forward pass."""
    visual_tokens = work.patches / shape.patches_per_token
    vision_pairs = (
        shape.vision_full_layers * work.full_pairs + shape.vision_window_layers * work.window_pairs
    )
    return Flops(
        decoder=2 * shape.decoder_weights * work.tokens,
        attention=4 * shape.layers * shape.heads * shape.head_dim * work.pairs,
        head=2 * shape.head_weights * work.head_tokens,
        vision=2 * shape.vision_weights * work.patches
        + 2 * shape.projector_weights * visual_tokens
        + 4 * shape.vision_hidden * vision_pairs,
    )


def training_flops(
    shape: ModelShape, work: Work, *, is_lora: bool, trains_vision: bool = False
) -> float:
    """Return the FLOPs of a forward and a backward pass."""
    forward = forward_flops(shape, work)
    weights = 2 if is_lora else 3
    return (
        weights * (forward.decoder + forward.head)
        + 3 * forward.attention
        + (3 if trains_vision else 1) * forward.vision
    )


def picture_tokens(ids: torch.Tensor, placeholders: Sequence[int]) -> list[int]:
    """Return the number of visual tokens of each picture: runs of placeholders in a sequence of ids.

    >>> picture_tokens(torch.tensor([1, 9, 9, 2, 9, 9, 9]), [9])
    [2, 3]
    """
    is_visual = torch.isin(ids, torch.tensor(placeholders, device=ids.device)).int()
    edges = torch.diff(is_visual, prepend=is_visual.new_zeros(1), append=is_visual.new_zeros(1))
    starts, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    return (ends - starts).tolist()


def placeholder_ids(config: Any) -> list[int]:
    """Return the ids of visual tokens of a model."""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    found = (getattr(config, name, None) for name in names)
    return sorted({one for one in found if one is not None})
