"""Conversion of user inputs (paths, PIL images, arrays, bytes) to `MediaItem`, which refers to a file.

Images in memory are written as lossless PNG to a content-addressed store, so that their traces can be displayed and
graded later.
"""

from __future__ import annotations

import mimetypes
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from PIL import Image, UnidentifiedImageError

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.remote_media import remote_version
from pixel_reasoner.media.store import MediaStore
from pixel_reasoner.schema.media_url import is_url
from pixel_reasoner.schema.question import MediaItem

if TYPE_CHECKING:
    import numpy as np

    MediaInput: TypeAlias = str | Path | MediaItem | Image.Image | np.ndarray | bytes
    """path of a picture, video or folder of frames, or an allowed URL of an object store; PIL image; uint8 array; file content as bytes"""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_ARRAY_CHANNELS = (3, 4)
_MOV_ATOMS = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid"})
"""possible types of the first block of an mp4 or mov file"""


def media_items(
    media: MediaInput | Sequence[MediaInput] | None, store: MediaStore | None = None
) -> tuple[MediaItem, ...]:
    """Convert media to references to files.

    Args:
        media: one media input, a list of them, or None.
        store: store for images in memory; by default a temporary folder that is removed when the process ends.

    Raises:
        InputError: an unsupported type, or a path that does not exist.

    >>> (item,) = media_items(Image.new("RGB", (8, 8)))
    >>> item.kind, Path(item.path).suffix
    ('image', '.png')
    >>> media_items(3)
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.InputError: expected a path, PIL image, uint8 array, bytes, or a list of them; got int. Fix: pass the path of the file
    """
    if media is None:
        return ()
    several = media if isinstance(media, list | tuple) else [media]
    return tuple(_item(one, store) for one in several)


def _item(medium: Any, store: MediaStore | None) -> MediaItem:
    if isinstance(medium, MediaItem):
        return medium
    if isinstance(medium, str | Path):
        return _file(medium)
    if isinstance(medium, bytes | bytearray | memoryview):
        return _stored(bytes(medium), store)
    if isinstance(medium, Image.Image):
        return _stored(_png(medium), store)
    if hasattr(medium, "__array__"):
        return _stored(_png(_image_of_array(medium)), store)
    raise InputError(
        expected="a path, PIL image, uint8 array, bytes, or a list of them",
        got=type(medium).__name__,
        fix="pass the path of the file",
    )


def _file(name: str | Path) -> MediaItem:
    if isinstance(name, str) and is_url(name):
        return MediaItem(kind=_kind(name), path=name)
    if _ADDRESS.match(str(name)):
        raise InputError(
            expected="a local file",
            got=f"the address {name}",
            fix="download it, and pass its path or its bytes",
        )
    path = Path(name).expanduser().absolute()
    if not path.exists():
        raise InputError(
            expected="a picture, a video or a folder of frames",
            got=f"{path}, which does not exist",
            fix="check the path",
        )
    if path.is_dir():
        return MediaItem(kind="frames", path=str(path))
    return MediaItem(kind=_kind(path.name), path=str(path))


def _kind(name: str) -> Literal["image", "video"]:
    is_video = (mimetypes.guess_type(name)[0] or "").startswith("video/")
    return "video" if is_video else "image"


def check_exists(item: MediaItem) -> None:
    """Raise an error unless the file, folder or object of a media item exists.

    Raises:
        InputError: it does not exist, is of another kind, or is a URL that is not allowed.
        StorageError: an object store does not answer, or rejects the credentials.
    """
    if is_url(item.path):
        remote_version(item)
        return
    path = Path(item.path)
    if not (path.is_dir() if item.kind == "frames" else path.is_file()):
        raise InputError(
            expected="a folder of frames"
            if item.kind == "frames"
            else f"a file of one {item.kind}",
            got=f"{path}, which {'is something else' if path.exists() else 'does not exist'}",
            fix="check the path",
        )


