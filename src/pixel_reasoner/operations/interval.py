"""Operation `zoom_time`: frames of a video between two sampled frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixel_reasoner.operations.base import (
    CallRejected,
    MediaKind,
    PerturbRequest,
    PlanRequest,
)
from pixel_reasoner.operations.registry import operation
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import CallErrorKind, Observation, Picture, ToolCall

if TYPE_CHECKING:
    from pixel_reasoner.media.context import MediaContext

MAX_NEW_FRAMES = 8
_RESULT_BUDGET = "selected_frame"


def _sentence(start_frame: int, end_frame: int) -> str:
    return f"look at the video between frames {start_frame} and {end_frame}"


def _plan(question: Question, request: PlanRequest) -> ToolCall | None:
    evidence = question.evidence
    if evidence is None or not evidence.clip_indices or not request.sampling:
        return None
    sampled = request.sampling[0].indices
    start = sum(index < min(evidence.clip_indices) for index in sampled)
    end = len(sampled) + 1 - sum(index > max(evidence.clip_indices) for index in sampled)
    if start < 1 or end > len(sampled):
        return None
    return ToolCall(name="zoom_time", arguments={"start_frame": start, "end_frame": end})


def _perturb(call: ToolCall, request: PerturbRequest) -> ToolCall | None:
    """Return the call with an interval of the same length that does not overlap the given one."""
    start, end = (call.arguments.get(name) for name in ("start_frame", "end_frame"))
    if not (isinstance(start, int) and isinstance(end, int)) or not request.evidence.clip_indices:
        return None
    num_frames = len({picture.frame for picture in request.pictures} - {None})
    length = end - start
    starts = [
        one for one in range(1, num_frames - length + 1) if one >= end or one + length <= start
    ]
    if not starts or length < 1:
        return None
    first = request.rng.choice(starts)
    return ToolCall(name=call.name, arguments={"start_frame": first, "end_frame": first + length})


@operation(
    media={MediaKind.VIDEO},
    result_budget=_RESULT_BUDGET,
    max_results=MAX_NEW_FRAMES,
    sentence=_sentence,
    plan=_plan,
    perturb=_perturb,
    synthesis=(
        "{subject} is between the frames that I see, so I look at the video there.",
        "No frame shows {subject}. I look at the time between the frames.",
    ),
)
def zoom_time(context: MediaContext, start_frame: int, end_frame: int) -> Observation:
    """Look at up to 8 more frames of the video between two frames, for what is visible only for a moment.

    Args:
        context: The pictures so far.
        start_frame: The number of the frame at the start, from 1.
        end_frame: The number of the frame at the end, larger than start_frame.
    """
    from pixel_reasoner.media.sampling import spread  # loads Pillow

    first, last = _ends(context, start_frame, end_frame)
    indices = _sampled_indices(context, first.medium)
    positions = _positions(context, first.medium)
    start, end = (indices[positions.index(one)] for one in (start_frame, end_frame))
    known = set(indices)
    between = [index for index in range(start + 1, end) if index not in known]
    if not between:
        raise CallRejected(
            CallErrorKind.BAD_FRAMES,
            f"the video has no more frames between frames {start_frame} and {end_frame}; "
            "use select_frames to see these frames in more detail",
        )
    wanted = [between[at] for at in spread(len(between), MAX_NEW_FRAMES)]
    pictures = context.add_clip_frames(first.number, wanted, _RESULT_BUDGET)
    return Observation(text=_text(pictures, last, len(between)), pictures=tuple(pictures))


def _ends(context: MediaContext, start_frame: int, end_frame: int) -> tuple[Picture, Picture]:
    if not context.num_frames:
        raise CallRejected(CallErrorKind.NOT_A_VIDEO, "there is no video; use zoom_in")
    allowed = f"give two numbers from 1 to {context.num_frames}, the first smaller than the second"
    for number in (start_frame, end_frame):
        if number not in context.frames:
            raise CallRejected(CallErrorKind.BAD_FRAMES, f"there is no frame {number}; {allowed}")
    if start_frame >= end_frame:
        raise CallRejected(
            CallErrorKind.BAD_FRAMES,
            f"frame {start_frame} is not before frame {end_frame}; {allowed}",
        )
    first, last = (context.picture(context.frames[one]) for one in (start_frame, end_frame))
    if first.medium != last.medium:
        raise CallRejected(
            CallErrorKind.BAD_FRAMES,
            f"frames {start_frame} and {end_frame} are of two videos; give two frames of one video",
        )
    return first, last


def _sampled_indices(context: MediaContext, medium: int) -> tuple[int, ...]:
    found = next((one.indices for one in context.sampling if one.medium == medium), ())
    if len(found) != len(_positions(context, medium)):
        raise CallRejected(
            CallErrorKind.BAD_FRAMES,
            "the positions of the frames in the video are unknown; use select_frames",
        )
    return found


def _positions(context: MediaContext, medium: int) -> list[int]:
    """Return the numbers of the sampled frames of a media item, in order."""
    return [
        number
        for number, picture in sorted(context.frames.items())
        if context.picture(picture).medium == medium
    ]


def _text(pictures: list[Picture], last: Picture, num_between: int) -> str:
    numbers = [one.number for one in pictures]
    which = (
        f"picture {numbers[0]} shows"
        if len(numbers) == 1
        else f"pictures {numbers[0]} to {numbers[-1]} show"
    )
    times = [one.time_s for one in pictures if one.time_s is not None]
    text = f"{which} {len(numbers)} of {num_between} frames in between"
    if len(times) < len(pictures) or last.time_s is None:
        return text
    return f"{text}, at {', '.join(f'{one:.2f}' for one in times)} s"
