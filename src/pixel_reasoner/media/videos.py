"""Sampling of untrusted video files as upright RGB frames.

A video that cannot be decoded completely is an `InputError`: half a clip would lose evidence silently. Pixels are
taken as square.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from PIL import Image

from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.images import composite_over_white
from pixel_reasoner.media.limits import (
    check_duration,
    check_file,
    check_num_frames,
    check_pixels,
)
from pixel_reasoner.media.sampling import Frame, FrameSelection
from pixel_reasoner.schema.settings import MediaLimits

_EXPECTED = "a whole video file (mp4, webm, mkv, avi or gif)"
_FIX = "give the whole file, or convert it with `ffmpeg -i OLD NEW.mp4`"
_CONTAINERS = "mov,mp4,matroska,webm,avi,gif"
"""Playlists are excluded: they make a decoder open other files and addresses."""
SEEK_MIN_FRAMES = 2_000
"""frames from which on a video is not decoded as a whole: a minute or more"""
_GIF_TAIL_BYTES = 2**20
"""bytes at the end of a GIF in which its end mark is looked for"""
_TIME_TOLERANCE_S = 1e-4
"""difference up to which two times are those of one frame"""


def sample_video(
    path: Path,
    limits: MediaLimits,
    start_s: float = 0.0,
    end_s: float | None = None,
    indices: tuple[int, ...] = (),
) -> list[Frame]:
    """Return frames spread evenly over a video: the middles of `limits.num_frames` equal parts, or all frames.

    The clip is read twice, to count its frames and to keep the wanted ones: headers are not trusted, and a long clip
    is never held in memory. From `SEEK_MIN_FRAMES` frames on, only what leads up to each wanted frame is decoded.
    Rotation by quarter turns, as phones record it, is applied.

    Args:
        path: the file.
        limits: number of frames, and the limits of bytes, seconds and pixels.
        start_s: start of the part to sample.
        end_s: its end; None at the end of the video.
        indices: recorded positions to decode instead, from 0 in display order.

    Raises:
        InputError: not a video, a truncated one, one without frames in this part, or one over the limits.
    """
    selection = FrameSelection(limits.num_frames, start_s, end_s, indices)
    with as_input_errors(path, _EXPECTED, _FIX):
        check_file(path, _EXPECTED, limits)
        times = _packet_times(path, limits)
        wanted = selection.of_times(times)
        if len(times) >= SEEK_MIN_FRAMES and (found := _seek(path, wanted, times, limits)):
            return found
        decoded = _decode(path, wanted, limits)
        if len(decoded.times) != len(times):  # some codecs hide packets that are never displayed
            rewanted = selection.of_times(decoded.times)
            if rewanted != wanted:
                decoded = _decode(path, rewanted, limits)
        if not decoded.times:
            raise ValueError("a video without any frame")
        if not decoded.frames:
            raise ValueError(
                f"no frame from {start_s:g} to {'the end' if end_s is None else f'{end_s:g} s'}"
            )
        return decoded.frames


@contextmanager
def _open_video(path: Path, limits: MediaLimits) -> Iterator[InputContainer]:
    name = str(path.resolve())  # an absolute path is never taken for an address
    options = {"format_whitelist": _CONTAINERS}
    with av.open(name, options=options, metadata_errors="replace") as container:
        if not container.streams.video:
            raise ValueError("no video in it")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("a video codec that is not known")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _num_threads(stream.width * stream.height)
        check_pixels(path, (stream.width, stream.height), limits)
        yield container


def _packet_times(path: Path, limits: MediaLimits) -> list[float | None]:
    """Return the display times of a video's packets, ascending: nearly one packet per frame.

    Raises:
        ValueError: a truncated or damaged video.
        InputError: over the limits.
    """
    times: list[float | None] = []
    end_s, is_broken = 0.0, False
    with _open_video(path, limits) as container:
        duration_s = (container.duration or 0) / av.time_base
        check_duration(path, duration_s, limits)
        video = container.streams.video[0]
        for packet in container.demux():
            if not packet.size:  # the end of the file
                continue
            is_broken = is_broken or packet.is_corrupt
            time_s = None
            if packet.pts is not None and packet.time_base is not None:
                time_s = float(packet.pts * packet.time_base)
                end_s = max(end_s, time_s + float((packet.duration or 0) * packet.time_base))
            if packet.stream.index == video.index:
                times.append(time_s)
                check_num_frames(path, len(times), limits)
        is_gif = container.format.name == "gif"
    check_duration(path, end_s, limits)
    # A cut between two packets shows in the time alone. Half a sampled part is within the tolerance.
    missing_s = duration_s - end_s
    is_short = missing_s > duration_s / (2 * limits.num_frames)
    if is_broken or is_short or (is_gif and not _has_gif_trailer(path)):
        _raise_truncated(len(times) - is_broken)
    return sorted(times, key=lambda time: time or 0.0)


def _has_gif_trailer(path: Path) -> bool:
    """Return whether a GIF has its end mark, which FFmpeg does not require."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _GIF_TAIL_BYTES))
        return file.read().rstrip(b"\0\r\n").endswith(b";")


