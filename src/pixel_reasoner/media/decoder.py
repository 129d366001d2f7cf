"""Pictures and videos from files that nobody has checked, as RGB pixels.

A file is read as what it is, not as what it is called, and every file that cannot be used whole is an
`InputError`: half a picture or half a video would lose evidence without a word.

What is not covered
    colour profiles are ignored; RAW, HEIC and SVG are not read; pixels of a video are taken as square.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from PIL import (  # the plugins register themselves: otherwise Pillow loads all its forty
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

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.files import reason
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import MediaLimits

_FORMATS = tuple(
    plugin.format
    for plugin in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        GifImagePlugin.GifImageFile,
    )
)
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
_PICTURE = "a whole picture file (PNG, JPEG, WebP, BMP, TIFF or GIF)"
_VIDEO = "a whole video file (mp4, webm, mkv, avi or gif)"
_FOLDER = "a folder of picture files (PNG, JPEG, WebP, BMP, TIFF or GIF)"

_CONTAINERS = "mov,mp4,matroska,webm,avi,gif"
"""Playlists are not among them: they make a decoder open other files and addresses."""

_BROKEN = (
    *(OSError, EOFError, MemoryError, SyntaxError, ValueError, TypeError, LookupError),
    *(ArithmeticError, AttributeError, struct.error, zlib.error, Image.DecompressionBombError),
    av.error.FFmpegError,
    Warning,  # raised where the caller's Python makes errors of warnings
)
"""What Pillow and PyAV raise for a file that is not what it claims to be."""

_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture is put upright, by EXIF orientation. From 5 on the sides change places."""


class Frame(NamedTuple):
    """One sampled frame of a video, or one picture of a folder."""

    image: Image.Image
    time_s: float | None
    """None for the pictures of a folder"""


# --- pictures ---


def image_size(path: Path, limits: MediaLimits) -> Size:
    """The size of an upright picture, from its header alone.

    Raises:
        InputError: not a picture, or one with too many pixels.
    """
    with _opened_picture(path, limits) as image:
        turned = _orientation(image) >= 5
        return (image.height, image.width) if turned else (image.width, image.height)


def open_image(path: Path, limits: MediaLimits) -> Image.Image:
    """A picture as upright RGB at full resolution: alpha over white, 16 bits of grey scaled to 8.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "clear.png"
    >>> Image.new("RGBA", (3, 2), (0, 0, 0, 0)).save(path)
    >>> open_image(path, MediaLimits()).getpixel((0, 0))
    (255, 255, 255)

    Raises:
        InputError: not a whole picture, or one with too many pixels (before any is decoded).
    """
    with _opened_picture(path, limits) as image:
        orientation = _orientation(image)
        # TIFF is the one format that asks for Pillow's limit once more while it decodes.
        with _without_pillows_limit() if image.format == "TIFF" else nullcontext():
            image.load()
        rgb = _rgb(image)
        return rgb.transpose(_TURNED[orientation]) if orientation in _TURNED else rgb


@contextmanager
def _opened_picture(path: Path, limits: MediaLimits) -> Iterator[ImageFile]:
    with _errors_about(path, _PICTURE, "save it again in one of these formats, or give another"):
        _check_is_file(path, _PICTURE)
        with _without_pillows_limit():
            image = Image.open(path, formats=_FORMATS)
        with image:
            _check_size(path, image.size, limits)
            yield image


_PILLOW = threading.Lock()


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's own limit, which is global: a warning or an error at half of what we allow."""
    with _PILLOW:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: ImageFile) -> int:
    """The EXIF orientation, 1 (upright) when there is none or it cannot be read."""
    if image.format == "TIFF":  # Pillow puts it upright itself
        return 1
    try:
        # Not `image.getexif()`: that of a PNG decodes the picture to look behind the pixels.
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except _BROKEN:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_grey_8bit(image)).convert("RGB")
    return _over_white(image) if image.has_transparency_data else image.convert("RGB")


def _grey_8bit(image: Image.Image) -> np.ndarray:
    values: np.ndarray = np.asarray(image)
    if image.mode.startswith("I;16"):
        return (values >> 8).astype(np.uint8)
    # 32-bit integers and floats have no agreed range: from the darkest to the brightest.
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    stretched: np.ndarray = (values - low) * (255 / max(high - low, 1e-6))
    return stretched.astype(np.uint8)


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba)
    return white


# --- videos ---


LONG_VIDEO = 2_000
"""frames from which on a video is not decoded as a whole: a minute or more"""
_SAME_S = 1e-4
"""seconds by which two names of one frame may differ"""


