"""Files of stored jobs: HTML page, strip, animation, and regions at full resolution. All functions are blocking."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.files import atomic_path
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.reports.animation import write_animation
from pixel_reasoner.reports.entry import Asked
from pixel_reasoner.reports.page import PageLimits, Row, write_rows
from pixel_reasoner.reports.schema import Report
from pixel_reasoner.reports.steps import outcome_in_words
from pixel_reasoner.reports.strip import write_strip
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.scoring.grading import grade_reply
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.job_store import Job, JobStore
from pixel_reasoner.server.trace_media import (
    MAX_SOURCE_PX,
    JobMedia,
    JobPictures,
    StoredRequest,
    source_name,
)
from pixel_reasoner.strict_json import parse_json

MAX_REGION_SIDE = 4096
DEFAULT_REGION_SIDE = 1568
_MAX_PAGE_BYTES = 200_000_000
"""the page of one job is never a folder"""
_PICTURE_NAME = re.compile(r"[0-9a-f]{20}\.(webp|jpg|mp4|webm)")
MEDIA_TYPES = {
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "html": "text/html; charset=utf-8",
    "png": "image/png",
    "gif": "image/gif",
}


class StoredFile(NamedTuple):
    """Content of a response."""

    content: bytes
    media_type: str


def stored_traces(store: JobStore, job: Job) -> list[Trace]:
    """Return the traces of a finished job.

    Raises:
        ApiError: 404 for a job that has not finished.
    """
    text = store.traces(job.id)
    if text is None:
        raise ApiError(404, "the trace has not finished", code="trace_not_finished")
    return [Trace.from_object(one) for one in parse_json(text.encode())]


class Exporter:
    """Writer of files of finished jobs. A file is written once, next to the pictures of its job."""

    def __init__(self, store: JobStore, media: JobMedia) -> None:
        self.store, self.media = store, media

    def picture(self, job: Job, ref: str) -> StoredFile:
        """Return a picture or clip of a job. The source of a picture is made when it is needed for the first time.

        Raises:
            ApiError: 404.
        """
        found = _PICTURE_NAME.fullmatch(ref)
        path = self.store.pictures(job.id) / ref
        if found is not None:
            with suppress(OSError, InputError):
                if not path.exists():
                    self._write_source(job, path)
                return StoredFile(path.read_bytes(), MEDIA_TYPES[found[1]])
        raise ApiError(404, "there is no picture with this name")

    def _write_source(self, job: Job, path: Path) -> None:
        for medium in StoredRequest.of(job).media:
            if medium.kind == "image" and source_name(medium) == path.name:
                with atomic_path(path) as part:
                    part.write_bytes(self.media.source(medium))

    def page(self, job: Job) -> StoredFile:
        """Return the report of a job as one HTML file.

        Raises:
            ApiError: 404.
        """
        return self._export(job, "html", self._write_page)

    def strip(self, job: Job) -> StoredFile:
        """Return the first trace of a job as one picture.

        Raises:
            ApiError: 404.
        """
        return self._export(job, "png", self._write_strip)

    def animation(self, job: Job) -> StoredFile:
        """Return the first trace of a job as an animation.

        Raises:
            ApiError: 404.
        """
        return self._export(job, "gif", self._write_animation)

    def region(self, job: Job, number: int, box: Box, max_side: int) -> StoredFile:
        """Return a region of the source of a picture at full resolution, scaled down to `max_side`.

        Args:
            job: a finished job.
            number: of the picture, from 1.
            box: in fractions of the source.
            max_side: longest side in pixels.

        Raises:
            ApiError: 404.
        """
        (trace, *_) = stored_traces(self.store, job)
        try:
            context = self.media.open(trace, StoredRequest.of(job).media)
            if number > len(context):
                raise ApiError(404, "there is no picture with this number", param="picture")
            region = context.source_region(number, box, max_side)
        except InputError as error:
            raise ApiError(404, f"the picture cannot be opened: {error.got}") from error
        buffer = io.BytesIO()
        region.save(buffer, "WEBP", quality=88, method=0)
        return StoredFile(buffer.getvalue(), MEDIA_TYPES["webp"])

    def _export(self, job: Job, suffix: str, write: Callable[[Job, Path], None]) -> StoredFile:
        path = self.store.pictures(job.id) / f"export.{suffix}"
        if not path.exists():
            if self.store.traces(job.id) is None:
                raise ApiError(404, "the trace has not finished", code="trace_not_finished")
            with atomic_path(path) as part:
                write(job, part)
        return StoredFile(path.read_bytes(), MEDIA_TYPES[suffix])

    def _write_page(self, job: Job, path: Path) -> None:
        request = StoredRequest.of(job)
        asked = [
            Asked(trace, outcome_in_words(grade_reply(trace)), name)
            for trace, name in zip(stored_traces(self.store, job), request.names, strict=True)
        ]
        write_rows(
            [Row(asked)],
            path,
            Report(title="Pixel Reasoner"),
            limits=PageLimits(_MAX_PAGE_BYTES, MAX_SOURCE_PX),
            picture_store=lambda folder, max_px: JobPictures(
                folder, self.media, request.media, max_px
            ),
        )

    def _write_strip(self, job: Job, path: Path) -> None:
        (trace, *_) = stored_traces(self.store, job)
        write_strip(trace, path, self._context(job, trace))

    def _write_animation(self, job: Job, path: Path) -> None:
        (trace, *_) = stored_traces(self.store, job)
        write_animation(trace, path, self._context(job, trace))

    def _context(self, job: Job, trace: Trace) -> MediaContext:
        try:
            return self.media.open(trace, StoredRequest.of(job).media)
        except InputError as error:
            raise ApiError(404, f"the picture cannot be opened: {error.got}") from error
