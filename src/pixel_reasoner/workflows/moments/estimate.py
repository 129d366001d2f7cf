"""Cost of a search before it runs: frames, calls, tokens, seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

from pixel_reasoner.errors import InputError, PixelReasonerError, UsageError
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.text import counted
from pixel_reasoner.workflows.moments.find import SearchOptions
from pixel_reasoner.workflows.moments.frames import decode_span
from pixel_reasoner.workflows.moments.run import FindSpec, video_paths
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import VideoIndex, read_video_index
from pixel_reasoner.workflows.world import prompt_settings

ASSUMED_MOMENTS_PER_MIN = 2
"""moments per minute and description, for the fine rounds; unknown before the search"""
ASSUMED_MOMENT_S = 4
ASSUMED_CALL_S = 2.0
TEXT_TOKENS = 250
"""prompt and answer of a question without its frames"""
_MEASURED_FRAMES = 24


@dataclass(frozen=True)
class Estimate:
    """Cost of a search.

    Attributes:
        num_videos: videos that can be read.
        duration_s: their total length.
        num_frames: frames in them.
        coarse_frames: frames that the coarse pass gives to the model at even times.
        change_frames: at most this many more, where something changes for a short time.
        step_s: time between two of the even frames.
        fine_frames: frames of the fine rounds, under an assumption about the number of moments.
        calls: questions.
        tokens: prompt and answer tokens.
        decode_s: seconds to decode, measured on some frames.
        model_s: seconds of the model, under an assumption about one call.
    """

    num_videos: int
    duration_s: float
    num_frames: int
    coarse_frames: int
    change_frames: int
    step_s: float
    fine_frames: int
    calls: int
    tokens: int
    decode_s: float
    model_s: float

    @property
    def lines(self) -> list[str]:
        """The estimate in words."""
        asked = self.coarse_frames + self.change_frames + self.fine_frames
        share = asked / max(1, self.num_frames)
        changes = f", at most {self.change_frames:,} where something changes for a short time"
        return [
            f"{counted(self.num_videos, 'video')}, {self.duration_s / 60:.1f} min, {self.num_frames:,} frames",
            f"estimate: {self.coarse_frames:,} frames at even times{changes * bool(self.change_frames)}, about "
            f"{self.fine_frames:,} more for exact ends ({ASSUMED_MOMENTS_PER_MIN} moments per minute assumed): {share:.1%} of "
            "all frames at full size",
            f"estimate: {self.calls:,} calls, {self.tokens:,} tokens, {_seconds(self.decode_s)} of decoding, "
            f"{_seconds(self.model_s)} of the model ({ASSUMED_CALL_S:g} s per call assumed)",
            f"moments shorter than {self.step_s:g} s may be missed; --every sets this time",
        ]


def estimate_find(spec: FindSpec, model: ModelSpec | None = None) -> Estimate:
    """Return the cost of a search before it runs; no model is loaded. Videos that cannot be read are left out.

    Args:
        spec: the search.
        model: which model, for the size of frames in its prompt.
    """
    indexes = []
    for path, error in video_paths(spec.videos):
        if error is None:
            with suppress(InputError):
                indexes.append(read_video_index(path, spec.config.media))
    return estimate_cost(indexes, len(spec.queries), spec.options, _budgets(model))


def _budgets(model: ModelSpec | None) -> PixelBudgets | None:
    """Return the budgets of a local model or a dialect; None if they are unknown."""
    if model is None:
        return None
    try:
        return prompt_settings(model.dialect or model.name)[1]
    except PixelReasonerError:
        return None


def estimate_cost(
    videos: Iterable[VideoIndex],
    num_queries: int,
    options: SearchOptions,
    budgets: PixelBudgets | None,
) -> Estimate:
    """Return the cost of a search.

    Args:
        videos: readable videos.
        num_queries: descriptions.
        options: of the search.
        budgets: pixels of frames in the prompt; None if unknown.
    """
    indexes = list(videos)
    coarse = sum(_coarse_frames(index, options) for index in indexes)
    rounds = sum(_fine(index, num_queries, options)[0] for index in indexes)
    fine = sum(_fine(index, num_queries, options)[1] for index in indexes)
    located = sum(_num_moments(index, num_queries) for index in indexes) * _boxes_per_moment(
        options
    )
    changes = coarse if options.shots else 0
    first_calls = math.ceil(coarse / options.num_frames) + math.ceil(changes / options.num_frames)
    calls = (first_calls + rounds + located) * options.samples
    frame_tokens = max((_frame_tokens(index.size, budgets) for index in indexes), default=0)
    tokens = (
        coarse + changes + fine + located
    ) * frame_tokens * options.samples + calls * TEXT_TOKENS
    return Estimate(
        num_videos=len(indexes),
        duration_s=float(sum(index.duration_s for index in indexes)),
        num_frames=sum(index.num_frames for index in indexes),
        coarse_frames=coarse,
        change_frames=changes,
        step_s=float(options.step_s),
        fine_frames=fine + located,
        calls=calls,
        tokens=tokens,
        decode_s=sum(_decode_s(index, options, coarse + changes + fine) for index in indexes),
        model_s=calls * ASSUMED_CALL_S,
    )


def _coarse_frames(index: VideoIndex, options: SearchOptions) -> int:
    return min(index.num_frames, max(1, math.ceil(index.duration_s / options.step_s)))


def _boxes_per_moment(options: SearchOptions) -> int:
    """Return the frames of a moment in which subjects are located."""
    if options.box_every_s is None:
        return 0
    return math.ceil(ASSUMED_MOMENT_S / options.box_every_s) + 1


def _num_moments(index: VideoIndex, num_queries: int) -> int:
    return max(1, round(index.duration_s * ASSUMED_MOMENTS_PER_MIN / 60)) * num_queries


def _fine(index: VideoIndex, num_queries: int, options: SearchOptions) -> tuple[int, int]:
    """Return questions and frames of the fine rounds: both ends of each moment."""
    gap = max(1, index.rate.frame_of(options.step_s))
    calls, frames = 0, 0
    while gap > 1 and calls < 10:
        asked = min(options.num_frames, gap - 1)
        calls, frames, gap = calls + 1, frames + asked, math.ceil(gap / (asked + 1))
    ends = 2 * _num_moments(index, num_queries)
    return ends * calls, ends * frames


def _frame_tokens(size: Size, budgets: PixelBudgets | None) -> int:
    budget = budgets.frame if budgets else PixelBudget(min_px=1, max_px=320 * 320)
    side = budgets.multiple if budgets else 32
    pixels = min(max(size[0] * size[1], budget.min_px), budget.max_px)
    return math.ceil(pixels / side**2)


def _decode_s(index: VideoIndex, options: SearchOptions, num_sampled: int) -> float:
    """Return seconds of decoding: all frames for shots, otherwise those from the key frames to the samples."""
    started = time.perf_counter()
    span = Span(0, min(index.num_frames, _MEASURED_FRAMES))
    num = sum(1 for _ in islice(decode_span(index, span), _MEASURED_FRAMES))
    frame_s = (time.perf_counter() - started) / max(1, num)
    per_key = index.num_frames / max(1, len(index.key_pts)) / 2
    sampled = min(index.num_frames, num_sampled * per_key)
    return frame_s * (sampled + (index.num_frames if options.shots else 0))


def _seconds(seconds: float) -> str:
    return "less than 1 s" if seconds < 1 else f"{seconds:,.0f} s"


def parse_duration(text: str, name: str) -> Fraction:
    """Return a number of seconds from an option.

    Raises:
        UsageError: no number, or a negative one.

    >>> parse_duration("0.5", "--handles"), parse_duration("250ms", "--handles")
    (Fraction(1, 2), Fraction(1, 4))
    """
    cleaned = text.strip().lower()
    unit = Fraction(1, 1000) if cleaned.endswith("ms") else Fraction(1)
    try:
        value = Fraction(cleaned.removesuffix("ms").removesuffix("s").strip()) * unit
        if value < 0:
            raise ValueError
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(
            expected=f"{name} in seconds", got=repr(text), fix="for example 0.5 or 250ms"
        ) from error
    return value
