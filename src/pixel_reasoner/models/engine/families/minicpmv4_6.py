"""MiniCPM-V 4.6: an overview and slices, decoder of Qwen3.5; each image has its number in the text."""

from __future__ import annotations

from typing import Any

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._linear_attention import GatedDeltaFamily
from pixel_reasoner.models.engine.sequence import ImageInput


class MiniCPMV(GatedDeltaFamily):
    """MiniCPM-V."""

    def replacement(self, processor: Any, image: ImageInput, number: int) -> str:
        """Return the text that replaces a placeholder, with the number of the image in its prompt."""
        text = super().replacement(processor, image, number)
        start, end = processor.image_id_start_token, processor.image_id_end_token
        return text.replace(f"{start}0{end}", f"{start}{number}{end}", 1)


FAMILIES.register("minicpmv4_6", MiniCPMV())
