"""Dialect of Qwen2-VL: as Qwen2.5-VL, but boxes from 0 to 1000."""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.facts import FamilyFacts
from pixel_reasoner.dialects.families._qwen import qwen_budgets, qwen_dialect
from pixel_reasoner.dialects.registry import register

QWEN2_VL = register(
    qwen_dialect(
        name="qwen2_vl",
        models="Qwen2-VL",
        match=ModelMatch(model_types=("qwen2_vl",), family=r"qwen-?_?2-?_?vl"),
        budgets=qwen_budgets(28, max_picture=8000, max_crop=5120),
        facts=FamilyFacts(
            checkpoints="Qwen2-VL-7B-Instruct",
            visual_tokens="one per 28 x 28 pixels",
            calls="not trained: JSON in the text",
            boxes="reported by users",
        ),
        system="You are a helpful assistant.",
        grid=THOUSANDTHS,
    )
)
