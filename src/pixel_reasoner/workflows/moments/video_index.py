"""Exact times of all frames of a video, from its packets: nothing but the first frame is decoded.

Times are fractions of a second from the start of the video stream, which an edit list or a camera may move. Frame `i` is
on display from `time_s(i)` until `time_s(i + 1)`, also at a variable frame rate.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.video.frame import VideoFrame

from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.file_cache import FileCache
from pixel_reasoner.media.limits import check_duration, check_file, check_num_frames
from pixel_reasoner.media.video_file import VideoFile, open_video, upright_rgb, video_deadline
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.timecode import FrameRate, is_drop_label, standard_rate

EXPECTED = "a whole video file (mp4, mov, webm, mkv, avi or gif)"
FIX = "give the whole file, or convert it to MP4 with a video editor"
_MAX_CACHED_FRAMES = 1_000_000
"""frames of all videos whose indexes are kept, about 36 bytes each"""
_MAX_MISSING_S = Fraction(1)
"""difference of the duration in the header and the end of the last packet above which a file counts as truncated"""
_ROUNDING_TICKS = 2
"""deviation of a frame from an even grid, in units of the timestamps, up to which the rate is constant: Matroska stores ms"""
_TIMELINE_RATES = (24, 25, 30, 50, 60)
"""rates of the timeline of a variable-rate video"""


class AudioTrack(NamedTuple):
    """Properties of an audio stream."""

    rate: int
    num_channels: int
    codec: str


@dataclass(frozen=True)
class VideoIndex:
    """Frames, rates and properties of a video.

    Attributes:
        path: the file.
        time_base: unit of `pts`, in seconds.
        pts: timestamps of the displayed frames, ascending, in units of `time_base` as in the file.
        start_pts: timestamp of time 0.
        end_pts: end of the last frame.
        key_pts: timestamps of key frames.
        rate: nominal frame rate, and whether the timecode of the file is drop-frame.
        is_variable: whether frames have different durations.
        size: (width, height) of upright frames, before the pixel aspect ratio is applied.
        sample_aspect_ratio: width of a pixel divided by its height, of upright frames.
        rotation: degrees that frames are turned for display, counterclockwise.
        start_timecode: label of the first frame, from the file; None without one.
        audio: audio streams.
        extra_streams: kinds of other streams: subtitles, data, cover pictures.
    """

    path: Path
    time_base: Fraction
    pts: tuple[int, ...]
    start_pts: int
    end_pts: int
    key_pts: tuple[int, ...]
    rate: FrameRate
    is_variable: bool
    size: Size
    sample_aspect_ratio: Fraction = Fraction(1)
    rotation: int = 0
    start_timecode: str | None = None
    audio: tuple[AudioTrack, ...] = ()
    extra_streams: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Number of displayed frames."""
        return len(self.pts)

    @property
    def duration_s(self) -> Fraction:
        """End of the last frame."""
        return (self.end_pts - self.start_pts) * self.time_base

    @property
    def start_frame(self) -> int:
        """Frame number of the start in the timecode of the file; 0 without one."""
        return 0 if self.start_timecode is None else self.rate.parse(self.start_timecode)

    def time_s(self, frame: int) -> Fraction:
        """Return the start of a frame; for the number of frames, the end of the last one."""
        pts = self.end_pts if frame >= len(self.pts) else self.pts[frame]
        return (pts - self.start_pts) * self.time_base

    def frame_at(self, time_s: Fraction | float) -> int:
        """Return the frame on display at a time; the first or last frame outside the video."""
        position = bisect_right(self.pts, self.start_pts + Fraction(time_s) / self.time_base)
        return min(max(0, position - 1), self.num_frames - 1)

    def nearest_boundary(self, time_s: Fraction | float) -> int:
        """Return the frame that starts nearest to a time; the number of frames for the end of the video."""
        wanted = self.start_pts + Fraction(time_s) / self.time_base
        starts = (*self.pts, self.end_pts)
        after = min(bisect_left(starts, wanted), self.num_frames)
        if after and wanted - starts[after - 1] <= starts[after] - wanted:
            return after - 1
        return after

    def source_frame(self, time_s: Fraction) -> int:
        """Return the frame number of a time in the timecode of the file."""
        return self.start_frame + self.rate.frame_of(time_s)


