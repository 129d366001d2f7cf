"""Decoding of untrusted picture files to upright RGB.

The format is detected from the content, not the suffix. An incomplete file raises an `InputError`, because a partial
picture would lose evidence silently. Colour profiles are ignored. RAW and SVG are not supported. HEIC and PDF need the
extra `workflows`; pages of a PDF are rendered by `documents`. libheif and libavif turn pictures upright themselves.

The pixel limit of Pillow is a global variable and about half of ours. It is neither applied nor changed: the plugins open
the files directly, and `limits.check_pixels` runs before decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import (  # the plugins register themselves; otherwise Pillow loads all its forty
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from pixel_reasoner.errors import InputError, install_command
from pixel_reasoner.media.decode_errors import DECODER_EXCEPTIONS, as_input_errors
from pixel_reasoner.media.documents import (
    DOCUMENT_SUFFIXES,
    Passwords,
    is_document,
    num_document_pages,
    page_size,
    render_page,
)
from pixel_reasoner.media.guarded_file import GuardedReader
from pixel_reasoner.media.limits import (
    MAX_PAGES,
    check_file,
    check_memory,
    check_pixels,
    picture_memory_bytes,
)
from pixel_reasoner.media.rgb import grey_to_rgb, is_deep_grey, levels, to_rgb
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import MediaLimits

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
OPTIONAL_SUFFIXES = frozenset({".avif", ".heic", ".heif", ".hif", *DOCUMENT_SUFFIXES})
"""formats that need a library: AVIF Pillow 11.3 or newer, HEIC and PDF the extra `workflows`"""
PICTURE_FORMATS = "PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
_EXPECTED = f"a whole picture file ({PICTURE_FORMATS})"
_FIX = "save it again in one of these formats, or give another"
_PREFIX_BYTES = 16
"""bytes that the plugins need to detect their format, as in `Image.open`"""

_TILE_TAGS = (273, 279, 324, 325)
"""TIFF tags with an entry for each strip or tile"""
_MAX_TILE_TAG_BYTES = 2**22
"""Pillow allocates about 300 bytes for each four-byte entry."""

_SUBFILE_TAG, _IS_SMALL_COPY = 254, 1
_HEIC_STARTS = frozenset(
    b"ftyp" + brand
    for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
)
"""bytes 4 to 11 of a HEIC file"""

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transpose to upright. Orientations 5 to 8 swap width and height."""


class PictureHeader(NamedTuple):
    """Size and notes of a picture, from its header."""

    size: Size
    """(width, height), upright"""
    notes: tuple[str, ...]
    """differences between the result of `open_image` and the file, one sentence each: stretched greyscale, omitted pages"""


def image_size(path: Path, limits: MediaLimits, page: int | None = None) -> Size:
    """Return the (width, height) of an upright picture from its header.

    Args:
        path: the file.
        limits: on bytes, pixels, memory and time.
        page: page of a TIFF or PDF, from 1; None for the first.

    Raises:
        InputError: not a picture, no such page, or over the limits.
    """
    if is_document(path):
        return page_size(path, limits, page)[0]
    with _open_picture(path, limits, page) as image:
        return _upright_size(image)


def open_image(
    path: Path, limits: MediaLimits, page: int | None = None, passwords: Passwords = ()
) -> Image.Image:
    """Return a picture as upright RGB at full resolution: alpha over white, deep greyscale by `rgb.levels`.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "clear.png"
    >>> Image.new("RGBA", (3, 2), (0, 0, 0, 0)).save(path)
    >>> open_image(path, MediaLimits()).getpixel((0, 0))
    (255, 255, 255)

    Raises:
        InputError: an incomplete picture, no such page, or over the limits (checked before decoding).
    """
    if is_document(path):
        return render_page(path, limits, page, passwords)
    with _open_picture(path, limits, page) as image:
        orientation = _orientation(image)
        _load(image)
        rgb = grey_to_rgb(image) if is_deep_grey(image) else to_rgb(image)
        transpose = _TRANSPOSE_OF_ORIENTATION.get(orientation)
        return rgb if transpose is None else rgb.transpose(transpose)


