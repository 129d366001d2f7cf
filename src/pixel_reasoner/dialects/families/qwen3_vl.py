r"""Qwen3-VL: boxes from 0 to 1000, and the zoom tool of its training.

The system message, calls and results are, to the letter, what Qwen3-VL's chat template makes of `tools`, `tool_calls` and
messages of the role `tool`. See `_qwen` for the tools.
"""

from __future__ import annotations

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families._qwen import (
    ARGUMENT_NAMES,
    REQUEST,
    REQUEST_WITHOUT_OPERATIONS,
    RESPONSE,
    SELECT,
    ZOOM,
    frame_label,
    response_labels,
    texts_for,
)
from pixel_reasoner.dialects.picture_names import FROM_0
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.syntax.hermes import list_tools
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets

_UNIT = 32 * 32
"""pixels of one visual token of Qwen3-VL"""

QWEN3_VL = register(
    Dialect(
        name="qwen3_vl",
        models="Qwen3-VL, dense and mixtures of experts",
        match=ModelMatch(model_types=("qwen3_vl", "qwen3_vl_moe"), family=r"qwen-?_?3-?_?vl"),
        budgets=PixelBudgets(
            picture=PixelBudget(min_px=256 * _UNIT, max_px=8192 * _UNIT),
            crop=PixelBudget(min_px=256 * _UNIT, max_px=4096 * _UNIT),
            frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
            selected_frame=PixelBudget(min_px=256 * _UNIT, max_px=1024 * _UNIT),
            multiple=32,
        ),
        system_with_operations=list_tools([ZOOM]),
        system_with_video=list_tools([ZOOM, SELECT]),
        system_without_operations="",
        suffix_with_operations=REQUEST,
        suffix_without_operations=REQUEST_WITHOUT_OPERATIONS,
        texts_for=texts_for(""),
        picture_label=frame_label,
        result_labels=response_labels,
        result_end=RESPONSE[1],
        text_result_template=f"{RESPONSE[0]}{{text}}{RESPONSE[1]}",
        error_template=f"{RESPONSE[0]}Error: {{why}}{RESPONSE[1]}",
        tools=[ZOOM, SELECT],
        separates_thoughts=True,
        grid=THOUSANDTHS,
        picture_names=FROM_0,
        operation_names={"image_zoom_in_tool": "zoom_in"},
        argument_names=ARGUMENT_NAMES,
    )
)
