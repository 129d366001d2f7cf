"""Pictures of MCP results: rendered, labelled and encoded within the limits of common clients.

Claude Desktop refuses a result over 1 MiB, and models shrink pictures with a longer side than 1,568 pixels themselves.
So the longest side of a picture is at most `MAX_SIDE_PX`, and all pictures of a result together take less than
`MAX_RESULT_CHARS` of base64: where they do not, JPEG quality is reduced first, then the size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from pixel_reasoner.media.resize import region_px, resize_region
from pixel_reasoner.schema.geometry import WHOLE, Box, Size

MAX_SIDE_PX = 1568
MIN_MAX_SIDE_PX = 64
"""smallest value of the option max_side"""
MAX_RESULT_CHARS = 700_000
"""characters of base64 of all pictures of one result"""
ENLARGED_SIDE_PX = 768
"""A smaller region is enlarged to this longest side: models represent a small picture by few tokens."""
MAX_ENLARGEMENT = 8
JPEG_QUALITY = 85
_LOWER_QUALITIES = (75, 65, 55, 45)
_MAX_PNG_COLOURS = 16_384
"""A picture with more colours is smaller as JPEG."""
_LABEL_PX = 18
"""height of the label below a frame of a contact sheet"""
_MIN_FRAME_PX = 160
"""longest side to which the frames of a contact sheet are enlarged"""
_BACKGROUND, _INK = (24, 24, 24), (240, 240, 240)


class EncodedPicture(NamedTuple):
    """Content of a PNG or JPEG file."""

    content: bytes
    format: str
    """png or jpeg"""
    size: Size
    quality: int | None = None
    """of a JPEG"""

    @property
    def num_chars(self) -> int:
        """Length in base64."""
        return 4 * math.ceil(len(self.content) / 3)


def shown_size(size: Size, max_side: int, enlarge_to: int = 0) -> Size:
    """Return the (width, height) of a picture whose longest side is limited; the aspect ratio is preserved.

    Args:
        size: of the region in source pixels.
        max_side: maximum of the longest side.
        enlarge_to: longest side to which a smaller region is enlarged, at most `MAX_ENLARGEMENT` times; 0 for none.

    >>> shown_size((6000, 4000), 1568), shown_size((60, 40), 1568), shown_size((60, 40), 1568, enlarge_to=768)
    ((1568, 1045), (60, 40), (480, 320))
    """
    longest = max(size)
    target = min(max_side, max(longest, min(enlarge_to, MAX_ENLARGEMENT * longest)))
    width, height = (max(1, round(side * target / longest)) for side in size)
    return width, height


def render_region(source: Image.Image, box: Box, max_side: int, enlarge_to: int = 0) -> Image.Image:
    """Return a region of a full-resolution picture, cropped and resized in one step."""
    left, top, right, bottom = region_px(source.size, box)
    size = shown_size((right - left, bottom - top), max_side, enlarge_to)
    return resize_region(source, box, size)


def encode_pictures(
    images: Sequence[Image.Image],
    max_chars: int = MAX_RESULT_CHARS,
    *,
    formats: Sequence[str] = ("png", "jpeg"),
) -> list[EncodedPicture]:
    """Encode the pictures of one result in less than `max_chars` of base64.

    Small pictures leave their share to the others.

    Args:
        images: the pictures.
        max_chars: of all of them together.
        formats: png is used only where it is smaller than jpeg.

    >>> [one.format for one in encode_pictures([Image.new("RGB", (640, 480), "red")])]
    ['png']
    """
    encoded = [_encode(image, formats) for image in images]
    left = max_chars - 4 * len(images)
    order = sorted(range(len(images)), key=lambda index: encoded[index].num_chars)
    for position, index in enumerate(order):
        share = left // (len(images) - position)
        if encoded[index].num_chars > share:
            encoded[index] = _encode_within(images[index], share)
        left -= encoded[index].num_chars
    return encoded


def contact_sheet(
    images: Sequence[Image.Image], labels: Sequence[str], max_side: int = MAX_SIDE_PX
) -> Image.Image:
    """Return all frames of a clip in one picture, each with its label below.

    >>> contact_sheet([Image.new("RGB", (320, 180))] * 4, ["1", "2", "3", "4"]).size
    (640, 396)
    """
    frame_px = max(one.width for one in images), max(one.height for one in images)
    columns, cell = _grid(len(images), frame_px, max_side)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * cell[0], rows * (cell[1] + _LABEL_PX)), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = index % columns * cell[0]
        top = index // columns * (cell[1] + _LABEL_PX)
        scale = min(cell[0] / image.width, cell[1] / image.height)
        width, height = (max(1, round(side * scale)) for side in image.size)
        sheet.paste(resize_region(image, WHOLE, (width, height)), (left, top))
        draw.text((left + 3, top + cell[1] + 1), label, fill=_INK, font=font)
    if max(sheet.size) <= max_side:
        return sheet
    return resize_region(sheet, WHOLE, shown_size(sheet.size, max_side))


def _grid(num_frames: int, frame_px: Size, max_side: int) -> tuple[int, Size]:
    """Return the number of columns that shows the frames largest, in the most compact sheet, and the size of a frame."""
    most = max(1.0, _MIN_FRAME_PX / max(frame_px))
    grids: list[tuple[float, int, int]] = []
    for columns in range(1, num_frames + 1):
        rows = math.ceil(num_frames / columns)
        height = max(1, max_side // rows - _LABEL_PX)
        scale = min(most, max_side // columns / frame_px[0], height / frame_px[1])
        lengths = columns * frame_px[0] * scale, rows * (frame_px[1] * scale + _LABEL_PX)
        grids.append((scale, -round(max(lengths)), columns))
    scale, _, columns = max(grids)
    width, height = (max(1, math.floor(side * scale)) for side in frame_px)
    return columns, (width, height)


def _encode(image: Image.Image, formats: Sequence[str]) -> EncodedPicture:
    """Return the smaller one of PNG and JPEG."""
    jpeg = _jpeg(image, JPEG_QUALITY)
    if "png" not in formats or image.getcolors(_MAX_PNG_COLOURS) is None:
        return jpeg
    buffer = BytesIO()
    image.save(buffer, "PNG")
    png = EncodedPicture(buffer.getvalue(), "png", image.size)
    return png if len(png.content) <= len(jpeg.content) else jpeg


def _encode_within(image: Image.Image, max_chars: int) -> EncodedPicture:
    """Return a JPEG of at most `max_chars` of base64: of lower quality, then also smaller."""
    for encoded in _smaller_and_smaller(image):
        if encoded.num_chars <= max_chars or max(encoded.size) == 1:
            return encoded
    raise AssertionError("the smallest picture has one pixel")


def _smaller_and_smaller(image: Image.Image) -> Iterator[EncodedPicture]:
    for quality in _LOWER_QUALITIES:
        yield _jpeg(image, quality)
    size = image.size
    while True:
        size = max(1, size[0] * 4 // 5), max(1, size[1] * 4 // 5)
        yield _jpeg(resize_region(image, WHOLE, size), _LOWER_QUALITIES[0])


def _jpeg(image: Image.Image, quality: int) -> EncodedPicture:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return EncodedPicture(buffer.getvalue(), "jpeg", image.size, quality)
