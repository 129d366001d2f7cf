"""Qwen2.5-VL, as it is published: boxes in pixels of the picture as it sees it.

The model was taught to point in pixels of its own, resized copy, and to call functions, though no particular tool for looking
closer: it is offered Qwen-Agent's, which says so. Its chat template knows no tools, so the listing stands in the system message,
and replies are messages of the user in the form that Qwen-Agent gives them.
"""

from __future__ import annotations

from copy import deepcopy

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.boxes import PIXELS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.hermes import offered
from pixel_reasoner.dialects.picture_names import FROM_0
from pixel_reasoner.dialects.qwen3_vl import (
    ARGUMENTS,
    RESPONSE,
    SELECT,
    WISH,
    WISH_WITHOUT,
    ZOOM,
    frame_label,
    response,
)
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets

_UNIT = 28 * 28
"""pixels of one visual token of Qwen2.5-VL"""

_ASSISTANT = "You are a helpful assistant."

_ZOOM = deepcopy(ZOOM)
_ZOOM["function"]["parameters"]["properties"]["bbox_2d"]["description"] += (
    ", in pixels of that image"
)

QWEN2_5_VL = Dialect(
    name="qwen2_5_vl",
    models="Qwen2.5-VL",
    speakers=ModelMatch(model_types=("qwen2_5_vl",), family=r"qwen-?_?2[._-]?5-?_?vl"),
    budgets=PixelBudgets(
        picture=PixelBudget(min_px=256 * _UNIT, max_px=8000 * _UNIT),
        crop=PixelBudget(min_px=256 * _UNIT, max_px=5120 * _UNIT),
        frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
        selected_frame=PixelBudget(min_px=256 * _UNIT, max_px=1024 * _UNIT),
        multiple=28,
    ),
    system_with=offered([_ZOOM], _ASSISTANT),
    system_video=offered([_ZOOM, SELECT], _ASSISTANT),
    system_without=_ASSISTANT,
    suffix_with=WISH,
    suffix_without=WISH_WITHOUT,
    label=frame_label,
    reply=response,
    after=RESPONSE[1],
    complaint=f"{RESPONSE[0]}Error: {{why}}{RESPONSE[1]}",
    tools=[_ZOOM, SELECT],
    system_native=_ASSISTANT,
    thinks=True,
    grid=PIXELS,
    numbering=FROM_0,
    names={"image_zoom_in_tool": "zoom_in"},
    arguments=ARGUMENTS,
)
