"""Sampling of a video of which only some byte ranges are present; the rest of the file is a hole of zeros.

The container of an MP4 or MOV file has the time, size and place of every packet in one index. So packets are listed without
their bytes, and the packets that the sampled frames need are known before they are read: from the key frame before a frame to
the frame itself. A packet with a byte that is not present is never decoded. Frames and times equal those of `videos.sample_video`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import av

from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.limits import check_file, check_pixels
from pixel_reasoner.media.sampling import Frame, FrameSelection
from pixel_reasoner.media.video_file import VideoFile, open_video, upright_rgb, video_deadline
from pixel_reasoner.media.videos import (
    TIME_TOLERANCE_S,
    VIDEO_EXPECTED,
    VIDEO_FIX,
    PacketIndex,
    PacketPlace,
    check_frames_memory,
    read_packets,
)
from pixel_reasoner.schema.question import MediaItem
from pixel_reasoner.schema.settings import MediaLimits

SPARSE_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})
Range = tuple[int, int]
_BLOCK_BYTES = 2**16
"""bytes of a request for headers of boxes"""
_MAX_INDEX_BYTES = 2**26
_MAX_BOXES = 64
_MAX_BOX_BYTES = 2**16
"""size up to which a box other than the index is read as a whole"""
_BOX_HEADER = struct.Struct(">I4s")
_FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid"})


class SparseSample(NamedTuple):
    """Sampled frames, or the ranges that are needed first."""

    frames: list[Frame]
    missing: list[Range] | None
    """ranges that must be present to decode the frames; None if the whole file is needed"""


def index_ranges(read: Callable[[int, int], bytes], num_bytes: int) -> list[Range] | None:
    """Return the ranges of the index and of all headers of an MP4 or MOV file. None if it has no single index.

    Args:
        read: returns the bytes of a range.
        num_bytes: size of the file.
    """
    ranges, at, has_index = [(0, min(_BLOCK_BYTES, num_bytes))], 0, False
    for number in range(_MAX_BOXES):
        if at >= num_bytes:
            return ranges if has_index else None
        head = read(at, min(at + 16, num_bytes))
        if len(head) < _BOX_HEADER.size:
            return None
        size, kind = _BOX_HEADER.unpack_from(head)
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        if size == 0:
            size = num_bytes - at
        is_odd = size < _BOX_HEADER.size or at + size > num_bytes or kind == b"moof"
        if is_odd or (not number and kind not in _FIRST_BOXES):
            return None
        if kind == b"moov":
            if size > _MAX_INDEX_BYTES or b"mvex" in read(at, at + size):
                return None
            has_index = True
        is_read = kind == b"moov" or size <= _MAX_BOX_BYTES
        ranges.append((at, at + size if is_read else at + 16))
        at += size
    return None


def sample_sparse(
    item: MediaItem, limits: MediaLimits, indices: tuple[int, ...], present: Sequence[Range]
) -> SparseSample:
    """Return the frames that `videos.sample_video` returns, or the ranges that are missing for them.

    Args:
        item: a local file with holes.
        limits: number of frames, and the limits of bytes, seconds, memory and pixels.
        indices: recorded positions to decode instead, from 0 in display order.
        present: ranges of the file that are present, ascending and disjoint: at least those of `index_ranges`.

    Raises:
        InputError: not a video, truncated, or over the limits.
    """
    path = Path(item.path)
    selection = FrameSelection(limits.num_frames, item.start_s, item.end_s, indices)
    with as_input_errors(path, VIDEO_EXPECTED, VIDEO_FIX):
        check_file(path, VIDEO_EXPECTED, limits.max_bytes, "max_bytes")
        places: list[PacketPlace] = []
        index = read_packets(path, limits, video_deadline(path, limits), places)
        wanted = selection.of_times(index.times, index.duration_s)
        check_frames_memory(path, index, len(wanted), limits)
        runs = _runs(places, index, wanted)
        if not runs:
            return SparseSample([], None)
        missing = _missing(places, runs, present)
        if missing:
            return SparseSample([], missing)
        frames = _decode_runs(path, places, runs, (index, limits))
        return SparseSample(frames, [] if len(frames) == len(wanted) else None)


class _Run(NamedTuple):
    """Packets to decode, in the order of the file."""

    first: int
    """number of the packet of a key frame"""
    last: int
    wanted: dict[int, float]
    """position of each sampled frame in display order -> its time"""


def _runs(places: list[PacketPlace], index: PacketIndex, wanted: list[int]) -> list[_Run]:
    """Return the packets for the sampled frames; none if a packet has no place or time."""
    if any(one.start is None or one.pts_s is None for one in places):
        return []
    times = [(one.pts_s or 0.0) - index.start_s for one in places]
    number_of = {time_s: number for number, time_s in enumerate(times)}
    keys = [number for number, one in enumerate(places) if one.is_key]
    found: list[tuple[int, int, int, float]] = []
    for position in wanted:
        time_s = index.times[position]
        number = None if time_s is None else number_of.get(time_s)
        if number is None or time_s is None:
            return []
        key = bisect_right(keys, number) - 1
        if key > 0 and times[keys[key]] > time_s:  # shown before the key frame that it follows
            key -= 1
        if key < 0 or times[keys[key]] > time_s:
            return []
        found.append((keys[key], number, position, time_s))
    return [
        _Run(first, max(one[1] for one in group), {one[2]: one[3] for one in group})
        for first, group in (
            (key, list(of_key)) for key, of_key in groupby(found, lambda one: one[0])
        )
    ]


def _missing(places: list[PacketPlace], runs: list[_Run], present: Sequence[Range]) -> list[Range]:
    """Return the ranges of packets that are not present."""
    starts = [start for start, _ in present]
    missing = []
    for run in runs:
        for one in places[run.first : run.last + 1]:
            start = one.start or 0
            at = bisect_right(starts, start) - 1
            if at < 0 or present[at][1] < start + one.num_bytes:
                missing.append((start, start + one.num_bytes))
    return missing


def _decode_runs(
    path: Path,
    places: list[PacketPlace],
    runs: list[_Run],
    options: tuple[PacketIndex, MediaLimits],
) -> list[Frame]:
    """Return the sampled frames. They are fewer if a packet is not where the index has it, or a frame has another time."""
    index, limits = options
    frames: list[Frame] = []
    deadline = video_deadline(path, limits, index.num_threads)
    with open_video(path, limits, deadline, is_sparse=True) as video:
        for run in runs:
            try:
                frames += _decode_run(video, places, run, options)
            except av.error.ExitError:
                raise
            except av.error.FFmpegError:
                return []
            deadline.check()
    return frames


def _decode_run(
    video: VideoFile,
    places: list[PacketPlace],
    run: _Run,
    options: tuple[PacketIndex, MediaLimits],
) -> list[Frame]:
    index, limits = options
    stream, base = video.stream, video.stream.time_base
    assert base is not None, "times were read"
    video.container.seek(round((places[run.first].pts_s or 0.0) / base), stream=stream)
    found: dict[int, Frame] = {}
    number = run.first
    for packet in video.container.demux(stream):
        if number == run.first and packet.size and packet.pos != places[number].start:
            continue  # a seek may end at an earlier key frame; its packets are skipped and not decoded
        is_last = number >= run.last or not packet.size
        if packet.size and (packet.pos, packet.size) != places[number][1:3]:
            break  # its bytes may be missing
        decoded = packet.decode()
        if is_last and packet.size:
            decoded += stream.decode(None)
        for frame in decoded:
            if frame.pts is None:
                continue
            # Not `frame.time`: a frame that a decoder returns at the end has no time base.
            time_s = frame.pts * base.numerator / base.denominator - index.start_s
            for position, wanted_s in run.wanted.items():
                if abs(time_s - wanted_s) <= TIME_TOLERANCE_S:
                    check_pixels(video.path, (frame.width, frame.height), limits)
                    found[position] = Frame(upright_rgb(frame), time_s, position)
        if is_last:
            break
        number += 1
    return [found[position] for position in run.wanted if position in found]
