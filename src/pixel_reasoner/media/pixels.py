"""Opened media of a question and the cache of their decoded pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from PIL import Image

from pixel_reasoner.media.access import check_access
from pixel_reasoner.media.decoder import IN_PROCESS, MediaDecoder
from pixel_reasoner.media.limits import num_px_to_close
from pixel_reasoner.media.resize import resize_region
from pixel_reasoner.schema.geometry import WHOLE, Size
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.schema.trace import FrameSampling


class SourceKey(NamedTuple):
    """A full-resolution source: a picture, or one sampled frame."""

    medium: int
    """index into `Question.media`, from 0"""
    frame: int | None = None
    """number among the sampled frames of all media, from 1"""


class Source(NamedTuple):
    """What is known of a source before its pixels are needed."""

    key: SourceKey
    size: Size
    time_s: float | None


class OpenMedia:
    """Media of one question, opened once and shared by all contexts about them.

    Headers of pictures are read and frames are decoded when this is created, so a file that cannot be used is known
    before a model is asked. A picture is decoded on first use. Decoded pictures are closed, oldest first, when they
    exceed `MediaLimits.max_open_px`; frames stay. All methods may be called from several threads.
    """

    def __init__(
        self,
        media: Sequence[MediaItem],
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
        decoder: MediaDecoder = IN_PROCESS,
        sampling: Iterable[FrameSampling] = (),
    ) -> None:
        """Open every medium.

        Args:
            media: the media of a question.
            limits: on bytes, pixels, seconds and frames.
            decoder: in this process, or in workers.
            sampling: recorded sampling of videos and folders; others are sampled by `limits.num_frames`.

        Raises:
            InputError: a medium that cannot be used.
        """
        self.media = tuple(media)
        self.limits = limits
        self.decoder = decoder
        self.sources: list[Source] = []
        """all sources in the order of their numbers"""
        self.sampling: tuple[FrameSampling, ...] = ()
        """frames that were sampled from each video or folder"""
        self.notes: tuple[str, ...] = ()
        """what pictures show differently from their files or leave out: stretched greyscale, other pages"""
        self._sizes: dict[SourceKey, Size] = {}
        self._images: dict[SourceKey, Image.Image] = {}
        self._overviews: dict[tuple[SourceKey, Size], Image.Image] = {}
        self._lock = RLock()
        recorded = {one.medium: one for one in sampling}
        for index, item in enumerate(self.media):
            self._open(index, item, recorded.get(index))

    def extended(self, media: Sequence[MediaItem]) -> OpenMedia:
        """Return these media and further ones. What is decoded already is shared.

        Raises:
            InputError: a medium that cannot be used.
        """
        longer = copy(self)
        longer.media = (*self.media, *media)
        longer._lock = RLock()
        with self._lock:
            longer.sources, longer._sizes = list(self.sources), dict(self._sizes)
            longer._images, longer._overviews = dict(self._images), dict(self._overviews)
        for index, item in enumerate(media, start=len(self.media)):
            longer._open(index, item, None)
        return longer

    def size(self, key: SourceKey) -> Size | None:
        """Return the (width, height) of a source; None where there is no such source."""
        return self._sizes.get(key)

    def image(self, key: SourceKey) -> Image.Image:
        """Return a source at full resolution. It must not be changed.

        Raises:
            InputError: its pixels cannot be decoded.
        """
        with self._lock:
            if key not in self._images:
                self._close_pictures(math.prod(self._sizes[key]))
                item = self.media[key.medium]
                self._images[key] = self.decoder.image(Path(item.path), self.limits, item.page)
            return self._images[key]

    def overview(self, key: SourceKey, size: Size) -> Image.Image:
        """Return a whole source, scaled to `size`; the same object for the same arguments."""
        with self._lock:
            if (key, size) not in self._overviews:
                self._overviews[key, size] = resize_region(self.image(key), WHOLE, size)
            return self._overviews[key, size]

    @property
    def num_open_px(self) -> int:
        """Decoded pixels in memory, overviews included. Does not wait for a picture that is being decoded."""
        images = [*self._images.values(), *self._overviews.values()]
        return sum(math.prod(image.size) for image in images)

    @property
    def open_keys(self) -> list[SourceKey]:
        """Decoded sources, the one decoded first at the beginning."""
        return list(self._images)

    def _open(self, index: int, item: MediaItem, recorded: FrameSampling | None) -> None:
        check_access(item)
        if item.kind == "image":
            header = self.decoder.header(Path(item.path), self.limits, item.page)
            self.notes += header.notes
            self._add(Source(SourceKey(index), header.size, None))
        else:
            self._add_frames(index, item, recorded)

    def _add(self, source: Source) -> None:
        self.sources.append(source)
        self._sizes[source.key] = source.size

    def _add_frames(self, index: int, item: MediaItem, recorded: FrameSampling | None) -> None:
        limits = self.limits
        indices: tuple[int, ...] = ()
        if recorded is not None:
            limits = limits.model_copy(update={"num_frames": recorded.num_frames})
            indices = recorded.indices
        frames = self.decoder.frames(item, limits, indices)
        first = 1 + sum(source.key.frame is not None for source in self.sources)
        for number, frame in enumerate(frames, start=first):
            key = SourceKey(index, number)
            self._images[key] = frame.image
            self._add(Source(key, frame.image.size, frame.time_s))
        found = tuple(frame.source_index for frame in frames)
        self.sampling += (FrameSampling(medium=index, num_frames=limits.num_frames, indices=found),)

    def _close_pictures(self, new_px: int) -> None:
        """Close the pictures that were decoded first until another fits. They can be decoded again, frames cannot."""
        pictures = [key for key in self._images if key.frame is None]
        open_px = sum(math.prod(self._sizes[key]) for key in pictures)
        excess_px = num_px_to_close(open_px, new_px, self.limits)
        for key in pictures:
            if excess_px <= 0:
                return
            excess_px -= math.prod(self._sizes[key])
            del self._images[key]
