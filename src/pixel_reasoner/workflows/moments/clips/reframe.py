"""Clips of another aspect ratio, such as 9:16 from 16:9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np

from pixel_reasoner.errors import require_extra
from pixel_reasoner.schema.geometry import Box, Size
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.clips.camera import (
    ShotPath,
    crop_size,
    output_size,
    shot_paths,
)
from pixel_reasoner.workflows.moments.clips.cut import SoundTracks, timecode_of, write_frame
from pixel_reasoner.workflows.moments.clips.planes import (
    Plane,
    Planes,
    frame_of,
    upright_planes,
)
from pixel_reasoner.workflows.moments.clips.writer import (
    VideoFormat,
    colour_of,
    open_writer,
    time_base_of,
)
from pixel_reasoner.workflows.moments.frames import decode_span
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import VideoIndex

_BACKGROUND_PX = 48
"""longer side to which the background of a padded frame is reduced, which blurs it"""
_BACKGROUND_GAIN = 0.6
"""brightness of the background of a padded frame"""


@dataclass(frozen=True)
class ReframedClip:
    """A written clip and the path of its crop in each shot."""

    path: Path
    size: Size
    paths: tuple[ShotPath, ...]


def reframe(  # noqa: PLR0913 - options of one command
    index: VideoIndex,
    span: Span,
    aspect: Fraction,
    path: Path,
    *,
    evidence: Mapping[int, Sequence[Box]],
    shots: Sequence[Span] = (),
    overwrite: bool = False,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
) -> ReframedClip:
    """Write the frames of a span at another aspect ratio.

    Args:
        index: the video.
        span: frames to write.
        aspect: width divided by height of the output, whose pixels are square.
        path: of the file.
        evidence: frame number -> boxes of the subject.
        shots: the crop jumps only at a cut.
        overwrite: replace an existing file.
        limits: of the file.

    Raises:
        InputError: frames that cannot be decoded.
        OutputError: the file cannot be written.
        UsageError: the file exists.
    """
    crop = crop_size(index.size, index.sample_aspect_ratio, aspect)
    paths = shot_paths(span, shots, evidence, crop, float(index.rate.per_s))
    size = output_size(index.size, index.sample_aspect_ratio, aspect)
    frames = decode_span(index, span, limits)
    first = next(frames)
    form = VideoFormat(
        size=size,
        time_base=time_base_of(index),
        rate=index.rate.per_s,
        colour=colour_of(first.frame),
        timecode=timecode_of(index, span),
    )
    boxes = {
        n: box
        for one in paths
        for n, box in zip(range(one.span.first, one.span.end), one.boxes, strict=False)
    }
    start_s, end_s = span.times(index)
    audio = tuple(one for one in index.audio if one.rate)
    with open_writer(path, form, audio, overwrite=overwrite) as writer:
        tracks = SoundTracks(index, writer, start_s, end_s, limits)
        for number, frame in chain([first], frames):
            planes = upright_planes(frame)
            if number in boxes:
                shown = _cropped(planes, boxes[number], size)
            else:
                shown = _padded(planes, index.sample_aspect_ratio, size)
            write_frame(writer, index, span, number, frame_of(shown))
            tracks.write_until(index.time_s(number + 1))
        tracks.write_until(end_s)
    return ReframedClip(path, size, tuple(paths))


def _cropped(planes: Planes, box: Box, size: Size) -> Planes:
    """Return a region of a frame at another size. Its position is not rounded to pixels, so that slow moves do not shake."""
    return cast(
        Planes,
        tuple(
            _region(plane, box, (size[0] // step, size[1] // step))
            for plane, step in zip(planes, (1, 2, 2), strict=True)
        ),
    )


def _region(plane: Plane, box: Box, size: Size) -> Plane:
    with require_extra("workflows", "reframe clips"):
        import cv2
    height, width = plane.shape
    scale_x = (box.x2 - box.x1) * width / size[0]
    scale_y = (box.y2 - box.y1) * height / size[1]
    # Pixel centres: output x is source (x + 1/2) * scale - 1/2.
    matrix = np.array(
        [
            [scale_x, 0, box.x1 * width + (scale_x - 1) / 2],
            [0, scale_y, box.y1 * height + (scale_y - 1) / 2],
        ]
    )
    flags = (
        cv2.INTER_CUBIC if max(scale_x, scale_y) <= 1 else cv2.INTER_LINEAR
    ) | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(plane, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _padded(planes: Planes, sample_aspect_ratio: Fraction, size: Size) -> Planes:
    """Return the whole frame over a dark, blurred copy of itself."""
    height, width = planes[0].shape
    shape = width * float(sample_aspect_ratio) / height
    inner = (size[0], size[0] / shape) if shape > size[0] / size[1] else (size[1] * shape, size[1])
    even = [min(side, max(2, 2 * round(one / 2))) for one, side in zip(inner, size, strict=True)]
    shown = []
    for plane, step, middle in zip(planes, (1, 2, 2), (0, 128, 128), strict=True):
        full = (size[0] // step, size[1] // step)
        back = _background(plane, full, middle)
        part = _scaled(plane, (even[0] // step, even[1] // step))
        left, top = (full[0] - part.shape[1]) // 2, (full[1] - part.shape[0]) // 2
        back[top : top + part.shape[0], left : left + part.shape[1]] = part
        shown.append(back)
    return cast(Planes, tuple(shown))


def _background(plane: Plane, size: Size, middle: int) -> Plane:
    scale = _BACKGROUND_PX / max(plane.shape)
    small = _scaled(
        plane, (max(2, round(plane.shape[1] * scale)), max(2, round(plane.shape[0] * scale)))
    )
    # The largest part of the frame with the shape of the output.
    height, width = small.shape
    part_w, part_h = (
        min(1.0, height * size[0] / size[1] / width),
        min(1.0, width * size[1] / size[0] / height),
    )
    box = Box((1 - part_w) / 2, (1 - part_h) / 2, (1 + part_w) / 2, (1 + part_h) / 2)
    large = _region(small, box, size).astype(np.float32)
    return ((large - middle) * _BACKGROUND_GAIN + middle).clip(0, 255).astype(np.uint8)


def _scaled(plane: Plane, size: Size) -> Plane:
    with require_extra("workflows", "reframe clips"):
        import cv2
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)
