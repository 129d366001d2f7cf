"""Dialect of DeepSeek-VL2: JSON calls in the text, boxes from 0 to 999."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import NINES
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

DEEPSEEK_VL2 = register(
    family_dialect(
        name="deepseek_vl2",
        models="DeepSeek-VL2, served by vLLM",
        match=ModelMatch(
            model_types=("deepseek_vl_v2", "deepseek_vl2"), family=r"deepseek-?_?vl-?_?v?2"
        ),
        budgets=tile_budgets(384, 9),
        facts=FamilyFacts(
            checkpoints="deepseek-vl2-small",
            visual_tokens="tiles of 384 x 384 pixels",
            sees_tiles=True,
            calls="not trained: JSON in the text",
            boxes="reported by users",
        ),
        grid=NINES,
    )
)
