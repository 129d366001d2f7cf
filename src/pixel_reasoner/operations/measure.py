"""Operation `measure`: lengths of segments in pixels and fractions, their ratios, and the number of given points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pixel_reasoner.operations._checks import (
    check_count,
    check_pairs,
    check_picture,
    check_single,
    shown_px,
)
from pixel_reasoner.operations.base import (
    Drawing,
    MediaKind,
    PictureArgument,
    PlanRequest,
    PointsArgument,
    SegmentsArgument,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.operations.signature import NONE_GIVEN
from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import Observation, ToolCall, Transform

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext
    from pixel_reasoner.schema.geometry import Size

MAX_SEGMENTS, MAX_POINTS = 8, 100


def _sentence(
    segments: list[list[float]] = NONE_GIVEN,
    points: list[list[float]] = NONE_GIVEN,
    target_image: int = 1,
) -> str:
    parts = [f"{len(segments)} segment{'s' * (len(segments) > 1)}"] if segments else []
    parts += [f"{len(points)} point{'s' * (len(points) > 1)}"] if points else []
    return f"measure {' and '.join(parts) or 'nothing'} on picture {target_image}"


def _plan(question: Question, request: PlanRequest) -> ToolCall | None:
    del request
    evidence = question.evidence
    if evidence is None or not evidence.segments:
        return None
    segments = [[round(value, 2) for value in one] for one in evidence.segments]
    return ToolCall(
        name="measure", arguments={"segments": segments, "target_image": evidence.image}
    )


def _drawing(
    observation: Observation,
    segments: list[list[float]] = NONE_GIVEN,
    points: list[list[float]] = NONE_GIVEN,
    target_image: int = 1,
) -> list[Drawing]:
    del observation
    lines = Transform(name="draw_segments", arguments={"segments": segments})
    dots = Transform(name="draw_marks", arguments={"marks": points})
    steps = tuple(one for one, given in ((lines, segments), (dots, points)) if given)
    return [Drawing(target_image, WHOLE, steps)]


@operation(
    media={MediaKind.IMAGE, MediaKind.VIDEO},
    sentence=_sentence,
    plan=_plan,
    drawing=_drawing,
    synthesis=(
        "I measure {subject}, then {other}.",
        "The lengths decide, so I measure {subject} and {other}.",
    ),
)
def measure(
    context: MediaContext,
    segments: SegmentsArgument = NONE_GIVEN,
    points: PointsArgument = NONE_GIVEN,
    target_image: PictureArgument = 1,
) -> Observation:
    """Measure the lengths of segments on a picture, and count points. The first segment is the reference of the ratios.

    Args:
        context: The pictures so far.
        segments: The segments as [[x1, y1, x2, y2], ...], from end to end, from 0 to 1, with (0, 0) at the top left corner of the picture.
        points: The points to count as [[x, y], ...], from 0 to 1, in the same way.
        target_image: The number of the picture, from 1.
    """
    check_picture(context, target_image)
    check_single(context, target_image, "measure")
    check_count(len(segments), 0, MAX_SEGMENTS, "segments")
    check_count(len(points), 0, MAX_POINTS, "points")
    check_count(len(segments) + len(points), 1, MAX_SEGMENTS + MAX_POINTS, "segments and points")
    check_pairs(segments, 4, "segment [x1, y1, x2, y2]")
    check_pairs(points, 2, "point [x, y]")
    size = shown_px(context, target_image)
    lines = [*_lengths(segments, size)]
    if points:
        lines.append(_count(points))
    return Observation(text="\n".join(lines))


def segment_px(segment: list[float], size: Size) -> float:
    """Return the length of a segment in pixels.

    Args:
        segment: x1, y1, x2, y2 in fractions of the picture.
        size: (width, height) of the picture in pixels.

    >>> segment_px([0.25, 0.0, 0.25, 0.5], (640, 480))
    240.0
    """
    x1, y1, x2, y2 = segment
    return math.hypot((x2 - x1) * size[0], (y2 - y1) * size[1])


def _lengths(segments: list[list[float]], size: Size) -> Iterator[str]:
    lengths = [segment_px(one, size) for one in segments]
    for number, length in enumerate(lengths, start=1):
        text = (
            f"segment {number}: {length:.1f} px of the original, {length / size[0]:.3f} of the width, "
            f"{length / size[1]:.3f} of the height"
        )
        if number > 1:
            text += (
                f", {length / lengths[0]:.3f} times segment 1"
                if lengths[0]
                else ", segment 1 has no length"
            )
        yield text


def _count(points: list[list[float]]) -> str:
    different = len({tuple(one) for one in points})
    text = f"{len(points)} point{'s' * (len(points) > 1)}"
    return text if different == len(points) else f"{text}, {different} of them different"
