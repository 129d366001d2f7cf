"""Dialect of Molmo 2: JSON calls in the text, boxes in fractions.

The family was trained to point, not to draw boxes; its points are thousandths. A call takes a box nevertheless, so the size of
the region is explicit. The chat template has no system role and moves pictures before the text.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

MOLMO2 = register(
    family_dialect(
        name="molmo2",
        models="Molmo 2",
        match=ModelMatch(model_types=("molmo2",), family=r"molmo-?_?2"),
        budgets=tile_budgets(378, 8),
        facts=FamilyFacts(
            checkpoints="Molmo2-8B",
            visual_tokens="crops of 378 x 378 pixels, at most 8",
            sees_tiles=True,
            calls="not trained: JSON in the text",
            boxes="trained on points only: fractions",
        ),
        carriage=Carriage(system_role=False),
    )
)
