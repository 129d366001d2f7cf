"""Chapters inside a video file: all streams are copied without encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from pixel_reasoner.media.decode_errors import as_input_errors
from pixel_reasoner.media.video_file import open_video, video_deadline
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.workflows.moments.exports.cues import Cue, chapters
from pixel_reasoner.workflows.moments.exports.sequence import one_line_text
from pixel_reasoner.workflows.moments.video_index import EXPECTED, FIX, VideoIndex

_MS = Fraction(1, 1000)
_GAP_TITLE = "–"
"""title of a chapter between two moments"""


def write_chapters(index: VideoIndex, cues: Iterable[Cue], path: Path) -> None:
    """Write a copy of a video with chapters. Video and audio packets are the same.

    Raises:
        InputError: the video cannot be read.
        FFmpegError: the file cannot be written.
    """
    marks: list[Any] = [
        {
            "id": number,
            "start": round(cue.start_s * 1000),
            "end": max(round(cue.end_s * 1000), round(cue.start_s * 1000) + 1),
            "time_base": _MS,
            "metadata": {"title": one_line_text(cue.text)},
        }
        for number, cue in enumerate(_without_gaps(chapters(cues), index.duration_s), start=1)
    ]
    deadline = video_deadline(index.path, DEFAULT_MEDIA_LIMITS)
    with (
        as_input_errors(index.path, EXPECTED, FIX),
        open_video(index.path, DEFAULT_MEDIA_LIMITS, deadline) as video,
    ):
        sources = [video.stream, *video.container.streams.audio]
        packets = video.container.demux(*sources)
        with av.open(str(path), "w", format="mp4") as output:
            streams = {one.index: output.add_stream_from_template(one) for one in sources}
            output.set_chapters(marks)
            for packet in packets:
                if packet.dts is None and not packet.size:
                    continue
                packet.stream = streams[packet.stream_index]
                output.mux(packet)


def _without_gaps(found: Sequence[Cue], duration_s: Fraction) -> list[Cue]:
    """Return chapters from start to end: those of an MP4 file follow each other, so each gap needs a chapter too."""
    filled: list[Cue] = []
    position = Fraction(0)
    for cue in found:
        if cue.start_s > position:
            filled.append(Cue(position, cue.start_s, _GAP_TITLE))
        filled.append(cue)
        position = cue.end_s
    if duration_s - position > _MS:
        filled.append(Cue(position, duration_s, _GAP_TITLE))
    return filled
