"""Decoding of untrusted picture files to upright RGB.

The content decides the format, not the suffix. A file that cannot be decoded completely is an `InputError`: half a
picture would lose evidence silently. Colour profiles are ignored; RAW, HEIC and SVG are not supported.

Pillow's own pixel limit is a global variable and half of ours. It is neither applied nor changed: files are opened by
the plugins directly, and `limits.check_pixels` runs before anything is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
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

from pixel_reasoner.media.decode_errors import DECODER_EXCEPTIONS, as_input_errors
from pixel_reasoner.media.limits import check_file, check_pixels
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import MediaLimits

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
PICTURE_FORMATS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
_EXPECTED = f"a whole picture file ({PICTURE_FORMATS})"
_FIX = "save it again in one of these formats, or give another"
_PREFIX_BYTES = 16
"""bytes by which the plugins recognise their format, as in `Image.open`"""

_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> transpose that puts the picture upright. From 5 on width and height are swapped."""


def image_size(path: Path, limits: MediaLimits) -> Size:
    """Return the (width, height) of an upright picture, from its header alone.

    Raises:
        InputError: not a picture, or one over the limits.
    """
    with _open_picture(path, limits) as image:
        is_swapped = _orientation(image) >= 5
        return (image.height, image.width) if is_swapped else (image.width, image.height)


def open_image(path: Path, limits: MediaLimits) -> Image.Image:
    """Return a picture as upright RGB at full resolution: alpha over white, 16-bit grey scaled to 8 bits.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "clear.png"
    >>> Image.new("RGBA", (3, 2), (0, 0, 0, 0)).save(path)
    >>> open_image(path, MediaLimits()).getpixel((0, 0))
    (255, 255, 255)

    Raises:
        InputError: not a whole picture, or one over the limits (known before anything is decoded).
    """
    with _open_picture(path, limits) as image:
        orientation = _orientation(image)
        image.load()
        rgb = _to_rgb(image)
        transpose = _TRANSPOSE_OF_ORIENTATION.get(orientation)
        return rgb if transpose is None else rgb.transpose(transpose)


def composite_over_white(image: Image.Image) -> Image.Image:
    """Return an image with transparency as RGB over white."""
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba)
    return white


@contextmanager
def _open_picture(path: Path, limits: MediaLimits) -> Iterator[ImageFile]:
    with as_input_errors(path, _EXPECTED, _FIX):
        check_file(path, _EXPECTED, limits)
        with path.open("rb") as file, _identify(file) as image:
            check_pixels(path, image.size, limits)
            yield image


def _identify(file: IO[bytes]) -> ImageFile:
    """Return the picture of an open file with its header read, as `Image.open` without its check of the size."""
    prefix = file.read(_PREFIX_BYTES)
    for factory, accept in _PLUGINS:
        is_accepted = accept(prefix)  # a string says why a plugin is not available
        if is_accepted and not isinstance(is_accepted, str):
            file.seek(0)
            try:
                image: ImageFile = factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
            return image
    raise UnidentifiedImageError("not a picture of these formats")


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """TIFF file that is decoded without Pillow's second check of the size."""

    def load_prepare(self) -> None:
        tile_size = getattr(
            self, "_tile_size", None
        )  # Pillow before 11.1 has neither this nor the check
        if tile_size is not None and self._im is None:
            self.im = Image.core.new(self.mode, tile_size)  # type: ignore[attr-defined]  # the check runs only where there is none
        super().load_prepare()


def _plugin(plugin: type[ImageFile]) -> tuple[Any, Any]:
    factory, accept = Image.OPEN[str(plugin.format)]
    return (_TiffFile if plugin is TiffImagePlugin.TiffImageFile else factory), accept


_PLUGINS = tuple(
    _plugin(plugin)
    for plugin in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        GifImagePlugin.GifImageFile,
    )
)
"""factory and prefix test of each format"""


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation; 1 (upright) when there is none or it cannot be read."""
    if image.format == "TIFF":  # Pillow puts it upright itself
        return 1
    try:
        # Not `image.getexif()`: for a PNG it decodes the picture to read what follows the pixels.
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except DECODER_EXCEPTIONS:
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8bit(image)).convert("RGB")
    return composite_over_white(image) if image.has_transparency_data else image.convert("RGB")


def _to_8bit(image: Image.Image) -> np.ndarray:
    """Return grey values of (height, width) as uint8."""
    values: np.ndarray = np.asarray(image)
    if image.mode.startswith("I;16"):
        return (values >> 8).astype(np.uint8)
    # 32-bit integers and floats have no agreed range: scale from the darkest to the brightest.
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    scaled: np.ndarray = (values - low) * (255 / max(high - low, 1e-6))
    return scaled.astype(np.uint8)
