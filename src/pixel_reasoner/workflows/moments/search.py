"""Search of one video, coarse to fine: which frames are asked next, and what is known so far.

The coarse pass samples the whole video at even times, one frame of each shot that would get none, and frames between the samples
in which something changes for a short time (`changes`). Each further round samples only the gaps between a frame that shows a description and one that does not, until no gap is left. So the ends are
exact to the frame, and few frames are decoded at full size.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from pixel_reasoner.media.sampling import has_constant_rate, spread, spread_times
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.workflows.moments.replies import (
    Query,
    frames_question,
    mean_scores,
    parse_frames,
)
from pixel_reasoner.workflows.moments.scores import FrameScores
from pixel_reasoner.workflows.moments.spans import Span, complement
from pixel_reasoner.workflows.moments.video_index import VideoIndex
from pixel_reasoner.workflows.survey.engine import Task, TaskResult

MAX_ROUNDS = 6
"""rounds after the coarse pass; each divides the gaps by the number of frames in a question"""
_EDGE_S = 1e-7
"""distance of a window's ends from the times of frames; below the tolerance of frame sampling, far below a frame"""


VIDEO, PIXELS = "video", "pixels"
"""keys of `Task.about`"""


class Asked(NamedTuple):
    """A question about a part of a video, for some descriptions."""

    task: Task
    window: Span
    queries: tuple[Query, ...]
    frames: tuple[int, ...]
    """frames that will be sampled"""


