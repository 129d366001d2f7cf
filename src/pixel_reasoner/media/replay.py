"""Recorded frame sampling and pictures of a trace, for replays."""

from __future__ import annotations

from collections import Counter

from pixel_reasoner.errors import InputError
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import Picture, Trace


def recorded_limits(trace: Trace, limits: MediaLimits) -> MediaLimits:
    """Return limits with the number of frames that a trace of schema version 1 sampled.

    For newer traces, which record their sampling, `limits` is returned unchanged. Version 1 recorded neither the
    requested number nor the indices, so the largest number of frames of one media item is used.
    """
    num_frames = Counter(one.medium for one in trace.pictures if one.frame is not None)
    if trace.sampling or not num_frames:
        return limits
    return limits.model_copy(update={"num_frames": max(num_frames.values())})


def recorded_pictures(trace: Trace) -> list[Picture] | None:
    """Return all pictures of a trace in order of their numbers from 1; None if a number is missing."""
    pictures = trace.all_pictures
    numbers = sorted(pictures)
    if numbers != list(range(1, len(numbers) + 1)):
        return None
    return [pictures[number] for number in numbers]


def media_mismatch_error(trace: Trace) -> InputError:
    """Return the error for media that do not match a trace."""
    media = ", ".join(item.path for item in trace.question.media) or "no media"
    return InputError(
        expected="the original media of the trace",
        got=f"other pictures in {media}",
        fix="restore the original files, or run the question again",
    )
