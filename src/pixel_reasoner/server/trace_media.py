"""Media of stored jobs: names for clients, originals on disk, and decoding in the worker processes of the server.

A stored trace names its media `picture-1.png` or `clip-2.mp4`. Paths of this machine are never part of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.media.pixels import SourceKey
from pixel_reasoner.media.replay import recorded_pictures
from pixel_reasoner.reports.pictures import MAX_LOSSLESS_PX, PictureStore, scaled_size
from pixel_reasoner.reports.schema import Image as PictureEntry
from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import Picture, Trace
from pixel_reasoner.server.job_store import Job, JobStore

MAX_SOURCE_PX = 20_000_000
"""larger sources are scaled down for the viewer; regions are served at full resolution"""
_MAX_OPEN = 8
_MAX_OPEN_PX = 32_000_000
"""decoded pixels that are kept open"""


class StoredMedium(NamedTuple):
    """Medium of a job."""

    kind: str
    file: str
    """name in the folder of originals"""
    name: str
    """for clients"""


class StoredExchange(NamedTuple):
    """Question of a conversation with the reply of the model."""

    text: str
    num_media: int
    reply: str


class StoredRequest(NamedTuple):
    """What is needed to show and to continue a job."""

    media: tuple[StoredMedium, ...]
    exchanges: tuple[StoredExchange, ...] = ()
    follows: str | None = None
    expected: str | None = None
    names: tuple[str, ...] = ("",)
    """titles of its traces"""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return self._asdict()

    @classmethod
    def of(cls, job: Job) -> StoredRequest:
        """Return the request of a job."""
        fields = json.loads(job.request)
        return cls(
            media=tuple(StoredMedium(*one) for one in fields["media"]),
            exchanges=tuple(StoredExchange(*one) for one in fields["exchanges"]),
            follows=fields["follows"],
            expected=fields["expected"],
            names=tuple(fields["names"]),
        )


def stored_media(items: Sequence[MediaItem]) -> tuple[StoredMedium, ...]:
    """Return names for files of the media store, whose names are hashes of their content."""
    found = []
    for number, item in enumerate(items, start=1):
        path = Path(item.path)
        noun = "picture" if item.kind == "image" else "clip"
        found.append(StoredMedium(item.kind, path.name, f"{noun}-{number}{path.suffix}"))
    return tuple(found)


class JobMedia:
    """Opener of the media of all jobs.

    Args:
        jobs: contain the originals.
        decoder: decodes in worker processes.
        limits: on media.
    """

    def __init__(self, jobs: JobStore, decoder: MediaDecoder, limits: MediaLimits) -> None:
        self.jobs = jobs
        self.limits = limits
        self._cache = MediaCache(_MAX_OPEN, _MAX_OPEN_PX, decoder)

    def items(self, media: Sequence[StoredMedium]) -> list[MediaItem]:
        """Return the originals."""
        folder = self.jobs.media
        return [
            MediaItem(kind=one.kind, path=str(folder / one.file)).restricted([folder])
            for one in media
        ]

    def open(self, trace: Trace, media: Sequence[StoredMedium]) -> MediaContext:
        """Open the media of a stored trace.

        Raises:
            InputError: they were removed or do not match the trace.
        """
        real = trace.question.model_copy(update={"media": tuple(self.items(media))})
        num_frames = max((one.num_frames for one in trace.sampling), default=None)
        limits = self.limits
        if num_frames is not None:
            limits = limits.model_copy(update={"num_frames": num_frames})
        try:
            context = self._cache.open(real, UNSCALED, limits, trace.sampling)
            return context.replay(trace.model_copy(update={"question": real}))
        except InputError as error:
            raise InputError(
                expected=error.expected, got=_named(error.got, self.jobs, media), fix=error.fix
            ) from error

    def source(self, medium: StoredMedium) -> bytes:
        """Return the whole picture as a JPEG, which takes a sixth of the time of WebP.

        Raises:
            InputError: it was removed.
        """
        question = Question(id="", text="?", media=tuple(self.items([medium])))
        context = self._cache.open(question, UNSCALED, self.limits)
        size = scaled_size(context.picture(1).source_px, MAX_SOURCE_PX)
        pixels = context.media.region(SourceKey(0), WHOLE, size)
        buffer = io.BytesIO()
        pixels.save(buffer, "JPEG", quality=90, subsampling=0)
        return buffer.getvalue()


class JobPictures(PictureStore):
    """Picture store of one job.

    Args:
        folder: receives the pictures.
        opener: of media.
        media: of the job.
        max_px: sources with more pixels are scaled down.
    """

    def __init__(
        self,
        folder: Path,
        opener: JobMedia,
        media: Sequence[StoredMedium],
        max_px: int = MAX_SOURCE_PX,
    ) -> None:
        super().__init__(folder, max_px)
        self._opener, self._media = opener, media

    def open(self, trace: Trace) -> MediaContext:
        """Open the media of a stored trace in worker processes.

        Raises:
            InputError: they were removed or do not match the trace.
        """
        return self._opener.open(trace, self._media)

    def clip(self, path: Path) -> str:
        """Return the name of a copy of a video file; empty if it is too large, or no browser can play it."""
        files = {one.name: one.file for one in self._media}
        return (
            super().clip(self._opener.jobs.media / files[path.name]) if path.name in files else ""
        )


class LivePictures(JobPictures):
    """Picture store of a job in progress: what the model received is not scaled again, and sources are made when somebody looks."""

    def __init__(self, folder: Path, opener: JobMedia, media: Sequence[StoredMedium]) -> None:
        super().__init__(folder, opener, media)
        self._contexts: list[MediaContext] = []

    def use(self, context: MediaContext) -> None:
        """Use the pictures of a rollout."""
        self._contexts.append(context)

    def open(self, trace: Trace) -> MediaContext:
        """Return the context of a rollout with the pictures of a trace; without one, open its media in worker processes.

        Raises:
            InputError: the media were removed or do not match the trace.
        """
        pictures = recorded_pictures(trace)
        for context in self._contexts:
            if pictures is not None and context.pictures[: len(pictures)] == pictures:
                return context
        return super().open(trace)

    def source(self, picture: Picture, make: Callable[[], PictureEntry]) -> PictureEntry:
        """Return the name of the source of a picture, which `JobMedia.source` makes. Frames and small pictures are made at once."""
        if picture.frame is not None or math.prod(picture.source_px) <= MAX_LOSSLESS_PX:
            return make()
        size = scaled_size(picture.source_px, self.max_px)
        return PictureEntry(ref=source_name(self._media[picture.medium]), px=size)


def source_name(medium: StoredMedium) -> str:
    """Return the name of the source of a picture, from the hash of its content.

    >>> source_name(StoredMedium("image", "5d41402abc4b2a76b9719d911017c592.png", "picture-1.png"))
    'fa2a891d6234da1aa5ca.jpg'
    """
    return f"{hashlib.blake2b(medium.file.encode(), digest_size=10).hexdigest()}.jpg"


def public_question(
    question: Question, media: Sequence[StoredMedium], text: str, expected: str | None
) -> Question:
    """Return a question without paths, with the expected answer.

    Args:
        question: of a rollout.
        media: of the job, in the order of the question.
        text: as the user wrote it.
        expected: answer; None if it is unknown.
    """
    items = tuple(
        MediaItem(**(item.model_dump() | {"path": one.name}))  # without its access rules
        for item, one in zip(question.media, media, strict=False)
    )
    changes = {"media": items, "text": text, "answer": () if expected is None else (expected,)}
    return question.model_copy(update=changes)


def _named(text: str, jobs: JobStore, media: Sequence[StoredMedium]) -> str:
    for one in media:
        text = text.replace(str(jobs.media / one.file), one.name)
    return text
