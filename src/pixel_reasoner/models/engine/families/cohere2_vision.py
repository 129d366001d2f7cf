"""Command-A Vision and Aya Vision: tiles of one size, three layers of sliding-window attention to one of full attention."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily

FAMILIES.register("cohere2_vision", DecoderFamily())
FAMILIES.register("aya_vision", DecoderFamily())
