"""Dialect of Intern-S1: calls of the InternLM plug-in, boxes from 0 to 1000."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.intern import INTERN, list_tools

INTERN_S1 = register(
    family_dialect(
        name="intern_s1",
        models="Intern-S1",
        match=ModelMatch(model_types=("interns1",), family=r"intern-?_?s1"),
        budgets=tile_budgets(448, 12),
        facts=FamilyFacts(
            checkpoints="Intern-S1-mini",
            visual_tokens="as InternVL",
            sees_tiles=True,
            calls="parsers of servers",
            boxes="as InternVL",
            vllm_parsers=("internlm", ""),
        ),
        grid=THOUSANDTHS,
        syntax=INTERN,
        list_tools=list_tools,
    )
)
