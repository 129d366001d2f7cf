"""Qwen2-VL."""

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._qwen_vl import QwenVL

FAMILIES.register("qwen2_vl", QwenVL())
