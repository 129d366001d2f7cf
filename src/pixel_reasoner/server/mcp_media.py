"""Media that clients of the MCP server opened, under handles that are arguments of the tools.

The content of a file is copied to a private folder when it is opened, and decoded from there in worker processes. So a
file that is replaced later changes nothing, and every process gives the same content with the same options the same
handle. The least recently used media are closed when there are too many; their handles then raise a clear error.

Handles belong to the client that opened them (`Lease.owner`). For every other client they do not exist.

    m-0123456789abcdef    a picture, a video or a folder of frames
    p-0123456789abcdef    a region of a picture or frame: a result of zoom_in, select_frames or ask
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Literal, NamedTuple

from mcp.server.mcpserver.exceptions import ToolError

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.decoder import MediaDecoder
from pixel_reasoner.media.sampling import spread
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.server.mcp_files import (
    Location,
    MediaFolders,
    copy_bytes,
    data_content,
    file_state,
    shown,
)

MEDIA_LIMITS = MediaLimits(
    max_px=200_000_000,
    max_picture_bytes=128 * 2**20,
    max_bytes=2 * 2**30,
    max_duration_s=6 * 3600.0,
    max_video_frames=2_000_000,
    max_header_bytes=2**25,
)
"""limits of one file"""
MAX_FRAMES = 32
"""frames sampled from one clip"""
MAX_OPEN_MEDIA, MAX_COPIED_BYTES, MAX_DECODED_PX = 256, 8 * 2**30, 250_000_000
"""open media: their number, the bytes of their copies on disk, decoded pixels in memory"""
MAX_REGIONS = 10_000
"""regions whose handles are known"""
_HANDLE = re.compile(r"(?:picture://)?([mp]-[0-9a-f]{16})")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


class OpenOptions(NamedTuple):
    """How a medium is opened. The options are part of its handle."""

    num_frames: int = 16
    """sampled frames of a clip"""
    start_s: float = 0.0
    end_s: float | None = None
    page: int | None = None
    """page of a TIFF picture, from 1"""


DEFAULT_OPTIONS = OpenOptions()


class OpenedMedia(NamedTuple):
    """A picture, a video or a folder of frames, in its private copy."""

    handle: str
    name: str
    """how the client named it, for messages"""
    item: MediaItem
    options: OpenOptions
    num_bytes: int
    owner: str = ""
    """client that opened it"""


class View(NamedTuple):
    """What a reference of a client points to: a medium, or a region of one of its pictures."""

    media: OpenedMedia
    frame: int | None = None
    """number of a sampled frame, from 1"""
    box: Box = WHOLE
    """region of the picture or frame"""

    @property
    def is_whole(self) -> bool:
        """Whether it is a medium with all its frames."""
        return self.frame is None and self.box == WHOLE


class _Source(NamedTuple):
    """Content to copy."""

    name: str
    kind: Literal["image", "video", "frames"]
    suffix: str
    options: OpenOptions
    owner: str


class Lease:
    """Media of one client that stay open while a request uses them.

    Args:
        owner: name of the client; empty for the only client of a process.
    """

    def __init__(self, owner: str = "") -> None:
        self.owner = owner
        self.handles: list[str] = []
        self.is_closed = False


class MediaLibrary:
    """Open media by handle, and regions of them. All methods are thread-safe.

    >>> import tempfile; from PIL import Image; from pixel_reasoner.media.decoder import IN_PROCESS
    >>> root = Path(tempfile.mkdtemp()); Image.new("RGB", (64, 48)).save(root / "a.png")
    >>> library = MediaLibrary(MediaFolders([root]), IN_PROCESS)
    >>> view = library.open("a.png")
    >>> view.media.handle == library.open(str(root / "a.png")).media.handle
    True
    >>> library.context(view.media).picture(1).source_px
    (64, 48)
    >>> library.close()
    """

    def __init__(
        self, folders: MediaFolders, decoder: MediaDecoder, limits: MediaLimits = MEDIA_LIMITS
    ) -> None:
        """Create an empty library.

        Args:
            folders: whose files may be read.
            decoder: decodes all media, usually `WorkerPoolDecoder`.
            limits: of one file.
        """
        self.folders = folders
        self.limits = limits
        self._folder = Path(tempfile.mkdtemp(prefix="pixel-reasoner-mcp-"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._cache = MediaCache(MAX_OPEN_MEDIA, MAX_DECODED_PX, decoder)
        self._lock = Lock()
        self._opened: OrderedDict[str, OpenedMedia] = OrderedDict()
        self._in_use: dict[str, int] = {}
        self._regions: OrderedDict[str, View] = OrderedDict()
        self._handles: OrderedDict[object, str] = OrderedDict()
        """state of a file and options -> handle, so that unchanged files are not copied again"""

    # --- references of clients ---

    def open(
        self, reference: str, options: OpenOptions | None = None, lease: Lease | None = None
    ) -> View:
        """Return what a handle, a path below an allowed folder or a data: URL points to.

        Args:
            reference: of a client.
            options: how it is opened; for a handle, another way to open the same file.
            lease: keeps it open.

        Raises:
            ToolError: it cannot be used; the message is for the model.
        """
        if lease is None:
            with self.lease() as lease:
                return self.open(reference, options, lease)
        if handle := _HANDLE.fullmatch(reference.strip()):
            return self._known(handle[1], options, lease)
        options = options or DEFAULT_OPTIONS
        if reference[:5].lower() == "data:":
            content = BytesIO(data_content(reference))
            source = _Source("the data: picture", "image", "", options, lease.owner)
            return View(self._copy(content, source, lease))
        location = self.folders.locate(reference)
        if self.folders.is_folder(location):
            return View(self._open_folder(location, options, lease))
        return View(self._open_file(location, options, lease))

    def add(self, content: bytes, name: str, lease: Lease | None = None) -> OpenedMedia:
        """Open the content of a picture file.

        Raises:
            ToolError: it cannot be used.
        """
        if lease is None:
            with self.lease() as lease:
                return self.add(content, name, lease)
        source = _Source(name, "image", "", DEFAULT_OPTIONS, lease.owner)
        return self._copy(BytesIO(content), source, lease)

    @contextmanager
    def lease(self, owner: str = "") -> Iterator[Lease]:
        """Keep media that are opened with this lease open until the end of the `with` block.

        Args:
            owner: client whose handles are known.
        """
        lease = Lease(owner)
        try:
            yield lease
        finally:
            with self._lock:
                lease.is_closed = True
                for handle in lease.handles:
                    self._in_use[handle] -= 1
                    if not self._in_use[handle]:
                        del self._in_use[handle]
                self._evict()

    def add_region(self, view: View) -> str:
        """Return the handle of a region, under which a client can use it again."""
        if view.is_whole:
            return view.media.handle
        key = f"{view.media.handle} {view.frame} {tuple(view.box)}"
        handle = f"p-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        with self._lock:
            self._regions[handle] = view
            self._regions.move_to_end(handle)
            while len(self._regions) > MAX_REGIONS:
                self._regions.popitem(last=False)
        return handle

    def context(self, media: OpenedMedia) -> MediaContext:
        """Return the numbered pictures of a medium. Frames are decoded, the pixels of a picture on first use.

        Raises:
            ToolError: it cannot be decoded within the limits.
        """
        question = Question(id=media.handle, text=media.name, media=(media.item,))
        with self.errors(media):
            return self._cache.open(question, UNSCALED, self.limits_of(media))

    def limits_of(self, media: OpenedMedia) -> MediaLimits:
        """Return the limits with the number of frames of a medium."""
        return self.limits.model_copy(update={"num_frames": media.options.num_frames})

    @contextmanager
    def errors(self, media: OpenedMedia) -> Iterator[None]:
        """Convert errors of decoders to sentences that contain the client's name of the file instead of our path.

        Raises:
            ToolError: a decoder raised an `InputError`.
        """
        try:
            yield
        except InputError as error:
            raise ToolError(self.describe_error(error, media)) from error

    def describe_error(self, error: InputError, media: OpenedMedia) -> str:
        """Return the sentence for an error of a decoder."""
        got = error.got.replace(media.item.path, media.name, 1)
        got = got.replace(f"{self._folder}/", "").replace(str(self._folder), "")
        return f"{got}; give {error.expected}"

    def close(self) -> None:
        """Delete all copies."""
        self._cache.clear()
        with self._lock:
            self._opened.clear()
        self._finalizer()

    def __len__(self) -> int:
        return len(self._opened)

    # --- opening ---

    def _known(self, handle: str, options: OpenOptions | None, lease: Lease) -> View:
        """Return what a handle points to, opened in another way if options are given.

        Raises:
            ToolError: an unknown handle.
        """
        with self._lock:
            view = self._regions.get(handle)
            media = self._take(view.media.handle if view else handle, lease)
        if media is None:
            raise ToolError(
                f"there is no open media {handle}: another server opened it, or it was closed since; "
                "open the file again with open_media"
            )
        if view is not None:
            if options is not None:
                raise ToolError(f"{handle} is a region of one picture; leave out the other options")
            return view._replace(media=media)
        if options in (None, media.options):
            return View(media)
        if media.item.kind == "frames":
            raise ToolError(f"{handle} is a folder of frames; open it again by its path")
        path = Path(media.item.path)
        source = _Source(media.name, media.item.kind, path.suffix, options, lease.owner)
        with path.open("rb") as file:
            return View(self._copy(file, source, lease))

    def _take(self, handle: str, lease: Lease) -> OpenedMedia | None:
        """Return an open medium of the owner of a lease and keep it open; None if there is none. The lock must be held."""
        media = self._opened.get(handle)
        if media is None or media.owner != lease.owner:
            return None
        self._opened.move_to_end(handle)
        self._pin(handle, lease)
        return media

    def _pin(self, handle: str, lease: Lease) -> None:
        """Keep a medium open. The lock must be held."""
        if not lease.is_closed:  # a cancelled request may have left a thread behind
            lease.handles.append(handle)
            self._in_use[handle] = self._in_use.get(handle, 0) + 1

    def _open_file(self, location: Location, options: OpenOptions, lease: Lease) -> OpenedMedia:
        is_video = (mimetypes.guess_type(f"a{location.suffix}")[0] or "").startswith("video/")
        suffix = location.suffix if _SUFFIX.fullmatch(location.suffix) else ""
        kind: Literal["image", "video"] = "video" if is_video else "image"
        source = _Source(location.name, kind, suffix, options, lease.owner)
        with self.folders.open(location) as file:
            key = file_state(file), source
            with self._lock:
                known = self._take(self._handles.get(key, ""), lease)
            if known is not None:
                return known
            media = self._copy(file, source, lease)
        with self._lock:
            self._handles[key] = media.handle
            while len(self._handles) > MAX_OPEN_MEDIA:
                self._handles.popitem(last=False)
        return media

    def _open_folder(self, location: Location, options: OpenOptions, lease: Lease) -> OpenedMedia:
        """Copy the sampled pictures of a folder.

        Raises:
            ToolError: no picture in it, or one of them is outside of the allowed folders.
        """
        names = self.folders.picture_names(location)
        if not names:
            raise ToolError(f"there are no pictures in {shown(location.name)}")
        source = _Source(location.name, "frames", "", options, lease.owner)
        _check_options(source)
        partial = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            digest, num_bytes = hashlib.sha256(), 0
            for index in spread(len(names), options.num_frames):
                frame = self.folders.locate(location.child(names[index]))
                frame = frame._replace(name=f"{location.name}/{names[index]}")
                path = partial / f"{index:06d}{Path(names[index]).suffix.lower()}"
                with self.folders.open(frame) as file, path.open("wb") as copy:
                    self._check_bytes(frame.name, "frames", file)
                    content, num_new = copy_bytes(file, copy, self.limits.max_picture_bytes)
                digest.update(content)
                num_bytes += num_new
            return self._register(source, partial, (digest.digest(), num_bytes), lease)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _copy(self, file: BinaryIO, source: _Source, lease: Lease) -> OpenedMedia:
        """Copy the content of a file and open it.

        Raises:
            ToolError: it cannot be used.
        """
        _check_options(source)
        self._check_bytes(source.name, source.kind, file)
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as copy:
            partial = Path(copy.name)
            try:
                content = copy_bytes(file, copy, self._max_bytes(source.kind))
                copy.flush()
                return self._register(source, partial, content, lease)
            finally:
                partial.unlink(missing_ok=True)

    def _register(
        self, source: _Source, partial: Path, content: tuple[bytes, int], lease: Lease
    ) -> OpenedMedia:
        """Move a copy to its place, and open it to check it."""
        media = self._describe(source, content)
        path = Path(media.item.path)
        with self._lock:
            is_known = media.handle in self._opened
            self._pin(media.handle, lease)
            if not is_known and not path.exists():
                partial.rename(path)
        try:
            if not is_known:
                self.context(media)
        except BaseException:
            with self._lock:
                if media.handle not in self._opened:
                    _delete(media)
            raise
        with self._lock:  # with the newest name
            self._opened[media.handle] = media
            self._opened.move_to_end(media.handle)
            self._evict()
        return media

    def _describe(self, source: _Source, content: tuple[bytes, int]) -> OpenedMedia:
        """Return the record of a copy: its handle is the hash of its content, options and owner."""
        digest, num_bytes = content
        options = source.options
        key = digest + repr((source.kind, source.suffix, options, source.owner)).encode()
        handle = f"m-{hashlib.sha256(key).hexdigest()[:16]}"
        item = MediaItem(
            kind=source.kind,
            path=str(self._folder / f"{handle}{source.suffix}"),
            start_s=options.start_s,
            end_s=options.end_s,
            page=options.page,
        )
        name = shown(source.name)[1:-1]
        return OpenedMedia(handle, name, item, options, num_bytes, source.owner)

    def _evict(self) -> None:
        """Close the least recently used media that are not in use. The lock must be held."""
        num_bytes = sum(one.num_bytes for one in self._opened.values())
        for handle in list(self._opened)[:-1]:
            if len(self._opened) <= MAX_OPEN_MEDIA and num_bytes <= MAX_COPIED_BYTES:
                return
            if handle not in self._in_use:
                media = self._opened.pop(handle)
                num_bytes -= media.num_bytes
                _delete(media)

    # --- limits ---

    def _max_bytes(self, kind: str) -> int:
        return self.limits.max_bytes if kind == "video" else self.limits.max_picture_bytes

    def _check_bytes(self, name: str, kind: str, file: BinaryIO) -> None:
        num_bytes, most = file.seek(0, 2), self._max_bytes(kind)
        file.seek(0)
        if not num_bytes:
            raise ToolError(f"{shown(name)} is an empty file")
        if num_bytes > most:
            raise ToolError(f"{shown(name)} has {num_bytes:,} bytes; give at most {most:,} bytes")


def _delete(media: OpenedMedia) -> None:
    """Delete the copy of a medium."""
    path = Path(media.item.path)
    if media.item.kind == "frames":
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_options(source: _Source) -> None:
    """Raise an error for options without an effect.

    Raises:
        ToolError: a part of something other than a video, or a page of something other than a picture.
    """
    options = source.options
    if source.kind != "video" and (options.start_s or options.end_s is not None):
        raise ToolError("start_s and end_s are for videos; leave them out")
    if source.kind != "image" and options.page is not None:
        raise ToolError("page is for TIFF pictures; leave it out")
