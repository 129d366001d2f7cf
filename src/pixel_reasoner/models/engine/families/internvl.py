"""InternVL 3 and 3.5 (`-hf` folders): tiles of one size, decoder of Qwen2, Qwen3 or Llama."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily

FAMILIES.register("internvl", DecoderFamily())
