"""Dialect of InternVL 3 and 3.5: JSON calls in tags, boxes from 0 to 1000."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

INTERNVL = register(
    family_dialect(
        name="internvl",
        models="InternVL 3 and 3.5",
        match=ModelMatch(model_types=("internvl", "internvl_chat"), family=r"internvl"),
        budgets=tile_budgets(448, 12),
        facts=FamilyFacts(
            checkpoints="InternVL3_5-8B-HF",
            visual_tokens="256 per tile of 448 x 448 pixels, at most 12 tiles and an overview",
            sees_tiles=True,
            calls="that of Qwen3, its language model",
            boxes="reported by users; 3.5 also wrote fractions",
        ),
        grid=THOUSANDTHS,
    )
)
