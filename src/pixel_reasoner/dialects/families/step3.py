"""Dialect of Step3: `invoke` elements between marks, boxes in fractions."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.invoke import STEP, list_step_tools

STEP3 = register(
    family_dialect(
        name="step3",
        models="Step3",
        match=ModelMatch(model_types=("step3_vl", "step3"), family=r"step-?_?3(?![._p\d])"),
        budgets=tile_budgets(504, 8),
        facts=FamilyFacts(
            checkpoints="step3",
            visual_tokens="169 for an overview of 728 x 728 pixels, and tiles of 504 x 504",
            sees_tiles=True,
            calls="parsers of servers",
            boxes="not published: fractions",
            vllm_parsers=("step3", "step3"),
        ),
        syntax=STEP,
        list_tools=list_step_tools,
        separators=("", " "),
    )
)
