r"""Fallback dialect for instruction-following models: hosted services, families without a dialect.

Boxes are fractions, because the size after image preprocessing is unknown. A number precedes every picture. Operations
are listed by the server (`native_system`) or in the system message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.dialects.syntax.hermes import list_tools
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture

_USES = {
    "zoom_in": "zoom_in shows a region of a picture from the original at full resolution",
    "select_frames": "select_frames shows frames of a video in more detail",
}
_ANSWER = "Put the final answer, alone, within \\boxed{}."


def _advice(operations: Sequence[str]) -> str:
    uses = ", ".join(use for operation, use in _USES.items() if operation in operations)
    looking = f"What is too small to see at first can be looked at again: {uses}. " if uses else ""
    return (
        f"You answer questions about pictures and videos. {looking}"
        "Look closer before you answer whenever the answer rests on a small detail; where it does not, answer at "
        f"once. Call one tool at a time and wait for what it shows. {_ANSWER}"
    )


def _texts_for(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
    advice = _advice(list(definitions))
    return OperationTexts(list_tools(list(definitions.values()), advice), native_system=advice)


_TOOLS = [roles.get_definition(operation) for operation in DEFAULT_OPERATIONS]
_ADVICE = _advice(DEFAULT_OPERATIONS)


def _label(picture: Picture) -> str:
    if picture.frame is None:
        return f"Picture {picture.number}:"
    return f"Picture {picture.number}, frame {picture.frame}:"


def _result_labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
    del num_question_pictures
    return [_label(picture) for picture in pictures]


PLAIN = register(
    Dialect(
        name="plain",
        models="hosted services, and every model without a dialect of its own",
        budgets=PixelBudgets(
            picture=PixelBudget(min_px=256 * 256, max_px=1536 * 1536),
            crop=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
            frame=PixelBudget(min_px=64 * 64, max_px=512 * 512),
            selected_frame=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
            multiple=32,
        ),
        system_with_operations=list_tools(_TOOLS, _ADVICE),
        system_without_operations=f"You answer questions about pictures and videos. {_ANSWER}",
        texts_for=_texts_for,
        picture_label=_label,
        result_labels=_result_labels,
        error_template="That call was refused: {why}",
        tools=_TOOLS,
        native_system=_ADVICE,
        separates_thoughts=True,
    )
)
