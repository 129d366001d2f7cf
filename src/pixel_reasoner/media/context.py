"""Numbered pictures of one rollout, at source resolution and resized for the prompt.

A picture is a reference (`Picture`). Its pixels are computed on first use, always from the original at full
resolution, so a crop of a crop has full resolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Self

from PIL import Image

from pixel_reasoner.media.decoder import IN_PROCESS, MediaDecoder
from pixel_reasoner.media.pixels import OpenMedia, Source, SourceKey
from pixel_reasoner.media.replay import media_mismatch_error, recorded_limits, recorded_pictures
from pixel_reasoner.media.resize import fit_size, region_px
from pixel_reasoner.media.transforms import (
    apply_transforms,
    check_transforms,
    source_box,
    transformed_size,
    untransformed_size,
)
from pixel_reasoner.schema.geometry import WHOLE, Box, Size
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import (
    DEFAULT_MEDIA_LIMITS,
    MediaLimits,
    PixelBudget,
    PixelBudgets,
)
from pixel_reasoner.schema.trace import (
    MAX_PROMPT_PICTURE_PX,
    FrameSampling,
    Picture,
    Trace,
    Transform,
)

_ANY = PixelBudget(min_px=1, max_px=MAX_PROMPT_PICTURE_PX)
UNSCALED = PixelBudgets(picture=_ANY, crop=_ANY, frame=_ANY, selected_frame=_ANY, multiple=1)
"""budgets that disable resizing, up to the largest picture that a trace can record"""

Budget = str | PixelBudget
"""name of a field of `PixelBudgets`, or a custom budget of an operation"""


class MediaContext:
    """Numbered pictures of one rollout.

    Originals are numbered from 1: an image is one picture; a video or a folder is one picture per sampled frame.
    Results of operations continue the count. Frames are also numbered from 1 among themselves.

    Contexts that `fresh`, `fork` and `replay` return share decoded media with this one (`OpenMedia`). Different
    contexts may be used in different threads.

    >>> import tempfile; from pathlib import Path; from pixel_reasoner.schema.question import MediaItem
    >>> path = Path(tempfile.mkdtemp()) / "scene.png"
    >>> Image.new("RGB", (640, 480)).save(path)
    >>> item = MediaItem(kind="image", path=str(path))
    >>> small = PixelBudget(min_px=1024, max_px=36864)
    >>> budgets = PixelBudgets(picture=small, crop=small, frame=small, selected_frame=small, multiple=32)
    >>> context = MediaContext(Question(id="1", text="What is it?", media=(item,)), budgets)
    >>> context.picture(1).seen_px
    (224, 160)
    >>> crop = context.add_crop(1, Box(0.5, 0.5, 0.75, 0.75))
    >>> crop.number, crop.source_px, context.view(2).size
    (2, (160, 120), (160, 128))
    """

    def __init__(
        self,
        question: Question,
        budgets: PixelBudgets,
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
        *,
        decoder: MediaDecoder = IN_PROCESS,
        sampling: Iterable[FrameSampling] = (),
        media: OpenMedia | None = None,
    ) -> None:
        """Open all media items and number their pictures.

        Args:
            question: with media.
            budgets: pixel budgets of pictures in the prompt.
            limits: on untrusted media.
            decoder: decodes in this process or in workers.
            sampling: recorded sampling of videos and folders, for a replay.
            media: the media of the question if they are open already; `limits`, `decoder` and `sampling` are then unused.

        Raises:
            InputError: an unusable media item.
        """
        self.question = question
        self.budgets = budgets
        self.media = media or OpenMedia(question.media, limits, decoder, sampling)
        self.pictures: list[Picture] = []
        self.frames: dict[int, int] = {}
        """frame number -> number of its overview picture"""
        self._views: dict[int, Image.Image] = {}
        for source in self.media.sources:
            self._add_source(source)

    @classmethod
    def of_trace(
        cls,
        trace: Trace,
        budgets: PixelBudgets | None = None,
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
        *,
        decoder: MediaDecoder = IN_PROCESS,
    ) -> Self:
        """Open the media of a trace and return a context with all its pictures. Without budgets new pictures are not resized.

        Recorded frames are decoded at their recorded indices.

        Raises:
            InputError: a media item is unusable or does not match the trace.
        """
        limits = recorded_limits(trace, limits)
        context = cls(
            trace.question,
            budgets or UNSCALED,
            limits,
            decoder=decoder,
            sampling=trace.sampling,
        )
        return context.replay(trace)

    def replay(self, trace: Trace) -> Self:
        """Return a context of the same media with the results of the operations of a trace. Nothing is decoded again.

        Raises:
            InputError: the media or the sampled frames do not match the trace.
        """
        pictures = recorded_pictures(trace)
        for picture in pictures or ():
            check_transforms(picture.transforms)
        if (
            pictures is None
            or not self._has_sampling(trace.sampling)
            or not all(map(self._can_show, pictures))
        ):
            raise media_mismatch_error(trace)
        context = self.fresh()
        context.pictures = pictures
        return context

    def fresh(self) -> Self:
        """Return a context of the same media without results of operations. Nothing is decoded again."""
        context = copy(self)
        context.pictures = [picture for picture in self.pictures if picture.parent is None]
        context._views = {}
        return context

    def fork(self) -> Self:
        """Return an independent copy with the same pictures."""
        context = copy(self)
        context.pictures, context._views = list(self.pictures), dict(self._views)
        return context

    def truncate(self, num_pictures: int) -> None:
        """Remove all pictures after the first `num_pictures`."""
        for number in range(num_pictures + 1, len(self) + 1):
            self._views.pop(number, None)
        del self.pictures[num_pictures:]

    def replace(self, picture: Picture) -> None:
        """Replace the picture with the same number, for example by one with other transforms."""
        self.pictures[picture.number - 1] = picture
        self._views.pop(picture.number, None)

    def extend(self, media: Sequence[MediaItem]) -> Self:
        """Return a fork with additional media. Their pictures are numbered after the existing ones.

        Raises:
            InputError: an unusable media item.
        """
        extended = self.fork()
        extended.media = self.media.extended(media)
        extended.question = self.question.model_copy(update={"media": extended.media.media})
        extended.frames = dict(self.frames)
        for source in extended.media.sources[len(self.media.sources) :]:
            extended._add_source(source)
        return extended

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def limits(self) -> MediaLimits:
        """Limits under which the media were opened."""
        return self.media.limits

    @property
    def sampling(self) -> tuple[FrameSampling, ...]:
        """Frames that were sampled from each video or folder."""
        return self.media.sampling

    @property
    def notes(self) -> tuple[str, ...]:
        """Differences between decoded pictures and their files."""
        return self.media.notes

    @property
    def num_frames(self) -> int:
        """Number of sampled frames; 0 when there is no video."""
        return len(self.frames)

    def picture(self, number: int) -> Picture:
        """Return a picture by its number, from 1 to `len(context)`."""
        assert 1 <= number <= len(self), f"no picture {number}"
        return self.pictures[number - 1]

    def view(self, number: int) -> Image.Image:
        """Return the resized picture for the prompt, of size `Picture.seen_px`. The caller must not modify it.

        Raises:
            InputError: its pixels cannot be decoded.
        """
        if number not in self._views:
            self._views[number] = self._render(self.picture(number))
        return self._views[number]

    def source(self, number: int) -> Image.Image:
        """Return the whole image or frame of a picture, at full resolution, without its transforms.

        Raises:
            InputError: its pixels cannot be decoded.
        """
        return self.source_region(number, WHOLE)

    def source_region(self, number: int, box: Box, max_side: int | None = None) -> Image.Image:
        """Return a region of the whole image or frame of a picture, scaled down to a longest side. The caller must not modify it.

        Args:
            number: of the picture.
            box: in fractions of the source.
            max_side: longest side in pixels; None for full resolution.

        Raises:
            InputError: its pixels cannot be decoded.
        """
        key = _key(self.picture(number))
        width, height = self._region_size(key, box)
        scale = min(1.0, (max_side or math.inf) / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return self.media.region(key, box, size)

    def pixels(self, number: int) -> Image.Image:
        """Return the region of a picture at full resolution, with its transforms."""
        picture = self.picture(number)
        source = self.media.image(_key(picture))
        region = region_px(source.size, picture.box)
        size = region[2] - region[0], region[3] - region[1]
        # An exact copy. `crop` would apply Pillow's own limit on pixels.
        exact = source.resize(size, Image.Resampling.NEAREST, box=region)
        return apply_transforms(exact, picture.transforms)

    def region_size(self, parent: int, box: Box) -> Size:
        """Return the (width, height) in source pixels of the region `box`, given in coordinates of a picture."""
        picture = self.picture(parent)
        region = source_box(box, picture.transforms).within(picture.box)
        return transformed_size(self._region_size(_key(picture), region), picture.transforms)

    def add_region(
        self,
        parent: int,
        box: Box = WHOLE,
        transforms: Sequence[Transform] = (),
        budget: Budget = "crop",
    ) -> Picture:
        """Add a region of a picture as a new picture.

        Args:
            parent: number of the picture.
            box: region in coordinates of the picture after its transforms.
            transforms: applied to the region after the transforms of the parent.
            budget: pixels of the new picture.
        """
        shown = self.picture(parent)
        region = source_box(box, shown.transforms).within(shown.box)
        return self._add(
            _key(shown),
            budget,
            box=region,
            parent=parent,
            time_s=shown.time_s,
            transforms=(*shown.transforms, *transforms),
        )

    def add_crop(self, parent: int, box: Box) -> Picture:
        """Add the region `box` of a picture, in coordinates of that picture, as a new picture."""
        return self.add_region(parent, box)

    def add_frames(self, frames: Sequence[int], budget: Budget = "selected_frame") -> list[Picture]:
        """Add sampled frames again, usually at a larger size. `frames` are numbers among the sampled frames, from 1."""
        return [self.add_region(self.frames[frame], budget=budget) for frame in frames]

    def _add_source(self, source: Source) -> None:
        kind = "picture" if source.key.frame is None else "frame"
        picture = self._add(source.key, kind, time_s=source.time_s)
        if source.key.frame is not None:
            self.frames[source.key.frame] = picture.number

    def _add(
        self,
        key: SourceKey,
        budget: Budget,
        *,
        box: Box = WHOLE,
        parent: int | None = None,
        time_s: float | None = None,
        transforms: tuple[Transform, ...] = (),
    ) -> Picture:
        source_px = self._region_size(key, box)
        pixels: PixelBudget = getattr(self.budgets, budget) if isinstance(budget, str) else budget
        shown_px = transformed_size(source_px, transforms)
        picture = Picture(
            number=len(self) + 1,
            medium=key.medium,
            frame=key.frame,
            time_s=time_s,
            box=box,
            source_px=source_px,
            seen_px=fit_size(shown_px, pixels, self.budgets.multiple),
            parent=parent,
            transforms=transforms,
        )
        self.pictures.append(picture)
        return picture

    def _render(self, picture: Picture) -> Image.Image:
        key = _key(picture)
        if picture.parent is None:  # shared by all rollouts with these media
            return self.media.overview(key, picture.seen_px)
        size = untransformed_size(picture.seen_px, picture.transforms)
        region = self.media.region(key, picture.box, size)
        return apply_transforms(region, picture.transforms)

    def _can_show(self, picture: Picture) -> bool:
        key = _key(picture)
        if self.media.size(key) is None:
            return False
        return picture.source_px == self._region_size(key, picture.box)

    def _has_sampling(self, recorded: Iterable[FrameSampling]) -> bool:
        """Return whether the sampled frames match a trace. Missing indices are not compared."""
        here = {one.medium: one.indices for one in self.sampling}
        return all(not one.indices or here.get(one.medium) == one.indices for one in recorded)

    def _region_size(self, key: SourceKey, box: Box) -> Size:
        size = self.media.size(key)
        assert size is not None, f"no source {key}"
        left, top, right, bottom = region_px(size, box)
        return right - left, bottom - top


def _key(picture: Picture) -> SourceKey:
    return SourceKey(picture.medium, picture.frame)
