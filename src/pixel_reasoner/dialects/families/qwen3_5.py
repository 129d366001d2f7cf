r"""Dialect of Qwen3.5 and Qwen3.6: XML calls, boxes from 0 to 1000, an open thought in the prompt.

The chat template deletes earlier thoughts at the last user message that is no result. Results are therefore between
`<tool_response>` tags, which it treats as results. See `_qwen` for the tools.
"""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._qwen import PREFILLED_THOUGHT, qwen_budgets, qwen_dialect
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.function_xml import FUNCTION_XML, list_tools

QWEN3_5 = register(
    qwen_dialect(
        name="qwen3_5",
        models="Qwen3.5 and Qwen3.6, dense and mixtures of experts",
        match=ModelMatch(
            model_types=("qwen3_5", "qwen3_5_moe"), family=r"qwen-?_?3[._]?[56](?![0-9b])"
        ),
        budgets=qwen_budgets(32, max_picture=8192, max_crop=4096),
        facts=FamilyFacts(
            checkpoints="Qwen3.5-9B, Qwen3.6-27B",
            visual_tokens="one per 32 x 32 pixels",
            calls="chat template",
            boxes="reported by the makers",
            vllm_parsers=("qwen3_coder", "qwen3"),
        ),
        grid=THOUSANDTHS,
        syntax=FUNCTION_XML,
        list_tools=list_tools,
        carriage=Carriage(pictures_in_tool=True),
        **PREFILLED_THOUGHT,
    )
)