class _Decoded(NamedTuple):
    times: list[float | None]
    """display time of every frame"""
    frames: list[Frame]
    """the wanted ones"""


def _decode(path: Path, wanted: list[int], limits: MediaLimits) -> _Decoded:
    """Decode all frames and keep the wanted ones."""
    times: list[float | None] = []
    frames, kept = [], frozenset(wanted)
    with _open_video(path, limits) as container:
        try:
            for frame in container.decode(video=0):
                check_pixels(path, (frame.width, frame.height), limits)
                if len(times) in kept:
                    frames.append(Frame(_to_rgb(frame), frame.time, len(times)))
                times.append(frame.time)
                check_num_frames(path, len(times), limits)
        except av.error.FFmpegError:
            _raise_truncated(len(times))
    return _Decoded(times, frames)


def _seek(
    path: Path, wanted: list[int], times: list[float | None], limits: MediaLimits
) -> list[Frame]:
    """Decode the wanted frames, each from the key frame before it; return none if one is not where it should be."""
    frames = []
    with _open_video(path, limits) as container:
        video = container.streams.video[0]
        for index in wanted:
            time_s = times[index]
            if time_s is None or video.time_base is None:
                return []
            try:
                container.seek(int(time_s / video.time_base), stream=video)
                frame = next(
                    one
                    for one in container.decode(video)
                    if one.time is not None and one.time >= time_s - _TIME_TOLERANCE_S
                )
            except (StopIteration, av.error.FFmpegError):
                return []
            if frame.time is None or frame.time > time_s + _TIME_TOLERANCE_S:
                return []
            check_pixels(path, (frame.width, frame.height), limits)
            frames.append(Frame(_to_rgb(frame), frame.time, index))
    return frames


def _to_rgb(frame: VideoFrame) -> Image.Image:
    threads = reformat_options(_num_threads(frame.width * frame.height))
    if any(component.is_alpha for component in frame.format.components):
        image = composite_over_white(Image.fromarray(frame.to_ndarray(format="rgba", **threads)))
    else:
        image = Image.fromarray(frame.to_ndarray(format="rgb24", **threads))
    return image.rotate(frame.rotation, expand=True) if frame.rotation % 360 else image


def reformat_options(threads: int) -> dict[str, Any]:
    """Return the argument of PyAV for the number of threads that convert a frame.

    PyAV before 17 has no such argument and uses one thread.
    """
    return {"threads": threads} if int(av.__version__.partition(".")[0]) >= 17 else {}


def _num_threads(num_px: int) -> int:
    """Return the number of threads for a frame; 0 stands for one per core.

    Small frames are done sooner than threads are started.
    """
    return 1 if num_px < 500_000 else 0


def _raise_truncated(num_readable: int) -> NoReturn:
    raise ValueError(f"a video that breaks off or is damaged: {num_readable} frames can be read")
