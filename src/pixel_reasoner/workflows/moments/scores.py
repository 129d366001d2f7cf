"""Scores of sampled frames for one description: runs of frames that show it, and the gaps that are not known yet."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from pixel_reasoner.workflows.moments.spans import Span

THRESHOLD = Fraction(1, 2)
"""a frame shows a description if its score is above this"""


@dataclass(frozen=True)
class Run:
    """Consecutive sampled frames that show a description.

    Attributes:
        span: from its first frame to the first frame after it, as far as they are known.
        score: mean score of the sampled frames.
        best: highest score.
        unknown: frames at both ends that were not sampled and may belong to it.
    """

    span: Span
    score: float
    best: float
    unknown: int = 0


@dataclass
class FrameScores:
    """Sampled frames of one video and their scores for one description.

    >>> scores = FrameScores(100)
    >>> for frame, score in ((10, 0), (20, 1), (30, 1), (40, 0)):
    ...     scores.add(frame, Fraction(score))
    >>> scores.gaps()
    [Span(first=11, end=20), Span(first=31, end=40)]
    >>> scores.runs()[0].span
    Span(first=20, end=31)
    """

    num_frames: int
    _scores: dict[int, Fraction] = field(default_factory=dict)

    def add(self, frame: int, score: Fraction) -> None:
        """Add a sampled frame; a later score of the same frame replaces it."""
        self._scores[frame] = score

    @property
    def frames(self) -> list[int]:
        """All sampled frames, ascending."""
        return sorted(self._scores)

    def shows(self, frame: int) -> bool:
        """Return whether a sampled frame shows the description. Frames outside the video do not."""
        return self._scores.get(frame, Fraction(0)) > THRESHOLD

    def gaps(self) -> list[Span]:
        """Return the spans without a sample between a frame that shows it and one that does not: they contain an end."""
        bounds = [-1, *self.frames, self.num_frames]
        return [
            Span(low + 1, high)
            for low, high in itertools.pairwise(bounds)
            if high - low > 1 and self.shows(low) != self.shows(high)
        ]

    def runs(self) -> list[Run]:
        """Return the runs of frames that show the description, in order."""
        return self._runs(lambda frame: self.shows(frame))

    def near_misses(self) -> list[Run]:
        """Return the runs of frames with a score above 0 that do not show it, the best first."""
        found = self._runs(lambda frame: 0 < self._scores[frame] <= THRESHOLD)
        return sorted(found, key=lambda run: -run.best)

    def _runs(self, belongs: object) -> list[Run]:
        assert callable(belongs)
        frames = self.frames
        runs: list[list[int]] = [[]]
        for frame in frames:
            if belongs(frame):
                runs[-1].append(frame)
            elif runs[-1]:
                runs.append([])
        return [self._run(run, frames) for run in runs if run]

    def _run(self, run: list[int], frames: list[int]) -> Run:
        scores = [self._scores[frame] for frame in run]
        position = bisect_left(frames, run[0])
        before = frames[position - 1] if position else -1
        position = bisect_left(frames, run[-1]) + 1
        after = frames[position] if position < len(frames) else self.num_frames
        unknown = (run[0] - before - 1) + (after - run[-1] - 1)
        return Run(
            Span(run[0], run[-1] + 1),
            float(sum(scores) / len(scores)),
            float(max(scores)),
            unknown,
        )


def merge_runs(runs: Iterable[Run], max_gap: int) -> list[Run]:
    """Join runs with at most `max_gap` frames between them.

    >>> merge_runs([Run(Span(0, 4), 1.0, 1.0), Run(Span(6, 8), 0.5, 0.5)], 2)[0].span
    Span(first=0, end=8)
    """
    merged: list[Run] = []
    for run in sorted(runs, key=lambda one: one.span):
        if merged and run.span.first - merged[-1].span.end <= max_gap:
            last = merged[-1]
            weight = len(last.span) + len(run.span)
            score = (last.score * len(last.span) + run.score * len(run.span)) / weight
            merged[-1] = Run(
                Span(last.span.first, max(last.span.end, run.span.end)),
                score,
                max(last.best, run.best),
                last.unknown + run.unknown,
            )
        else:
            merged.append(run)
    return merged