def check_picture(path: Path, limits: MediaLimits, page: int | None = None) -> None:
    """Check that a picture file is complete. All of its data are decoded; a header alone does not show that they are cut off.

    Raises:
        InputError: an incomplete picture, no such page, or over the limits.
    """
    if is_document(path):
        page_size(path, limits, page)
        return
    with _open_picture(path, limits, page) as image:
        image.draft(None, (1, 1))  # JPEG: an eighth of the size is decoded, in less time
        _load(image)


def picture_header(
    path: Path, limits: MediaLimits, page: int | None = None, passwords: Passwords = ()
) -> PictureHeader:
    """Return size and notes of a picture. Greyscale of more than 8 bits must be decoded for its notes.

    Raises:
        InputError: not a picture, no such page, or over the limits.
    """
    if is_document(path):
        size, dpi = page_size(path, limits, page, passwords)
        return PictureHeader(size, (f"{path.name}: page {page or 1} is rendered at {dpi} dpi",))
    with _open_picture(path, limits, page) as image:
        size = _upright_size(image)
        notes = _page_notes(image, page)
        if is_deep_grey(image):
            _load(image)
            if shown := levels(image):
                low, high = (f"{value:,.6g}" for value in shown)
                notes.append(f"greyscale values {low} to {high} are stretched to black to white")
        return PictureHeader(size, tuple(f"{path.name}: {note}" for note in notes))


def picture_pages(path: Path, limits: MediaLimits, passwords: Passwords = ()) -> range | list[int]:
    """Return the numbers of the pages of a PDF or TIFF, from 1. Small copies of a page in a TIFF are left out.

    Raises:
        InputError: not a picture, or over the limits.
    """
    if is_document(path):
        return range(1, num_document_pages(path, limits, passwords) + 1)
    with _open_picture(path, limits) as image:
        return image.whole_pages() if isinstance(image, _TiffFile) else [1]


def _page_notes(image: ImageFile, page: int | None) -> list[str]:
    if isinstance(image, _TiffFile):
        num_pages = image.num_pages()
        if num_pages == 1 or page is not None:
            return []
        more = " or more" if num_pages == MAX_PAGES else ""
        return [f"page 1 of {num_pages}{more} is used; choose one with --page"]
    if getattr(image, "is_animated", False):  # only some formats have this attribute
        return ["an animation, of which the first frame is used; a GIF may be given as a video"]
    return []


@contextmanager
def _open_picture(path: Path, limits: MediaLimits, page: int | None = None) -> Iterator[ImageFile]:
    with as_input_errors(path, _EXPECTED, _FIX):
        max_bytes = min(limits.max_picture_bytes, limits.max_bytes)
        name = "max_bytes" if limits.max_bytes < limits.max_picture_bytes else "max_picture_bytes"
        check_file(path, _EXPECTED, max_bytes, name)
        with GuardedReader(path, limits) as file, _identify(file) as image:
            if page is not None:
                _select_page(image, page)
            check_pixels(path, image.size, limits)
            check_memory(path, _description(image), _memory_bytes(image), limits)
            yield image


def _select_page(image: ImageFile, page: int) -> None:
    """Make a page, from 1, the current one.

    Raises:
        ValueError: no such page.
    """
    if page == 1:
        return
    if not isinstance(image, _TiffFile):
        raise ValueError(f"no page {page}; only TIFF has several")
    try:
        image.seek(page - 1)
    except EOFError as error:
        raise ValueError(f"no page {page}; it has {image.num_pages()}") from error


def _load(image: ImageFile) -> None:
    assert isinstance(image.fp, GuardedReader)
    image.fp.begin_pixels(is_jpeg=image.format == "JPEG")
    image.load()


def _description(image: ImageFile) -> str:
    kind = "progressive " if "progressive" in image.info else ""
    return f"{kind}{image.format} of {image.width} x {image.height} pixels"


