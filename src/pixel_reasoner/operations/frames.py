"""Operation `select_frames`: sampled frames of a video, larger than in the overview."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.operations.base import (
    CallRejected,
    FramesArgument,
    MediaKind,
    PerturbRequest,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.schema.trace import CallErrorKind, Picture, ToolCall

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

MAX_SELECTED_FRAMES = 8
_RESULT_BUDGET = "selected_frame"


def _sentence(target_frames: list[int]) -> str:
    return f"look at frame{'s' * (len(target_frames) > 1)} {', '.join(map(str, target_frames))}"


def _perturb(call: ToolCall, request: PerturbRequest) -> ToolCall | None:
    """Return the call with the same number of frames, none of them evidence."""
    if not request.evidence.frames:
        return None
    num_frames = len({picture.frame for picture in request.pictures} - {None})
    others = sorted(set(range(1, num_frames + 1)) - set(request.evidence.frames))
    wanted = call.arguments.get("target_frames")
    if not others or not isinstance(wanted, list) or not wanted:
        return None
    frames = sorted(request.rng.sample(others, min(len(wanted), len(others))))
    return ToolCall(name=call.name, arguments={"target_frames": frames})


@operation(
    media={MediaKind.VIDEO},
    result_budget=_RESULT_BUDGET,
    max_results=MAX_SELECTED_FRAMES,
    sentence=_sentence,
    perturb=_perturb,
    synthesis=(
        "I need a closer look at the frames that show {subject}.",
        "Now I select the frames with {subject}.",
        "{subject} is too small to make out here, so I select its frames.",
    ),
)
def select_frames(context: MediaContext, target_frames: FramesArgument) -> list[Picture]:
    """Look at up to 8 frames of the video in more detail.

    Args:
        context: The pictures so far.
        target_frames: The numbers of the frames, from 1, each at most once.
    """
    if not context.num_frames:
        raise CallRejected(
            CallErrorKind.NOT_A_VIDEO, "there is no video to select frames of; use zoom_in"
        )
    allowed = (
        f"give 1 to {min(MAX_SELECTED_FRAMES, context.num_frames)} different numbers "
        f"from 1 to {context.num_frames}"
    )
    if not target_frames:
        raise CallRejected(CallErrorKind.BAD_FRAMES, f"no frames were named; {allowed}")
    missing = [number for number in target_frames if number not in context.frames]
    if missing:
        raise CallRejected(CallErrorKind.BAD_FRAMES, f"there is no frame {missing[0]}; {allowed}")
    if len(set(target_frames)) < len(target_frames):
        raise CallRejected(CallErrorKind.BAD_FRAMES, f"a frame was named twice; {allowed}")
    if len(target_frames) > MAX_SELECTED_FRAMES:
        raise CallRejected(
            CallErrorKind.BAD_FRAMES, f"{len(target_frames)} frames are too many; {allowed}"
        )
    return context.add_frames(target_frames, _RESULT_BUDGET)
