"""Picture store of a report: encoded pixels by content, and the pictures of a trace.

Every picture is written once, however many traces show it: six questions about a scene share its source. Sources keep
their full resolution up to `MAX_SOURCE_PX`, which a browser can still show as one image.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pixel_reasoner.errors import InputError
from pixel_reasoner.reports.schema import Image
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.strategy import Region
from pixel_reasoner.schema.trace import Picture, Trace

if TYPE_CHECKING:  # Pillow and PyAV are loaded when a picture is shown
    import PIL.Image

    from pixel_reasoner.media.context import MediaContext
    from pixel_reasoner.operations.base import Drawing

MAX_SOURCE_PX = 50_000_000
"""sources with more pixels are scaled down"""
_MAX_WEBP_SIDE = 16_383
MAX_LOSSLESS_PX = 256 * 256
"""smaller pictures are stored losslessly, to show exactly the model's input"""
THUMBNAIL_SIDE = 128
MAX_DRAWING_PX = 800 * 800
"""pixels of a picture on which a result is drawn"""
MAX_CLIP_BYTES = 8 << 20
"""larger video files are not copied into the report: their sampled frames are shown"""
_CLIP_TYPES = {".mp4": "mp4", ".m4v": "mp4", ".webm": "webm"}


class PictureStore:
    """Files of encoded pictures in one folder, named by their content. Thread-safe."""

    def __init__(self, folder: Path, max_px: int = MAX_SOURCE_PX) -> None:
        self.folder, self.max_px = folder, max_px
        self.num_bytes = 0
        """of all files"""
        self.unshown: Counter[str] = Counter()
        """reason -> number of pictures that could not be shown"""
        self._images: dict[bytes, Future[Image]] = {}
        self._lock = Lock()

    def image(self, key: str, make: Callable[[], Image]) -> Image:
        """Return the image of a key, made once."""
        digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16).digest()
        with self._lock:
            found = self._images.get(digest)
            is_new = found is None
            if found is None:
                found = self._images[digest] = Future()
        if is_new:
            try:
                found.set_result(make())
            except BaseException as error:
                found.set_exception(error)
                raise
        return found.result()

    def add(self, pixels: PIL.Image.Image, *, max_px: int | None = None) -> Image:
        """Encode a picture and return it. It is scaled down above `max_px`, by default the limit of the store."""
        pixels = _scaled(pixels, max_px or self.max_px)
        return Image(ref=self.write(*self.encode(pixels.convert("RGB"))), px=pixels.size)

    def encode(self, pixels: PIL.Image.Image) -> tuple[bytes, str]:
        """Return the file of an RGB picture and its suffix."""
        buffer = io.BytesIO()
        if (
            math.prod(pixels.size) <= MAX_LOSSLESS_PX
        ):  # `quality` is the effort: 0 is 5 % larger, in a third of the time
            pixels.save(buffer, "WEBP", quality=0, lossless=True, method=0)
        else:
            pixels.save(buffer, "WEBP", quality=82, method=0)
        return buffer.getvalue(), "webp"

    def source(self, picture: Picture, make: Callable[[], Image]) -> Image:
        """Return the whole source of a picture. Subclasses may name it and make it later."""
        del picture
        return make()

    def write(self, content: bytes, suffix: str) -> str:
        """Write a file and return its name."""
        name = f"{hashlib.blake2b(content, digest_size=10).hexdigest()}.{suffix}"
        path = self.folder / name
        with self._lock:
            if path.exists():
                return name
            self.num_bytes += len(content)
            path.write_bytes(content)
        return name

    def open(self, trace: Trace) -> MediaContext:
        """Open the media of a trace whose pictures are stored. Subclasses may open them in another way.

        Raises:
            InputError: the media are unusable, or do not match the trace.
        """
        from pixel_reasoner.media.context import MediaContext

        return MediaContext.of_trace(trace)

    def clip(self, path: Path) -> str:
        """Return the name of a copy of a video file; empty if it is too large, or no browser can play it."""
        suffix = _CLIP_TYPES.get(path.suffix.lower())
        try:
            if suffix is None or path.stat().st_size > MAX_CLIP_BYTES:
                return ""
            return self.write(path.read_bytes(), suffix)
        except OSError:
            return ""


