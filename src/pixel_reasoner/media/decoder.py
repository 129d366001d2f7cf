"""Media decoder interface.

`InProcessDecoder` decodes in the calling thread. `worker_pool.WorkerPoolDecoder` decodes untrusted media in processes
with limits on memory and time. Both return the same pixels and raise the same errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from pixel_reasoner.media.documents import Passwords
from pixel_reasoner.media.folders import sample_folder
from pixel_reasoner.media.images import PictureHeader, open_image, picture_header
from pixel_reasoner.media.resize import region_px, resize_region
from pixel_reasoner.media.sampling import Frame
from pixel_reasoner.media.sparse_videos import Range, SparseSample, sample_sparse
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import MediaLimits


class MediaDecoder(Protocol):
    """Decoder of pictures, videos and folders of frames. All methods are thread-safe.

    Every method raises `InputError` for a media item that is unusable or exceeds its limits.
    """

    @property
    def is_isolated(self) -> bool:
        """Whether another process decodes, so that a scaled region reaches this one in less time than a whole picture."""
        ...

    def header(self, path: Path, limits: MediaLimits, page: int | None = None) -> PictureHeader:
        """Return the size and notes of a picture."""
        ...

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        ...

    def region(self, item: MediaItem, limits: MediaLimits, box: Box, size: Size) -> Image.Image:
        """Return the region `box` of a picture, resized to `size` by `resize_region`."""
        ...

    def frames(
        self, item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
    ) -> list[Frame]:
        """Return `limits.num_frames` frames of a video or folder, or those at recorded indices."""
        ...

    def sparse_frames(
        self,
        item: MediaItem,
        limits: MediaLimits,
        indices: tuple[int, ...],
        present: Sequence[Range],
    ) -> SparseSample:
        """Return the frames of a video of which some ranges are present, or the ranges that are missing."""
        ...


class InProcessDecoder(NamedTuple):
    """Decoder that runs in the calling thread."""

    pdf_passwords: Passwords = ()

    @property
    def is_isolated(self) -> bool:
        """False: this process decodes."""
        return False

    def header(self, path: Path, limits: MediaLimits, page: int | None = None) -> PictureHeader:
        """Return the size and notes of a picture."""
        return picture_header(path, limits, page, self.pdf_passwords)

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        return open_image(path, limits, page, self.pdf_passwords)

    def region(self, item: MediaItem, limits: MediaLimits, box: Box, size: Size) -> Image.Image:
        """Return the region `box` of a picture, resized to `size` by `resize_region`."""
        return resize_region(item_image(item, limits, self.pdf_passwords), box, size)

    def frames(
        self, item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
    ) -> list[Frame]:
        """Return `limits.num_frames` frames of a video or folder, or those at recorded indices."""
        return sample_frames(item, limits, indices)

    def sparse_frames(
        self,
        item: MediaItem,
        limits: MediaLimits,
        indices: tuple[int, ...],
        present: Sequence[Range],
    ) -> SparseSample:
        """Return the frames of a video of which some ranges are present, or the ranges that are missing."""
        return sample_sparse(item, limits, indices, present)


IN_PROCESS = InProcessDecoder()


def item_image(item: MediaItem, limits: MediaLimits, passwords: Passwords = ()) -> Image.Image:
    """Return the picture of a media item, or the part that it names, as upright RGB at full resolution.

    Raises:
        InputError: it is unusable or exceeds its limits.
    """
    return item_region(open_image(Path(item.path), limits, item.page, passwords), item)


def item_region(image: Image.Image, item: MediaItem) -> Image.Image:
    """Return the part of a picture that its media item names, as an exact copy."""
    if item.region is None:
        return image
    left, top, right, bottom = region_px(image.size, item.region)
    # `crop` would apply Pillow's own limit on pixels.
    return image.resize(
        (right - left, bottom - top), Image.Resampling.NEAREST, box=(left, top, right, bottom)
    )


def sample_frames(
    item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
) -> list[Frame]:
    """Return sampled frames of a video or of a folder of frames, in display order.

    Raises:
        InputError: the media item is unusable or exceeds its limits.
    """
    path = Path(item.path)
    if item.kind == "video":
        return sample_video(path, limits, item.start_s, item.end_s, indices)
    return sample_folder(path, limits, item.start_s, item.end_s, item.fps, indices)
