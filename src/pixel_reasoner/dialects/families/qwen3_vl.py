r"""Dialect of Qwen3-VL: boxes from 0 to 1000, and the zoom tool of its training.

The system message, calls and results are identical to the output of the Qwen3-VL chat template for `tools`, `tool_calls`
and messages with the role `tool`. See `_qwen` for the tools.
"""

from __future__ import annotations

from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families._qwen import qwen_budgets, qwen_dialect
from pixel_reasoner.dialects.registry import register

QWEN3_VL = register(
    qwen_dialect(
        name="qwen3_vl",
        models="Qwen3-VL, dense and mixtures of experts",
        match=ModelMatch(model_types=("qwen3_vl", "qwen3_vl_moe"), family=r"qwen-?_?3-?_?vl"),
        budgets=qwen_budgets(32, max_picture=8192, max_crop=4096),
        grid=THOUSANDTHS,
    )
)