class TracePictures:
    """Pictures of one trace, or the reasons why they cannot be shown.

    Args:
        trace: trace with media.
        store: receives their pixels.
        root: folder of the run; paths in reasons are relative to it.
    """

    def __init__(self, trace: Trace, store: PictureStore, root: Path | None = None) -> None:
        self._trace, self._store, self._root = trace, store, root
        self._context: MediaContext | InputError | None = None
        media = "\n".join(item.model_dump_json() for item in trace.question.media)
        sampling = "\n".join(one.model_dump_json() for one in trace.sampling)
        self._key = f"{media}\n{sampling}"

    def view(self, picture: Picture) -> Image:
        """Return a picture as the model received it."""
        steps = [step.model_dump_json() for step in picture.transforms]
        beside = [one.model_dump_json() for one in picture.beside]
        region = f"{_source_key(picture)} {tuple(picture.box)} {picture.seen_px} {steps} {beside}"
        return self._image(
            f"view {region} {self._key}",
            lambda context: self._store.add(context.view(picture.number)),
        )

    def thumbnail(self, picture: Picture) -> Image:
        """Return a small copy of a picture."""
        if max(picture.seen_px) <= 2 * THUMBNAIL_SIDE:
            return self.view(picture)
        return self._image(
            f"thumbnail {_source_key(picture)} {self._key}",
            lambda context: self._store.add(context.view(picture.number), max_px=THUMBNAIL_SIDE**2),
        )

    def drawing(self, drawing: Drawing) -> Image:
        """Return a view of a picture with a result drawn on it."""

        def draw(context: MediaContext) -> Image:
            from pixel_reasoner.schema.settings import PixelBudget

            drawn = context.fork()
            if not 1 <= drawing.picture <= len(drawn):  # of a damaged file
                return Image(problem=f"there is no picture {drawing.picture}")
            budget = PixelBudget(min_px=1, max_px=MAX_DRAWING_PX)
            added = drawn.add_region(drawing.picture, drawing.box, drawing.transforms, budget)
            return self._store.add(drawn.view(added.number))

        steps = [step.model_dump_json() for step in drawing.transforms]
        trace = f"{self._trace.question.id} {self._trace.sample}"
        key = f"drawing {trace} {drawing.picture} {tuple(drawing.box)} {steps} {self._key}"
        return self._image(key, draw)

    def region(self, region: Region) -> Image:
        """Return a region of a strategy as the model received it."""
        from pixel_reasoner.media.pixels import SourceKey

        key = SourceKey(region.medium, region.frame)
        return self._image(
            f"view {region.medium} {region.frame} {tuple(region.box)} {region.seen_px} [] {self._key}",
            lambda context: self._store.add(context.media.region(key, region.box, region.seen_px)),
        )

    def source(self, picture: Picture) -> Image:
        """Return the whole picture or frame from which a picture was cropped."""
        return self._store.source(
            picture,
            lambda: self._image(
                f"source {_source_key(picture)} {self._key}",
                lambda context: self._store.add(context.source(picture.number)),
            ),
        )

    def _image(self, key: str, make: Callable[[MediaContext], Image]) -> Image:
        return self._store.image(key, lambda: self._make(make))

    def _make(self, make: Callable[[MediaContext], Image]) -> Image:
        try:
            return make(self._open())
        except InputError as error:
            problem = _relative(error.got, self._root)
            self._store.unshown[problem] += 1
            return Image(problem=problem)

    def _open(self) -> MediaContext:
        """Return the context of the trace, opened on first use.

        Raises:
            InputError: the media are unusable, or do not match the trace.
        """
        if self._context is None:
            try:
                self._context = self._store.open(self._trace)
            except InputError as error:
                self._context = error
        if isinstance(self._context, InputError):
            raise self._context
        return self._context


def _source_key(picture: Picture) -> str:
    return f"{picture.medium} {picture.frame} {picture.clip_index}"


def scaled_size(size: Size, max_px: int) -> Size:
    """Return the (width, height) of a stored picture: at most `max_px` pixels, and sides that WebP can have.

    >>> scaled_size((4000, 1000), 1_000_000)
    (2000, 500)
    """
    width, height = size
    scale = min(1.0, math.sqrt(max_px / (width * height)), _MAX_WEBP_SIDE / max(size))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scaled(pixels: PIL.Image.Image, max_px: int) -> PIL.Image.Image:
    from PIL import Image as PillowImage

    size = scaled_size(pixels.size, max_px)
    if size == pixels.size:
        return pixels
    return pixels.resize(size, PillowImage.Resampling.LANCZOS, reducing_gap=3)


def _relative(text: str, root: Path | None) -> str:
    """Return a text with paths relative to a folder."""
    if root is None:
        return text
    for folder in (str(root), str(root.absolute()), str(root.resolve())):
        text = text.replace(f"{folder}/", "")
    return text
