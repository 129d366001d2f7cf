"""Kimi K2.5 and K2.6: multi-head latent attention (MLA), mixture of experts."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily

FAMILIES.register("kimi_k25", DecoderFamily())
