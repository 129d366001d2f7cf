"""Qwen3-VL, dense and mixture of experts: early decoder layers also receive features of the vision encoder (DeepStack)."""

from __future__ import annotations

from collections import abc

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._qwen_vl import QwenVL, VisionOutput
from pixel_reasoner.models.engine.families.base import EncodedImage


class Qwen3VL(QwenVL):
    """Qwen-VL family with DeepStack features of images."""

    def vision_output(self, images: abc.Sequence[EncodedImage]) -> VisionOutput:
        """Return encoded images and their DeepStack features."""
        out = super().vision_output(images)
        layers = zip(*(one.deepstack for one in images), strict=True)
        out.deepstack_features = [tuple(layer) for layer in layers]
        return out


class Qwen3VLMoe(Qwen3VL):
    """Qwen3-VL with a mixture of experts in the decoder layers."""

    is_dense = False


FAMILIES.register("qwen3_vl", Qwen3VL())
FAMILIES.register("qwen3_vl_moe", Qwen3VLMoe())
