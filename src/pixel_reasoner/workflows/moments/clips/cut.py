"""Cuts of a video.

`cut_exact` encodes afresh and contains exactly the frames of a span. `cut_fast` copies packets, so it starts at the key
frame before the span and states which frames it really contains. There is no smart cut: encoding only the part before
the first key frame repeats or drops pictures with many files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame

from pixel_reasoner.files import atomic_path
from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.video_file import (
    VideoFile,
    open_video,
    upright_transpose,
    video_deadline,
)
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.clips.planes import frame_of, upright_planes
from pixel_reasoner.workflows.moments.clips.sound import Samples, sound_of
from pixel_reasoner.workflows.moments.clips.writer import (
    VideoFormat,
    VideoWriter,
    check_complete,
    check_output,
    colour_of,
    open_writer,
    time_base_of,
)
from pixel_reasoner.workflows.moments.frames import decode_span, seek_targets
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import EXPECTED, FIX, VideoIndex

_KEPT_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")
"""pixel formats that x264 encodes; other ones become yuv420p"""


@dataclass(frozen=True)
class CutClip:
    """A written cut: the frames that it really contains."""

    path: Path
    span: Span
    start_s: Fraction
    end_s: Fraction
    is_exact: bool
    """whether these are the frames that were asked for"""


def cut_exact(
    index: VideoIndex,
    span: Span,
    path: Path,
    *,
    sound: bool = True,
    overwrite: bool = False,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
) -> CutClip:
    """Write the frames of a span, encoded afresh, with the sound of the same time.

    Kept: frame rate or the single durations of frames, size, pixel aspect ratio, colour tags, timecode. A recorded rotation
    is applied to the pixels.

    Raises:
        InputError: frames that cannot be decoded.
        OutputError: the file cannot be written.
        UsageError: the file exists.
    """
    frames = decode_span(index, span, limits)
    first = next(frames)
    is_turned = upright_transpose(first.frame) is not None
    form = _format(index, span, first.frame, is_turned=is_turned)
    start_s, end_s = span.times(index)
    audio = tuple(one for one in index.audio if one.rate) if sound else ()
    with open_writer(path, form, audio, overwrite=overwrite) as writer:
        tracks = SoundTracks(index, writer, start_s, end_s, limits)
        for numbered in chain([first], frames):
            frame = numbered.frame
            if is_turned:
                frame = frame_of(upright_planes(frame))
            elif frame.format.name != form.pixel_format:
                frame = frame.reformat(format=form.pixel_format)
            write_frame(writer, index, span, numbered.number, frame)
            tracks.write_until(index.time_s(numbered.number + 1))
        tracks.write_until(end_s)
    return CutClip(path, span, start_s, end_s, is_exact=True)


def write_frame(
    writer: VideoWriter, index: VideoIndex, span: Span, number: int, frame: VideoFrame
) -> None:
    """Encode frame `number` of a video as part of a span that starts at time 0."""
    if not index.is_variable:
        writer.write(frame, number - span.first, 1)
        return
    pts = (*index.pts[number : number + 2], index.end_pts)
    writer.write(frame, pts[0] - index.pts[span.first], max(1, pts[1] - pts[0]))


class SoundTracks:
    """Sound of all tracks, written along with the frames so that the container interleaves them."""

    def __init__(
        self,
        index: VideoIndex,
        writer: VideoWriter,
        start_s: Fraction,
        end_s: Fraction,
        limits: MediaLimits,
    ) -> None:
        numbers = [number for number, one in enumerate(index.audio) if one.rate]
        self._start_s = start_s
        self._tracks = [
            (encoder, sound_of(index, number, start_s, end_s, limits), [0])
            for encoder, number in zip(writer.sounds, numbers, strict=False)
        ]

    def write_until(self, time_s: Fraction) -> None:
        """Encode the sound until a time of the video."""
        for encoder, blocks, written in self._tracks:
            wanted = (time_s - self._start_s) * encoder.stream.codec_context.sample_rate
            while written[0] < wanted:
                samples: Samples | None = next(blocks, None)
                if samples is None:
                    break
                encoder.write(samples)
                written[0] += samples.shape[1]


def _format(index: VideoIndex, span: Span, frame: VideoFrame, *, is_turned: bool) -> VideoFormat:
    pixel_format = frame.format.name.replace("yuvj", "yuv")
    if is_turned or pixel_format not in _KEPT_FORMATS:
        pixel_format = "yuv420p"
    width, height = index.size
    return VideoFormat(
        size=(width + width % 2, height + height % 2),
        time_base=time_base_of(index),
        rate=index.rate.per_s,
        sample_aspect_ratio=index.sample_aspect_ratio,
        pixel_format=pixel_format,
        colour=colour_of(frame),
        timecode=timecode_of(index, span),
    )


def timecode_of(index: VideoIndex, span: Span) -> str | None:
    """Return the label of the first frame of a span; None if the video has no timecode."""
    if index.start_timecode is None:
        return None
    return index.rate.timecode(index.source_frame(index.time_s(span.first)))


# --- copies of packets ---


def copy_span(index: VideoIndex, span: Span) -> Span:
    """Return the frames that a copy of packets contains: from the key frame at or before the span."""
    pts = index.pts[span.first]
    position = bisect_right(index.key_pts, pts)
    key = index.key_pts[position - 1] if position else index.pts[0]
    first = max(0, bisect_right(index.pts, key) - 1)
    return Span(min(first, span.first), span.end)


def cut_fast(
    index: VideoIndex,
    span: Span,
    path: Path,
    *,
    overwrite: bool = False,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
) -> CutClip:
    """Copy the packets of a span without encoding. The clip starts at the key frame before it.

    Raises:
        InputError: packets that cannot be read.
        OutputError: the file cannot be written.
        UsageError: the file exists.
    """
    check_output(path, overwrite=overwrite)
    copied = copy_span(index, span)
    with ExitStack() as opened:
        with as_input_errors(index.path, EXPECTED, FIX):
            deadline = video_deadline(index.path, limits)
            video = opened.enter_context(open_video(index.path, limits, deadline))
        part = opened.enter_context(atomic_path(path, av.error.FFmpegError))
        with av.open(str(part), "w") as output:
            last = _copy_packets(video, output, index, copied)
        check_complete(part)
    found = replace_end(copied, index, last)
    start_s, end_s = found.times(index)
    return CutClip(path, found, start_s, end_s, is_exact=found == span)


def replace_end(span: Span, index: VideoIndex, last_pts: int) -> Span:
    """Return a span that ends after the frame with a timestamp."""
    return replace(span, end=max(span.end, bisect_right(index.pts, last_pts)))


def _copy_packets(video: VideoFile, output: Any, index: VideoIndex, span: Span) -> int:
    """Copy the packets of all audio streams and the video; return the last copied timestamp of the video."""
    sources = [video.stream, *video.container.streams.audio]
    streams = {one.index: output.add_stream_from_template(one) for one in sources}
    first, end = index.pts[span.first], index.time_s(span.end) + index.start_pts * index.time_base
    shift_s = first * index.time_base
    wanted = set(index.pts[span.first : span.end])
    num_left, last = len(wanted), first
    for packet in _demuxed(video, index, span, sources):
        if packet.pts is None or packet.dts is None or not packet.size:
            continue
        is_video = packet.stream_index == video.stream.index
        time_s = packet.pts * Fraction(packet.time_base)
        if (is_video and (packet.pts < first or not num_left)) or (
            not is_video and not shift_s <= time_s < end
        ):
            if not num_left and time_s > end + 1:
                break
            continue
        if is_video:
            num_left -= packet.pts in wanted
            last = max(last, packet.pts)
        shift = round(shift_s / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = streams[packet.stream_index]
        output.mux(packet)
    return last


def _demuxed(
    video: VideoFile, index: VideoIndex, span: Span, sources: Sequence[Any]
) -> Iterator[Any]:
    """Yield packets from the key frame at the start of a span, or from one before it."""
    first = index.pts[span.first]
    with as_input_errors(index.path, EXPECTED, FIX):
        for target in [*seek_targets(index, span.first), min(index.pts[0], index.key_pts[0])]:
            video.container.seek(target, stream=video.stream)
            packets = video.container.demux(*sources)
            start = _until_known_dts(packets, video.stream.index)
            own = [one for one in start if one.stream_index == video.stream.index]
            if own and own[0].pts is not None and own[0].pts <= first:
                _fill_dts(own, max(1, round(index.rate.frame_s / index.time_base)))
                yield from start
                yield from packets
                return


def _until_known_dts(packets: Iterator[Any], stream_index: int) -> list[Any]:
    """Return packets up to the first one of a stream with a decoding time: Matroska stores none, and a seek forgets them."""
    found = []
    for packet in packets:
        found.append(packet)
        if packet.stream_index == stream_index and packet.dts is not None:
            break
    return found


def _fill_dts(packets: Sequence[Any], step: int) -> None:
    """Set unknown decoding times to evenly spaced times before the first known one."""
    for number in range(len(packets) - 2, -1, -1):
        if packets[number].dts is None and packets[number + 1].dts is not None:
            packets[number].dts = min(packets[number + 1].dts - step, packets[number].pts)
