"""Dialect of the bundled model: short prompts, a number before every picture, boxes in fractions.

The numbers let a small model name a frame or a crop without counting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixel_reasoner.dialects import roles
from pixel_reasoner.dialects.base import Dialect, OperationTexts
from pixel_reasoner.dialects.registry import register
from pixel_reasoner.dialects.roles import ToolDefinition
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS, PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture


def _label(picture: Picture) -> str:
    return f"Image {picture.number}:" if picture.frame is None else f"Frame {picture.frame}:"


def _result_labels(pictures: Sequence[Picture], num_question_pictures: int) -> list[str]:
    del num_question_pictures
    return [
        f"Image {picture.number}:"
        if picture.frame is None
        else f"Image {picture.number}, frame {picture.frame}:"
        for picture in pictures
    ]


_ANSWER = "Put the final answer in \\boxed{}."
_USES = {"zoom_in": "for an image", "select_frames": "for a video"}


def _texts_for(definitions: Mapping[str, ToolDefinition]) -> OperationTexts:
    """Return the texts for a set of operations: `name(arguments) to rotate a picture`."""
    listed = []
    for operation, definition in definitions.items():
        function = definition["function"]
        about = str(function["description"]).partition(". ")[0].rstrip(".")
        use = _USES.get(operation, f"to {about[:1].lower()}{about[1:]}")
        arguments = ", ".join(function["parameters"]["properties"])
        listed.append(f"{function['name']}({arguments}) {use}")
    return OperationTexts(
        system=f"You can look closer: {', '.join(listed)}. {_ANSWER}", native_system=_ANSWER
    )


COMPACT = register(
    Dialect(
        name="compact",
        models="the bundled model, and models fine-tuned on traces in this dialect",
        budgets=PixelBudgets(
            picture=PixelBudget(min_px=32 * 32, max_px=1024 * 1024),
            crop=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
            frame=PixelBudget(min_px=32 * 32, max_px=320 * 320),
            selected_frame=PixelBudget(min_px=32 * 32, max_px=640 * 640),
            multiple=32,
        ),
        system_with_operations=(
            "You can look closer: zoom_in(bbox_2d, target_image) for an image, select_frames(target_frames) "
            f"for a video. {_ANSWER}"
        ),
        system_without_operations=_ANSWER,
        texts_for=_texts_for,
        picture_label=_label,
        result_labels=_result_labels,
        error_template="Error: {why}",
        tools=[roles.get_definition(operation) for operation in DEFAULT_OPERATIONS],
        native_system=_ANSWER,
    )
)
