"""Dialect of Mistral Small 3.x, Ministral 3 and later: `[TOOL_CALLS]name[ARGS]{...}`, boxes in fractions.

Results are user messages, because results of the family are texts.
"""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.mistral import MISTRAL, list_tools
from pixel_reasoner.dialects.thoughts import MISTRAL_TAGS

MISTRAL3 = register(
    family_dialect(
        name="mistral3",
        models="Mistral Small 3.1 and later, Ministral 3, Mistral Large 4",
        match=ModelMatch(
            model_types=("mistral3", "mistral4", "mistral_large4"),
            family=r"(mistral-?_?(small|medium|large)-?_?[34]|ministral-?_?3|magistral)",
        ),
        budgets=token_budgets(28, 3025),
        facts=FamilyFacts(
            checkpoints="Mistral-Small-3.2-24B-Instruct, Ministral-3-8B",
            visual_tokens="one per 28 x 28 pixels and one per row, at most 1540 pixels a side",
            calls="mistral-common, tokenizer 11 and later",
            boxes="not published: fractions",
            vllm_parsers=("mistral", "mistral"),
        ),
        syntax=MISTRAL,
        list_tools=list_tools,
        thought_tags=MISTRAL_TAGS,
        separators=("", " "),
    )
)
