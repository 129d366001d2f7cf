"""OpenTimelineIO files."""

from __future__ import annotations

from typing import Any

from pixel_reasoner.errors import require_extra
from pixel_reasoner.workflows.moments.exports.fcpxml import file_uri
from pixel_reasoner.workflows.moments.exports.sequence import Clip, Sequence, one_line_text


def otio_text(sequence: Sequence) -> str:
    """Return a timeline as `.otio` JSON, with a video track, and an audio track if any clip has sound.

    Raises:
        UsageError: OpenTimelineIO is not installed.
    """
    with require_extra("workflows", "write OpenTimelineIO files"):
        import opentimelineio as otio
    rate = float(sequence.rate.per_s)
    timeline = otio.schema.Timeline(
        name=one_line_text(sequence.title),
        global_start_time=otio.opentime.RationalTime(sequence.start_frame, rate),
    )
    kinds = [otio.schema.TrackKind.Video]
    if any(clip.index.audio for clip in sequence.clips):
        kinds.append(otio.schema.TrackKind.Audio)
    for kind in kinds:
        track = otio.schema.Track(name=kind, kind=kind)
        is_audio = kind == otio.schema.TrackKind.Audio
        for clip in sequence.clips:
            has_media = bool(clip.index.audio) or not is_audio
            track.append(_clip(otio, clip) if has_media else _gap(otio, clip))
        timeline.tracks.append(track)
    return str(otio.adapters.write_to_string(timeline, "otio_json"))


def _range(otio: Any, first: int, num_frames: int, clip: Clip) -> Any:
    rate = float(clip.index.rate.per_s)
    time = otio.opentime.RationalTime
    return otio.opentime.TimeRange(time(first, rate), time(num_frames, rate))


def _clip(otio: Any, clip: Clip) -> Any:
    index = clip.index
    num_frames = max(1, index.rate.frame_of(index.duration_s))
    media = otio.schema.ExternalReference(
        target_url=file_uri(index.path),
        available_range=_range(otio, index.start_frame, num_frames, clip),
    )
    return otio.schema.Clip(
        name=one_line_text(clip.name),
        media_reference=media,
        source_range=_range(otio, clip.source_in, clip.num_frames, clip),
        metadata={"pixel_reasoner": {"note": one_line_text(clip.note)}},
    )


def _gap(otio: Any, clip: Clip) -> Any:
    return otio.schema.Gap(source_range=_range(otio, 0, clip.num_frames, clip))
