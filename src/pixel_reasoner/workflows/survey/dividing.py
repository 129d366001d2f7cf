"""Division of one file into units: number of pages, length and shots; in this process or in a worker process.

A worker is as slow as a process that starts, once, and then nearly as fast as this one. A file that crashes its decoder, or makes
it hang, is one error there.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.media.decoder import InProcessDecoder, MediaDecoder
from pixel_reasoner.media.documents import Passwords
from pixel_reasoner.media.images import picture_pages
from pixel_reasoner.media.videos import video_duration_s
from pixel_reasoner.media.worker import TaskResult
from pixel_reasoner.media.worker_pool import WorkerPoolDecoder
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.survey.shots import Window, clip_shots


class FileDivider(NamedTuple):
    """Reader of what divides a file into units.

    Attributes:
        pool: worker processes; None for this process.
        pdf_passwords: of protected files.
    """

    pool: WorkerPoolDecoder | None = None
    pdf_passwords: Passwords = ()

    @property
    def decoder(self) -> MediaDecoder:
        """Decoder of the same files."""
        return self.pool or InProcessDecoder(self.pdf_passwords)

    def pages(self, path: Path, limits: MediaLimits) -> list[int]:
        """Return the numbers of the pages of a PDF or TIFF. For errors see `picture_pages`."""
        return list(self._run(path, pages_task, limits, self.pdf_passwords))

    def duration_s(self, path: Path, limits: MediaLimits) -> float:
        """Return the length of a clip. For errors see `video_duration_s`."""
        return float(self._run(path, duration_task, limits))

    def shots(self, path: Path, limits: MediaLimits) -> list[Window]:
        """Return the shots of a clip. For errors see `clip_shots`."""
        found = self._run(path, shots_task, limits)
        return [(Fraction(start), Fraction(end)) for start, end in found]

    def _run(self, path: Path, task: Callable[..., TaskResult], *arguments: Any) -> Any:
        if self.pool is None:
            return task(str(path), *arguments).values
        return self.pool.run(path, task, str(path), *arguments).values


IN_THIS_PROCESS = FileDivider()


def pages_task(path: str, limits: MediaLimits, passwords: Passwords) -> TaskResult:
    """Return the numbers of the pages of a PDF or TIFF."""
    return TaskResult(list(picture_pages(Path(path), limits, passwords)), [])


def duration_task(path: str, limits: MediaLimits) -> TaskResult:
    """Return the length of a clip in seconds."""
    return TaskResult(video_duration_s(Path(path), limits), [])


def shots_task(path: str, limits: MediaLimits) -> TaskResult:
    """Return the shots of a clip: pairs of times as texts, which keep fractions exact."""
    found = clip_shots(Path(path), limits)
    return TaskResult([[str(start), str(end)] for start, end in found], [])
