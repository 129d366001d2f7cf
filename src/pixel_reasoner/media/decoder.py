"""Decoding of the media of a question, in this process or in isolated workers.

`InProcessDecoder` decodes in the calling thread. `worker_pool.WorkerPoolDecoder` decodes in processes that have limits
on memory and time, for media from strangers. Both return the same pixels and raise the same errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from pixel_reasoner.media.folders import sample_folder
from pixel_reasoner.media.images import PictureHeader, open_image, picture_header
from pixel_reasoner.media.sampling import Frame
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import MediaLimits


class MediaDecoder(Protocol):
    """Decodes pictures, videos and folders of frames. Several threads may call it at once.

    Every method raises `InputError` for a medium that cannot be used, or not within its limits.
    """

    def header(self, path: Path, limits: MediaLimits, page: int | None = None) -> PictureHeader:
        """Return the size of a picture, and what `image` shows differently or leaves out."""
        ...

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        ...

    def frames(
        self, item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
    ) -> list[Frame]:
        """Return `limits.num_frames` frames of a video or folder, or those at recorded indices."""
        ...


class InProcessDecoder(NamedTuple):
    """Decoder that runs in the calling thread."""

    def header(self, path: Path, limits: MediaLimits, page: int | None = None) -> PictureHeader:
        """Return the size of a picture, and what `image` shows differently or leaves out."""
        return picture_header(path, limits, page)

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        return open_image(path, limits, page)

    def frames(
        self, item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
    ) -> list[Frame]:
        """Return `limits.num_frames` frames of a video or folder, or those at recorded indices."""
        return sample_frames(item, limits, indices)


IN_PROCESS = InProcessDecoder()


def sample_frames(
    item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
) -> list[Frame]:
    """Return sampled frames of a video or of a folder of frames, in display order.

    Raises:
        InputError: a medium that cannot be used, or not within its limits.
    """
    path = Path(item.path)
    if item.kind == "video":
        return sample_video(path, limits, item.start_s, item.end_s, indices)
    return sample_folder(path, limits, item.start_s, item.end_s, item.fps, indices)
