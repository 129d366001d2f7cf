"""Media decoder interface.

`InProcessDecoder` decodes in the calling thread. `worker_pool.WorkerPoolDecoder` decodes untrusted media in processes
with limits on memory and time. Both return the same pixels and raise the same errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from pixel_reasoner.media.documents import Passwords
from pixel_reasoner.media.folders import sample_folder
from pixel_reasoner.media.images import PictureHeader, open_image, picture_header
from pixel_reasoner.media.sampling import Frame
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import MediaLimits


class MediaDecoder(Protocol):
    """Decoder of pictures, videos and folders of frames. All methods are thread-safe.

    Every method raises `InputError` for a media item that is unusable or exceeds its limits.
    """

    def header(self, path: Path, limits: MediaLimits, page: int | None = None) -> PictureHeader:
        """Return the size and notes of a picture."""
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

    pdf_passwords: Passwords = ()

    def header(self, path: Path, limits: MediaLimits, page: int | None = None) -> PictureHeader:
        """Return the size and notes of a picture."""
        return picture_header(path, limits, page, self.pdf_passwords)

    def image(self, path: Path, limits: MediaLimits, page: int | None = None) -> Image.Image:
        """Return a picture as upright RGB at full resolution."""
        return open_image(path, limits, page, self.pdf_passwords)

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
        InputError: the media item is unusable or exceeds its limits.
    """
    path = Path(item.path)
    if item.kind == "video":
        return sample_video(path, limits, item.start_s, item.end_s, indices)
    return sample_folder(path, limits, item.start_s, item.end_s, item.fps, indices)
