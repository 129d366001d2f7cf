"""Operation `mark`: numbered points and boxes, drawn on a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.operations._checks import check_count, check_pairs, check_picture
from pixel_reasoner.operations.base import (
    BoxesArgument,
    CallRejected,
    MediaKind,
    PictureArgument,
    PlanRequest,
    PointsArgument,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.operations.signature import NONE_GIVEN
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import CallErrorKind, Picture, ToolCall, Transform

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

MAX_MARKS = 50


def _sentence(
    points: list[list[float]] = NONE_GIVEN,
    boxes: list[list[float]] = NONE_GIVEN,
    target_image: int = 1,
) -> str:
    parts = [
        f"{len(given)} {word if len(given) == 1 else plural}"
        for given, word, plural in ((points, "point", "points"), (boxes, "box", "boxes"))
        if given
    ]
    return f"mark {' and '.join(parts) or 'nothing'} on picture {target_image}"


def _plan(question: Question, request: PlanRequest) -> ToolCall | None:
    del request
    evidence = question.evidence
    if evidence is None or not evidence.points:
        return None
    points = [[round(value, 2) for value in one] for one in evidence.points]
    return ToolCall(name="mark", arguments={"points": points, "target_image": evidence.image})


@operation(
    media={MediaKind.IMAGE, MediaKind.VIDEO},
    result_budget="picture",
    sentence=_sentence,
    plan=_plan,
    synthesis=(
        "I mark every one of {subject}, to count none twice.",
        "To keep track, I put a number on each of {subject}.",
    ),
)
def mark(
    context: MediaContext,
    points: PointsArgument = NONE_GIVEN,
    boxes: BoxesArgument = NONE_GIVEN,
    target_image: PictureArgument = 1,
) -> list[Picture]:
    """Mark points and boxes on a picture. The result is the picture with a number at each of them: first the points, then the boxes.

    Args:
        context: The pictures so far.
        points: The points as [[x, y], ...], from 0 to 1, with (0, 0) at the top left corner of the picture.
        boxes: The boxes as [[x1, y1, x2, y2], ...], from 0 to 1, in the same way.
        target_image: The number of the picture to mark, from 1.
    """
    check_picture(context, target_image)
    check_count(len(points) + len(boxes), 1, MAX_MARKS, "points and boxes")
    check_pairs(points, 2, "point [x, y]")
    check_pairs(boxes, 4, "box [x1, y1, x2, y2]")
    for x1, y1, x2, y2 in boxes:
        if x1 >= x2 or y1 >= y2:
            raise CallRejected(
                CallErrorKind.BAD_BOX,
                f"box {[x1, y1, x2, y2]} is empty or inverted; give [x1, y1, x2, y2] with x1 < x2 and y1 < y2",
            )
    shown = context.picture(target_image)
    if shown.beside:
        raise CallRejected(
            CallErrorKind.NO_SUCH_PICTURE,
            f"picture {target_image} shows several regions; mark a picture of one region, such as picture 1",
        )
    marks = [list(one) for one in (*points, *boxes)]
    drawn = Transform(name="draw_marks", arguments={"marks": marks})
    return [context.add_region(target_image, transforms=[drawn], budget=_budget(context, shown))]


def _budget(context: MediaContext, shown: Picture) -> str:
    """Return the kind of picture, so that the marked picture is as large as the picture itself."""
    if shown.parent is not None:
        return "crop"
    return "picture" if shown.frame is None else "selected_frame"
