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
from pixel_reasoner.media.decoder import IN_PROCESS, MediaDecoder, item_region
from pixel_reasoner.media.limits import num_px_to_close
from pixel_reasoner.media.object_store import RemoteObject
from pixel_reasoner.media.remote_media import (
    find_object,
    local_item,
    remote_frames,
    shown_name,
)
from pixel_reasoner.media.resize import region_px, resize_region
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.schema.trace import FrameSampling, Picture, PictureRegion


class SourceKey(NamedTuple):
    """Key of a full-resolution source: a picture or one sampled frame."""

    medium: int
    """index into `Question.media`, from 0"""
    frame: int | None = None
    """number among the sampled frames of all media, from 1"""
    clip_index: int | None = None
    """position in the clip, from 0, of a frame that was not sampled"""

    @classmethod
    def of(cls, region: Picture | PictureRegion) -> SourceKey:
        """Return the source of a region."""
        return cls(region.medium, region.frame, region.clip_index)

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture, not a frame."""
        return self.frame is None and self.clip_index is None


class Source(NamedTuple):
    """Metadata of a full-resolution source."""

    key: SourceKey
    size: Size
    time_s: float | None


class OpenMedia:
    """Open media of one question, shared by all contexts.

    The constructor parses the headers of pictures and decodes frames, so that an unusable file raises before generation.
    A picture is decoded on first use. When decoded pictures exceed `MediaLimits.max_open_px`, the oldest are closed.
    Frames stay in memory. An isolated decoder keeps pictures itself and returns their scaled regions. All methods are thread-safe.
    """

    def __init__(
        self,
        media: Sequence[MediaItem],
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
        decoder: MediaDecoder = IN_PROCESS,
        sampling: Iterable[FrameSampling] = (),
    ) -> None:
        """Open all media items.

        Args:
            media: the media of a question.
            limits: on bytes, pixels, seconds and frames.
            decoder: decodes in this process or in workers.
            sampling: recorded sampling of videos and folders; otherwise `limits.num_frames` frames are sampled.

        Raises:
            InputError: an unusable media item.
        """
        self.media = tuple(media)
        self.limits = limits
        self.decoder = decoder
        self.sources: list[Source] = []
        """all sources in the order of their numbers"""
        self.sampling: tuple[FrameSampling, ...] = ()
        """frames that were sampled from each video or folder"""
        self.notes: tuple[str, ...] = ()
        """differences between decoded pictures and their files: stretched greyscale, omitted pages"""
        self._sizes: dict[SourceKey, Size] = {}
        self._clip_times: dict[SourceKey, float | None] = {}
        self._images: dict[SourceKey, Image.Image] = {}
        self._overviews: dict[tuple[SourceKey, Size], Image.Image] = {}
        self._objects: dict[int, RemoteObject] = {}
        """version of the object of each picture in an object store: its pixels and its header are of one version"""
        self._lock = RLock()
        recorded = {one.medium: one for one in sampling}
        for index, item in enumerate(self.media):
            self._open(index, item, recorded.get(index))

    def extended(self, media: Sequence[MediaItem]) -> OpenMedia:
        """Return these media plus additional media. Decoded pixels are shared.

        Raises:
            InputError: an unusable media item.
        """
        longer = copy(self)
        longer.media = (*self.media, *media)
        longer._lock = RLock()
        with self._lock:
            longer.sources, longer._sizes = list(self.sources), dict(self._sizes)
            longer._objects, longer._clip_times = dict(self._objects), dict(self._clip_times)
            longer._images, longer._overviews = dict(self._images), dict(self._overviews)
        for index, item in enumerate(media, start=len(self.media)):
            longer._open(index, item, None)
        return longer

    def size(self, key: SourceKey) -> Size | None:
        """Return the (width, height) of a source; None if it does not exist."""
        return self._sizes.get(key)

    def image(self, key: SourceKey) -> Image.Image:
        """Return a source at full resolution. The caller must not modify it.

        Raises:
            InputError: its pixels cannot be decoded.
        """
        with self._lock:
            if key not in self._images and key.clip_index is not None:
                self._decode_clip_frames(key.medium, (key.clip_index,))
            if key not in self._images:
                self._close_pictures(math.prod(self._sizes[key]))
                item = self.media[key.medium]
                with local_item(item, self.limits, self._objects.get(key.medium)) as here:
                    whole = self.decoder.image(Path(here.path), self.limits, item.page)
                self._images[key] = item_region(whole, item)
            return self._images[key]

    def clip_frames(self, medium: int, indices: Sequence[int]) -> list[Source]:
        """Return frames of a video or folder that were not sampled. They are decoded on first use.

        Args:
            medium: index of the media item.
            indices: positions in the clip, from 0; a position beyond its end is left out.

        Raises:
            InputError: a frame cannot be decoded.
        """
        with self._lock:
            keys = [SourceKey(medium, None, index) for index in indices]
            missing = [one.clip_index for one in keys if one not in self._sizes]
            if missing:
                self._decode_clip_frames(medium, [one for one in missing if one is not None])
            return [
                Source(key, self._sizes[key], self._clip_times[key])
                for key in keys
                if key in self._sizes
            ]

    def _decode_clip_frames(self, medium: int, indices: Sequence[int]) -> None:
        limits = self.limits.model_copy(update={"num_frames": len(indices)})
        item, wanted = self.media[medium], tuple(indices)
        if is_url(item.path):
            frames = remote_frames(item, limits, self.decoder, wanted)
        else:
            frames = self.decoder.frames(item, limits, wanted)
        for frame in frames:
            key = SourceKey(medium, None, frame.source_index)
            image = item_region(frame.image, item)
            self._close_pictures(math.prod(image.size))
            self._images[key], self._sizes[key] = image, image.size
            self._clip_times[key] = frame.time_s

    def overview(self, key: SourceKey, size: Size) -> Image.Image:
        """Return a whole source, scaled to `size`; the same object for the same arguments."""
        with self._lock:
            if (key, size) not in self._overviews:
                self._overviews[key, size] = self.region(key, WHOLE, size)
            return self._overviews[key, size]

    def region(self, key: SourceKey, box: Box, size: Size) -> Image.Image:
        """Return the region `box` of a source, resized to `size`.

        Raises:
            InputError: its pixels cannot be decoded.
        """
        if self.decoder.is_isolated and key.is_picture and key not in self._images:
            item, found = self.media[key.medium], self._objects.get(key.medium)
            with local_item(item, self.limits, found) as here:
                return self.decoder.region(here, self.limits, box, size)
        image = self.image(key)
        if box == WHOLE and size == image.size:
            return image
        return resize_region(image, box, size)

    @property
    def num_open_px(self) -> int:
        """Number of decoded pixels in memory, including overviews. Does not wait for pictures in progress."""
        images = [*self._images.values(), *self._overviews.values()]
        return sum(math.prod(image.size) for image in images)

    @property
    def open_keys(self) -> list[SourceKey]:
        """Return the decoded sources, oldest first."""
        return list(self._images)

    def _open(self, index: int, item: MediaItem, recorded: FrameSampling | None) -> None:
        check_access(item)
        if item.kind == "image":
            found = find_object(item, self.limits)
            if found is not None:
                self._objects[index] = found
            with local_item(item, self.limits, found) as here:
                header = self.decoder.header(Path(here.path), self.limits, item.page)
            self.notes += tuple(shown_name(note, here, item) for note in header.notes)
            self._add(Source(SourceKey(index), _region_size(header.size, item), None))
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
        if is_url(item.path):
            frames = remote_frames(item, limits, self.decoder, indices)
        else:
            frames = self.decoder.frames(item, limits, indices)
        first = 1 + sum(source.key.frame is not None for source in self.sources)
        for number, frame in enumerate(frames, start=first):
            key = SourceKey(index, number)
            self._images[key] = item_region(frame.image, item)
            self._add(Source(key, self._images[key].size, frame.time_s))
        found = tuple(frame.source_index for frame in frames)
        self.sampling += (FrameSampling(medium=index, num_frames=limits.num_frames, indices=found),)

    def _close_pictures(self, new_px: int) -> None:
        """Close the oldest pictures until `new_px` fit. Pictures can be decoded again; sampled frames stay open."""
        pictures = [key for key in self._images if key.frame is None]  # and frames of `clip_frames`
        open_px = sum(math.prod(self._sizes[key]) for key in pictures)
        excess_px = num_px_to_close(open_px, new_px, self.limits)
        for key in pictures:
            if excess_px <= 0:
                return
            excess_px -= math.prod(self._sizes[key])
            del self._images[key]


def _region_size(size: Size, item: MediaItem) -> Size:
    """Return the (width, height) of the part of a picture that its media item names."""
    if item.region is None:
        return size
    left, top, right, bottom = region_px(size, item.region)
    return right - left, bottom - top
