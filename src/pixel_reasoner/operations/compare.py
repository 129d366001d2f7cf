"""Operation `compare`: two regions, of one or of two pictures, next to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.operations._checks import check_box
from pixel_reasoner.operations.base import (
    BoxArgument,
    MediaKind,
    PerturbRequest,
    PictureArgument,
    PlanRequest,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.operations.zoom import describe_box, perturb_box
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture, ToolCall

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext


def _sentence(
    bbox_2d: list[float],
    other_bbox_2d: list[float],
    target_image: int = 1,
    other_image: int = 1,
) -> str:
    first, second = (
        describe_box(number, box)
        for number, box in ((target_image, bbox_2d), (other_image, other_bbox_2d))
    )
    return f"compare {first}, with {second}"


def _perturb(call: ToolCall, request: PerturbRequest) -> ToolCall | None:
    """Return the call with a first region that does not show the evidence."""
    return perturb_box(call, request)


def _plan(question: Question, request: PlanRequest) -> ToolCall | None:
    evidence = question.evidence
    if evidence is None or len(evidence.boxes) != 2:
        return None
    first, second = ([round(v, 2) for v in request.zoom_box(one)] for one in evidence.boxes)
    return ToolCall(
        name="compare",
        arguments={
            "bbox_2d": first,
            "other_bbox_2d": second,
            "target_image": evidence.image,
            "other_image": evidence.image,
        },
    )


@operation(
    media={MediaKind.IMAGE, MediaKind.VIDEO},
    result_budget="crop",
    sentence=_sentence,
    perturb=_perturb,
    plan=_plan,
    synthesis=(
        "I look at {subject} and {other} next to each other.",
        "To compare {subject} with {other}, I put both side by side.",
    ),
)
def compare(
    context: MediaContext,
    bbox_2d: BoxArgument,
    other_bbox_2d: BoxArgument,
    target_image: PictureArgument = 1,
    other_image: PictureArgument = 1,
) -> list[Picture]:
    """Compare two regions next to each other, of the same picture or of two pictures. Each fills its half.

    Args:
        context: The pictures so far.
        bbox_2d: The region on the left as [x1, y1, x2, y2], from 0 to 1, with (0, 0) at the top left corner of its picture.
        other_bbox_2d: The region on the right as [x1, y1, x2, y2], from 0 to 1, in the same way.
        target_image: The number of the picture with the region on the left, from 1.
        other_image: The number of the picture with the region on the right, from 1.
    """
    first = check_box(context, target_image, bbox_2d)
    second = check_box(context, other_image, other_bbox_2d)
    return [context.add_sheet([(target_image, first, ()), (other_image, second, ())])]
