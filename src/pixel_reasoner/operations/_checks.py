"""Checks that several operations share. Messages address the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pixel_reasoner.operations.base import CallRejected
from pixel_reasoner.schema.geometry import Box, BoxError, Size
from pixel_reasoner.schema.trace import CallErrorKind

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

MIN_SIDE_PX = 8
"""A region with a shorter side contains no more detail than the overview."""

BAD_POINT = "bad_point"
"""kind of error: a point, box or segment of a list is invalid"""


def check_picture(context: MediaContext, number: int) -> int:
    """Return the number of a picture.

    Raises:
        CallRejected: there is no such picture.
    """
    if not 1 <= number <= len(context):
        raise CallRejected(
            CallErrorKind.NO_SUCH_PICTURE,
            f"there is no picture {number}; pictures are numbered 1 to {len(context)}",
        )
    return number


def check_box(context: MediaContext, number: int, numbers: Sequence[float]) -> Box:
    """Return the box of a region of a picture that is large enough to show details.

    Raises:
        CallRejected: no such picture, an invalid box, or a region of few pixels.
    """
    check_picture(context, number)
    try:
        box = Box.of(numbers)
    except BoxError as error:
        raise CallRejected(CallErrorKind.BAD_BOX, str(error)) from error
    width, height = context.region_size(number, box)
    if min(width, height) < MIN_SIDE_PX:
        raise CallRejected(
            CallErrorKind.BOX_TOO_SMALL,
            f"the box covers only {width} x {height} pixels; "
            f"give one of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels",
        )
    return box


def check_pairs(values: Any, length: int, what: str) -> None:
    """Check that each of some lists has coordinates in [0, 1].

    Args:
        values: lists of x and y, alternating.
        length: numbers of each list.
        what: its form, for messages, such as `point [x, y]`.

    Raises:
        CallRejected: another length, or a number outside of the picture.
    """
    for one in values:
        if len(one) != length:
            raise CallRejected(BAD_POINT, f"{list(one)!s:.60} is no {what}; give {length} numbers")
        for at, value in enumerate(one):
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise CallRejected(
                    BAD_POINT,
                    f"{'xy'[at % 2]}={value:g} in {list(one)!s:.60} is outside [0, 1]; "
                    f"give a {what} in the picture",
                )


def check_count(count: int, least: int, most: int, what: str) -> None:
    """Check the number of items of a call.

    Raises:
        CallRejected: too few or too many.
    """
    if not least <= count <= most:
        raise CallRejected(
            CallErrorKind.BAD_ARGUMENTS, f"{count} {what} were given; give {least} to {most}"
        )


def check_single(context: MediaContext, number: int, to_do: str) -> None:
    """Check that a picture shows one region.

    Raises:
        CallRejected: it shows several.
    """
    if context.picture(number).beside:
        raise CallRejected(
            CallErrorKind.NO_SUCH_PICTURE,
            f"picture {number} shows several regions; {to_do} in a picture of one region, such as picture 1",
        )


def shown_px(context: MediaContext, number: int) -> Size:
    """Return the (width, height) of a picture at full resolution."""
    return context.region_size(number, Box(0.0, 0.0, 1.0, 1.0))
