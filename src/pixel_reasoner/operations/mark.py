"""Operation `mark`: a frame around a region, so that counted objects stay visible as counted.

It is offered only on request (`--operation mark`), for example for the family `count` of PixelWorld 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.operations.base import (
    BoxArgument,
    CallRejected,
    MediaKind,
    PictureArgument,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.schema.geometry import Box, BoxError
from pixel_reasoner.schema.trace import CallErrorKind, Picture, Transform

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

_FRAMED = "framed"
"""transform that draws the frame (`media.transforms`, which loads decoders)"""


def _sentence(bbox_2d: list[float], target_image: int = 1) -> str:
    try:
        x1, y1, x2, y2 = Box.of(bbox_2d)
    except BoxError:
        return f"mark box {bbox_2d} on picture {target_image}"
    return f"mark box {x1:.2f} {y1:.2f} – {x2:.2f} {y2:.2f} on picture {target_image}"


@operation(media={MediaKind.IMAGE, MediaKind.VIDEO}, result_budget="picture", sentence=_sentence)
def mark(
    context: MediaContext, bbox_2d: BoxArgument, target_image: PictureArgument = 1
) -> list[Picture]:
    """Mark a region with a frame, for example an object that is counted. Mark the returned picture again to add marks.

    Args:
        context: The pictures so far.
        bbox_2d: The region as [x1, y1, x2, y2], from 0 to 1, with (0, 0) at the top left corner of the picture.
        target_image: The number of the picture to mark, from 1.
    """
    if not 1 <= target_image <= len(context):
        raise CallRejected(
            CallErrorKind.NO_SUCH_PICTURE,
            f"there is no picture {target_image}; pictures are numbered 1 to {len(context)}",
        )
    try:
        box = Box.of(bbox_2d)
    except BoxError as error:
        raise CallRejected(CallErrorKind.BAD_BOX, str(error)) from error
    frame = Transform(name=_FRAMED, arguments={"box": [round(value, 4) for value in box]})
    return [context.add_region(target_image, transforms=(frame,), budget="picture")]
