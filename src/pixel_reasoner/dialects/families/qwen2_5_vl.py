"""Dialect of Qwen2.5-VL: boxes in pixels of the resized picture.

The model was trained to return boxes in pixels of the resized picture and to call functions, but not to use a specific
zoom tool. The dialect uses the zoom tool of Qwen-Agent with a description of these pixels. The chat template does not
support tools, so the system message lists them, and results are user messages in the format of Qwen-Agent.
"""

from __future__ import annotations

from copy import deepcopy

from pixel_reasoner.dialects.boxes import PIXELS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families._qwen import ZOOM, qwen_budgets, qwen_dialect
from pixel_reasoner.dialects.registry import register

_ZOOM = deepcopy(ZOOM)
_ZOOM["function"]["parameters"]["properties"]["bbox_2d"]["description"] += (
    ", in pixels of that image"
)

QWEN2_5_VL = register(
    qwen_dialect(
        name="qwen2_5_vl",
        models="Qwen2.5-VL",
        match=ModelMatch(model_types=("qwen2_5_vl",), family=r"qwen-?_?2[._-]?5-?_?vl"),
        budgets=qwen_budgets(28, max_picture=8000, max_crop=5120),
        system="You are a helpful assistant.",
        zoom=_ZOOM,
        grid=PIXELS,
    )
)