def read_video_index(path: Path, limits: MediaLimits = DEFAULT_MEDIA_LIMITS) -> VideoIndex:
    """Read the packets of a video, and decode its first frame for the orientation. An unchanged file is read once.

    Raises:
        InputError: no video, a truncated or damaged file, or over the limits.
    """
    with as_input_errors(path, EXPECTED, FIX):
        check_file(path, EXPECTED, limits.max_bytes, "max_bytes")
        return _INDEXES.get(path, limits, lambda: _read_index(path, limits))


_INDEXES = FileCache[VideoIndex](_MAX_CACHED_FRAMES, lambda index: index.num_frames)


def _read_index(path: Path, limits: MediaLimits) -> VideoIndex:
    deadline = video_deadline(path, limits)
    with open_video(path, limits, deadline) as video:
        packets = _Packets(video)
        for packet in video.container.demux():
            deadline.check()
            packets.add(packet)
            check_num_frames(path, len(packets.pts), limits)
        found = _index(video, packets)
    check_duration(path, float(found.duration_s), limits)
    if any(not has_pts for has_pts in packets.has_pts):
        found = _with_decoded_times(found, limits)
    return _with_first_frame(found, limits)


class _Packets:
    """Times of the packets of all streams."""

    def __init__(self, video: VideoFile) -> None:
        self._stream = video.stream.index
        assert video.stream.time_base is not None
        self.start_pts = video.stream.start_time
        self.pts: list[int] = []
        self.key_pts: list[int] = []
        self.has_pts: list[bool] = []
        self.end_pts = 0
        self.end_s = Fraction(0)
        self.is_damaged = False

    def add(self, packet: Any) -> None:
        """Add the next packet."""
        if not packet.size:  # the end of the file
            return
        self.is_damaged |= packet.is_corrupt
        time = packet.dts if packet.pts is None else packet.pts
        if time is None or packet.time_base is None:
            if packet.stream_index == self._stream:
                self.has_pts.append(False)
            return
        end = time + (packet.duration or 0)
        self.end_s = max(self.end_s, end * Fraction(packet.time_base))
        if packet.stream_index != self._stream:
            return
        if packet.is_keyframe:
            self.key_pts.append(time)
        if packet.is_discard or (self.start_pts is not None and time < self.start_pts):
            return  # before the first edit: decoded but not displayed
        self.pts.append(time)
        self.has_pts.append(packet.pts is not None)
        self.end_pts = max(self.end_pts, end)


def _index(video: VideoFile, packets: _Packets) -> VideoIndex:
    if not packets.pts:
        raise ValueError("a video without any frame")
    container, stream = video.container, video.stream
    duration_s = Fraction(container.duration or 0, av.time_base)
    if packets.is_damaged or duration_s - packets.end_s > max(_MAX_MISSING_S, duration_s / 20):
        raise ValueError(
            f"a truncated or damaged video: {len(packets.pts)} frames can be read until "
            f"{float(packets.end_s):.3f} s of {float(duration_s):.3f} s"
        )
    assert stream.time_base is not None
    pts = tuple(sorted(packets.pts))
    start = pts[0] if packets.start_pts is None else packets.start_pts
    rate, is_variable = _rate(pts, Fraction(stream.time_base), stream.average_rate)
    timecode = _timecode(container, stream)
    drop = timecode is not None and is_drop_label(timecode)
    return VideoIndex(
        path=video.path,
        time_base=Fraction(stream.time_base),
        pts=pts,
        start_pts=start,
        end_pts=_end_pts(pts, packets.end_pts, rate, Fraction(stream.time_base)),
        key_pts=tuple(sorted(packets.key_pts)),
        rate=FrameRate(rate, drop and FrameRate(rate).can_drop),
        is_variable=is_variable,
        size=(stream.width, stream.height),
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1),
        start_timecode=_valid_timecode(timecode, rate),
        audio=tuple(_audio_track(one) for one in container.streams.audio),
        extra_streams=_extra_streams(container, stream),
    )


