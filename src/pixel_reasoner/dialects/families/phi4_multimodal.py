"""Dialect of Phi-4 multimodal: `functools` and a list of calls, boxes in fractions."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.functools_json import FUNCTOOLS, list_tools

PHI4_MULTIMODAL = register(
    family_dialect(
        name="phi4_multimodal",
        models="Phi-4 multimodal",
        match=ModelMatch(
            model_types=("phi4_multimodal", "phi4mm"), family=r"phi-?_?4-?_?(multimodal|mm)"
        ),
        budgets=tile_budgets(448, 12),
        facts=FamilyFacts(
            checkpoints="Phi-4-multimodal-instruct",
            visual_tokens="tiles of 448 x 448 pixels, at most 36",
            sees_tiles=True,
            calls="parsers of servers",
            boxes="not published: fractions",
            vllm_parsers=("phi4_mini_json", ""),
        ),
        syntax=FUNCTOOLS,
        list_tools=list_tools,
    )
)
