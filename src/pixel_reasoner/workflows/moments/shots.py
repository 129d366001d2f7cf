"""Shots of a video: cuts by PySceneDetect, dissolves by `dissolves`.

PySceneDetect gets small frames from our decoder, and the number of each frame as its time. So a cut is a frame number, which is
exact at any frame rate, and the limits of untrusted media apply. Its own PyAV backend opens files without limits and
converts every frame at full size; its time of a cut at a variable rate is exact, its frame number is not. A dissolve is divided
in its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixel_reasoner.errors import require_extra
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS, MediaLimits
from pixel_reasoner.workflows.moments.dissolves import Dissolve, DissolveDetector
from pixel_reasoner.workflows.moments.frames import decode_span
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import VideoIndex

SIDE_PX = 256
"""longer side of the small frames; the default of PySceneDetect"""
MIN_SHOT_FRAMES = 10
MIN_CONTENT = 15.0
"""least change of a cut, as in PySceneDetect"""
OnFrame = Callable[[int, NDArray[np.uint8]], None]


def find_shots(
    index: VideoIndex,
    limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
    on_frame: OnFrame = lambda number, picture: None,
) -> list[Span]:
    """Return the shots of a video: at least one, in order, without gaps.

    Args:
        index: the video. All its frames are decoded once, at a small size.
        limits: of the file.
        on_frame: called with the number of each frame, and its picture in BGR at a small size.

    Raises:
        UsageError: PySceneDetect is not installed.
        InputError: frames that cannot be decoded.
    """
    with require_extra("workflows", "find shots"):
        from scenedetect import AdaptiveDetector, FrameTimecode
    detector: Any = AdaptiveDetector(min_scene_len=MIN_SHOT_FRAMES, min_content_val=MIN_CONTENT)
    gradual = DissolveDetector(float(index.rate.per_s))
    cuts: list[Any] = []
    time = None
    for number, picture in _small_frames(index, limits):
        time = FrameTimecode(number, fps=float(index.rate.per_s))
        cuts += detector.process_frame(time, picture)
        gradual.add(picture)
        on_frame(number, picture)
    if time is not None:
        cuts += detector.post_process(time)
    starts = shot_starts({one.frame_num for one in cuts}, gradual.found(), index.num_frames)
    ends = [*starts[1:], index.num_frames]
    return [Span(first, end) for first, end in zip(starts, ends, strict=True)]


def shot_starts(cuts: Iterable[int], dissolves: Iterable[Dissolve], num_frames: int) -> list[int]:
    """Return the first frame of each shot. A cut within a dissolve is the dissolve.

    >>> shot_starts([40, 90, 300], [Dissolve(44, 12, 50.0), Dissolve(150, 24, 50.0)], 200)
    [0, 40, 90, 150]
    """
    starts = {0, *cuts}
    for one in dissolves:
        if not any(start in range(one.span.first, one.span.end + 1) for start in starts):
            starts.add(one.middle)
    return sorted(start for start in starts if start < num_frames)


def _small_frames(
    index: VideoIndex, limits: MediaLimits
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (number, BGR picture) of all frames, `SIDE_PX` on the longer side, not turned upright."""
    for number, frame in decode_span(index, Span(0, index.num_frames), limits):
        scale = min(1.0, SIDE_PX / max(frame.width, frame.height))
        width, height = (max(2, round(side * scale)) for side in (frame.width, frame.height))
        small = frame.reformat(width=width, height=height, format="bgr24", interpolation="AREA")
        yield number, np.asarray(small.to_ndarray(), np.uint8)
