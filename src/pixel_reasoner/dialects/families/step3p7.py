"""Dialect of Step-3.7: XML calls, an open thought in the prompt, boxes in fractions.

Results are user messages, because it is not published whether results can contain pictures. The chat template may then drop
earlier thoughts.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import RESPONSE_TAGS, family_dialect, tile_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.function_xml import FUNCTION_XML, list_tools

STEP3P7 = register(
    family_dialect(
        name="step3p7",
        models="Step-3.7",
        match=ModelMatch(model_types=("step3p7",), family=r"step-?_?3[._p]7"),
        budgets=tile_budgets(504, 8),
        facts=FamilyFacts(
            checkpoints="Step-3.7-Flash",
            visual_tokens="169 for an overview of 728 x 728 pixels, and tiles of 504 x 504",
            sees_tiles=True,
            calls="parsers of servers",
            boxes="not published: fractions",
            vllm_parsers=("step3p5", "step3p5"),
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
