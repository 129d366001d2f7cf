r"""Qwen3-VL: boxes from 0 to 1000, and the tool that it was taught to look closer with.

Name, arguments and description of the tool are those of Qwen-Agent (`image_zoom_in_qwen3vl.py`) and of Qwen3-VL's cookbook
on thinking with images, whose conversations write `label`, `bbox_2d`, `img_idx` in this order. The system message, calls and
replies are, to the letter, what Qwen3-VL's chat template makes of `tools`, `tool_calls` and messages of the role `tool`.

Ours, because the family has none: the tool for frames, and the wish for an answer in `\boxed{}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.boxes import THOUSANDTHS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.hermes import offered
from pixel_reasoner.dialects.picture_names import FROM_0
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

_UNIT = 32 * 32
"""pixels of one visual token of Qwen3-VL"""

ZOOM: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "image_zoom_in_tool",
        "description": "Zoom in on a specific region of an image by cropping it based on a bounding box (bbox) "
        "and an optional object label",
        "parameters": {
            "type": "object",
            "properties": {
                "bbox_2d": {
                    "type": "array",
                    "items": {"type": "number"},
                    "minItems": 4,
                    "maxItems": 4,
                    "description": "The bounding box of the region to zoom in, as [x1, y1, x2, y2], where "
                    "(x1, y1) is the top-left corner and (x2, y2) is the bottom-right corner",
                },
                "label": {
                    "type": "string",
                    "description": "The name or label of the object in the specified bounding box",
                },
                "img_idx": {
                    "type": "number",
                    "description": "The index of the zoomed-in image (starting from 0)",
                },
            },
            "required": ["bbox_2d", "label", "img_idx"],
        },
    },
}

SELECT: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "select_frames",
        "description": "Look at up to 8 frames of the video in more detail",
        "parameters": {
            "type": "object",
            "properties": {
                "target_frames": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "The numbers of the frames (starting from 1), each at most once",
                },
            },
            "required": ["target_frames"],
        },
    },
}

ARGUMENTS = {"zoom_in": {"label": "", "bbox_2d": "bbox_2d", "img_idx": "target_image"}}

WISH = (
    "\n\nLook closer with the tools where details are too small to see, one call at a time. "
    "Reason step by step, and put your final answer within \\boxed{}."
)
WISH_WITHOUT = "\n\nReason step by step, and put your final answer within \\boxed{}."

RESPONSE = "<tool_response>\n", "\n</tool_response>"


def frame_label(picture: Picture) -> str:
    """Frames are numbered where they are shown, since they are selected by number."""
    return "" if picture.frame is None else f"Frame {picture.frame}:"


def response(pictures: Sequence[Picture], shown: int) -> list[str]:
    """What the chat template puts around what a tool returns."""
    del shown
    first, *others = (frame_label(picture) for picture in pictures)
    return [RESPONSE[0] + first, *others]


QWEN3_VL = Dialect(
    name="qwen3_vl",
    models="Qwen3-VL, dense and mixtures of experts",
    speakers=ModelMatch(model_types=("qwen3_vl", "qwen3_vl_moe"), family=r"qwen-?_?3-?_?vl"),
    budgets=PixelBudgets(
        picture=PixelBudget(min_px=256 * _UNIT, max_px=8192 * _UNIT),
        crop=PixelBudget(min_px=256 * _UNIT, max_px=4096 * _UNIT),
        frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
        selected_frame=PixelBudget(min_px=256 * _UNIT, max_px=1024 * _UNIT),
        multiple=32,
    ),
    system_with=offered([ZOOM]),
    system_video=offered([ZOOM, SELECT]),
    system_without="",
    suffix_with=WISH,
    suffix_without=WISH_WITHOUT,
    label=frame_label,
    reply=response,
    after=RESPONSE[1],
    complaint=f"{RESPONSE[0]}Error: {{why}}{RESPONSE[1]}",
    tools=[ZOOM, SELECT],
    thinks=True,
    grid=THOUSANDTHS,
    numbering=FROM_0,
    names={"image_zoom_in_tool": "zoom_in"},
    arguments=ARGUMENTS,
)
