"""Worker process of `worker_pool`: decodes media within limits on memory and CPU time.

It imports only the decoders and runs one task at a time. A task is a module-level function that returns `TaskResult`.
The parent sends requests as pickles. The worker returns JSON and raw pixels, so that a compromised decoder cannot make
the parent execute code.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.media.decoder import item_image, sample_frames
from pixel_reasoner.media.documents import Passwords
from pixel_reasoner.media.images import picture_header
from pixel_reasoner.media.resize import resize_region
from pixel_reasoner.media.rgb import bands
from pixel_reasoner.media.sparse_videos import Range, sample_sparse
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import MediaLimits

ERROR_CLASSES = {cls.__name__: cls for cls in (InputError, PixelLimitError)}
READY = b"ready"
_MIN_FREE_BYTES = 64 * 2**20
"""address space that a worker needs in addition to the interpreter and its libraries"""


class TaskResult(NamedTuple):
    """Result of a task: JSON values and RGB images."""

    values: Any
    images: list[Image.Image]


Task = Callable[..., TaskResult]

MAX_KEPT_PX = 32_000_000
"""pixels of decoded pictures that a worker keeps for further regions, four bytes each"""
_MIN_KEPT = 2
"""pictures that are kept whatever their size: a question about two large ones decodes each once"""
MAX_SHARED_BYTES = 48_000_000
"""Images up to this size are passed in a memory file, in a third of the time of the connection."""


def header_task(
    path: str, limits: MediaLimits, page: int | None, passwords: Passwords = ()
) -> TaskResult:
    """Return the size and notes of a picture."""
    return TaskResult(picture_header(Path(path), limits, page, passwords), [])


def image_task(
    path: str, limits: MediaLimits, page: int | None, passwords: Passwords = ()
) -> TaskResult:
    """Return a decoded picture. It is kept for the next request."""
    item = MediaItem(kind="image", path=path, page=page)
    return TaskResult(None, [_KEPT.image(item, limits, passwords)])


def region_task(
    item: MediaItem, limits: MediaLimits, box: Box, size: Size, passwords: Passwords = ()
) -> TaskResult:
    """Return a resized region of a picture. The picture is kept for the next region."""
    return TaskResult(None, [resize_region(_KEPT.image(item, limits, passwords), box, size)])


def frames_task(item: MediaItem, limits: MediaLimits, indices: tuple[int, ...]) -> TaskResult:
    """Return the times, indices and images of sampled frames."""
    frames = sample_frames(item, limits, indices)
    values = [[frame.time_s, frame.source_index] for frame in frames]
    return TaskResult(values, [frame.image for frame in frames])


def sparse_frames_task(
    item: MediaItem, limits: MediaLimits, indices: tuple[int, ...], present: Sequence[Range]
) -> TaskResult:
    """Return the times, indices and images of sampled frames of a sparse video, and the missing ranges."""
    frames, missing = sample_sparse(item, limits, indices, present)
    times = [[frame.time_s, frame.source_index] for frame in frames]
    return TaskResult([times, missing], [frame.image for frame in frames])


class _KeptPictures:
    """Decoded pictures of this process, least recently used first."""

    def __init__(self) -> None:
        self._images: OrderedDict[tuple[Hashable, ...], Image.Image] = OrderedDict()

    def image(self, item: MediaItem, limits: MediaLimits, passwords: Passwords = ()) -> Image.Image:
        """Return the picture of a media item. A file that changed is decoded again.

        Raises:
            InputError: it is unusable or exceeds its limits.
        """
        key = (item, limits, passwords, _file_state(item.path))
        image = self._images.pop(key, None)
        if image is None:
            image = self._decoded(item, limits, passwords)
        self._images[key] = image
        while len(self._images) > _MIN_KEPT and self._num_px() > MAX_KEPT_PX:
            self._images.popitem(last=False)
        return image

    def _decoded(self, item: MediaItem, limits: MediaLimits, passwords: Passwords) -> Image.Image:
        try:
            return item_image(item, limits, passwords)
        except MemoryError:
            if not self._images:
                raise
        self._images.clear()
        return item_image(item, limits, passwords)

    def _num_px(self) -> int:
        return sum(math.prod(image.size) for image in self._images.values())


def _file_state(path: str) -> tuple[int, int, int] | None:
    """Return what changes with the content of a file; None if it does not exist."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


_KEPT = _KeptPictures()


def main(file_descriptor: str, memory_bytes: str, cpu_s: str, shared: str) -> None:
    """Execute tasks until the connection is closed. All arguments are strings from the command line.

    Args:
        file_descriptor: of the connection to the parent.
        memory_bytes: limit of the address space of this process.
        cpu_s: limit of the CPU time of one task. Beyond it the kernel kills this process.
        shared: descriptor of a memory file for images; -1 for none.
    """
    connection = Connection(int(file_descriptor))
    _limit_memory(int(memory_bytes))
    connection.send_bytes(READY)
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        _limit_cpu(float(cpu_s))
        task, arguments = pickle.loads(request)
        _execute(connection, int(shared), task, arguments)


def _execute(connection: Connection, shared: int, task: Task, arguments: tuple[Any, ...]) -> None:
    try:
        values, images = task(*arguments)
        sizes = [image.size for image in images]
        reply = {"values": values, "sizes": sizes}
        if _share(images, shared):
            reply["shared"], images = True, []
    except InputError as error:
        reply, images = {"error": _error_fields(error)}, []
    except MemoryError:
        reply, images = {"failure": "it exceeds the memory limit of a worker"}, []
    except Exception as error:  # noqa: BLE001  a decoder bug must fail only this request
        traceback.print_exc()
        reply, images = {"failure": f"{type(error).__name__}: {error}"}, []
    connection.send_bytes(json.dumps(reply).encode())
    for image in images:
        for band in bands(image):  # `tobytes` of the whole image would double its memory
            connection.send_bytes(band.tobytes())


def _share(images: list[Image.Image], shared: int) -> bool:
    """Write the pixels of images to the memory file. Returns whether all were written."""
    num_bytes = sum(3 * image.width * image.height for image in images)
    if shared < 0 or not 0 < num_bytes <= MAX_SHARED_BYTES:
        return False
    at = 0
    try:
        for image in images:
            for band in bands(image):
                pixels = memoryview(band.tobytes())
                while pixels:
                    written = os.pwrite(shared, pixels, at)
                    pixels, at = pixels[written:], at + written
    except OSError:  # no memory
        return False
    return True


def _error_fields(error: InputError) -> dict[str, str]:
    return {
        "class": type(error).__name__,
        "expected": error.expected,
        "got": error.got,
        "fix": error.fix,
    }


def _limit_memory(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    if (needed := _address_space_bytes() + _MIN_FREE_BYTES) > memory_bytes:
        raise SystemExit(f"a worker needs at least {needed:,} bytes, got {memory_bytes:,}")
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _address_space_bytes() -> int:
    """Return the address space of this process in bytes; 0 if the system does not report it."""
    try:
        num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return num_pages * os.sysconf("SC_PAGE_SIZE")


def _limit_cpu(cpu_s: float) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time() + cpu_s) + 1
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )
