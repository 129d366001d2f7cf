"""Dialect of SmolVLM2 and Idefics3: JSON calls in the text, boxes in fractions. The chat template needs content as parts."""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

SMOLVLM = register(
    family_dialect(
        name="smolvlm",
        models="SmolVLM2 and Idefics3",
        match=ModelMatch(model_types=("smolvlm", "idefics3"), family=r"smolvlm|idefics-?_?3"),
        budgets=tile_budgets(364, 16),
        facts=FamilyFacts(
            checkpoints="SmolVLM2-2.2B-Instruct, Idefics3-8B-Llama3",
            visual_tokens="64 to 169 per tile of 364 x 364 pixels, and an overview",
            sees_tiles=True,
            calls="not trained: JSON in the text",
            boxes="not published: fractions",
        ),
        thought_template=" {words}",
        carriage=Carriage(writes_blank=True),
    )
)
