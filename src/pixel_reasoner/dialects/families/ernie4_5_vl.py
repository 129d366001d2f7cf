"""Dialect of ERNIE-4.5-VL: JSON calls in tags, boxes in fractions. The chat template numbers the pictures."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import RESPONSE_TAGS, family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register

ERNIE4_5_VL = register(
    family_dialect(
        name="ernie4_5_vl",
        models="ERNIE-4.5-VL and its Thinking version",
        match=ModelMatch(
            model_types=("ernie4_5_vl_moe", "ernie4_5_moe_vl"), family=r"ernie-?_?4[._]5-?_?vl"
        ),
        budgets=token_budgets(28, 6177),
        facts=FamilyFacts(
            checkpoints="ERNIE-4.5-VL-28B-A3B-Thinking",
            visual_tokens="one per 28 x 28 pixels, at most 6177",
            calls="parsers of servers",
            boxes="not published: fractions",
            vllm_parsers=("ernie45", "ernie45"),
        ),
        response=RESPONSE_TAGS,
    )
)
