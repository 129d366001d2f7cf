"""Common implementation of Qwen2-VL, Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from collections import abc
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pixel_reasoner.models.engine.families import _cpu_decode
from pixel_reasoner.models.engine.families.base import EncodedImage


class VisionOutput(BaseModelOutputWithPooling):
    """Encoded images in the format of a transformers forward pass (`mm_encoder_outputs`)."""

    deepstack_features: Any = None


class QwenVL:
    """Model family with full attention, 3D positions, and one placeholder id per visual token."""

    is_dense = True
    """whether no layer is a mixture of experts"""

    def supports(self, model: Any) -> bool:
        """Return whether all layers use full attention through `scaled_dot_product_attention`."""
        text = model.config.get_text_config()
        kinds = set(text.layer_types) if "layer_types" in text.to_dict() else {"full_attention"}
        return text._attn_implementation == "sdpa" and kinds <= {"full_attention"}

    def image_token(self, config: Any) -> int:
        """Return `image_token_id`."""
        return int(config.image_token_id)

    def banned_tokens(self, config: Any) -> list[int]:
        """Return the placeholders of images and videos."""
        return [config.image_token_id, config.video_token_id]

    def num_image_tokens(self, image_processor: Any, size: tuple[int, int]) -> int:
        """Return the number of visual tokens of an image of this (width, height)."""
        patches = image_processor.get_number_of_image_patches(size[1], size[0])
        return int(patches // image_processor.merge_size**2)

    def positions(
        self, model: Any, ids: abc.Sequence[int], grids: abc.Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        """Return the positions of transformers `get_rope_index`, in a tenth of its time.

        Each text token advances the position by one. A token of an image has the position of the first image token plus
        its time, row and column. The text after an image continues after the longer side.
        """
        merge = model.config.vision_config.spatial_merge_size
        is_image = np.asarray(ids) == self.image_token(model.config)
        positions = np.empty((3, len(is_image)), dtype=np.int64)
        index = position = 0
        for grid in grids:
            time, height, width = (int(side) for side in grid)
            height, width = height // merge, width // merge
            start = index + int(is_image[index:].argmax())
            positions[:, index:start] = np.arange(position, position + start - index)
            position += start - index
            index = start + time * height * width
            cells = np.indices((time, height, width)).reshape(3, -1)
            positions[:, start:index] = cells + position
            position += max(height, width)
        assert not is_image[index:].any(), "visual tokens without an image"
        positions[:, index:] = np.arange(position, position + len(is_image) - index)
        end = int(positions.max()) + 1 if len(is_image) else 0
        return torch.from_numpy(positions), end - len(is_image)

    def encode_images(
        self, model: Any, image_processor: Any, images: abc.Sequence[Any]
    ) -> list[EncodedImage]:
        """Encode images with the vision encoder."""
        inputs = image_processor(images=list(images), return_tensors="pt")
        grids, pixels = inputs["image_grid_thw"], inputs["pixel_values"]
        out = model.model.get_image_features(pixels.to(model.device), grids.to(model.device))
        deepstack = getattr(out, "deepstack_features", None) or []
        return [
            EncodedImage(grids[n].cpu(), out.pooler_output[n], [layer[n] for layer in deepstack])
            for n in range(len(images))
        ]

    def prefill(
        self, model: Any, inputs: dict[str, Any], images: abc.Sequence[EncodedImage]
    ) -> torch.Tensor:
        """Return (sequences, tokens, hidden) states of the last layer."""
        vision = {"image": self.vision_output(images)} if images else None
        out = model.model(**inputs, use_cache=True, mm_encoder_outputs=vision)
        return out.last_hidden_state

    def vision_output(self, images: abc.Sequence[EncodedImage]) -> VisionOutput:
        """Return encoded images in the format of the forward pass."""
        return VisionOutput(pooler_output=tuple(one.tokens for one in images))

    def decode(self, model: Any, ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return (sequences, hidden) states of one new token for each sequence."""
        text = model.model.language_model
        if self.is_dense and _cpu_decode.can_decode(text):
            return _cpu_decode.decode(text, ids, inputs)
        out = text(inputs_embeds=text.embed_tokens(ids[:, None]), **inputs, use_cache=True)
        return out.last_hidden_state[:, -1]

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return (sequences, vocabulary) logits."""
        return model.lm_head(hidden)
