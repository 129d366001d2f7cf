"""Gemma 3: sliding-window and full attention; the tokens of an image attend to each other in both directions."""

from __future__ import annotations

from typing import Any

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily
from pixel_reasoner.models.engine.families._masks import same_image_mask, united


class Gemma3(DecoderFamily):
    """Gemma 3. The template's placeholder is the mark before an image, not the visual token."""

    def prefill_masks(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return masks with attention in both directions within images, in all layers and beyond the window."""
        same_image = same_image_mask(inputs, self.image_token(model.config))
        return united(super().prefill_masks(model, inputs), same_image)


FAMILIES.register("gemma3", Gemma3())
