"""Qwen2.5-VL, as published: boxes in pixels of the copy that the model receives.

The model was trained to point in pixels of its own, resized copy, and to call functions, but not to use a particular zoom
tool. It is offered Qwen-Agent's, whose description names the pixels. Its chat template has no tools, so the list is in the
system message, and results are messages of the user in Qwen-Agent's form.
"""

from __future__ import annotations

from copy import deepcopy

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.boxes import PIXELS
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

_UNIT = 28 * 28
"""pixels of one visual token of Qwen2.5-VL"""

_ASSISTANT = "You are a helpful assistant."

_ZOOM = deepcopy(ZOOM)
_ZOOM["function"]["parameters"]["properties"]["bbox_2d"]["description"] += (
    ", in pixels of that image"
)

QWEN2_5_VL = register(
    Dialect(
        name="qwen2_5_vl",
        models="Qwen2.5-VL",
        match=ModelMatch(model_types=("qwen2_5_vl",), family=r"qwen-?_?2[._-]?5-?_?vl"),
        budgets=PixelBudgets(
            picture=PixelBudget(min_px=256 * _UNIT, max_px=8000 * _UNIT),
            crop=PixelBudget(min_px=256 * _UNIT, max_px=5120 * _UNIT),
            frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
            selected_frame=PixelBudget(min_px=256 * _UNIT, max_px=1024 * _UNIT),
            multiple=28,
        ),
        system_with_operations=list_tools([_ZOOM], _ASSISTANT),
        system_with_video=list_tools([_ZOOM, SELECT], _ASSISTANT),
        system_without_operations=_ASSISTANT,
        suffix_with_operations=REQUEST,
        suffix_without_operations=REQUEST_WITHOUT_OPERATIONS,
        texts_for=texts_for(_ASSISTANT),
        picture_label=frame_label,
        result_labels=response_labels,
        result_end=RESPONSE[1],
        text_result_template=f"{RESPONSE[0]}{{text}}{RESPONSE[1]}",
        error_template=f"{RESPONSE[0]}Error: {{why}}{RESPONSE[1]}",
        tools=[_ZOOM, SELECT],
        native_system=_ASSISTANT,
        separates_thoughts=True,
        grid=PIXELS,
        picture_names=FROM_0,
        operation_names={"image_zoom_in_tool": "zoom_in"},
        argument_names=ARGUMENT_NAMES,
    )
)