@dataclass
class VideoSearch:
    """State of the search of one video.

    Attributes:
        index: the video.
        queries: descriptions, all asked in one pass.
        num_frames: frames in one question.
        step_s: time between two samples of the coarse pass; shorter moments may be missed.
        shots: of the video; empty if they are unknown.
        name: unique prefix of the ids of its questions.
        changes: frames between the samples in which something changes for a short time.
    """

    index: VideoIndex
    queries: tuple[Query, ...]
    num_frames: int
    step_s: Fraction
    shots: Sequence[Span]
    name: str
    changes: Sequence[int] = ()
    scores: dict[str, FrameScores] = field(default_factory=dict)
    failed: list[tuple[Span, str]] = field(default_factory=list)
    """windows without an answer, and why"""
    num_asked: int = 0
    """frames given to the model, which are decoded at full size"""
    round: int = 0
    _is_constant: bool = True
    """whether the frame sampling of media counts frames, not time"""
    _waiting: dict[str, Asked] = field(default_factory=dict)
    _asked_windows: set[tuple[Span, tuple[Query, ...]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin without samples."""
        self.scores = {query.label: FrameScores(self.index.num_frames) for query in self.queries}
        times = [float(self.index.time_s(n)) for n in range(self.index.num_frames)]
        self._is_constant = has_constant_rate(times)

    @property
    def is_done(self) -> bool:
        """Whether no question is open."""
        return not self._waiting

    def start(self) -> list[Task]:
        """Return the questions of the coarse pass."""
        windows = [(window, self.queries) for window in self.even_windows()]
        frames = self.additional_frames()
        groups = [frames[n : n + self.num_frames] for n in range(0, len(frames), self.num_frames)]
        return [*self._ask(windows), *map(self._ask_frames, groups)]

    def even_windows(self) -> list[Span]:
        """Return the windows of equal length of the coarse pass."""
        total = self.index.num_frames
        num_samples = max(1, math.ceil(self.index.duration_s / self.step_s))
        num_windows = math.ceil(min(num_samples, total) / self.num_frames)
        ends = [total * number // num_windows for number in range(num_windows + 1)]
        return [Span(first, end) for first, end in itertools.pairwise(ends)]

    def even_frames(self) -> list[int]:
        """Return the frames that the windows of equal length sample."""
        return sorted({frame for window in self.even_windows() for frame in self.sampled(window)})

    def additional_frames(self) -> list[int]:
        """Return the frames of the coarse pass between the even ones: short changes, and one in each shot without a sample."""
        known = sorted({*self.even_frames(), *self.changes})
        middles = [
            (shot.first + shot.end) // 2
            for shot in self.shots
            if bisect_left(known, shot.first) == bisect_left(known, shot.end)
        ]
        return sorted({*self.changes, *middles})

    def sampled(self, window: Span) -> tuple[int, ...]:
        """Return the frames that a question about a window samples."""
        if self._is_constant:
            places = spread(len(window), self.num_frames)
        else:
            start, end = window.times(self.index)
            times = [float(self.index.time_s(n)) for n in range(window.first, window.end)]
            places = spread_times(times, float(start), float(end), self.num_frames)
        return tuple(window.first + place for place in places)

    def add(self, result: TaskResult) -> list[Task]:
        """Add an answer; after the last one of a round, return the questions of the next round."""
        asked = self._waiting.pop(result.task.id)
        self._score(asked, result)
        if self._waiting or self.round >= MAX_ROUNDS:
            return []
        self.round += 1
        by_gap: dict[Span, list[Query]] = {}
        for query in self.queries:
            for gap in self.scores[query.label].gaps():
                by_gap.setdefault(gap, []).append(query)
        return self._ask([(gap, tuple(some)) for gap, some in sorted(by_gap.items())])

    def _ask(self, wanted: Sequence[tuple[Span, tuple[Query, ...]]]) -> list[Task]:
        tasks = []
        for window, queries in wanted:
            if (window, queries) in self._asked_windows:
                continue  # it failed, or the answer could not be read: the same question again would not help
            self._asked_windows.add((window, queries))
            frames = self.sampled(window)
            start, end = self.part_of(window)
            item = MediaItem(kind="video", path=str(self.index.path), start_s=start, end_s=end)
            labels = "".join(query.label for query in queries)
            id_ = f"{self.name}#{self.round}.{window.first}-{window.end}.{labels}"
            text = frames_question(queries, [self.index.time_s(frame) for frame in frames])
            task = Task(id_, Question(id=id_, text=text, media=(item,)), self.about(len(frames)))
            self._waiting[id_] = Asked(task, window, queries, frames)
            tasks.append(task)
        return tasks

    def _ask_frames(self, frames: Sequence[int]) -> Task:
        """Return the question about single frames of the coarse pass."""
        window = Span(frames[0], frames[-1] + 1)
        item = MediaItem(kind="video", path=str(self.index.path))
        parts = [self.part_of(Span(frame, frame + 1)) for frame in frames]
        media = tuple(
            item.model_copy(update={"start_s": start, "end_s": end}) for start, end in parts
        )
        id_ = f"{self.name}#{self.round}.frames.{window.first}-{window.end}"
        text = frames_question(self.queries, [self.index.time_s(frame) for frame in frames])
        task = Task(id_, Question(id=id_, text=text, media=media), self.about(len(frames)))
        self._waiting[id_] = Asked(task, window, self.queries, tuple(frames))
        return task

    def part_of(self, window: Span) -> tuple[float, float]:
        """Return the part of the file that contains exactly the frames of a window."""
        start, end = window.times(self.index)
        return max(0.0, float(start) - _EDGE_S), float(end) - _EDGE_S

    def about(self, num_frames: int) -> dict[str, Any]:
        """Return `Task.about` of a question: the video, and the pixels of its frames at full size."""
        return {VIDEO: self.name, PIXELS: num_frames * math.prod(self.index.size)}

    def _score(self, asked: Asked, result: TaskResult) -> None:
        if result.error is not None:
            self.failed.append((asked.window, result.error))
            return
        shown = self._shown_frames(result)
        self.num_asked += len(shown)
        parsed = [parse_frames(one.answer, asked.queries, len(shown)) for one in result.traces]
        readable = [one for one in parsed if one is not None]
        if not readable:
            self.failed.append((asked.window, "no readable answer"))
            return
        for query in asked.queries:
            answers = [one[query.label] for one in readable if query.label in one]
            if not answers:
                self.failed.append((asked.window, f"no answer about {query.label}"))
                continue
            for frame, score in zip(shown, mean_scores(answers, len(shown)), strict=True):
                self.scores[query.label].add(frame, score)

    def _shown_frames(self, result: TaskResult) -> list[int]:
        """Return the frames that the model received, by their recorded times."""
        times = [one.time_s for one in result.traces[0].pictures if one.frame is not None]
        return [
            self.index.frame_at(Fraction(time) + self.index.rate.frame_s / 100)
            for time in times
            if time is not None
        ]

    def unsampled(self) -> list[Span]:
        """Return the spans in which no frame was sampled although the coarse pass should have: failed questions."""
        frames = self.scores[self.queries[0].label].frames
        reach = max(1, self.index.rate.frame_of(self.step_s))
        covered = [
            Span(max(0, frame - reach), min(self.index.num_frames, frame + reach + 1))
            for frame in frames
        ]
        return (
            complement(covered, self.index.num_frames)
            if covered
            else [Span(0, self.index.num_frames)]
        )
