"""Dialect of LFM2-VL, LFM2.5-VL and LFM3-VL: a list of calls in Python between marks, boxes in fractions.

The chat template deletes earlier thoughts at every user message, so results are in the role `tool`, which carries pictures.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.python_list import LFM, list_lfm_tools

LFM2_VL = register(
    family_dialect(
        name="lfm2_vl",
        models="LFM2-VL, LFM2.5-VL and LFM3-VL",
        match=ModelMatch(model_types=("lfm2_vl", "lfm3_vl"), family=r"lfm-?_?[23](\.5)?-?_?vl"),
        budgets=token_budgets(32, 1024),
        facts=FamilyFacts(
            checkpoints="LFM2.5-VL-1.6B",
            visual_tokens="one per 32 x 32 pixels, 64 to 256 per tile",
            sees_tiles=True,
            calls="chat template",
            boxes="promised by the model card, unit not published: fractions",
            vllm_parsers=("lfm2", ""),
        ),
        syntax=LFM,
        list_tools=list_lfm_tools,
        separators=("", " "),
        carriage=Carriage(result_role="tool", pictures_in_tool=True),
    )
)
