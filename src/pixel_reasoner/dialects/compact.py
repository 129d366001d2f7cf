"""This project's own dialect: few words, every picture named by its number, boxes as they are.

The embedded model speaks it. Numbers in front of the pictures let a small model name a frame or a crop without
counting.
"""

from __future__ import annotations

from collections.abc import Sequence

from pixel_reasoner.dialects.base import Dialect
from pixel_reasoner.operations.registry import default_operations
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Picture


def _label(picture: Picture) -> str:
    return f"Image {picture.number}:" if picture.frame is None else f"Frame {picture.frame}:"


def _reply(pictures: Sequence[Picture], shown: int) -> list[str]:
    del shown
    return [
        f"Image {picture.number}:"
        if picture.frame is None
        else f"Image {picture.number}, frame {picture.frame}:"
        for picture in pictures
    ]


COMPACT = Dialect(
    name="compact",
    models="the embedded model, and models tuned on traces in this dialect",
    budgets=PixelBudgets(
        picture=PixelBudget(min_px=32 * 32, max_px=1024 * 1024),
        crop=PixelBudget(min_px=512 * 512, max_px=1024 * 1024),
        frame=PixelBudget(min_px=32 * 32, max_px=320 * 320),
        selected_frame=PixelBudget(min_px=32 * 32, max_px=640 * 640),
        multiple=32,
    ),
    system_with=(
        "You can look closer: zoom_in(bbox_2d, target_image) for an image, select_frames(target_frames) "
        "for a video. Put the final answer in \\boxed{}."
    ),
    system_without="Put the final answer in \\boxed{}.",
    label=_label,
    reply=_reply,
    complaint="Error: {why}",
    tools=default_operations().tool_schemas,
    system_native="Put the final answer in \\boxed{}.",
)
