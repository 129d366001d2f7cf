"""Dialect of Llama 4: a list of calls in Python at the end of the turn, without marks; boxes in fractions."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.python_list import PYTHON_LINES, list_tools

LLAMA4 = register(
    family_dialect(
        name="llama4",
        models="Llama 4",
        match=ModelMatch(model_types=("llama4",), family=r"llama-?_?4"),
        budgets=tile_budgets(336, 16),
        facts=FamilyFacts(
            checkpoints="Llama-4-Scout-17B-16E-Instruct",
            visual_tokens="tiles of 336 x 336 pixels, at most 16",
            sees_tiles=True,
            calls="parsers of servers",
            boxes="not published: fractions",
            vllm_parsers=("llama4_pythonic", ""),
        ),
        syntax=PYTHON_LINES,
        list_tools=list_tools,
    )
)
