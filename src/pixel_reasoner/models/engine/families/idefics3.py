"""Idefics3 and SmolVLM: tiles with their row and column in the text, decoder of Llama."""

from __future__ import annotations

from typing import Any

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily


class Idefics3(DecoderFamily):
    """Idefics3. Its decoder has another name."""

    def decoder(self, model: Any) -> Any:
        """Return the text model."""
        return model.model.text_model


FAMILIES.register("idefics3", Idefics3())
FAMILIES.register("smolvlm", Idefics3())