def _rate(pts: Sequence[int], time_base: Fraction, average: Any) -> tuple[Fraction, bool]:
    """Return the nominal frame rate, and whether the rate is variable."""
    stated = Fraction(average) if average else Fraction(25)
    if len(pts) < 2:
        return standard_rate(stated), False
    step = Fraction(pts[-1] - pts[0], len(pts) - 1)
    measured = 1 / (step * time_base) if step else stated
    tolerance = min(Fraction(_ROUNDING_TICKS), step / 2)
    is_variable = any(
        abs(one - pts[0] - number * step) > tolerance for number, one in enumerate(pts)
    )
    # A short clip in milliseconds measures imprecisely; a wrong header is far away.
    rate = stated if abs(stated - measured) < measured / 200 else measured
    if not is_variable:
        return standard_rate(rate.limit_denominator(100_000)), False
    if measured < _TIMELINE_RATES[0] / 2:
        return Fraction(max(1, round(measured))), True
    near = min(_TIMELINE_RATES, key=lambda one: max(one / measured, measured / one))
    return Fraction(near), True


def _end_pts(pts: Sequence[int], end: int, rate: Fraction, time_base: Fraction) -> int:
    """Return the end of the last frame. Without a duration it lasts one frame."""
    return end if end > pts[-1] else pts[-1] + max(1, round(1 / (rate * time_base)))


def _timecode(container: Any, stream: Any) -> str | None:
    sources = [container.metadata, stream.metadata, *(one.metadata for one in container.streams)]
    return next((one["timecode"] for one in sources if one.get("timecode")), None)


def _valid_timecode(text: str | None, rate: Fraction) -> str | None:
    """Return a timecode that can be read at this rate; None otherwise, as without one."""
    if text is None:
        return None
    try:
        timeline = FrameRate(rate, is_drop_label(text) and FrameRate(rate).can_drop)
        return timeline.timecode(
            timeline.parse(text.replace(";", ":") if not timeline.drop else text)
        )
    except UsageError:
        return None


def _audio_track(stream: Any) -> AudioTrack:
    context = stream.codec_context
    if context is None:
        return AudioTrack(0, 0, "unknown")
    return AudioTrack(context.sample_rate, context.layout.nb_channels, context.name)


def _extra_streams(container: Any, video: Any) -> tuple[str, ...]:
    return tuple(
        "cover picture" if one.type == "video" else one.type
        for one in container.streams
        if one.type != "audio" and one.index != video.index
    )


def _with_decoded_times(index: VideoIndex, limits: MediaLimits) -> VideoIndex:
    """Return the index with times from a decoder, for containers that store none, such as AVI."""
    deadline = video_deadline(index.path, limits)
    with open_video(index.path, limits, deadline) as video:
        pts: list[int] = []
        for frame in video.container.decode(video.stream):
            deadline.check()
            pts.append(len(pts) if frame.pts is None else frame.pts)
    ordered = tuple(sorted(set(pts)))
    end = max(index.end_pts, ordered[-1] + 1)
    return replace(index, pts=ordered, start_pts=min(index.start_pts, ordered[0]), end_pts=end)


def _with_first_frame(index: VideoIndex, limits: MediaLimits) -> VideoIndex:
    deadline = video_deadline(index.path, limits)
    with open_video(index.path, limits, deadline) as video:
        frame: VideoFrame | None = next(iter(video.container.decode(video.stream)), None)
    if frame is None:
        raise ValueError("no frame can be decoded")
    size = upright_rgb(frame).size
    is_turned = size != (frame.width, frame.height)
    ratio = index.sample_aspect_ratio
    return replace(
        index,
        size=size,
        sample_aspect_ratio=1 / ratio if is_turned else ratio,
        rotation=frame.rotation % 360,
    )
