"""Qwen2.5-VL, as published: boxes in pixels of the copy that the model receives.

The model was trained to point in pixels of its own, resized copy, and to call functions, but not to use a particular zoom
tool. It is offered Qwen-Agent's, whose description names the pixels. Its chat template has no tools, so the list is in the
system message, and results are messages of the user in Qwen-Agent's form.
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
