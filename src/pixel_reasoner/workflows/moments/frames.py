"""Frames of a video by number, decoded from the preceding key frame."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from av.video.frame import VideoFrame
from PIL import Image

from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.limits import check_pixels
from pixel_reasoner.media.video_file import VideoFile, open_video, upright_rgb, video_deadline
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import EXPECTED, FIX, VideoIndex

_SEEK_BACK_S = Fraction(10)


class NumberedFrame(NamedTuple):
    """A decoded frame and its number in the video, from 0."""

    number: int
    frame: VideoFrame


def decode_span(
    index: VideoIndex, span: Span, limits: MediaLimits = DEFAULT_MEDIA_LIMITS
) -> Iterator[NumberedFrame]:
    """Yield the frames of a span in order. Decoding starts at the key frame before it.

    Raises:
        InputError: the frames cannot be decoded, or some are missing.
    """
    with as_input_errors(index.path, EXPECTED, FIX):
        deadline = video_deadline(index.path, limits)
        with open_video(index.path, limits, deadline) as video:
            number = span.first
            for frame in _decoded(video, index, span.first):
                position = _number(index, frame)
                if position is None or position < number:
                    continue
                if position >= span.end:
                    break
                check_pixels(index.path, (frame.width, frame.height), limits)
                yield NumberedFrame(position, frame)
                number = position + 1
            if number < span.end:
                raise ValueError(
                    f"a damaged video: frame {number} of {index.num_frames} cannot be decoded"
                )


def picture_at(
    index: VideoIndex, number: int, limits: MediaLimits = DEFAULT_MEDIA_LIMITS
) -> Image.Image:
    """Return one frame, upright.

    Raises:
        InputError: it cannot be decoded.
    """
    return upright_rgb(next(decode_span(index, Span(number, number + 1), limits)).frame)


def pictures_at(
    index: VideoIndex, numbers: Sequence[int], limits: MediaLimits = DEFAULT_MEDIA_LIMITS
) -> Iterator[tuple[int, Image.Image]]:
    """Yield some frames, upright and in order. Frames after one key frame are decoded together.

    Raises:
        InputError: one cannot be decoded.
    """
    groups: dict[int, list[int]] = {}
    for number in sorted(set(numbers)):
        groups.setdefault(bisect_right(index.key_pts, index.pts[number]), []).append(number)
    for group in groups.values():
        wanted = frozenset(group)
        for number, frame in decode_span(index, Span(group[0], group[-1] + 1), limits):
            if number in wanted:
                yield number, upright_rgb(frame)


def _decoded(video: VideoFile, index: VideoIndex, first: int) -> Iterator[VideoFrame]:
    """Yield decoded frames from a key frame at or before frame `first`."""
    for target in seek_targets(index, first):
        video.container.seek(target, stream=video.stream)
        frames = video.container.decode(video.stream)
        frame = next(frames, None)
        if frame is not None and frame.pts is not None and frame.pts <= index.pts[first]:
            yield frame
            yield from frames
            return
    if index.key_pts:
        video.container.seek(min(index.key_pts[0], index.pts[0]), stream=video.stream)
    yield from video.container.decode(video.stream)


def seek_targets(index: VideoIndex, first: int) -> list[int]:
    """Return timestamps to seek to, for a position at or before frame `first`.

    Demuxers of some files, such as Matroska with few cues, seek too far; the next target is then ten seconds earlier.
    """
    if first == 0 or not index.key_pts or index.key_pts[0] >= index.pts[first]:
        return []
    earlier = index.pts[first] - round(_SEEK_BACK_S / index.time_base)
    return [index.pts[first], *([earlier] if earlier > index.key_pts[0] else [])]


def _number(index: VideoIndex, frame: VideoFrame) -> int | None:
    """Return the number of a decoded frame; None for one that is not displayed."""
    if frame.pts is None:
        return None
    position = bisect_left(index.pts, frame.pts)
    found = position < len(index.pts) and index.pts[position] == frame.pts
    return position if found else None
