"""LFM2-VL and LFM2.5-VL: short convolutions and full attention."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily

FAMILIES.register("lfm2_vl", DecoderFamily(has_states=True))