def _memory_bytes(image: ImageFile) -> int:
    is_tiff = image.format == "TIFF"
    return picture_memory_bytes(
        image.size,
        str(image.format),
        image.mode,
        num_scan_channels=len(image.getbands()) if "progressive" in image.info else 0,
        is_turned=is_tiff or _orientation(image) > 1,
    )


def _upright_size(image: ImageFile) -> Size:
    is_swapped = _orientation(image) >= 5
    return (image.height, image.width) if is_swapped else (image.width, image.height)


def _identify(file: IO[bytes]) -> ImageFile:
    """Return the picture of an open file with a parsed header, like `Image.open` without its size check."""
    prefix = file.read(_PREFIX_BYTES)
    if prefix[4:12] in _HEIC_STARTS:
        file.seek(0)
        return _heic_file(file)
    for factory, accept in _PLUGINS:
        is_accepted = accept(prefix)  # a string is the reason for which a plugin is unavailable
        if is_accepted and not isinstance(is_accepted, str):
            file.seek(0)
            try:
                image: ImageFile = factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
            return image
    raise UnidentifiedImageError("not a picture of these formats")


def _heic_file(file: IO[bytes]) -> ImageFile:
    try:
        from pi_heif import HeifImageFile
    except ImportError as error:
        raise InputError(
            expected="pi-heif, which reads HEIC pictures",
            got=f"{file.name}: it is not installed",
            fix=f"{install_command('workflows')}, or save it as JPEG",
        ) from error
    image: ImageFile = HeifImageFile(file, "")
    return image


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """TIFF file without Pillow's second size check."""

    def load_prepare(self) -> None:
        tile_size = getattr(
            self, "_tile_size", None
        )  # Pillow before 11.1 has neither this nor the check
        if tile_size is not None and self._im is None:
            self.im = Image.core.new(self.mode, tile_size)  # type: ignore[attr-defined]  # the check runs only if it is missing
        super().load_prepare()

    def num_pages(self) -> int:
        """Return the number of readable pages, up to `MAX_PAGES`."""
        current, num_pages = self.tell(), 1
        try:
            while num_pages < MAX_PAGES:
                self._seek(num_pages)
                num_pages += 1
        except InputError:
            raise
        except (
            DECODER_EXCEPTIONS
        ):  # the end, or a page that is damaged: the pages before it can be used
            pass
        self._seek(current)
        return num_pages

    def whole_pages(self) -> list[int]:
        """Return the numbers of the pages, from 1, without those that are small copies of another."""
        pages = []
        for page in range(1, self.num_pages() + 1):
            self._seek(page - 1)
            if page == 1 or not int(self.tag_v2.get(_SUBFILE_TAG, 0)) & _IS_SMALL_COPY:
                pages.append(page)
        return pages

    def _setup(self) -> None:
        for tag in _TILE_TAGS:
            if len(self.tag_v2._tagdata.get(tag, b"")) > _MAX_TILE_TAG_BYTES:
                raise ValueError(f"more than {_MAX_TILE_TAG_BYTES // 4:,} strips or tiles")
        super()._setup()


def _plugin(plugin: type[ImageFile]) -> tuple[Any, Any]:
    factory, accept = Image.OPEN[str(plugin.format)]
    return (_TiffFile if plugin is TiffImagePlugin.TiffImageFile else factory), accept


_FORMATS: list[type[ImageFile]] = [
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    GifImagePlugin.GifImageFile,
]
try:
    from PIL import AvifImagePlugin

    _FORMATS.append(AvifImagePlugin.AvifImageFile)
except ImportError:  # Pillow before 11.3
    pass

_PLUGINS = tuple(_plugin(plugin) for plugin in _FORMATS)
"""factory and prefix test of each format"""


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation; 1 (upright) if it is missing or unreadable."""
    if image.format == "TIFF":  # Pillow already transposes it to upright
        return 1
    try:
        # Not `image.getexif()`: for a PNG it decodes the picture to parse the data after the pixels.
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except DECODER_EXCEPTIONS:
        return 1