def _stored(content: bytes, store: MediaStore | None) -> MediaItem:
    """Write the content of a picture or video file to the store."""
    store = store or _temporary_store()
    try:
        with Image.open(BytesIO(content)) as image:
            suffix = f".{(image.format or 'png').lower()}"
        kind: Any = "image"
    except UnidentifiedImageError as error:
        if not _is_video(content):
            raise _unknown_content(content, "neither a picture nor a video") from error
        kind, suffix = "video", ".mp4"
    except Exception as error:
        raise _unknown_content(content, str(error)) from error
    return MediaItem(kind=kind, path=str(store.path(store.put(content, suffix))))


def _is_video(content: bytes) -> bool:
    """Return whether a file starts like one of the supported containers: mp4, mov, mkv, webm, avi."""
    is_avi = content[:4] == b"RIFF" and content[8:12] == b"AVI "
    return is_avi or content[:4] == b"\x1aE\xdf\xa3" or content[4:8] in _MOV_ATOMS


def _unknown_content(content: bytes, problem: str) -> InputError:
    return InputError(
        expected="the content of a picture or video file",
        got=f"{len(content)} bytes: {problem}",
        fix="check the source of the bytes",
    )


def _png(image: Image.Image) -> bytes:
    if image.mode == "F":
        raise InputError(
            expected="an image of 8 or 16 bits",
            got="floating-point pixels (mode F)",
            fix='scale them to 0 to 255 and convert the image to "L"',
        )
    buffer = BytesIO()
    try:
        shown = image if image.mode in _PNG_MODES else image.convert("RGB")
    except ValueError as error:
        raise InputError(
            expected="an image that can be converted to RGB",
            got=f"mode {image.mode}",
            fix="convert it with `image.convert`",
        ) from error
    shown.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _image_of_array(array: Any) -> Image.Image:
    import numpy as np

    pixels = np.asarray(array)
    is_colour = pixels.ndim == 3 and pixels.shape[2] in _ARRAY_CHANNELS
    if pixels.dtype == np.uint8 and (pixels.ndim == 2 or is_colour) and pixels.size:
        return Image.fromarray(np.ascontiguousarray(pixels))
    kind = f"{pixels.dtype} of shape {pixels.shape}"
    if pixels.size and pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        kind += " with NaN or infinity"
    raise InputError(
        expected="a uint8 array of shape (height, width), (height, width, 3) or (height, width, 4)",
        got=kind,
        fix=_fix_of_array(pixels, is_colour=is_colour),
    )


def _fix_of_array(pixels: Any, *, is_colour: bool) -> str:
    if not pixels.size:
        return "pass an array with pixels"
    if pixels.ndim < 2:
        return "pass a picture, or its file as bytes"
    if pixels.ndim == 4:
        return "pass several pictures as a list of arrays"
    if pixels.ndim == 3 and not is_colour:
        return _fix_of_channels(pixels.shape)
    return _fix_of_values(pixels)


def _fix_of_channels(shape: tuple[int, ...]) -> str:
    if shape[0] in _ARRAY_CHANNELS:
        return "put channels last, for example with `numpy.moveaxis(a, 0, -1)`"
    if shape[2] == 1:
        return "leave out the last axis of a grey picture with `a[..., 0]`"
    return f"choose 3 of the {shape[2]} channels, for example with `a[..., :3]`"


def _fix_of_values(pixels: Any) -> str:
    """Return the conversion to uint8 that fits the range of the values."""
    import numpy as np

    if pixels.dtype.kind == "b":
        return "convert truth values with `a.astype('uint8') * 255`"
    if pixels.dtype.kind not in "iuf":
        return "pass an array of numbers from 0 to 255 as uint8"
    if not np.isfinite(pixels).all():
        return "replace these values first, for example with `numpy.nan_to_num(a)`"
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return "convert values from 0 to 1 with `(a * 255).astype('uint8')`"
    if low >= 0 and high <= 255:
        return "convert values from 0 to 255 with `a.astype('uint8')`"
    return (
        f"scale the values, which are from {low:g} to {high:g}, to 0 to 255,"
        " and convert them with `a.astype('uint8')`"
    )


@cache
def _temporary_store() -> MediaStore:
    folder = tempfile.TemporaryDirectory(prefix="pixel-reasoner-")
    _FOLDERS.append(folder)
    return MediaStore(Path(folder.name))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""temporary folders, removed when the process ends"""
