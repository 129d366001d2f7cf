"""Dialect of Muse: `invoke` elements, one channel per receiver, boxes in fractions.

The prompt ends before the name of the receiver. A thought goes to `self`, an answer to `user`, a call to the name of its
operation. The chat template lists the receivers of its own tools only, so calls of our operations are not listed there.
"""

from __future__ import annotations

from pixel_reasoner.dialects.carriage import Carriage
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._common import family_dialect, token_budgets
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.invoke import MUSE as MUSE_CALLS, list_muse_tools
from pixel_reasoner.dialects.thoughts import MUSE_CHANNEL

MUSE = register(
    family_dialect(
        name="muse",
        models="Muse Glimmer; Muse Spark, unverified",
        match=ModelMatch(
            model_types=("muse_glimmer", "muse_spark"), family=r"muse-?_?(glimmer|spark)"
        ),
        budgets=token_budgets(28, 4096),
        facts=FamilyFacts(
            checkpoints="Muse-Glimmer",
            visual_tokens="at most 4096",
            calls="chat template",
            boxes="not published: fractions",
            vllm_parsers=("muse_glimmer", "muse_glimmer"),
        ),
        syntax=MUSE_CALLS,
        list_tools=list_muse_tools,
        thought_tags=MUSE_CHANNEL,
        thought_template=" to=self<|message|>{words}<|eom|>",
        separators=(
            "<|start|>assistant to={name}<|message|>",
            "<|start|>assistant to=user<|message|>",
        ),
        header=r"\s*(?:<\|start\|>assistant)?\s*\bto=[\w.*-]+<\|message\|>",
        carriage=Carriage(
            result_role="tool",
            pictures_in_tool=True,
            reasoning_field="reasoning_content",
            native_calls=True,
            words_in_reasoning=True,
        ),
    )
)
