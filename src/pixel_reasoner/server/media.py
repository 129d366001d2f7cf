"""Media of clients: data URLs, uploads, and addresses of allow-listed hosts become files of a content-addressed store.

    collect (checks only) → admission → store (decodes base64, fetches) → MediaItem → scheduler (decodes in processes)

Nothing of a client is opened by name: the paths of `MediaItem` are made here from hashes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from collections import OrderedDict
from pathlib import Path
from typing import Literal, NamedTuple

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.store import MediaRef, MediaStore
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.fetch import Fetcher
from pixel_reasoner.server.settings import ServerSettings
from pixel_reasoner.server.uploads import Uploads

Kind = Literal["image", "video"]
_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]{1,64}/[\w.+-]{1,64})?(?:;[\w=.+-]{1,64}){0,4};base64,", re.IGNORECASE
)
_MAX_CACHED = 4096
_HASHED_HERE_CHARS = 2**18
"""Longer data URLs are hashed in a thread, because hashing blocks all streams."""
_SIGNATURES: tuple[tuple[int, bytes, Kind, str], ...] = (
    (0, b"\xff\xd8\xff", "image", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", "image", ".png"),
    (0, b"GIF8", "image", ".gif"),
    (8, b"WEBP", "image", ".webp"),
    (0, b"BM", "image", ".bmp"),
    (0, b"II*\0", "image", ".tif"),
    (0, b"MM\0*", "image", ".tif"),
    (4, b"ftyp", "video", ".mp4"),
    (0, b"\x1aE\xdf\xa3", "video", ".webm"),
    (8, b"AVI ", "video", ".avi"),
)
"""(offset, bytes, kind, suffix) of accepted formats; the decoder checks the rest"""


class Source(NamedTuple):
    """Medium that a request names. Creating it decodes and fetches nothing."""

    kind: Kind
    url: str
    """data URL, id of an upload, or address"""
    param: str
    """field of the request, for errors"""


class SourceChecker:
    """Checks of the media of one request, before admission: number, form, bytes."""

    def __init__(self, settings: ServerSettings, fetcher: Fetcher) -> None:
        self.settings = settings
        self.fetcher = fetcher
        self.sources: list[Source] = []

    def add(self, kind: Kind, url: str, param: str) -> Source:
        """Check and add a medium.

        Raises:
            ApiError: 400, 403 or 413.
        """
        limit = self.settings.max_media
        if len(self.sources) >= limit:
            raise ApiError(
                400,
                f"{param}: more than {limit} pictures and videos",
                param=param,
                code="too_many_images",
            )
        try:
            self._check(url)
        except ApiError as error:
            error.param = error.param or param
            raise
        self.sources.append(Source(kind, url, param))
        return self.sources[-1]

    def _check(self, url: str) -> None:
        if url[:5].lower() == "data:":
            found = _DATA_URL.match(url, 0, 512)
            if found is None:
                raise ApiError(
                    400,
                    "a data URL must be data:TYPE;base64,DATA",
                    code="invalid_image_url",
                )
            max_bytes = self.settings.config.media.max_picture_bytes
            if (len(url) - found.end()) * 3 // 4 > max_bytes:
                raise ApiError(413, f"the file is larger than {max_bytes} bytes")
        elif not Uploads.is_id(url):
            self.fetcher.check(url)


def sniff(content: bytes) -> tuple[Kind, str] | None:
    r"""Return the kind and the suffix of a file from its first bytes; None for another format.

    >>> sniff(b"\xff\xd8\xff\xe0"), sniff(b"<svg>")
    (('image', '.jpg'), None)
    """
    for offset, signature, kind, suffix in _SIGNATURES:
        if content[offset : offset + len(signature)] == signature:
            return kind, suffix
    return None


class MediaIntake:
    """Converter of checked media to files of the store. A data URL that was seen before is not decoded again."""

    def __init__(
        self, settings: ServerSettings, store: MediaStore, uploads: Uploads, fetcher: Fetcher
    ) -> None:
        self.settings = settings
        self.store = store
        self.uploads = uploads
        self.fetcher = fetcher
        self._by_digest: OrderedDict[bytes, tuple[Kind, MediaRef]] = OrderedDict()

    async def items(self, sources: list[Source], client: str) -> list[MediaItem]:
        """Return the files of media, in order.

        Raises:
            ApiError: 400, 403 or 404.
        """
        return [await self._item(source, client) for source in sources]

    async def _item(self, source: Source, client: str) -> MediaItem:
        try:
            if Uploads.is_id(source.url):
                kind, ref = self.uploads.get(source.url, client)
            else:
                found = self._known(source.url)
                if found is None:
                    found = await asyncio.to_thread(self._stored, source.url)
                kind, ref = found
            path = self.store.path(ref)
        except InputError as error:
            raise ApiError(
                400, "the file was removed; send it again", param=source.param, code="invalid_image"
            ) from error
        except ApiError as error:
            error.param = source.param
            raise
        if kind != source.kind:
            raise ApiError(
                400,
                f"{source.param}: {'a video' if kind == 'video' else 'a picture'} instead of "
                f"{'a video' if source.kind == 'video' else 'a picture'}",
                param=source.param,
                code="invalid_image",
            )
        return MediaItem(kind=kind, path=str(path)).restricted([self.store.root])

    def _known(self, url: str) -> tuple[Kind, MediaRef] | None:
        """Return the file of a short data URL that was seen before: hashing it takes less time than starting a thread."""
        if len(url) > _HASHED_HERE_CHARS or url[:5].lower() != "data:":
            return None
        known = self._by_digest.get(_digest(url))
        return known if known is not None and known[1] in self.store else None

    def _stored(self, url: str) -> tuple[Kind, MediaRef]:
        if url[:5].lower() != "data:":
            return self.put(self.fetcher.get(url, self.settings.config.media.max_picture_bytes))
        digest = _digest(url)
        known = self._by_digest.get(digest)
        if known is not None and known[1] in self.store:
            return known
        try:
            content = base64.b64decode(url[url.index(",") + 1 :], validate=True)
        except (binascii.Error, ValueError):
            raise ApiError(400, "the data URL is not base64", code="invalid_image_url") from None
        stored = self._by_digest[digest] = self.put(content)
        while len(self._by_digest) > _MAX_CACHED:
            self._by_digest.pop(next(iter(self._by_digest)), None)
        return stored

    def put(self, content: bytes) -> tuple[Kind, MediaRef]:
        """Store the content of a file.

        Raises:
            ApiError: 400 for a format that is not accepted.
        """
        found = sniff(content)
        if found is None:
            raise ApiError(
                400,
                "the content is not a JPEG, PNG, WebP, GIF, BMP, TIFF, MP4, WebM or AVI file",
                code="invalid_image",
            )
        kind, suffix = found
        return kind, self.store.put(content, suffix)


def _digest(url: str) -> bytes:
    return hashlib.sha256(url.encode()).digest()


def path_names(items: list[MediaItem]) -> dict[str, str]:
    """Return names of files for clients: path -> `picture 2`."""
    return {item.path: f"picture {number}" for number, item in enumerate(items, start=1)} | {
        Path(item.path).name: f"picture {number}" for number, item in enumerate(items, start=1)
    }
