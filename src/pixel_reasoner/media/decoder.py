"""Decoding of the media of a question, in this process or in isolated workers.

`InProcessDecoder` decodes in the calling thread. `worker_pool.WorkerPoolDecoder` decodes in processes that have limits
on memory and time, for media from strangers. Both return the same pixels and raise the same errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from pixel_reasoner.media.folders import sample_folder
from pixel_reasoner.media.images import image_size, open_image, picture_notes
from pixel_reasoner.media.sampling import Frame
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import MediaLimits


class MediaDecoder(Protocol):
    """Decodes pictures, videos and folders of frames. Several threads may call it at once.

    Every method raises `InputError` for a medium that cannot be used, or not within its limits.
    """

    def size(self, path: Path, limits: MediaLimits, page: int | None = None) -> Size:
        """Return the (width, height) of a picture, from its header."""
        ...

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        ...

    def notes(self, path: Path, limits: MediaLimits, page: int | None = None) -> tuple[str, ...]:
        """Return what `image` shows differently or leaves out, one sentence each."""
        ...

    def frames(
        self, item: MediaItem, limits: MediaLimits, indices: tuple[int, ...] = ()
    ) -> list[Frame]:
        """Return `limits.num_frames` frames of a video or folder, or those at recorded indices."""
        ...


class InProcessDecoder(NamedTuple):
    """Decoder that runs in the calling thread."""

    def size(self, path: Path, limits: MediaLimits, page: int | None = None) -> Size:
        """Return the (width, height) of a picture, from its header."""
        return image_size(path, limits, page)

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        return open_image(path, limits, page)

    def notes(self, path: Path, limits: MediaLimits, page: int | None = None) -> tuple[str, ...]:
        """Return what `image` shows differently or leaves out, one sentence each."""
        return picture_notes(path, limits, page)

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
