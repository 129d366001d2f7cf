"""Gemma 3: sliding-window and full attention; the tokens of an image attend to each other in both directions."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily


class Gemma3(DecoderFamily):
    """Gemma 3. The template's placeholder is the mark before an image, not the visual token."""

    def attends_within_images(self, config: object) -> bool:
        """Return True: prompts are always prefilled with such a mask."""
        return True


FAMILIES.register("gemma3", Gemma3())