def sample_video(
    path: Path, limits: MediaLimits, start_s: float = 0.0, end_s: float | None = None
) -> list[Frame]:
    """Frames spread evenly over a video: the middles of `limits.num_frames` equal parts, or all frames.

    The clip is read twice, to count its frames and to keep the wanted ones: headers are not trusted, and a
    long clip is never held in memory. Of a long one only what leads up to each wanted frame is decoded. Rotation by
    quarter turns, as phones record it, is applied.

    Args:
        path: the file.
        limits: how many frames and pixels.
        start_s: where the part to sample begins.
        end_s: where it ends; None at the end of the video.

    Raises:
        InputError: not a video, a cut-off one, one without frames in this part, or frames with too many pixels.
    """
    with _errors_about(
        path, _VIDEO, "give the whole file, or convert it with `ffmpeg -i OLD NEW.mp4`"
    ):
        _check_is_file(path, _VIDEO)
        times = _packet_times(path, limits)
        part = start_s, math.inf if end_s is None else end_s
        if len(times) >= LONG_VIDEO:
            wanted = [times[n] for n in sorted(_wanted(times, part, limits))]
            if sought := _sought(path, wanted, limits):
                return sought
        shown, frames = _decode(path, _wanted(times, part, limits), limits)
        if len(shown) != len(times):  # some codecs hide packets that are never shown
            shown, frames = _decode(path, _wanted(shown, part, limits), limits)
        if not shown:
            raise ValueError("a video without any frame")
        if not frames:
            raise ValueError(f"no frame from {start_s:g} to {part[1]:g} s")
        return frames


def _wanted(times: list[float | None], part: tuple[float, float], limits: MediaLimits) -> set[int]:
    """Positions of the frames to keep, from the times of all, in the order they are shown."""
    whole = part == (0.0, math.inf)
    inside = [n for n, time in enumerate(times) if whole or part[0] <= (time or 0.0) < part[1]]
    return {inside[position] for position in _spread(len(inside), limits.num_frames)}


