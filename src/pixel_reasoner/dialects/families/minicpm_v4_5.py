"""Dialect of MiniCPM-V 4.5 and older: JSON calls in tags, boxes from 0 to 1000."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import RESPONSE_TAGS, family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

MINICPM_V4_5 = register(
    family_dialect(
        name="minicpm_v4_5",
        models="MiniCPM-V 4.5 and older",
        match=ModelMatch(
            model_types=("minicpmv",), family=r"minicpm-?_?(v(?!-?_?4[._][67])|llama3-?v)"
        ),
        budgets=tile_budgets(448, 9),
        facts=FamilyFacts(
            checkpoints="MiniCPM-V-4_5",
            visual_tokens="slices of 448 x 448 pixels, at most 9",
            sees_tiles=True,
            calls="fallback template of vLLM",
            boxes="reported by users",
            vllm_parsers=("hermes", ""),
        ),
        grid=THOUSANDTHS,
        response=RESPONSE_TAGS,
    )
)
