"""LLaVA, LLaVA-NeXT and Pixtral 12B: one image or tiles of one size, decoder of Llama, Mistral or Qwen2."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily

FAMILIES.register("llava", DecoderFamily())
FAMILIES.register("llava_next", DecoderFamily())
