"""Gemma 4: sliding-window and full attention, layers that share keys and values, embeddings for each layer."""

from __future__ import annotations

from typing import Any

import torch

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily
from pixel_reasoner.models.engine.families._masks import (
    attention_masks,
    same_image_mask,
    united,
)


class Gemma4(DecoderFamily):
    """Gemma 4. Layers that share keys and values read those that an earlier layer returned in the same forward pass."""

    def prefill_masks(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return masks. In the large sizes, tokens of an image attend to each other in both directions."""
        masks = super().prefill_masks(model, inputs)
        text = model.config.get_text_config()
        if getattr(text, "use_bidirectional_attention", None) != "vision":
            return masks
        same_image = same_image_mask(inputs, self.image_token(model.config))
        return self.within_images(masks, text, inputs, same_image)

    def within_images(
        self, masks: Any, text: Any, inputs: dict[str, Any], same_image: torch.Tensor
    ) -> Any:
        """Return masks with attention within images in sliding-window layers, inside the window."""
        pairs = {**inputs, "attention_mask": inputs["attention_mask"] | same_image}
        sliding = attention_masks(text, pairs)["sliding_attention"]
        return {**masks, "sliding_attention": sliding}

    def embedded_ids(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        """Return ids with padding in place of visual tokens, whose embeddings are not used."""
        padding = model.config.get_text_config().pad_token_id
        return ids.masked_fill(ids == self.image_token(model.config), padding)

    def decoder_inputs(self, model: Any, ids: torch.Tensor) -> dict[str, Any]:
        """Return the embeddings of the ids for each layer."""
        text = model.config.get_text_config()
        if not getattr(text, "hidden_size_per_layer_input", None):
            return {}
        ids = self.embedded_ids(model, ids)
        return {"per_layer_inputs": self.decoder(model).get_per_layer_inputs(ids, None)}

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return (sequences, vocabulary) logits, with the soft limit of the config."""
        logits = super().logits(model, hidden)
        limit = model.config.get_text_config().final_logit_softcapping
        return logits if limit is None else torch.tanh(logits / limit) * limit


class Gemma4Unified(Gemma4):
    """Gemma 4 without a vision encoder of its own (12B)."""

    def within_images(
        self, masks: Any, text: Any, inputs: dict[str, Any], same_image: torch.Tensor
    ) -> Any:
        """Return masks with attention within images in all layers and beyond the window, as `forward` has them.

        `create_masks_for_generate` of transformers 5.23, which compiled models use, has those of Gemma 4.
        """
        return united(masks, same_image)


FAMILIES.register("gemma4", Gemma4())
FAMILIES.register("gemma4_unified", Gemma4Unified())
