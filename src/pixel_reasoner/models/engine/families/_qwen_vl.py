"""Common implementation of Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from collections import abc
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pixel_reasoner.models.engine.families import _cpu_decode
from pixel_reasoner.models.engine.families._grid_images import GridImages
from pixel_reasoner.models.engine.families._masks import unsupported_attention
from pixel_reasoner.models.engine.families.base import EncodedImage

_UNUSED_INPUTS = {"token_index", "all_ids"}


class VisionOutput(BaseModelOutputWithPooling):
    """Encoded images in the format of a transformers forward pass (`mm_encoder_outputs`)."""

    deepstack_features: Any = None


class QwenVL(GridImages):
    """Model family with full attention, 3D positions, and one placeholder id per visual token."""

    is_dense = True
    """whether no layer is a mixture of experts"""
    has_states = False

    def unsupported(self, model: Any) -> str | None:
        """Return a reason unless all layers use full attention through `scaled_dot_product_attention`."""
        text = model.config.get_text_config()
        kinds = set(text.layer_types) if "layer_types" in text.to_dict() else {"full_attention"}
        return unsupported_attention(text, kinds, {"full_attention"})

    def banned_tokens(self, config: Any) -> list[int]:
        """Return the placeholders of images and videos."""
        return [config.image_token_id, config.video_token_id]

    def prefill(
        self, model: Any, inputs: dict[str, Any], images: abc.Sequence[EncodedImage]
    ) -> torch.Tensor:
        """Return (sequences, tokens, hidden) states of the last layer."""
        inputs = {name: one for name, one in inputs.items() if name not in _UNUSED_INPUTS}
        vision = {"image": self.vision_output(images)} if images else None
        out = model.model(**inputs, use_cache=True, mm_encoder_outputs=vision)
        return out.last_hidden_state

    def vision_output(self, images: abc.Sequence[EncodedImage]) -> VisionOutput:
        """Return encoded images in the format of the forward pass."""
        return VisionOutput(pooler_output=tuple(one.tokens for one in images))

    def decode(self, model: Any, ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return (sequences, hidden) states of one new token for each sequence."""
        text = model.model.language_model
        inputs = {name: one for name, one in inputs.items() if name not in _UNUSED_INPUTS}
        if self.is_dense and _cpu_decode.can_decode(text):
            return _cpu_decode.decode(text, ids, inputs)
        out = text(inputs_embeds=text.embed_tokens(ids[:, None]), **inputs, use_cache=True)
        return out.last_hidden_state[:, -1]

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return (sequences, vocabulary) logits."""
        return model.lm_head(hidden)
