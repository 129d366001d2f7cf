"""Dialect of DeepSeek-VL: JSON calls in the text, boxes in fractions."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

DEEPSEEK_VL = register(
    family_dialect(
        name="deepseek_vl",
        models="DeepSeek-VL",
        match=ModelMatch(
            model_types=("deepseek_vl", "deepseek_vl_hybrid"), family=r"deepseek-?_?vl(?!-?_?v?2)"
        ),
        budgets=tile_budgets(1024, 1, multiple=16),
        facts=FamilyFacts(
            checkpoints="deepseek-vl-7b-chat",
            visual_tokens="576 for every picture",
            calls="not trained: JSON in the text",
            boxes="not published: fractions",
        ),
    )
)
