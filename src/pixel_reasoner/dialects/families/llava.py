"""Dialect of LLaVA-OneVision and LLaVA-NeXT: JSON calls in the text, boxes in fractions.

The chat template moves all pictures of a message before its text. The number before every picture then follows them, in order.
Its prompt for a turn differs by a blank from the start of the same turn in later prompts.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register

LLAVA = register(
    family_dialect(
        name="llava",
        models="LLaVA-OneVision and LLaVA-NeXT",
        match=ModelMatch(
            model_types=(
                "llava_onevision",
                "llava_next",
                "llava_onevision1_5",
                "llava_onevision2",
            ),
            family=r"llava-?_?(onevision|ov|next|v?1\.6)",
        ),
        budgets=tile_budgets(384, 9),
        facts=FamilyFacts(
            checkpoints="llava-onevision-qwen2-7b-ov-hf",
            visual_tokens="tiles of 384 x 384 pixels, at most 9; a second picture leaves one tile to each",
            sees_tiles=True,
            calls="not trained: JSON in the text",
            boxes="not published: fractions",
        ),
        carriage=Carriage(keeps_tokens=False),
    )
)
