"""Operation `zoom_in`: a region of a picture, from the source at full resolution."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pixel_reasoner.operations._checks import MIN_SIDE_PX as MIN_SIDE_PX, check_box
from pixel_reasoner.operations.base import (
    BoxArgument,
    MediaKind,
    PerturbRequest,
    PictureArgument,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.trace import Picture, ToolCall

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

_RESULT_BUDGET = "crop"
_MIN_OFF_TARGET_SIDE = 0.02
_MAX_TRIES = 200
_STEP = 0.01
"""resolution of box coordinates in calls: two decimals"""


def describe_box(picture: int, numbers: list[float]) -> str:
    """Return a region of a picture in words.

    >>> describe_box(2, [0, 0, 0.5, 1])
    'picture 2, box 0.00 0.00 – 0.50 1.00'
    """
    try:
        x1, y1, x2, y2 = Box.of(numbers)
    except BoxError:
        return f"picture {picture}, box {numbers}"
    return f"picture {picture}, box {x1:.2f} {y1:.2f} – {x2:.2f} {y2:.2f}"


def _sentence(bbox_2d: list[float], target_image: int = 1) -> str:
    return f"zoom in on {describe_box(target_image, bbox_2d)}"


def perturb_box(call: ToolCall, request: PerturbRequest) -> ToolCall | None:
    """Return the call with a box of the same size that does not show the evidence."""
    if not request.evidence.boxes:
        return None
    try:
        box = Box.of(call.arguments["bbox_2d"])
    except (BoxError, KeyError, TypeError):  # the call will be rejected anyway
        return None
    number = call.arguments.get("target_image", 1)
    target = next((one for one in request.pictures if one.number == number), None)
    rounding = request.rounding(target.seen_px) if target else 0.0
    padding = request.padding
    size = Box(
        0,
        0,
        max(_MIN_OFF_TARGET_SIDE, box.x2 - box.x1 - 2 * padding),
        max(_MIN_OFF_TARGET_SIDE, box.y2 - box.y1 - 2 * padding),
    )
    off_target = sample_off_target_box(
        size, request.evidence.boxes, request.rng, padding + rounding
    )
    if off_target is None:
        return None
    arguments = {**call.arguments, "bbox_2d": [round(value, 2) for value in off_target]}
    return ToolCall(name=call.name, arguments=arguments)


@operation(
    media={MediaKind.IMAGE, MediaKind.VIDEO},
    result_budget=_RESULT_BUDGET,
    sentence=_sentence,
    perturb=perturb_box,
    synthesis=(
        "I need a closer look at {subject} in the {where}.",
        "{subject} in the {where} is too small to make out, so I zoom in.",
        "Now I zoom in to see {subject} in the {where} more clearly.",
        "To be sure, I look closer at {subject} in the {where}.",
    ),
)
def zoom_in(
    context: MediaContext, bbox_2d: BoxArgument, target_image: PictureArgument = 1
) -> list[Picture]:
    """Zoom in on a region of a picture to see details that are too small to read in the overview.

    Args:
        context: The pictures so far.
        bbox_2d: The region as [x1, y1, x2, y2], from 0 to 1, with (0, 0) at the top left corner of the picture.
        target_image: The number of the picture to zoom into, from 1.
    """
    box = check_box(context, target_image, bbox_2d)
    return [context.add_region(target_image, box, budget=_RESULT_BUDGET)]


def expand_box(evidence_box: Box, margin: float, min_side: float) -> Box:
    """Return the region to zoom into: the evidence with a margin, inside the picture, rounded to hundredths.

    Args:
        evidence_box: what has to be visible.
        margin: on every side, as a fraction of the evidence's width and height.
        min_side: minimum width and height of the region, as a fraction of the picture.

    >>> expand_box(Box(0.0, 0.5, 0.1, 0.6), 0.25, 0.12)
    Box(x1=0.0, y1=0.48, x2=0.15, y2=0.63)
    """
    sides = []
    for low, high in ((evidence_box.x1, evidence_box.x2), (evidence_box.y1, evidence_box.y2)):
        side = ceil_to_step(max((high - low) * (1 + 2 * margin), min_side))
        # Round to the nearest hundredth so that equal evidence gives equal sizes; round outwards if that would cut the
        # evidence.
        start = round(min(max((low + high - side) / 2, 0.0), 1 - side), 2)
        end = round(start + side, 2)
        sides.append((min(start, floor_to_step(low)), max(end, ceil_to_step(high))))
    (x1, x2), (y1, y2) = sides
    return Box(x1, y1, x2, y2)


def floor_to_step(value: float) -> float:
    """Return a coordinate rounded down to a hundredth.

    >>> floor_to_step(0.129)
    0.12
    """
    return round(math.floor(value / _STEP + 1e-6) * _STEP, 2)


def ceil_to_step(value: float) -> float:
    """Return a coordinate rounded up to a hundredth, at most 1.

    >>> ceil_to_step(0.121)
    0.13
    """
    return round(min(1.0, math.ceil(value / _STEP - 1e-6) * _STEP), 2)


def sample_off_target_box(
    like: Box,
    evidence: Iterable[Box],
    rng: random.Random,
    padding: float = 0.0,
    avoid: Iterable[Box] = (),
) -> Box | None:
    """Return a random box of the same size as `like`, on whole hundredths, that does not overlap the evidence.

    Args:
        like: box with the required size.
        evidence: boxes that the result must not overlap, even after padding.
        rng: random generator of the position.
        padding: fraction of the picture added on every side of the result.
        avoid: further boxes that the result must not overlap.

    Returns:
        None if there is no room.

    >>> box = sample_off_target_box(Box(0, 0, 0.5, 0.5), [Box(0, 0, 0.4, 0.4)], random.Random(0))
    >>> box.intersection(Box(0, 0, 0.4, 0.4))
    0.0
    """
    evidence, avoid = list(evidence), list(avoid)
    width, height = like.x2 - like.x1, like.y2 - like.y1
    for _ in range(_MAX_TRIES):
        x1, y1 = (round(rng.uniform(0, 1 - side), 2) for side in (width, height))
        box = Box(x1, y1, min(1.0, x1 + width), min(1.0, y1 + height))
        grown = Box(box.x1 - padding, box.y1 - padding, box.x2 + padding, box.y2 + padding)
        if not any(map(grown.intersection, evidence)) and not any(map(box.intersection, avoid)):
            return box
    return None
