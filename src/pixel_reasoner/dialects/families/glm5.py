"""Dialect of GLM-5.3: key and value tags without line breaks, results with pictures in the role `tool`, an open thought."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.glm import GLM_COMPACT, list_tools

GLM5 = register(
    family_dialect(
        name="glm5",
        models="GLM-5.3",
        match=ModelMatch(model_types=("glm5_next",), family=r"glm-?_?5"),
        budgets=token_budgets(28, 8000),
        facts=FamilyFacts(
            checkpoints="GLM-5.3-Flash",
            visual_tokens="16 to 8000",
            calls="parsers of servers",
            boxes="as GLM-4.6V",
            vllm_parsers=("glm47", "glm47"),
        ),
        grid=THOUSANDTHS,
        syntax=GLM_COMPACT,
        list_tools=list_tools,
        opens_thought=True,
        thought_template="{words}</think>",
        separators=("", ""),
        carriage=Carriage(result_role="tool", pictures_in_tool=True),
    )
)
