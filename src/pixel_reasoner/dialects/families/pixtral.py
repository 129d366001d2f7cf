"""Dialect of Pixtral: a list of calls after `[TOOL_CALLS]`, boxes in fractions.

The chat template writes the system text before the last question, so it would move with every turn. Here it starts the first
user message.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.mistral import MISTRAL_LIST, list_tools

PIXTRAL = register(
    family_dialect(
        name="pixtral",
        models="Pixtral",
        match=ModelMatch(
            model_types=("llava", "pixtral"), checkpoints=r"pixtral", template="[IMG]"
        ),
        budgets=token_budgets(16, 4096),
        facts=FamilyFacts(
            checkpoints="pixtral-12b",
            visual_tokens="one per 16 x 16 pixels and one per row, at most 1024 pixels a side",
            calls="mistral-common, tokenizers before 11",
            boxes="not published: fractions",
            vllm_parsers=("mistral", ""),
        ),
        syntax=MISTRAL_LIST,
        list_tools=list_tools,
        separators=("", " "),
        carriage=Carriage(system_role=False),
    )
)
