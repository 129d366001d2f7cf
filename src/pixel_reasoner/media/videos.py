"""Sampling of untrusted video files as upright RGB frames.

An incomplete video raises an `InputError`, because a partial clip would lose evidence silently. Pixels are assumed
square. Times are relative to the start of the video stream, not to its first timestamp.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import av
from av.packet import Packet

from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.file_cache import FileCache
from pixel_reasoner.media.limits import (
    MAX_DECODER_FRAMES,
    Deadline,
    check_duration,
    check_file,
    check_memory,
    check_num_frames,
    check_pixels,
    frames_memory_bytes,
)
from pixel_reasoner.media.sampling import Frame, FrameSelection
from pixel_reasoner.media.video_file import VideoFile, open_video, upright_rgb, video_deadline
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import MediaLimits

VIDEO_EXPECTED = "a whole video file (mp4, webm, mkv, avi or gif)"
VIDEO_FIX = "give the whole file, or convert it with `ffmpeg -i OLD NEW.mp4`"
SEEK_MIN_FRAMES = 2_000
"""number of frames from which sampling seeks instead of decoding the whole video: a minute or more"""
SEEK_MIN_PX = 4_000_000_000
"""total pixels of all frames from which sampling seeks: 2,000 frames of 1920 x 1080"""
_MAX_CACHED_FRAMES = 1_000_000
"""frames of all videos whose packets are kept, about 32 bytes each: nine hours at 30 per second"""
_GIF_TAIL_BYTES = 2**20
"""bytes at the end of a GIF to search for its trailer"""
TIME_TOLERANCE_S = 1e-4
"""maximum difference between two times of the same frame"""
_MAX_BYTES_PER_PX = 8.0
"""bytes per pixel of a decoded frame with an unknown pixel format"""


def sample_video(
    path: Path,
    limits: MediaLimits,
    start_s: float = 0.0,
    end_s: float | None = None,
    indices: tuple[int, ...] = (),
) -> list[Frame]:
    """Return frames spaced evenly over a video: the centers of `limits.num_frames` equal parts, or all frames.

    The file is read twice: once to count frames, because headers are not trusted, and once to decode the sampled frames.
    So a long clip is never kept in memory. Further calls for the same file do not count again. For a long clip, or a part, decoding starts at the key frame before each
    sampled frame.
    Recorded rotation and mirroring are applied.

    Args:
        path: the file.
        limits: number of frames, and the limits of bytes, seconds, memory and pixels.
        start_s: start of the part to sample, from the start of the video.
        end_s: end of the part; None for the end of the video.
        indices: recorded positions to decode instead, from 0 in display order.

    Raises:
        InputError: not a video, truncated, no frames in this part, or over the limits.
    """
    selection = FrameSelection(limits.num_frames, start_s, end_s, indices)
    with as_input_errors(path, VIDEO_EXPECTED, VIDEO_FIX):
        check_file(path, VIDEO_EXPECTED, limits.max_bytes, "max_bytes")
        index = _packets_of(path, limits)
        wanted = selection.of_times(index.times, index.duration_s)
        check_frames_memory(path, index, len(wanted), limits)
        deadline = video_deadline(path, limits, index.num_threads)
        if index.should_seek(is_part=not selection.is_whole) and (
            found := _seek(path, wanted, index, limits, deadline)
        ):
            return found
        decoded = _decode(path, wanted, index.start_s, limits, deadline)
        if len(decoded.times) != len(
            index.times
        ):  # some codecs have packets that are never displayed
            rewanted = selection.of_times(decoded.times, index.duration_s)
            if rewanted != wanted:
                decoded = _decode(path, rewanted, index.start_s, limits, deadline)
        if not decoded.times:
            raise ValueError("a video without any frame")
        if not decoded.frames:
            raise ValueError(
                f"no frame from {start_s:g} to {'the end' if end_s is None else f'{end_s:g} s'}"
            )
        return decoded.frames


def video_duration_s(path: Path, limits: MediaLimits) -> float:
    """Return the end of the last frame of a video, in seconds from its start. All packets are read, nothing is decoded.

    Raises:
        InputError: not a video, truncated, or over the limits.
    """
    with as_input_errors(path, VIDEO_EXPECTED, VIDEO_FIX):
        check_file(path, VIDEO_EXPECTED, limits.max_bytes, "max_bytes")
        return _packets_of(path, limits).duration_s


class PacketIndex(NamedTuple):
    """Metadata of a video from its packets, without decoding."""

    times: list[float | None]
    """display times from the start of the video, ascending: nearly one packet per frame"""
    key_times: list[float]
    """display times of key frames, where decoding can start"""
    start_s: float
    """timestamp of the start of the video"""
    duration_s: float
    """end of the last frame, relative to the start"""
    size: Size
    num_threads: int
    """decoding threads; each holds a frame"""
    bytes_per_px: float
    """memory of a decoded frame"""
    can_seek: bool

    def should_seek(self, *, is_part: bool) -> bool:
        """Return whether sampling should seek instead of decoding all frames: in a long video, or for a part of one."""
        num_px = len(self.times) * math.prod(self.size)
        is_long = len(self.times) >= SEEK_MIN_FRAMES or num_px >= SEEK_MIN_PX
        return self.can_seek and (is_part or is_long)


class PacketPlace(NamedTuple):
    """Place of a packet of the video stream in the file."""

    pts_s: float | None
    """timestamp of its frame"""
    start: int | None
    """first byte"""
    num_bytes: int
    is_key: bool


class _PacketReader:
    """Collector of packet times of all streams, and of places of the video if a list for them is given."""

    def __init__(self, stream_index: int, places: list[PacketPlace] | None = None) -> None:
        self.stream_index = stream_index
        self.places = places
        self.times: list[float | None] = []
        self.key_times: list[float] = []
        self.end_s = 0.0
        """end of the last packet of any stream"""
        self.video_end_s = 0.0
        self.is_broken = False

    def add(self, packet: Packet[Any]) -> None:
        """Add the next packet."""
        self.is_broken = self.is_broken or packet.is_corrupt
        is_video = packet.stream_index == self.stream_index
        time_s = None
        if packet.pts is not None and packet.time_base is not None:
            time_s = float(packet.pts * packet.time_base)
            end_s = time_s + float((packet.duration or 0) * packet.time_base)
            self.end_s = max(self.end_s, end_s)
            if is_video:
                self.video_end_s = max(self.video_end_s, end_s)
                if packet.is_keyframe:
                    self.key_times.append(time_s)
        if is_video:
            self.times.append(time_s)
            if self.places is not None:
                place = PacketPlace(time_s, packet.pos, packet.size, bool(packet.is_keyframe))
                self.places.append(place)


_PACKETS = FileCache[PacketIndex](_MAX_CACHED_FRAMES, lambda index: len(index.times))


def _packets_of(path: Path, limits: MediaLimits) -> PacketIndex:
    """Return the packets of a video. They are read once: each question about a long video is about another part of it."""
    return _PACKETS.get(
        path, limits, lambda: read_packets(path, limits, video_deadline(path, limits))
    )


def read_packets(
    path: Path,
    limits: MediaLimits,
    deadline: Deadline,
    places: list[PacketPlace] | None = None,
) -> PacketIndex:
    """Read all packets of a video. Places of a sparse file are added to a list if one is given.

    Raises:
        ValueError: a truncated or damaged video.
        InputError: over the limits.
    """
    with open_video(path, limits, deadline, is_sparse=places is not None) as video:
        duration_s = (video.container.duration or 0) / av.time_base
        check_duration(path, duration_s, limits)
        packets = _PacketReader(video.stream.index, places)
        for packet in video.container.demux():
            deadline.check()
            if packet.size:  # otherwise the end of the file
                packets.add(packet)
                check_num_frames(path, len(packets.times), limits)
        is_gif = video.container.format.name == "gif"
        start_s = _start_s(video, packets.times)
        index = _packet_index(video, packets, start_s, can_seek=not is_gif)
    check_duration(path, packets.end_s - start_s, limits)
    # Only the duration reveals a cut between two packets. The tolerance is half of a sampled part.
    missing_s = duration_s - packets.end_s
    is_short = missing_s > (duration_s - min(start_s, packets.end_s)) / (2 * limits.num_frames)
    if packets.is_broken or (is_short and missing_s > 0) or (is_gif and not _has_gif_trailer(path)):
        _raise_truncated(len(packets.times) - packets.is_broken)
    return index


def _start_s(video: VideoFile, times: list[float | None]) -> float:
    """Return the start timestamp of a video. Earlier packets are decoded but not displayed."""
    stream = video.stream
    if stream.start_time is not None and stream.time_base is not None:
        return float(stream.start_time * stream.time_base)
    return min((time_s for time_s in times if time_s is not None), default=0.0)


def _packet_index(
    video: VideoFile, packets: _PacketReader, start_s: float, *, can_seek: bool
) -> PacketIndex:
    times = sorted(packets.times, key=lambda time: time or 0.0)
    pixel_format = video.stream.codec_context.format
    bits = pixel_format.padded_bits_per_pixel if pixel_format else 0
    return PacketIndex(
        times=[_relative_time_s(start_s, time_s) for time_s in times],
        key_times=sorted(time_s - start_s for time_s in packets.key_times),
        start_s=start_s,
        duration_s=packets.video_end_s - start_s,
        size=(video.stream.width, video.stream.height),
        num_threads=video.num_threads,
        bytes_per_px=bits / 8 if bits else _MAX_BYTES_PER_PX,
        can_seek=can_seek,
    )


def check_frames_memory(path: Path, index: PacketIndex, num_kept: int, limits: MediaLimits) -> None:
    """Raise an error if sampled frames and decoder buffers need more than `max_decode_bytes`.

    Raises:
        PixelLimitError: too much memory.
    """
    num_buffers = min(len(index.times), MAX_DECODER_FRAMES) + index.num_threads
    needed = frames_memory_bytes(index.size, num_kept, num_buffers, index.bytes_per_px)
    width, height = index.size
    check_memory(path, f"{num_kept} frames of {width} x {height} pixels", needed, limits)


def _relative_time_s(start_s: float, time_s: float | None) -> float | None:
    return None if time_s is None else time_s - start_s


def _has_gif_trailer(path: Path) -> bool:
    """Return whether a GIF has a trailer. FFmpeg does not require it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _GIF_TAIL_BYTES))
        return file.read().rstrip(b"\0\r\n").endswith(b";")


