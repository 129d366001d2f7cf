r"""Common parts of the Qwen-VL dialects: the zoom tool of Qwen-Agent, a frame tool, and the format of tool responses.

Name, arguments and description of the zoom tool are from Qwen-Agent (`image_zoom_in_qwen3vl.py`) and the Qwen3-VL
cookbook on thinking with images, whose conversations have `label`, `bbox_2d`, `img_idx` in this order. The frame tool and
the request for an answer in `\boxed{}` are additions of this project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.picture_names import FROM_0
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.dialects.syntax.hermes import list_tools
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

ZOOM: ToolDefinition = {
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

SELECT: ToolDefinition = {
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

ARGUMENT_NAMES = {"zoom_in": {"label": "", "bbox_2d": "bbox_2d", "img_idx": "target_image"}}

REQUEST = (
    "\n\nLook closer with the tools where details are too small to see, one call at a time. "
    "Reason step by step, and put your final answer within \\boxed{}."
)
REQUEST_WITHOUT_OPERATIONS = "\n\nReason step by step, and put your final answer within \\boxed{}."

RESPONSE = "<tool_response>\n", "\n</tool_response>"

PREFILLED_THOUGHT: dict[str, Any] = {
    "opens_thought": True,
    "thought_template": "{words}\n</think>\n\n",
    "separators": ("", ""),
}
"""fields of a dialect whose chat template starts the turn with `<think>`, as Qwen3.5 does"""


def frame_label(picture: Picture) -> str:
    """Return the label with the number of a frame; empty for a picture."""
    return "" if picture.frame is None else f"Frame {picture.frame}:"


def response_labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
    """Return the text of the chat template before a tool result."""
    del num_question_pictures
    first, *others = (frame_label(picture) for picture in pictures)
    return [RESPONSE[0] + first, *others]


ListTools = Callable[[Sequence[ToolDefinition], str], str]
"""(tools, system text) -> system message with the tools in the rendering of a family"""


def texts_for(
    system: str, list_tools: ListTools = list_tools
) -> Callable[[Mapping[str, ToolDefinition]], OperationTexts]:
    """Return the function that writes the texts for a set of operations.

    Args:
        system: system message before or after the list of tools.
        list_tools: rendering of the tools.
    """

    def texts(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
        listed = list_tools(list(definitions.values()), system)
        return OperationTexts(listed, REQUEST, RESPONSE[1], native_system=system)

    return texts


def qwen_dialect(
    *,
    system: str = "",
    zoom: ToolDefinition = ZOOM,
    list_tools: ListTools = list_tools,
    **fields: Any,
) -> Dialect:
    """Return the dialect of a Qwen-VL family.

    Args:
        system: system message, before the list of tools.
        zoom: definition of the zoom tool.
        list_tools: rendering of the tools.
        fields: other fields of `Dialect`.
    """
    return Dialect(
        system_with_operations=list_tools([zoom], system),
        system_with_video=list_tools([zoom, SELECT], system),
        system_without_operations=system,
        native_system=system,
        suffix_with_operations=REQUEST,
        suffix_without_operations=REQUEST_WITHOUT_OPERATIONS,
        texts_for=texts_for(system, list_tools),
        picture_label=frame_label,
        result_labels=response_labels,
        result_end=RESPONSE[1],
        text_result_template=f"{RESPONSE[0]}{{text}}{RESPONSE[1]}",
        error_template=f"{RESPONSE[0]}Error: {{why}}{RESPONSE[1]}",
        tools=[zoom, SELECT],
        separates_thoughts=True,
        picture_names=FROM_0,
        operation_names={"image_zoom_in_tool": "zoom_in"},
        argument_names=ARGUMENT_NAMES,
        **fields,
    )


def qwen_budgets(side_px: int, *, max_picture: int, max_crop: int) -> PixelBudgets:
    """Return the pixel budgets of a Qwen-VL family.

    Args:
        side_px: side of one visual token.
        max_picture: visual tokens of the overview of a picture.
        max_crop: visual tokens of a crop.
    """

    def budget(fewest: int, most: int) -> PixelBudget:
        return PixelBudget(min_px=fewest * side_px**2, max_px=most * side_px**2)

    return PixelBudgets(
        picture=budget(256, max_picture),
        crop=budget(256, max_crop),
        frame=budget(4, 512),
        selected_frame=budget(256, 1024),
        multiple=side_px,
    )
