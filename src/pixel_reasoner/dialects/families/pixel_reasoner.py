r"""Dialect of the Pixel Reasoner checkpoints, identical to upstream.

Texts, names, padding and evaluation budgets are copied from upstream (arXiv 2505.15966, appendix, and its RL code),
because a checkpoint performs best with its training prompts.

Intentional differences from the upstream code:

1. Boxes are always fractions. Upstream parses a box with any coordinate of 1 or more as pixels, so [0.5, 0.5, 1, 1]
   became a corner of the picture.
2. A box is validated before padding. Upstream pads first, so inverted and empty boxes pass.
3. Crops are taken from the full-resolution picture. Upstream crops the downscaled picture.
4. Error messages are sentences. Upstream returns texts of Python exceptions, which models ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.detect import ModelMatch
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

_UNIT = 28 * 28
"""pixels of one visual token of Qwen2.5-VL, the unit of the upstream budgets"""

_TOOLS = (
    '{"type": "function", "function": {"name": "crop_image_normalized", "description": "Zoom in on the image '
    "based on the bounding box coordinates. It is useful when the object or text in the image is too small to "
    'be seen.", "parameters": {"type": "object", "properties": {"bbox_2d": {"type": "array", "description": '
    '"coordinates for bounding box of the area you want to zoom in. Values should be within [0.0,1.0].", '
    '"items": {"type": "number"}}, "target_image": {"type": "number", "description": "The index of the image '
    'to crop. Index from 1 to the number of images. Choose 1 to operate on original image."}}, "required": '
    '["bbox_2d", "target_image"]}}}\n'
    '{"type": "function", "function": {"name": "select_frames", "description": "Select frames from a video.", '
    '"parameters": {"type": "object", "properties": {"target_frames": {"type": "array", "description": "List '
    'of frame indices to select from the video (no more than 8 frames in total).", "items": {"type": '
    '"integer", "description": "Frame index from 1 to 16."}}}, "required": ["target_frames"]}}}'
)

_ASSISTANT = "You are a helpful assistant."


def _system(listed: str) -> str:
    return (
        f"{_ASSISTANT}\n\n# Tools\n\nYou may call one or more functions to assist with the user "
        "query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        f"{listed}\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": '
        "<args-json-object>}\n</tool_call>"
    )


_USES = {
    "select_frames": "For a video, we can look closer by `select_frames`. ",
    "zoom_in": "For an image, we can look closer by `crop_image`. ",
}


def _guidelines(operations: Sequence[str]) -> str:
    uses = "".join(use for operation, use in _USES.items() if operation in operations)
    return (
        "\n\nGuidelines: Understand the given visual information and the user query. Determine if it is beneficial "
        f"to employ the given visual operations (tools). {uses}Reason with the visual information step by step, and "
        "put your final answer within \\boxed{}."
    )


def _texts_for(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
    listed = "\n".join(json.dumps(one) for one in definitions.values())
    return OperationTexts(_system(listed), _guidelines(list(definitions)), native_system=_ASSISTANT)


def _result_labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
    del num_question_pictures
    width, height = pictures[0].seen_px
    if pictures[0].transforms or pictures[0].beside:
        first = f"\nHere is the resulting image (Image Size: {width}x{height}):"
    elif pictures[0].is_picture or pictures[0].box != WHOLE:
        first = f"\nHere is the cropped image (Image Size: {width}x{height}):"
    else:
        numbers = f"Numbered {pictures[0].number} to {pictures[-1].number}"
        first = f"\nHere are the selected frames (Frame Size: {width}x{height}, {numbers}):"
    return [first, *[""] * (len(pictures) - 1)]


PIXEL_REASONER = register(
    Dialect(
        name="pixel_reasoner",
        models="the released checkpoints of Pixel Reasoner",
        match=ModelMatch(
            model_types=("qwen2_5_vl",),
            checkpoints=r"pixel-?_?reasoner",
            template="crop_image_normalized",
        ),
        budgets=PixelBudgets(
            picture=PixelBudget(min_px=256 * _UNIT, max_px=8000 * _UNIT),
            crop=PixelBudget(min_px=256 * _UNIT, max_px=5120 * _UNIT),
            frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
            selected_frame=PixelBudget(min_px=4 * _UNIT, max_px=512 * _UNIT),
            multiple=28,
        ),
        system_with_operations=_system(_TOOLS),
        system_without_operations=_ASSISTANT,
        texts_for=_texts_for,
        suffix_with_operations=_guidelines(DEFAULT_OPERATIONS),
        suffix_without_operations="\n\nPlease think step by step, and put your final answer within \\boxed{}.",
        operation_names={"crop_image_normalized": "zoom_in", "crop_image": "zoom_in"},
        padding=0.1,
        result_labels=_result_labels,
        error_template="\nExecution error:\n{why}\n",
        text_result_template="\nHere is the result:\n{text}\n",
        tools=[json.loads(line) for line in _TOOLS.splitlines()],
        native_system=_ASSISTANT,
    )
)
