"""Operation `read_text`: text recognition (OCR) in a region. It needs the extra `ocr`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.operations import _ocr
from pixel_reasoner.operations._checks import check_box
from pixel_reasoner.operations.base import (
    BoxArgument,
    Drawing,
    MediaKind,
    PictureArgument,
    PlanRequest,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.operations.zoom import describe_box, perturb_box
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import AnswerType, Question
from pixel_reasoner.schema.trace import Observation, TextLine, ToolCall, Transform

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

MAX_LINES = 40
"""lines of one result; a model reads further ones in a smaller region"""


def _sentence(bbox_2d: list[float], target_image: int = 1) -> str:
    return f"read the text in {describe_box(target_image, bbox_2d)}"


def _plan(question: Question, request: PlanRequest) -> ToolCall | None:
    evidence = question.evidence
    is_text = question.answer_type is AnswerType.ANLS
    if evidence is None or len(evidence.boxes) != 1 or not is_text:
        return None
    box = [round(value, 2) for value in request.zoom_box(evidence.boxes[0])]
    arguments = {"bbox_2d": box, "target_image": evidence.image}
    return ToolCall(name="read_text", arguments=arguments)


def _drawing(
    observation: Observation, bbox_2d: list[float], target_image: int = 1
) -> list[Drawing]:
    region = Box.of(bbox_2d)
    boxes = [list(line.box.relative_to(region)) for line in observation.lines]
    marks = Transform(name="draw_marks", arguments={"marks": boxes})
    return [Drawing(target_image, region, (marks,) if boxes else ())]


@operation(
    media={MediaKind.IMAGE, MediaKind.VIDEO},
    sentence=_sentence,
    perturb=perturb_box,
    plan=_plan,
    drawing=_drawing,
    check_available=_ocr.check_installed,
    synthesis=(
        "I read the text on {subject} in the {where}.",
        "{subject} in the {where} carries small text, so I have it read.",
    ),
)
def read_text(
    context: MediaContext, bbox_2d: BoxArgument, target_image: PictureArgument = 1
) -> Observation:
    """Read the text in a region of a picture, line by line. The result has each line with its box and its confidence.

    Args:
        context: The pictures so far.
        bbox_2d: The region as [x1, y1, x2, y2], from 0 to 1, with (0, 0) at the top left corner of the picture.
        target_image: The number of the picture, from 1.
    """
    box = check_box(context, target_image, bbox_2d)
    region = context.region(target_image, box)
    lines = _ocr.recognize(context.region_pixels(region, _ocr.MAX_SIDE_PX))
    found = [
        TextLine(text=one.text, box=_rounded(one.box.within(box)), score=round(one.score, 3))
        for one in lines[:MAX_LINES]
    ]
    return Observation(
        text=_text(len(lines), target_image),
        lines=tuple(found),
        target=target_image,
        examined=(region,),
    )


def _text(num_lines: int, number: int) -> str:
    if not num_lines:
        return "no text was found in this region"
    text = f"{num_lines} line{'s' * (num_lines > 1)} of text in picture {number}"
    if num_lines > MAX_LINES:
        text += f", of which the first {MAX_LINES} follow; read a smaller region for the others"
    return f"{text}:"


def _rounded(box: Box) -> Box:
    return Box(*(round(side, 5) for side in box))
