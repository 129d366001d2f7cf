"""Search of many videos: `find_moments` yields the result of each video as it finishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.rollout.scheduler import get_scheduler
from pixel_reasoner.schema.settings import MediaLimits, RolloutConfig
from pixel_reasoner.workflows.moments.changes import ChangeFinder
from pixel_reasoner.workflows.moments.job import VideoJob
from pixel_reasoner.workflows.moments.moment import VideoMoments
from pixel_reasoner.workflows.moments.replies import Query, labelled
from pixel_reasoner.workflows.moments.search import PIXELS, VIDEO, VideoSearch
from pixel_reasoner.workflows.moments.shots import find_shots
from pixel_reasoner.workflows.moments.video_index import VideoIndex, read_video_index
from pixel_reasoner.workflows.survey.engine import Task, TaskResult, answer_tasks

MAX_QUERIES = 26
MAX_OPEN_PX = 64_000_000
"""Decoded pixels of questions in progress, four bytes each: six questions of six frames of 1920 x 1080."""
MAX_CACHED_PX = 25_000_000
"""Decoded pixels kept for further questions. Each question is about another part of a video, so they are hardly used."""
OnVideo = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How videos are searched.

    Raises:
        UsageError: values that do not fit.
    """

    step_s: Fraction = Fraction(4, 5)
    """time between two frames of the coarse pass: a moment at least this long is sampled"""
    num_frames: int = 6
    """frames in one question"""
    merge_gap_s: Fraction = Fraction(1, 4)
    """gap between two moments of one description up to which they are one"""
    samples: int = 1
    """answers per question; a frame counts if more than half of them name it"""
    shots: bool = True
    """whether shots are detected, which decodes all frames once at a small size"""
    box_every_s: Fraction | None = None
    """time between two frames of a moment in which its subjects are located, for `--reframe` and `--redact`; None: they are not"""
    batch_size: int = 16
    """requests in progress"""

    def __post_init__(self) -> None:
        """Check the values."""
        for is_valid, expected, got in (
            (self.step_s > 0, "a step (--every) above 0 s", f"{float(self.step_s):g} s"),
            (self.num_frames >= 1, "at least 1 frame in a question", str(self.num_frames)),
            (self.merge_gap_s >= 0, "a gap of at least 0 s", f"{float(self.merge_gap_s):g} s"),
            (self.samples >= 1, "at least 1 sample", str(self.samples)),
        ):
            if not is_valid:
                raise UsageError(expected=expected, got=got, fix="choose another value")

    def media(self, limits: MediaLimits) -> MediaLimits:
        """Return the limits of questions: the number of frames is that of this search."""
        return limits.model_copy(update={"num_frames": self.num_frames})


def check_queries(texts: Sequence[str]) -> tuple[Query, ...]:
    """Return queries with their labels.

    Raises:
        UsageError: none, an empty or repeated text, or too many.

    >>> [query.label for query in check_queries(["a red car", "a dog"])]
    ['A', 'B']
    """
    cleaned = [" ".join(text.split()) for text in texts]
    if not cleaned or not all(cleaned):
        raise UsageError(
            expected="descriptions of what to find",
            got="none" if not cleaned else "an empty one",
            fix="for example --query 'a red car enters'",
        )
    repeated = next((text for text in cleaned if cleaned.count(text) > 1), None)
    if repeated is not None:
        raise UsageError(
            expected="different descriptions", got=f"{repeated!r} twice", fix="remove one"
        )
    if len(cleaned) > MAX_QUERIES:
        raise UsageError(
            expected=f"at most {MAX_QUERIES} descriptions in one pass",
            got=str(len(cleaned)),
            fix="search in several runs",
        )
    return tuple(labelled(cleaned))


@dataclass
class _Search:
    """Videos in progress."""

    options: SearchOptions
    queries: tuple[Query, ...]
    limits: MediaLimits
    on_video: OnVideo
    jobs: dict[str, VideoJob] = field(default_factory=dict)
    finished: list[VideoMoments] = field(default_factory=list)

    def tasks(self, videos: Iterable[Path]) -> Iterator[Task]:
        """Yield the first questions of each video. A video is opened when its questions are needed."""
        for number, video in enumerate(videos):
            name = f"{number:04}-{video.name}"
            self.on_video(f"reading {video.name}")
            try:
                job = self._job(video, read_video_index(video, self.limits), name)
                if self.options.shots:
                    _scan(job.search, self.limits)
            except InputError as error:
                self.finished.append(VideoMoments(video, self.queries, error=str(error)))
                continue
            self.on_video(f"searching {video.name}")
            self.jobs[name] = job
            yield from job.start()

    def _job(self, video: Path, index: VideoIndex, name: str) -> VideoJob:
        options = self.options
        search = VideoSearch(index, self.queries, options.num_frames, options.step_s, (), name)
        gap = index.rate.frame_of(options.merge_gap_s)
        return VideoJob(video, search, gap, options.box_every_s)

    def follow_ups(self, result: TaskResult) -> list[Task]:
        """Return the questions that depend on an answer; a video without any is finished."""
        name = str(result.task.about[VIDEO])
        job = self.jobs[name]
        tasks = job.add(result)
        if not tasks and job.is_done:
            self.finished.append(self.jobs.pop(name).result())
        return tasks


def _scan(search: VideoSearch, limits: MediaLimits) -> None:
    """Decode all frames at a small size: shots, and short changes between the samples of the coarse pass."""
    changes = ChangeFinder(search.even_frames())
    search.shots = tuple(find_shots(search.index, limits, changes.add))
    search.changes = changes.found()


def has_room(tasks: Sequence[Task]) -> bool:
    """Return whether the frames of another question fit into memory."""
    return sum(int(task.about[PIXELS]) for task in tasks) < MAX_OPEN_PX


@contextmanager
def _small_media_cache(model: GenerationModel) -> Iterator[None]:
    scheduler = get_scheduler(model)
    before, scheduler.max_cached_px = scheduler.max_cached_px, MAX_CACHED_PX
    try:
        yield
    finally:
        scheduler.max_cached_px = before


def find_moments(
    videos: Iterable[str | Path],
    queries: Sequence[str],
    model: GenerationModel,
    options: SearchOptions | None = None,
    config: RolloutConfig | None = None,
    *,
    on_video: OnVideo = lambda note: None,
) -> Iterator[VideoMoments]:
    r"""Yield the moments of each video that show a description, in the order in which videos finish.

    Args:
        videos: paths; they are opened as they are needed. A video that cannot be read gives a result with an error.
        queries: descriptions, such as `a red car enters`; all of them are searched in one pass.
        model: a loaded model.
        options: how videos are searched.
        config: limits, sampling, operations.
        on_video: called with a note about the progress.

    Raises:
        UsageError: no or too many descriptions, or a missing package.
        EndpointError: servers that do not answer any more.

    >>> from pixel_reasoner.models.scripted import ScriptedModel
    >>> model = ScriptedModel([r"\boxed{A: none}"])
    >>> [found.error is None for found in find_moments(["no.mp4"], ["a red car"], model)]
    [False]
    """
    options, config = options or SearchOptions(), config or RolloutConfig()
    search = _Search(options, check_queries(queries), config.media, on_video)
    asked = config.model_copy(update={"media": options.media(config.media)})
    results = answer_tasks(
        search.tasks(map(Path, videos)),
        model,
        asked,
        samples=options.samples,
        batch_size=options.batch_size,
        follow_ups=search.follow_ups,
        has_room=has_room,
    )
    with _small_media_cache(model):
        for _ in results:
            while search.finished:
                yield search.finished.pop(0)
        yield from search.finished
