"""Qwen3.5 and 3.6, dense and mixture of experts: three layers of gated delta (linear attention) to one of full attention."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._grid_images import GridDecoderFamily
from pixel_reasoner.models.engine.families._linear_attention import GatedDeltaFamily


class Qwen35(GridDecoderFamily, GatedDeltaFamily):
    """Qwen3.5: images and positions of Qwen3-VL, decoder with gated delta."""


FAMILIES.register("qwen3_5", Qwen35())
FAMILIES.register("qwen3_5_moe", Qwen35())
