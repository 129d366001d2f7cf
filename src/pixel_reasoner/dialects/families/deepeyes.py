"""Dialect of the DeepEyes checkpoints (arXiv 2505.14362), identical to upstream.

The system message, the text after the question, the text around a crop and the argument names are copied from the
upstream code (`visual_toolbox_v2`, `eval_vstar.py`), including trailing blanks and a `required` entry that is not an
argument. The zoom tool has no picture argument: it always crops the first picture, and boxes are in its pixels.

Intentional differences from the upstream code:

1. Several calls in one turn are rejected. Upstream executes the last one.
2. A box of less than 28 pixels is not enlarged. Crops are taken from the full-resolution picture and scaled up.
3. For videos a frame tool is listed too. Upstream has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pixel_reasoner.dialects.answers import TAGGED
from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.boxes import CLAMPED_PIXELS
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.families._qwen import frame_label
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

_UNIT = 28 * 28
"""pixels of one visual token of Qwen2.5-VL, the base model of DeepEyes"""

_ASSISTANT = "You are a helpful assistant."

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


_EXAMPLE = (
    '\n\n**Example**:  \n<tool_call>  \n{"name": "image_zoom_in_tool", "arguments": {"bbox_2d": [10, 20, 100, 200], '
    '"label": "the apple on the desk"}}  \n</tool_call>'
)


def _system(*tools: str, example: str = _EXAMPLE) -> str:
    listed = "\n".join(tools)
    return (
        f"{_ASSISTANT}\n\n# Tools\nYou may call one or more functions to assist with the user query.\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{listed}\n</tools>\n\n"
        "# How to call a tool\nReturn a json object with function name and arguments within <tool_call></tool_call> "
        'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
        f"{example}"
    )


def _format(*tools: str) -> str:
    named = " or ".join(f"**{tool}**" for tool in tools)
    return (
        f"\nThink first, call {named} if needed, then answer. Format strictly as:  <think>...</think>  "
        "<tool_call>...</tool_call> (if tools needed)  <answer>...</answer> "
    )


_FORMAT = _format("image_zoom_in_tool")


def _texts_for(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
    own = {"zoom_in": _ZOOM, "select_frames": _SELECT}
    listed = [
        own.get(operation) or json.dumps(definition, ensure_ascii=False, separators=(",", ":"))
        for operation, definition in definitions.items()
    ]
    names = [definition["function"]["name"] for definition in definitions.values()]
    # This text does not mention frames, like the texts for a video.
    named = [one for one in names if one != "select_frames"] or names
    asked = _format(*named)
    return OperationTexts(
        _system(*listed, example=_EXAMPLE if "zoom_in" in definitions else ""),
        asked,
        f"{asked}</tool_response>",
        native_system=_ASSISTANT,
    )


def _native(tool: str) -> ToolDefinition:
    """Return a valid definition for native tool calls: servers reject a `required` entry that is not an argument."""
    schema: ToolDefinition = json.loads(
        tool.replace('"required":["bbox"]', '"required":["bbox_2d"]')
    )
    return schema


def _result_labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
    del num_question_pictures
    first, *others = (frame_label(picture) for picture in pictures)
    return [f"<tool_response>{first}", *others]


DEEPEYES = register(
    Dialect(
        name="deepeyes",
        models="the released checkpoints of DeepEyes (not of DeepEyesV2, which writes code)",
        match=ModelMatch(model_types=("qwen2_5_vl",), checkpoints=r"deep-?_?eyes(?!-?_?v2)"),
        budgets=PixelBudgets(
            picture=PixelBudget(min_px=4 * _UNIT, max_px=16384 * _UNIT),
            crop=PixelBudget(min_px=256 * _UNIT, max_px=5120 * _UNIT),
            frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
            selected_frame=PixelBudget(min_px=256 * _UNIT, max_px=1024 * _UNIT),
            multiple=28,
        ),
        system_with_operations=_system(_ZOOM),
        system_with_video=_system(_ZOOM, _SELECT),
        system_without_operations=_ASSISTANT,
        texts_for=_texts_for,
        suffix_with_operations=_FORMAT,
        suffix_without_operations="\nThink first, then answer. Format strictly as:  <think>...</think>  <answer>...</answer> ",
        picture_label=frame_label,
        result_labels=_result_labels,
        result_end=f"{_FORMAT}</tool_response>",
        text_result_template="<tool_response>{text}</tool_response>",
        error_template="Error: {why}",
        tools=[_native(_ZOOM), _native(_SELECT)],
        native_system=_ASSISTANT,
        answer_format=TAGGED,
        thought_template="<think>{words}</think>",
        separates_thoughts=True,
        grid=CLAMPED_PIXELS,
        operation_names={"image_zoom_in_tool": "zoom_in"},
        argument_names={"zoom_in": {"bbox_2d": "bbox_2d", "label": ""}},
    )
)
