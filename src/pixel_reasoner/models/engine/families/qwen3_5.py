"""Qwen3.5 and 3.6, dense and mixture of experts: three layers of gated delta (linear attention) to one of full attention."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._grid_images import GridDecoderFamily

FAMILIES.register("qwen3_5", GridDecoderFamily(has_states=True, needs_equal_lengths=True))
FAMILIES.register("qwen3_5_moe", GridDecoderFamily(has_states=True, needs_equal_lengths=True))
