"""Dialect of MiniMax-M3: `invoke` elements whose tags follow a mark, boxes in fractions."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.invoke import MINIMAX, list_minimax_tools

MINIMAX_M3 = register(
    family_dialect(
        name="minimax_m3",
        models="MiniMax-M3",
        match=ModelMatch(model_types=("minimax_m3_vl",), family=r"minimax-?_?m3"),
        budgets=token_budgets(28, 576),
        facts=FamilyFacts(
            checkpoints="MiniMax-M3",
            visual_tokens="at most 451,584 pixels, one per 28 x 28 pixels",
            calls="parsers of servers",
            boxes="not published: fractions",
            vllm_parsers=("minimax_m3", "minimax_m3"),
        ),
        syntax=MINIMAX,
        list_tools=list_minimax_tools,
    )
)
