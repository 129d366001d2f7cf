"""Operation `zoom_variants`: a region in all four turns, or with more contrast next to the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pixel_reasoner.operations._checks import check_box
from pixel_reasoner.operations.base import BoxArgument, MediaKind, PictureArgument, PlanRequest
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.operations.zoom import describe_box, perturb_box
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Picture, ToolCall, Transform

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

TURNED, FAINT = "turned", "faint"
"""values of the label `detail` of questions whose detail is turned, or faint"""
_NUM_TURNS = 4


def _sentence(bbox_2d: list[float], show: str, target_image: int = 1) -> str:
    how = "all four turns" if show == "turns" else "contrast next to the original"
    return f"look at {describe_box(target_image, bbox_2d)}: {how}"


def _plan(question: Question, request: PlanRequest) -> ToolCall | None:
    show = {TURNED: "turns", FAINT: "contrast"}.get(question.labels.get("detail", ""))
    evidence = question.evidence
    if show is None or evidence is None or len(evidence.boxes) != 1:
        return None
    box = [round(value, 2) for value in request.zoom_box(evidence.boxes[0])]
    arguments = {"bbox_2d": box, "show": show, "target_image": evidence.image}
    return ToolCall(name="zoom_variants", arguments=arguments)


@operation(
    media={MediaKind.IMAGE, MediaKind.VIDEO},
    result_budget="crop",
    sentence=_sentence,
    perturb=perturb_box,
    plan=_plan,
    synthesis=(
        "{subject} in the {where} is hard to read, so I look at it in other ways.",
        "I need {subject} in the {where} in a form that I can read.",
    ),
)
def zoom_variants(
    context: MediaContext,
    bbox_2d: BoxArgument,
    show: Literal["turns", "contrast"],
    target_image: PictureArgument = 1,
) -> list[Picture]:
    """Zoom in on a region that is rotated or faint. One picture shows all four turns, or the region and the region with more contrast.

    Args:
        context: The pictures so far.
        bbox_2d: The region as [x1, y1, x2, y2], from 0 to 1, with (0, 0) at the top left corner of the picture.
        show: "turns" for the region turned by 0, 90, 180 and 270 degrees, "contrast" for more contrast next to the original.
        target_image: The number of the picture to zoom into, from 1.
    """
    box = check_box(context, target_image, bbox_2d)
    if show == "turns":
        views = [
            (target_image, box, [Transform(name="rotate", arguments={"quarter_turns": turns})])
            for turns in range(_NUM_TURNS)
        ]
        views[0] = (target_image, box, [])
    else:
        views = [(target_image, box, []), (target_image, box, [Transform(name="local_contrast")])]
    return [context.add_sheet(views)]
