"""Dialect of Granite 4 Vision: JSON calls in tags, boxes in fractions."""

from __future__ import annotations

from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import RESPONSE_TAGS, family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

GRANITE_VISION = register(
    family_dialect(
        name="granite_vision",
        models="Granite 4 Vision",
        match=ModelMatch(
            model_types=("granite4_vision",),
            family=r"granite-?_?(4[.\d]*-?_?vision|vision-?_?4)",
        ),
        budgets=tile_budgets(384, 10),
        facts=FamilyFacts(
            checkpoints="granite-4.0-vision",
            visual_tokens="tiles of 384 x 384 pixels",
            sees_tiles=True,
            calls="parsers of servers",
            boxes="not published: fractions",
            vllm_parsers=("granite4", ""),
        ),
        response=RESPONSE_TAGS,
    )
)
