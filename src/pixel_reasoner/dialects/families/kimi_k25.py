"""Dialect of Kimi K2.5 and K2.6: sections of calls, boxes in fractions, an open thought in the prompt.

Results are user messages, because servers refuse pictures in the role `tool`. The chat template may then drop earlier thoughts.
"""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import FINE_FRACTIONS
from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.kimi import KIMI, list_tools

KIMI_K25 = register(
    family_dialect(
        name="kimi_k25",
        models="Kimi K2.5 and K2.6",
        match=ModelMatch(model_types=("kimi_k25",), family=r"kimi-?_?k[23]"),
        budgets=token_budgets(28, 4096),
        facts=FamilyFacts(
            checkpoints="Kimi-K2.5",
            visual_tokens="one per 28 x 28 pixels, at most 4096",
            calls="parsers of servers",
            boxes="code of agents, reported by users",
            vllm_parsers=("kimi_k2", "kimi_k2"),
        ),
        grid=FINE_FRACTIONS,
        syntax=KIMI,
        list_tools=list_tools,
        opens_thought=True,
        thought_template="{words}</think>",
        separators=("", ""),
        carriage=Carriage(keeps_thoughts=False),
    )
)
