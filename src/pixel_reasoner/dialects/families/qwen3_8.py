r"""Dialect of Qwen3.8: as Qwen3.5, but thoughts need a key of their own.

The chat template no longer separates a thought from the text of a turn. A raw turn would get a second, empty thought. Earlier
thoughts are kept. Qwen4-Exp is treated alike until its template is known.
"""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._qwen import PREFILLED_THOUGHT, qwen_budgets, qwen_dialect
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.function_xml import FUNCTION_XML, list_tools

QWEN3_8 = register(
    qwen_dialect(
        name="qwen3_8",
        models="Qwen3.8; Qwen4-Exp, unverified",
        match=ModelMatch(
            model_types=("qwen3_5", "qwen3_5_moe", "qwen4_exp"),
            family=r"qwen-?_?4-?_?exp",
            checkpoints=r"qwen-?_?3[._]?8(?![0-9b])",
            template="reasoning_effort|default('xhigh')",
            own_types=("qwen4_exp",),
        ),
        budgets=qwen_budgets(32, max_picture=8192, max_crop=4096),
        facts=FamilyFacts(
            checkpoints="Qwen3.8-Flash",
            visual_tokens="one per 32 x 32 pixels",
            calls="chat template",
            boxes="reported by the makers",
            vllm_parsers=("qwen3_coder", "qwen3"),
        ),
        grid=THOUSANDTHS,
        syntax=FUNCTION_XML,
        list_tools=list_tools,
        carriage=Carriage(reasoning_field="reasoning_content", pictures_in_tool=True),
        **PREFILLED_THOUGHT,
    )
)
