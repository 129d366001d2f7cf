"""The numbered pictures of one rollout, from originals at full resolution to the copies a model sees.

A picture is a reference (`Picture`); its pixels are computed here when somebody asks for them. Whatever was
zoomed into, they come from the original: a zoom into a zoom loses nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Self

from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.decoder import Frame, image_size, open_image, sample_folder, sample_video
from pixel_reasoner.media.resize import fit_size, region_px, resize_region
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import (
    DEFAULT_MEDIA_LIMITS,
    MediaLimits,
    PixelBudget,
    PixelBudgets,
)
from pixel_reasoner.schema.trace import FrameSampling, Picture, Trace

_Key = tuple[int, int | None]
"""A full-resolution source: index of the medium and number of the frame."""

_ANY = PixelBudget(min_px=1, max_px=2**62)
UNSCALED = PixelBudgets(picture=_ANY, crop=_ANY, frame=_ANY, selected_frame=_ANY, multiple=1)
"""PixelBudgets under which nothing is resized."""


MAX_OPEN_PX = 200_000_000
"""pixels of pictures that an album keeps decoded (0.6 GB), unless a single one has more"""


class MediaContext:
    """The numbered pictures of one rollout.

    Originals are numbered from 1: each image is one picture, a video or a folder gives one picture for each
    sampled frame. Results of operations continue the count. Frames are numbered from 1 among themselves.
    An image is decoded once, on first use, and kept at full resolution; its header and the frames of a video are
    read at once, so that a file that cannot be used is known before a model is asked.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "scene.png"
    >>> Image.new("RGB", (640, 480)).save(path)
    >>> medium = MediaItem(kind="image", path=str(path))
    >>> small = PixelBudget(min_px=1024, max_px=36864)
    >>> budgets = PixelBudgets(picture=small, crop=small, frame=small, selected_frame=small, multiple=32)
    >>> album = MediaContext(Question(id="1", text="What is it?", media=(medium,)), budgets)
    >>> album.picture(1).seen_px
    (224, 160)
    >>> zoomed = album.add_crop(1, Box(0.5, 0.5, 0.75, 0.75))
    >>> zoomed.number, zoomed.source_px, album.view(2).size
    (2, (160, 120), (160, 128))
    """

    def __init__(
        self, question: Question, budgets: PixelBudgets, limits: MediaLimits = DEFAULT_MEDIA_LIMITS
    ) -> None:
        """Open every medium.

        Raises:
            InputError: a medium that cannot be used.
        """
        self.question = question
        self.budgets = budgets
        self.limits = limits
        self.pictures: list[Picture] = []
        self.sampling: tuple[FrameSampling, ...] = ()
        """frames sampled from each video or folder"""
        self.frames: dict[int, int] = {}
        """frame number -> number of the picture that shows it in the overview"""
        self._sizes: dict[_Key, Size] = {}
        self._sources: dict[_Key, Image.Image] = {}
        self._overviews: dict[tuple[_Key, Size], Image.Image] = {}
        self._views: dict[int, Image.Image] = {}
        for index, medium in enumerate(question.media):
            self._open(index, medium)

    @classmethod
    def of_trace(
        cls,
        trace: Trace,
        budgets: PixelBudgets | None = None,
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
    ) -> Self:
        """Every picture of a trace again, from its media files. Without budgets new pictures keep their size.

        Raises:
            InputError: a medium that cannot be used, or that is not what the trace was made from.
        """
        per_medium = Counter(p.medium for p in trace.pictures if p.frame is not None)
        recorded = [one.num_frames for one in trace.sampling] or list(per_medium.values())
        if recorded:  # traces of schema version 1 did not record how many frames were asked for
            limits = limits.model_copy(update={"num_frames": max(recorded)})
        return cls(trace.question, budgets or UNSCALED, limits).retold(trace)

    def retold(self, trace: Trace) -> Self:
        """An album of the same media in which a trace's operations have happened, without decoding anything again.

        Raises:
            InputError: not the media that the trace was made from.
        """
        recorded = trace.all_pictures
        if sorted(recorded) != list(range(1, len(recorded) + 1)) or not all(
            self._can_show(picture) for picture in recorded.values()
        ):
            media = ", ".join(m.path for m in trace.question.media) or "no media"
            raise InputError(
                expected="the media that the trace was made from",
                got=f"other pictures in {media}",
                fix="put the original files back, or run the question again",
            )
        album = self.fresh()
        album.pictures = [recorded[number] for number in sorted(recorded)]
        return album

    def fresh(self) -> Self:
        """An album of the same media in which no operation has happened, without decoding anything again."""
        first = [picture for picture in self.pictures if picture.parent is None]
        album = copy(self)
        album.pictures, album._views = first, {}
        return album

    def fork(self) -> Self:
        """Return an independent copy that shares decoded media: operations on one do not change the other."""
        forked = copy(self)
        forked.pictures, forked._views = list(self.pictures), dict(self._views)
        return forked

    def extend(self, media: Sequence[MediaItem]) -> Self:
        """Return a fork with further media, whose pictures follow the present ones.

        Raises:
            InputError: a medium cannot be used.
        """
        extended, first = self.fork(), len(self.question.media)
        both = (*self.question.media, *media)
        extended.question = self.question.model_copy(update={"media": both})
        extended.frames = dict(self.frames)
        extended._sizes, extended._sources = dict(self._sizes), dict(self._sources)
        for index, medium in enumerate(media, start=first):
            extended._open(index, medium)
        return extended

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def num_frames(self) -> int:
        """How many frames were sampled; 0 when there is no video."""
        return len(self.frames)

    def picture(self, number: int) -> Picture:
        """The picture of a number from 1 to `len(album)`."""
        assert 1 <= number <= len(self), f"no picture {number}"
        return self.pictures[number - 1]

    def view(self, number: int) -> Image.Image:
        """The copy that a model sees."""
        if number not in self._views:
            self._views[number] = self._shown(number)
        return self._views[number]

    def source(self, number: int) -> Image.Image:
        """The whole image or frame that a picture comes from, at full resolution.

        Raises:
            InputError: its pixels cannot be decoded.
        """
        picture = self.picture(number)
        key = (picture.medium, picture.frame)
        if key not in self._sources:
            path = Path(self.question.media[picture.medium].path)
            self._make_room(self._sizes[key])
            self._sources[key] = open_image(path, self.limits)
        return self._sources[key]

    def _make_room(self, size: Size) -> None:
        """Close the pictures that were opened first until another fits; they can be opened again, frames cannot."""
        opened = [key for key in self._sources if key[1] is None]
        num_px = math.prod(size) + sum(math.prod(self._sizes[key]) for key in opened)
        for key in opened:
            if num_px <= MAX_OPEN_PX:
                return
            num_px -= math.prod(self._sizes[key])
            del self._sources[key]

    def pixels(self, number: int) -> Image.Image:
        """The region of a picture at full resolution."""
        source = self.source(number)
        region = region_px(source.size, self.picture(number).box)
        size = region[2] - region[0], region[3] - region[1]
        # An exact copy. `crop` would apply Pillow's own limit on pixels.
        return source.resize(size, Image.Resampling.NEAREST, box=region)

    def crop_px(self, parent: int, box: Box) -> Size:
        """How many source pixels (width, height) the region `box` of a picture has."""
        seen = self.picture(parent)
        return self._region_size(seen.medium, seen.frame, box.within(seen.box))

    def add_crop(self, parent: int, box: Box) -> Picture:
        """The region `box` of a picture, in coordinates of that picture, as a new picture."""
        seen = self.picture(parent)
        region = box.within(seen.box)
        return self._add(seen.medium, seen.frame, self.budgets.crop, region, parent, seen.time_s)

    def add_frames(self, frames: Sequence[int]) -> list[Picture]:
        """Sampled frames again, larger. Frames are numbered from 1 among the sampled ones."""
        budget = self.budgets.selected_frame
        overviews = [self.picture(self.frames[frame]) for frame in frames]
        return [
            self._add(seen.medium, seen.frame, budget, parent=seen.number, time_s=seen.time_s)
            for seen in overviews
        ]

    def _open(self, index: int, medium: MediaItem) -> None:
        path = Path(medium.path)
        if medium.kind == "image":
            self._sizes[index, None] = image_size(path, self.limits)
            self._add(index, None, self.budgets.picture)
            return
        if medium.kind == "video":
            frames = sample_video(path, self.limits, medium.start_s, medium.end_s)
        else:
            part = (medium.start_s, medium.end_s, medium.fps)
            frames = sample_folder(path, self.limits, *part)
        for frame in frames:
            self._open_frame(index, frame)
        self.sampling += (FrameSampling(medium=index, num_frames=self.limits.num_frames),)

    def _open_frame(self, index: int, frame: Frame) -> None:
        key = (index, self.num_frames + 1)
        self._sources[key], self._sizes[key] = frame.image, frame.image.size
        picture = self._add(*key, self.budgets.frame, time_s=frame.time_s)
        self.frames[key[1]] = picture.number

    def _add(
        self,
        medium: int,
        frame: int | None,
        budget: PixelBudget,
        box: Box = WHOLE,
        parent: int | None = None,
        time_s: float | None = None,
    ) -> Picture:
        source_px = self._region_size(medium, frame, box)
        picture = Picture(
            number=len(self) + 1,
            medium=medium,
            frame=frame,
            time_s=time_s,
            box=box,
            source_px=source_px,
            seen_px=fit_size(source_px, budget, self.budgets.multiple),
            parent=parent,
        )
        self.pictures.append(picture)
        return picture

    def _shown(self, number: int) -> Image.Image:
        picture = self.picture(number)
        if picture.parent is not None:
            return resize_region(self.source(number), picture.box, picture.seen_px)
        # What is shown first is the same for all rollouts of a question: albums made of one another share it.
        key = (picture.medium, picture.frame), picture.seen_px
        if key not in self._overviews:
            self._overviews[key] = resize_region(self.source(number), picture.box, picture.seen_px)
        return self._overviews[key]

    def _can_show(self, picture: Picture) -> bool:
        known = (picture.medium, picture.frame) in self._sizes
        return known and picture.source_px == self._region_size(
            picture.medium, picture.frame, picture.box
        )

    def _region_size(self, medium: int, frame: int | None, box: Box) -> Size:
        left, top, right, bottom = region_px(self._sizes[medium, frame], box)
        return right - left, bottom - top
