"""Dialect of MiniCPM-V 4.6 and 4.7: the XML calls and thoughts of Qwen3.5, boxes from 0 to 1000."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import RESPONSE_TAGS, family_dialect, tile_budgets
from pixel_reasoner.dialects.families._qwen import PREFILLED_THOUGHT
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.function_xml import FUNCTION_XML, list_tools

MINICPM_V = register(
    family_dialect(
        name="minicpm_v",
        models="MiniCPM-V 4.6 and 4.7",
        match=ModelMatch(
            model_types=("minicpmv4_6", "minicpmv4_7"), family=r"minicpm-?_?v-?_?4[._][67]"
        ),
        budgets=tile_budgets(448, 9),
        facts=FamilyFacts(
            checkpoints="MiniCPM-V-4.6",
            visual_tokens="slices of 448 x 448 pixels, at most 9",
            sees_tiles=True,
            calls="parsers of servers",
            boxes="as MiniCPM-V 4.5",
            vllm_parsers=("qwen3_coder", "minicpmv"),
        ),
        grid=THOUSANDTHS,
        syntax=FUNCTION_XML,
        list_tools=list_tools,
        response=RESPONSE_TAGS,
        **PREFILLED_THOUGHT,
    )
)
