"""Dialect of Gemma 3 and Gemma 3n: JSON calls, offered in the first user message, boxes in fractions.

The chat template has neither tools nor a system role, accepts only alternating turns, and trims every text.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register

GEMMA3 = register(
    family_dialect(
        name="gemma3",
        models="Gemma 3 and Gemma 3n",
        match=ModelMatch(model_types=("gemma3", "gemma3n"), family=r"gemma-?_?3"),
        budgets=token_budgets(56, 256),
        facts=FamilyFacts(
            checkpoints="gemma-3-4b-it, gemma-3n-E4B-it",
            visual_tokens="always 256 for 896 x 896 pixels (3n: 768 x 768)",
            calls="not trained: JSON in the text",
            boxes="not published: fractions",
            vllm_parsers=("pythonic", ""),
        ),
        carriage=Carriage(system_role=False, joins_texts=True),
    )
)
