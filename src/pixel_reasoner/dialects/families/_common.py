r"""Common parts of dialects of families without a zoom tool of their own: texts, labels, budgets.

The operations have the names and definitions of this project, in the rendering of tools and in the call syntax of the
family. A number precedes every picture, and the answer is in `\boxed{}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.dialects.syntax import hermes
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

ListTools = Callable[[Sequence[ToolDefinition], str], str]
"""(tools, system text) -> system message with the tools in the rendering of a family"""

_USES = {
    "zoom_in": "zoom_in shows a region of a picture from the original at full resolution",
    "select_frames": "select_frames shows frames of a video in more detail",
}
_ANSWER = "Put the final answer, alone, within \\boxed{}."
WITHOUT_OPERATIONS = f"You answer questions about pictures and videos. {_ANSWER}"

RESPONSE_TAGS = "<tool_response>\n", "\n</tool_response>"


def advice(operations: Sequence[str]) -> str:
    """Return the system text about these operations, without their definitions."""
    uses = ", ".join(use for operation, use in _USES.items() if operation in operations)
    looking = f"What is too small to see at first can be looked at again: {uses}. " if uses else ""
    return (
        f"You answer questions about pictures and videos. {looking}"
        "Look closer before you answer whenever the answer rests on a small detail; where it does not, answer at "
        f"once. Call one tool at a time and wait for what it shows. {_ANSWER}"
    )


def picture_label(picture: Picture) -> str:
    """Return the number of a picture, and of its frame."""
    if picture.frame is None:
        return f"Picture {picture.number}:"
    return f"Picture {picture.number}, frame {picture.frame}:"


def result_labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
    """Return the labels of the pictures of a result."""
    del num_question_pictures
    return [picture_label(picture) for picture in pictures]


def family_dialect(
    *,
    list_tools: ListTools = hermes.list_tools,
    response: tuple[str, str] = ("", ""),
    **fields: Any,
) -> Dialect:
    """Return the dialect of a family that has no zoom tool of its own.

    Args:
        list_tools: rendering of the tools.
        response: text before and after a result.
        fields: other fields of `Dialect`; `name`, `models` and `budgets` are required.
    """

    def texts_for(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
        text = advice(list(definitions))
        listed = list_tools(list(definitions.values()), text)
        return OperationTexts(listed, result_end=response[1], native_system=text)

    def labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
        first, *others = result_labels(pictures, num_question_pictures)
        return [response[0] + first, *others]

    defaults: dict[str, Any] = {
        "system_with_operations": "",
        "system_without_operations": WITHOUT_OPERATIONS,
        "texts_for": texts_for,
        "picture_label": picture_label,
        "result_labels": labels,
        "result_end": response[1],
        "text_result_template": f"{response[0]}{{text}}{response[1]}",
        "error_template": f"{response[0]}That call was refused: {{why}}{response[1]}",
        "separates_thoughts": True,
    }
    dialect = Dialect(**(defaults | fields))
    tools = [dialect.tool_definition(operation) for operation in DEFAULT_OPERATIONS]
    text = advice(DEFAULT_OPERATIONS)
    return replace(
        dialect, tools=tools, native_system=text, system_with_operations=list_tools(tools, text)
    )


def named_box(name: str) -> dict[str, dict[str, str]]:
    """Return the argument names of a family whose boxes have another name.

    >>> named_box("box_2d")["zoom_in"]
    {'box_2d': 'bbox_2d', 'target_image': 'target_image'}
    """
    parameters = roles.get_parameters("zoom_in")
    return {
        "zoom_in": {(name if one == "bbox_2d" else one): one for one in parameters},
        "select_frames": {"target_frames": "target_frames"},
    }


def token_budgets(side_px: int, max_tokens: int, *, min_tokens: int = 64) -> PixelBudgets:
    """Return the pixel budgets of a family with one visual token per square of this side.

    >>> token_budgets(32, 256).picture.max_px == 512 * 512
    True
    """

    def budget(fewest: int, most: int) -> PixelBudget:
        return PixelBudget(min_px=min(fewest, most) * side_px**2, max_px=most * side_px**2)

    whole = budget(min_tokens, max_tokens)
    return PixelBudgets(
        picture=whole,
        crop=whole,
        frame=budget(4, max(4, max_tokens // 4)),
        selected_frame=whole,
        multiple=side_px,
    )


def tile_budgets(tile_px: int, max_tiles: int, *, multiple: int = 28) -> PixelBudgets:
    """Return the pixel budgets of a family that cuts a picture into at most this many tiles.

    >>> tile_budgets(448, 12).picture.max_px == 12 * 448**2
    True
    """
    smallest, whole = (tile_px // 2) ** 2, max_tiles * tile_px**2
    budget = PixelBudget(min_px=smallest, max_px=whole)
    return PixelBudgets(
        picture=budget,
        crop=budget,
        frame=PixelBudget(min_px=smallest, max_px=tile_px**2),
        selected_frame=budget,
        multiple=multiple,
    )
