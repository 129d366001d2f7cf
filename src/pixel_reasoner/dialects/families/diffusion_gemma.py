"""Dialect of DiffusionGemma: as Gemma 4, but its chat template starts a new model turn after a result."""

from __future__ import annotations

from dataclasses import replace

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families.gemma4 import GEMMA4
from pixel_reasoner.dialects.registry import register

DIFFUSION_GEMMA = register(
    replace(
        GEMMA4,
        name="diffusion_gemma",
        models="DiffusionGemma",
        match=ModelMatch(model_types=("diffusion_gemma",), family=r"diffusion-?_?gemma"),
        facts=replace(GEMMA4.facts, checkpoints="diffusion-gemma-26B-A4B", calls="chat template"),
        carriage=replace(GEMMA4.carriage, keeps_tokens=False),
    )
)
