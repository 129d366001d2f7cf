"""Qwen2.5-VL. Its windowed vision attention is inside `get_image_features`."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._qwen_vl import QwenVL

FAMILIES.register("qwen2_5_vl", QwenVL())
