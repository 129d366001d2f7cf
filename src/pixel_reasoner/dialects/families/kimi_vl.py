"""Dialect of Kimi-VL: JSON calls in the text, boxes in fractions, thoughts between marks of its own."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import FINE_FRACTIONS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.thoughts import KIMI_VL_TAGS

KIMI_VL = register(
    family_dialect(
        name="kimi_vl",
        models="Kimi-VL, Instruct and Thinking",
        match=ModelMatch(model_types=("kimi_vl",), family=r"kimi-?_?vl"),
        budgets=token_budgets(28, 4096),
        facts=FamilyFacts(
            checkpoints="Kimi-VL-A3B-Thinking",
            visual_tokens="one per 28 x 28 pixels, at most 4096",
            calls="not trained: JSON in the text",
            boxes="reported by users",
        ),
        grid=FINE_FRACTIONS,
        thought_tags=KIMI_VL_TAGS,
    )
)
