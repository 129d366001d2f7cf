"""Dialect of Aya Vision, Command-A Vision and North-Micro Vision: JSON calls in the text, boxes in fractions."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

COHERE_VISION = register(
    family_dialect(
        name="cohere_vision",
        models="Aya Vision, Command-A Vision and North-Micro Vision",
        match=ModelMatch(
            model_types=("aya_vision", "cohere2_vision", "cohere_compass"),
            family=r"aya-?_?vision|command-?_?a-?_?vision|north-?_?micro",
        ),
        budgets=tile_budgets(364, 12),
        facts=FamilyFacts(
            checkpoints="aya-vision-8b, command-a-vision",
            visual_tokens="tiles of 364 x 364 pixels, at most 12, and an overview",
            sees_tiles=True,
            calls="not in the template: JSON in the text",
            boxes="not published: fractions",
        ),
    )
)