def _spread(num_frames: int, num_wanted: int) -> list[int]:
    """Positions of the wanted frames, from 0.

    >>> _spread(100, 4), _spread(3, 4)
    ([12, 37, 62, 87], [0, 1, 2])
    """
    num_parts = min(num_frames, num_wanted)
    return [(2 * part + 1) * num_frames // (2 * num_parts) for part in range(num_parts)]


@contextmanager
def _opened_video(path: Path, limits: MediaLimits) -> Iterator[InputContainer]:
    # An absolute path is never taken for an address.
    name = str(path.resolve())
    only = {"format_whitelist": _CONTAINERS}
    with av.open(name, options=only, metadata_errors="replace") as container:
        if not container.streams.video:
            raise ValueError("no video in it")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("a video codec that is not known")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _threads(stream.width * stream.height)
        _check_size(path, (stream.width, stream.height), limits)
        yield container


def _packet_times(path: Path, limits: MediaLimits) -> list[float | None]:
    """When a video's frames are shown, in order, nearly: one packet each. A cut-off video is refused."""
    times: list[float | None] = []
    end_s, broken = 0.0, False
    with _opened_video(path, limits) as container:
        video = container.streams.video[0]
        for packet in container.demux():
            if not packet.size:  # the mark of the end
                continue
            broken = broken or packet.is_corrupt
            shown_s = None
            if packet.pts is not None and packet.time_base is not None:
                shown_s = float(packet.pts * packet.time_base)
                end_s = max(end_s, shown_s + float((packet.duration or 0) * packet.time_base))
            if packet.stream.index == video.index:
                times.append(shown_s)
        whole_s = (container.duration or 0) / av.time_base
        missing_s = whole_s - end_s
        is_gif = container.format.name == "gif"
    # Of a cut between two packets only the time tells. Half a sampled part is within the tolerance.
    if broken or missing_s > whole_s / (2 * limits.num_frames) or (is_gif and not _gif_ends(path)):
        _refuse_cut_off(len(times) - broken)
    return sorted(times, key=lambda time: time or 0.0)


def _gif_ends(path: Path) -> bool:
    """Whether the mark of the end is there. FFmpeg does not miss it."""
    return path.read_bytes().rstrip(b"\0\r\n").endswith(b";")


def _decode(
    path: Path, wanted: set[int], limits: MediaLimits
) -> tuple[list[float | None], list[Frame]]:
    """When all frames are really shown, and those at the wanted positions."""
    times: list[float | None] = []
    frames = []
    with _opened_video(path, limits) as container:
        try:
            for frame in container.decode(video=0):
                _check_size(path, (frame.width, frame.height), limits)
                if len(times) in wanted:
                    frames.append(Frame(_frame_rgb(frame), frame.time))
                times.append(frame.time)
        except av.error.FFmpegError:
            _refuse_cut_off(len(times))
    return times, frames


def _sought(path: Path, times: list[float | None], limits: MediaLimits) -> list[Frame]:
    """The frames shown at these times, each found from the key frame before it; none at all if one is not where it should be."""
    frames = []
    with _opened_video(path, limits) as container:
        video = container.streams.video[0]
        for time in times:
            if time is None or video.time_base is None:
                return []
            try:
                container.seek(int(time / video.time_base), stream=video)
                frame = next(
                    one
                    for one in container.decode(video)
                    if one.time is not None and one.time >= time - _SAME_S
                )
            except (StopIteration, av.error.FFmpegError):
                return []
            if frame.time is None or frame.time > time + _SAME_S:
                return []
            _check_size(path, (frame.width, frame.height), limits)
            frames.append(Frame(_frame_rgb(frame), frame.time))
    return frames


def _frame_rgb(frame: VideoFrame) -> Image.Image:
    threads = reformat_options(_threads(frame.width * frame.height))
    if any(component.is_alpha for component in frame.format.components):
        image = _over_white(Image.fromarray(frame.to_ndarray(format="rgba", **threads)))
    else:
        image = Image.fromarray(frame.to_ndarray(format="rgb24", **threads))
    return image.rotate(frame.rotation, expand=True) if frame.rotation % 360 else image


def reformat_options(threads: int) -> dict[str, Any]:
    """The argument that says how many threads convert a frame. PyAV before 17 has none, and uses one."""
    return {"threads": threads} if int(av.__version__.partition(".")[0]) >= 17 else {}


def _threads(num_px: int) -> int:
    """How many threads a frame is worth: small ones are done sooner than threads are started. 0: as many as cores."""
    return 1 if num_px < 500_000 else 0


def _refuse_cut_off(num_readable: int) -> NoReturn:
    raise ValueError(f"a video that breaks off or is damaged: {num_readable} frames can be read")


# --- folders ---


def sample_folder(
    path: Path,
    limits: MediaLimits,
    start_s: float = 0.0,
    end_s: float | None = None,
    fps: float | None = None,
) -> list[Frame]:
    """Pictures spread evenly over a folder, in the order a person counts: `frame9` before `frame10`.

    Args:
        path: the folder.
        limits: how many.
        start_s: where the part that is asked about begins.
        end_s: where it ends; None at the end.
        fps: frames a second; None: the folder has no times, and all of it is asked about.

    Raises:
        InputError: no such folder, no picture in it, or a sampled one that cannot be used.
    """
    with _errors_about(path, _FOLDER, "give a folder that holds the frames as pictures"):
        files = sorted(
            (file for file in path.iterdir() if _is_picture_name(file.name)),
            key=lambda file: _natural(file.name),
        )
        if not files:
            raise ValueError("no picture files in it")
        first = 0
        if fps is not None:
            last = len(files) if end_s is None else int(end_s * fps) + 1
            part = files[int(start_s * fps) : last]
            if not part:
                raise ValueError(f"{len(files) / fps:.1f} s of frames, none from {start_s:g} s on")
            first, files = int(start_s * fps), part
    wanted: Sequence[int] = _spread(len(files), limits.num_frames)
    return [
        Frame(open_image(files[position], limits), (first + position) / fps if fps else None)
        for position in wanted
    ]


def _is_picture_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES


def _natural(name: str) -> list[str | int]:
    """A sort key that counts.

    >>> sorted(["f10.png", "f9.png"], key=_natural)
    ['f9.png', 'f10.png']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if position % 2 else part for position, part in enumerate(parts)]


# --- errors ---


def _check_is_file(path: Path, expected: str) -> None:
    if not path.is_file():
        why = "no such file"
        if path.exists():
            why = "a folder" if path.is_dir() else "not a regular file"
        raise InputError(expected=expected, got=f"{path}: {why}", fix="check the path")
    if not path.stat().st_size:
        raise ValueError("an empty file")


def _check_size(path: Path, size: Size, limits: MediaLimits) -> None:
    width, height = size
    if width * height > limits.max_px:
        raise PixelLimitError(
            expected=f"at most {limits.max_px:,} pixels",
            got=f"{path}: {width} x {height} = {width * height:,} pixels",
            fix="make it smaller, or raise the limit (max_px) for files that you trust",
        )


@contextmanager
def _errors_about(path: Path, expected: str, fix: str) -> Iterator[None]:
    """Whatever the decoders raise becomes an `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(expected=expected, got=f"{path}: {_why(error)}", fix=fix) from error


def _why(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of these formats"
    if isinstance(error, MemoryError):
        return "more memory needed than there is"
    if isinstance(error, av.error.FFmpegError):
        return f"not a video of these formats, or not a whole one ({reason(error)})"
    return reason(error) or type(error).__name__
