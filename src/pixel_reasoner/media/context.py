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

from pixel_reasoner.media import sheets
from pixel_reasoner.media.decoder import IN_PROCESS, MediaDecoder
from pixel_reasoner.media.pixels import OpenMedia, Source, SourceKey
from pixel_reasoner.media.replay import media_mismatch_error, recorded_limits, recorded_pictures
from pixel_reasoner.media.resize import fit_size, region_px
from pixel_reasoner.media.similar_frames import THUMBNAIL_SIDE, different_frames
from pixel_reasoner.media.transforms import (
    apply_transforms,
    check_transforms,
    crop_through,
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
    PictureRegion,
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
        for region in (region for picture in pictures or () for region in picture.regions):
            check_transforms(region.transforms)
        self._open_clip_frames(pictures or ())
        if (
            pictures is None
            or not self._has_sampling(trace.sampling)
            or not all(map(self._can_show, pictures))
        ):
            raise media_mismatch_error(trace)
        context = self.fresh()
        context.pictures = pictures
        return context

    def _open_clip_frames(self, pictures: Sequence[Picture]) -> None:
        """Decode the frames of recorded pictures that were not sampled, those of one clip in one pass."""
        indices: dict[int, set[int]] = {}
        for region in (region for picture in pictures for region in picture.regions):
            if region.clip_index is not None and region.medium < len(self.media.media):
                indices.setdefault(region.medium, set()).add(region.clip_index)
        for medium, wanted in indices.items():
            if self.media.media[medium].kind != "image":
                self.media.clip_frames(medium, sorted(wanted))

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
        key = SourceKey.of(self.picture(number))
        width, height = self._region_size(key, box)
        scale = min(1.0, (max_side or math.inf) / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return self.media.region(key, box, size)

    def pixels(self, number: int) -> Image.Image:
        """Return the regions of a picture at full resolution, with their transforms."""
        picture = self.picture(number)
        exact = [self._exact(one) for one in picture.regions]
        if len(exact) == 1:
            return exact[0]
        size = sheets.natural_size([one.size for one in exact])
        where = sheets.places(size, [one.size for one in exact])
        scaled = [
            image.resize(place.size, Image.Resampling.LANCZOS)
            for image, place in zip(exact, where, strict=True)
        ]
        return sheets.compose(size, scaled, where)

    def _exact(self, region: PictureRegion) -> Image.Image:
        source = self.media.image(SourceKey.of(region))
        px = region_px(source.size, region.box)
        size = px[2] - px[0], px[3] - px[1]
        # An exact copy. `crop` would apply Pillow's own limit on pixels.
        exact = source.resize(size, Image.Resampling.NEAREST, box=px)
        return apply_transforms(exact, region.transforms)

    def region(self, number: int, box: Box = WHOLE) -> PictureRegion:
        """Return the region of the source that a box shows, with its transforms.

        Args:
            number: of the picture.
            box: in coordinates of the picture, after its transforms. On a picture of several regions, the one that contains
                most of the box.
        """
        picture = self.picture(number)
        regions = picture.regions
        part = regions[0]
        if picture.beside:
            where = sheets.places(picture.seen_px, [_shown_size(one) for one in regions])
            nth, box = sheets.region_at(box, picture.seen_px, where)
            part = regions[nth]
        inner, transforms = crop_through(box, part.transforms)
        source = inner.within(part.box)
        size = self._region_size(SourceKey.of(part), source)
        changes = {"box": source, "source_px": size, "transforms": transforms}
        return part.model_copy(update=changes)

    def region_pixels(self, region: PictureRegion, max_side: int | None = None) -> Image.Image:
        """Return the pixels of a region with its transforms, scaled down to a longest side. The caller must not modify them.

        Raises:
            InputError: they cannot be decoded.
        """
        width, height = _shown_size(region)
        scale = min(1.0, (max_side or math.inf) / max(width, height))
        return self._rendered(region, (max(1, round(width * scale)), max(1, round(height * scale))))

    def region_size(self, parent: int, box: Box) -> Size:
        """Return the (width, height) in source pixels of the region `box`, given in coordinates of a picture."""
        return _shown_size(self.region(parent, box))

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
        if box == WHOLE and self.picture(parent).beside:
            return self._add_copy(parent, transforms, budget)
        return self._add([_with_transforms(self.region(parent, box), transforms)], budget, parent)

    def add_sheet(
        self,
        views: Sequence[tuple[int, Box, Sequence[Transform]]],
        budget: Budget = "crop",
    ) -> Picture:
        """Add one picture that shows several regions, of the same or of different pictures, in cells of the same size.

        Args:
            views: number of a picture, region in its coordinates, and transforms of that region, in reading order.
            budget: pixels of one cell.
        """
        regions = [
            _with_transforms(self.region(number, box), transforms)
            for number, box, transforms in views
        ]
        return self._add(regions, budget, views[0][0])

    def add_clip_frames(
        self, parent: int, indices: Sequence[int], budget: Budget = "selected_frame"
    ) -> list[Picture]:
        """Add frames of a video that were not sampled.

        Args:
            parent: number of a picture of that video.
            indices: positions in the clip, from 0.
            budget: pixels of each frame.

        Raises:
            InputError: a frame cannot be decoded.
        """
        medium = self.picture(parent).medium
        found = self.media.clip_frames(medium, indices)
        return [
            self._add([_whole(source)], budget, parent, time_s=source.time_s) for source in found
        ]

    def add_crop(self, parent: int, box: Box) -> Picture:
        """Add the region `box` of a picture, in coordinates of that picture, as a new picture."""
        return self.add_region(parent, box)

    def add_frames(self, frames: Sequence[int], budget: Budget = "selected_frame") -> list[Picture]:
        """Add sampled frames again, usually at a larger size. `frames` are numbers among the sampled frames, from 1.

        Adaptive budgets leave out frames that hardly differ from one before.
        """
        if self.budgets.adaptive is not None:
            thumbnails = {
                one: self.source_region(self.frames[one], WHOLE, THUMBNAIL_SIDE).convert("RGB")
                for one in frames
            }
            frames = different_frames(thumbnails, self.budgets.adaptive.min_frame_difference)
        return [self.add_region(self.frames[frame], budget=budget) for frame in frames]

    def of_region(self, number: int, box: Box, budget: Budget = "picture") -> Self:
        """Return a context of the same media whose only picture, number 1, is a region of a picture.

        Its rollouts cannot be replayed from a trace: strategies use it for probes.
        """
        context = self.fork()
        region = context.add_region(number, box, budget=budget)
        context.pictures = [region.model_copy(update={"number": 1})]
        context.frames, context._views = {}, {}
        return context

    def _add_source(self, source: Source) -> None:
        kind = "picture" if source.key.frame is None else "frame"
        picture = self._add([_whole(source)], kind, None, time_s=source.time_s)
        if source.key.frame is not None:
            self.frames[source.key.frame] = picture.number

    def _add(
        self,
        regions: Sequence[PictureRegion],
        budget: Budget,
        parent: int | None,
        time_s: float | None = None,
    ) -> Picture:
        first, *others = regions
        pixels: PixelBudget = getattr(self.budgets, budget) if isinstance(budget, str) else budget
        sizes = [_shown_size(one) for one in regions]
        shown_px = sizes[0]
        if others:
            pixels, shown_px = (
                sheets.sheet_budget(pixels, len(regions)),
                sheets.natural_size(sizes),
            )
        pixels = self.budgets.for_source(pixels, shown_px)
        picture = Picture(
            number=len(self) + 1,
            medium=first.medium,
            frame=first.frame,
            time_s=first.time_s if time_s is None else time_s,
            box=first.box,
            source_px=first.source_px,
            seen_px=fit_size(shown_px, pixels, self.budgets.multiple),
            parent=parent,
            transforms=first.transforms,
            clip_index=first.clip_index,
            beside=tuple(others),
        )
        self.pictures.append(picture)
        return picture

    def _add_copy(self, parent: int, transforms: Sequence[Transform], budget: Budget) -> Picture:
        """Add a picture of several regions again, with the transforms applied to each."""
        regions = [_with_transforms(one, transforms) for one in self.picture(parent).regions]
        return self._add(regions, budget, parent)

    def _render(self, picture: Picture) -> Image.Image:
        if picture.parent is None:  # shared by all rollouts with these media
            return self.media.overview(SourceKey.of(picture), picture.seen_px)
        if not picture.beside:
            return self._rendered(picture, picture.seen_px)
        regions = picture.regions
        where = sheets.places(picture.seen_px, [_shown_size(one) for one in regions])
        images = [
            self._rendered(region, place.size) for region, place in zip(regions, where, strict=True)
        ]
        return sheets.compose(picture.seen_px, images, where)

    def _rendered(self, region: Picture | PictureRegion, shown_px: Size) -> Image.Image:
        size = untransformed_size(shown_px, region.transforms)
        image = self.media.region(SourceKey.of(region), region.box, size)
        return apply_transforms(image, region.transforms)

    def _can_show(self, picture: Picture) -> bool:
        return all(
            self.media.size(SourceKey.of(one)) is not None
            and one.source_px == self._region_size(SourceKey.of(one), one.box)
            for one in picture.regions
        )

    def _has_sampling(self, recorded: Iterable[FrameSampling]) -> bool:
        """Return whether the sampled frames match a trace. Missing indices are not compared."""
        here = {one.medium: one.indices for one in self.sampling}
        return all(not one.indices or here.get(one.medium) == one.indices for one in recorded)

    def _region_size(self, key: SourceKey, box: Box) -> Size:
        size = self.media.size(key)
        assert size is not None, f"no source {key}"
        left, top, right, bottom = region_px(size, box)
        return right - left, bottom - top


def _whole(source: Source) -> PictureRegion:
    key = source.key
    return PictureRegion(
        medium=key.medium,
        frame=key.frame,
        clip_index=key.clip_index,
        time_s=source.time_s,
        source_px=source.size,
    )


def _shown_size(region: PictureRegion) -> Size:
    """Return the (width, height) of a region after its transforms."""
    return transformed_size(region.source_px, region.transforms)


def _with_transforms(region: PictureRegion, more: Sequence[Transform]) -> PictureRegion:
    return region.model_copy(update={"transforms": (*region.transforms, *more)})
