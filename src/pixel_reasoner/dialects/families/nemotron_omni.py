"""Dialect of Nemotron Omni: XML calls, an open thought in the prompt, boxes in fractions.

The chat template drops the thoughts of turns before the last user message, and results are user messages.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import RESPONSE_TAGS, family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.function_xml import FUNCTION_XML, list_tools

NEMOTRON_OMNI = register(
    family_dialect(
        name="nemotron_omni",
        models="Nemotron 3 Omni",
        match=ModelMatch(model_types=("nemotron_h_omni",), family=r"nemotron.*omni"),
        budgets=tile_budgets(512, 12, multiple=32),
        facts=FamilyFacts(
            checkpoints="Nemotron-3-Nano-Omni",
            visual_tokens="not published in detail",
            calls="chat templates of the text models",
            boxes="not published: fractions",
            vllm_parsers=("qwen3_coder", ""),
        ),
        syntax=FUNCTION_XML,
        list_tools=list_tools,
        response=RESPONSE_TAGS,
        opens_thought=True,
        thought_template="{words}\n</think>\n",
        separators=("", ""),
        carriage=Carriage(keeps_thoughts=False),
    )
)
