"""The dialect of the released DeepEyes checkpoints (arXiv 2505.14362), word for word.

System message, the words after the question, what stands around a crop, and the argument names are those of its code
(`visual_toolbox_v2`, `eval_vstar.py`); blanks at ends of lines and the `required` that names no argument are theirs. The tool names no
picture: it always cuts the first one, and boxes are pixels of it.

Departures from the released code, on purpose:
1. Several calls in one turn are refused. There, the last one counts.
2. A box of less than 28 pixels is not grown: crops come from the full-resolution picture and are scaled up.
3. For a video, and only for one, a tool for frames is listed too. There is none there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.dialects.boxes import PIXELS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.qwen3_vl import frame_label
from pixel_reasoner.dialects.syntax import TAGGED
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

_UNIT = 28 * 28
"""pixels of one visual token of Qwen2.5-VL, which DeepEyes was made from"""

_ZOOM = (
    '{"type":"function","function":{"name":"image_zoom_in_tool","description":"Zoom in on a specific region of '
    'an image by cropping it based on a bounding box (bbox) and an optional object label.","parameters":{"type":'
    '"object","properties":{"bbox_2d":{"type":"array","items":{"type":"number"},"minItems":4,"maxItems":4,'
    '"description":"The bounding box of the region to zoom in, as [x1, y1, x2, y2], where (x1, y1) is the '
    'top-left corner and (x2, y2) is the bottom-right corner."},"label":{"type":"string","description":"The name '
    'or label of the object in the specified bounding box (optional)."}},"required":["bbox"]}}}'
)
_SELECT = (
    '{"type":"function","function":{"name":"select_frames","description":"Look at up to 8 frames of the video in '
    'more detail.","parameters":{"type":"object","properties":{"target_frames":{"type":"array","items":{"type":'
    '"integer"},"description":"The numbers of the frames, from 1, each at most once."}},"required":'
    '["target_frames"]}}}'
)


def _system(*tools: str) -> str:
    listed = "\n".join(tools)
    return (
        "You are a helpful assistant.\n\n# Tools\nYou may call one or more functions to assist with the user query.\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{listed}\n</tools>\n\n"
        "# How to call a tool\nReturn a json object with function name and arguments within <tool_call></tool_call> "
        'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>\n\n'
        '**Example**:  \n<tool_call>  \n{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [10, 20, 100, 200], '
        '"label": "the apple on the desk"}}  \n</tool_call>'
    )


_FORMAT = (
    "\nThink first, call **image_zoom_in_tool** if needed, then answer. Format strictly as:  <think>...</think>  "
    "<tool_call>...</tool_call> (if tools needed)  <answer>...</answer> "
)


def _native(tool: str) -> dict[str, object]:
    """For servers, which check schemas: `required` names what there is."""
    schema: dict[str, object] = json.loads(
        tool.replace('"required":["bbox"]', '"required":["bbox_2d"]')
    )
    return schema


def _reply(pictures: Sequence[Picture], shown: int) -> list[str]:
    del shown
    first, *others = (frame_label(picture) for picture in pictures)
    return [f"<tool_response>{first}", *others]


DEEPEYES = Dialect(
    name="deepeyes",
    models="the released checkpoints of DeepEyes (not of DeepEyesV2, which writes code)",
    speakers=ModelMatch(model_types=("qwen2_5_vl",), checkpoints=r"deep-?_?eyes(?!-?_?v2)"),
    budgets=PixelBudgets(
        picture=PixelBudget(min_px=4 * _UNIT, max_px=16384 * _UNIT),
        crop=PixelBudget(min_px=256 * _UNIT, max_px=5120 * _UNIT),
        frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
        selected_frame=PixelBudget(min_px=256 * _UNIT, max_px=1024 * _UNIT),
        multiple=28,
    ),
    system_with=_system(_ZOOM),
    system_video=_system(_ZOOM, _SELECT),
    system_without="You are a helpful assistant.",
    suffix_with=_FORMAT,
    suffix_without="\nThink first, then answer. Format strictly as:  <think>...</think>  <answer>...</answer> ",
    label=frame_label,
    reply=_reply,
    after=f"{_FORMAT}</tool_response>",
    complaint="Error: {why}",
    tools=[_native(_ZOOM), _native(_SELECT)],
    system_native="You are a helpful assistant.",
    answers=TAGGED,
    thought="<think>{words}</think>",
    thinks=True,
    grid=PIXELS,
    names={"image_zoom_in_tool": "zoom_in"},
    arguments={"zoom_in": {"bbox_2d": "bbox_2d", "label": ""}},
)
