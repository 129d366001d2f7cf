"""Dialect of GLM-4.1V, 4.5V and 4.6V: key and value tags, boxes from 0 to 1000.

The chat template empties earlier thoughts at every user message, and the role `tool` cannot carry pictures. So results are user
messages, and thoughts of earlier turns are lost.
"""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import (
    RESPONSE_TAGS,
    family_dialect,
    token_budgets,
)
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.glm import GLM, list_tools

GLM4V = register(
    family_dialect(
        name="glm4v",
        models="GLM-4.1V, 4.5V and 4.6V",
        match=ModelMatch(
            model_types=("glm4v", "glm4v_moe", "glm46v"), family=r"glm-?_?4[._]?[156]v"
        ),
        budgets=token_budgets(28, 6000),
        facts=FamilyFacts(
            checkpoints="GLM-4.6V-Flash",
            visual_tokens="one per 28 x 28 pixels",
            calls="parsers of servers, and the template of the text models",
            boxes="published by the makers",
            vllm_parsers=("glm45", "glm45"),
        ),
        grid=THOUSANDTHS,
        syntax=GLM,
        list_tools=list_tools,
        response=RESPONSE_TAGS,
        thought_template="\n<think>{words}</think>\n",
        separators=("", ""),
        carriage=Carriage(keeps_thoughts=False),
    )
)
