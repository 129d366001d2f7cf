"""References to pixels: pictures, their regions and transforms, and sampled frames."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeInt, PositiveInt

from pixel_reasoner.schema.geometry import WHOLE, RecordedBox, RecordedSize, Size
from pixel_reasoner.schema.record import Record


class Transform(Record):
    """Transform of a region after cropping, for example a rotation (`media.transforms`)."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


MAX_REGIONS = 16
"""regions of one picture"""
MAX_PROMPT_PICTURE_PX = 100_000_000
"""pixels of a resized picture in the prompt; the largest budgets of published models are an eighth of it"""


def _check_prompt_px(size: Size) -> Size:
    if size[0] * size[1] > MAX_PROMPT_PICTURE_PX:
        raise ValueError(f"must have at most {MAX_PROMPT_PICTURE_PX:,} pixels")
    return size


class PictureRegion(Record):
    """Region of a picture or frame of the question."""

    medium: NonNegativeInt
    """index into `Question.media`, from 0"""
    frame: PositiveInt | None = None
    """number among the sampled frames, from 1"""
    clip_index: NonNegativeInt | None = None
    """see `Picture.clip_index`"""
    time_s: FiniteFloat | None = None
    box: RecordedBox = WHOLE
    """region of the full-resolution source, before any transform"""
    source_px: RecordedSize
    """size of that region in source pixels"""
    transforms: tuple[Transform, ...] = ()
    """changes applied to the region, in order"""


class Picture(Record):
    """Reference to pixels: media item, frame, region, and size in the prompt."""

    number: PositiveInt
    medium: NonNegativeInt
    """index into `Question.media`, from 0"""
    frame: PositiveInt | None = None
    """number among the sampled frames, from 1"""
    time_s: FiniteFloat | None = None
    box: RecordedBox = WHOLE
    """region of the full-resolution source, before any transform"""
    source_px: RecordedSize
    """size of that region in source pixels"""
    seen_px: Annotated[RecordedSize, AfterValidator(_check_prompt_px)]
    """size of the resized picture in the prompt"""
    parent: PositiveInt | None = None
    """number of the picture that the operation was applied to"""
    transforms: tuple[Transform, ...] = ()
    """changes applied to the region, in order"""
    clip_index: NonNegativeInt | None = None
    """position of a frame in its clip, from 0; None for sampled frames, whose positions are in `Trace.sampling`"""
    beside: Annotated[tuple[PictureRegion, ...], Field(max_length=MAX_REGIONS - 1)] = ()
    """regions shown after this one, in cells of the same size (`media.sheets`); they may be of other pictures"""

    @property
    def is_picture(self) -> bool:
        """Whether it shows a picture, not a frame of a clip."""
        return self.frame is None and self.clip_index is None

    @property
    def is_plain_region(self) -> bool:
        """Whether it shows one region of a picture or sampled frame, unchanged."""
        return not (self.transforms or self.beside or self.clip_index is not None)

    @property
    def regions(self) -> tuple[PictureRegion, ...]:
        """All regions that the picture shows, in reading order."""
        own = PictureRegion(
            medium=self.medium,
            frame=self.frame,
            clip_index=self.clip_index,
            time_s=self.time_s,
            box=self.box,
            source_px=self.source_px,
            transforms=self.transforms,
        )
        return (own, *self.beside)


class FrameSampling(Record):
    """Sampled frames of a video or a folder of frames."""

    medium: NonNegativeInt
    """index into `Question.media`, from 0"""
    num_frames: PositiveInt
    """requested number of frames; of a shorter clip all frames are used"""
    indices: tuple[NonNegativeInt, ...] = ()
    """positions of the sampled frames in the clip, from 0; empty when not recorded"""