class _Decoded(NamedTuple):
    times: list[float | None]
    """display time of every frame"""
    frames: list[Frame]
    """the sampled frames"""


def _decode(
    path: Path, wanted: list[int], start_s: float, limits: MediaLimits, deadline: Deadline
) -> _Decoded:
    """Decode all frames and keep the sampled ones."""
    times: list[float | None] = []
    frames: list[Frame] = []
    kept = frozenset(wanted)
    with open_video(path, limits, deadline) as video:
        try:
            for frame in video.container.decode(video.stream):
                deadline.check()
                size = frame.width, frame.height
                check_pixels(path, size, limits)
                time_s = _relative_time_s(start_s, frame.time)
                if len(times) in kept:
                    frames.append(Frame(upright_rgb(frame), time_s, len(times)))
                    check_memory(
                        path,
                        f"frames of {size[0]} x {size[1]} pixels",
                        frames_memory_bytes(size, len(frames)),
                        limits,
                    )
                times.append(time_s)
                check_num_frames(path, len(times), limits)
        except av.error.ExitError:
            raise
        except av.error.FFmpegError:
            _raise_truncated(len(times))
    return _Decoded(times, frames)


def _seek(
    path: Path, wanted: list[int], index: PacketIndex, limits: MediaLimits, deadline: Deadline
) -> list[Frame]:
    """Decode the sampled frames, each from the preceding key frame. Return no frames if a frame has an unexpected time.

    If the key frame was decoded already, decoding continues from the current position. No frame is decoded twice.
    """
    found: list[Frame] = []
    with open_video(path, limits, deadline) as video:
        time_base = video.stream.time_base
        decoded = video.container.decode(video.stream)
        position_s = -math.inf
        for position in wanted:
            time_s = index.times[position]
            if time_s is None or time_base is None:
                return []
            try:
                if _key_time_s(index.key_times, time_s) > position_s:
                    offset = int((time_s + index.start_s) / time_base)
                    video.container.seek(offset, stream=video.stream)
                    decoded = video.container.decode(video.stream)
                for frame in decoded:
                    deadline.check()
                    position_s = -math.inf if frame.time is None else frame.time - index.start_s
                    if position_s >= time_s - TIME_TOLERANCE_S:
                        break
                else:
                    return []
            except av.error.ExitError:
                raise
            except av.error.FFmpegError:
                return []
            if position_s > time_s + TIME_TOLERANCE_S:
                return []
            check_pixels(path, (frame.width, frame.height), limits)
            found.append(Frame(upright_rgb(frame), position_s, position))
    return found


def _key_time_s(key_times: list[float], time_s: float) -> float:
    """Return the time of the last key frame at or before a time; infinity if there is none."""
    position = bisect_right(key_times, time_s + TIME_TOLERANCE_S)
    return key_times[position - 1] if position else math.inf


def _raise_truncated(num_readable: int) -> NoReturn:
    raise ValueError(f"a truncated or damaged video: {num_readable} frames can be read")
