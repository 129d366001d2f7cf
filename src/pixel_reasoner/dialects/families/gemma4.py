"""Dialect of Gemma 4: calls in its own notation, boxes as [y1, x1, y2, x2] from 0 to 1000.

The chat template writes the result of a call, and its pictures, into the same model turn, but only for calls in `tool_calls`.
It moves words next to a call behind the result, so words before a call belong to the thought.
"""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS_YX
from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, named_box, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.gemma import GEMMA, list_tools
from pixel_reasoner.dialects.thoughts import GEMMA_CHANNEL

GEMMA4 = register(
    family_dialect(
        name="gemma4",
        models="Gemma 4, dense and mixtures of experts",
        match=ModelMatch(
            model_types=("gemma4", "gemma4_unified"),
            family=r"(?<!diffusion-)(?<!diffusion_)gemma-?_?4",
        ),
        budgets=token_budgets(48, 280),
        facts=FamilyFacts(
            checkpoints="gemma-4-E4B-it, gemma-4-31B-it",
            visual_tokens="70 to 1120, by default 280, one per 48 x 48 pixels; a crop gets as many as a picture",
            calls="chat template, five revisions",
            boxes="seen in public code for fine-tuning only",
            vllm_parsers=("gemma4", "gemma4"),
        ),
        grid=THOUSANDTHS_YX,
        argument_names=named_box("box_2d"),
        syntax=GEMMA,
        list_tools=list_tools,
        thought_tags=GEMMA_CHANNEL,
        thought_template="<|channel>thought\n{words}\n<channel|>",
        separators=("", ""),
        carriage=Carriage(
            result_role="tool",
            pictures_in_tool=True,
            reasoning_field="reasoning_content",
            native_calls=True,
            words_in_reasoning=True,
            joins_texts=True,
        ),
    )
)
