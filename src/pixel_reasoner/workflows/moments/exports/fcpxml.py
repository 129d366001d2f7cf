"""FCPXML 1.11 for Final Cut Pro and DaVinci Resolve.

Own writer: the adapter of OpenTimelineIO writes an empty `frameDuration` at 29.97. All times are whole multiples of the
frame duration. The timecode of a file is the `start` of its asset and is part of the `start` of its clips, not of their
`offset`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pixel_reasoner.workflows.moments.exports.sequence import Clip, Sequence, one_line_text
from pixel_reasoner.workflows.moments.timecode import FrameRate
from pixel_reasoner.workflows.moments.video_index import VideoIndex

_HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'


def fcpxml_text(found: Iterable[Sequence], event: str) -> str:
    """Return a document with one event, and one project for each sequence."""
    root = ET.Element("fcpxml", version="1.11")
    resources = ET.SubElement(root, "resources")
    library = ET.SubElement(root, "library")
    projects = ET.SubElement(library, "event", name=one_line_text(event))
    ids = _Resources(resources)
    for sequence in found:
        _add_project(projects, sequence, ids)
    ET.indent(root)
    return _HEADER + ET.tostring(root, encoding="unicode") + "\n"


class _Resources:
    """Formats and assets with their ids."""

    def __init__(self, parent: ET.Element) -> None:
        self._parent = parent
        self._ids: dict[object, str] = {}

    def format(self, rate: FrameRate, size: tuple[int, int]) -> str:
        """Return the id of a format."""
        key = (rate.per_s, size)
        if key not in self._ids:
            self._ids[key] = f"r{len(self._ids) + 1}"
            ET.SubElement(
                self._parent,
                "format",
                id=self._ids[key],
                name="FFVideoFormatRateUndefined",
                frameDuration=frames_text(1, rate),
                width=str(size[0]),
                height=str(size[1]),
            )
        return self._ids[key]

    def asset(self, index: VideoIndex) -> str:
        """Return the id of a video file."""
        format_id = self.format(index.rate, index.size)
        if index.path not in self._ids:
            self._ids[index.path] = f"r{len(self._ids) + 1}"
            self._add_asset(index, self._ids[index.path], format_id)
        return self._ids[index.path]

    def _add_asset(self, index: VideoIndex, id: str, format_id: str) -> None:
        sound: dict[str, Any] = {}
        if index.audio:
            sound = {
                "hasAudio": "1",
                "audioSources": str(len(index.audio)),
                "audioChannels": str(max(1, index.audio[0].num_channels)),
                "audioRate": str(index.audio[0].rate),
            }
        asset = ET.SubElement(
            self._parent,
            "asset",
            id=id,
            name=one_line_text(index.path.stem),
            start=frames_text(index.start_frame, index.rate),
            duration=frames_text(max(1, index.rate.frame_of(index.duration_s)), index.rate),
            hasVideo="1",
            format=format_id,
            **sound,
        )
        ET.SubElement(asset, "media-rep", kind="original-media", src=file_uri(index.path))


def _add_project(event: ET.Element, sequence: Sequence, ids: _Resources) -> None:
    size = sequence.clips[0].index.size if sequence.clips else (1920, 1080)
    project = ET.SubElement(event, "project", name=one_line_text(sequence.title))
    rate = sequence.rate
    timeline = ET.SubElement(
        project,
        "sequence",
        format=ids.format(rate, size),
        duration=frames_text(sequence.num_frames, rate),
        tcStart=frames_text(sequence.start_frame, rate),
        tcFormat="DF" if rate.drop else "NDF",
        audioLayout="stereo",
        audioRate="48k",
    )
    spine = ET.SubElement(timeline, "spine")
    for clip, position in sequence.placed():
        _add_clip(spine, clip, sequence.start_frame + position, ids)


def _add_clip(spine: ET.Element, clip: Clip, offset: int, ids: _Resources) -> None:
    rate = clip.index.rate
    element = ET.SubElement(
        spine,
        "asset-clip",
        ref=ids.asset(clip.index),
        name=one_line_text(clip.name),
        offset=frames_text(offset, rate),
        start=frames_text(clip.source_in, rate),
        duration=frames_text(clip.num_frames, rate),
        tcFormat="DF" if rate.drop else "NDF",
    )
    if clip.note:
        ET.SubElement(element, "note").text = one_line_text(clip.note)


def frames_text(num_frames: int, rate: FrameRate) -> str:
    """Return a number of frames as a time.

    >>> frames_text(60, FrameRate.of(29.97)), frames_text(0, FrameRate.of(25)), frames_text(50, FrameRate.of(25))
    ('60060/30000s', '0s', '50/25s')
    """
    if not num_frames:
        return "0s"
    return f"{num_frames * rate.per_s.denominator}/{rate.per_s.numerator}s"


def file_uri(path: Path) -> str:
    """Return the absolute, percent-encoded address of a file.

    >>> file_uri(Path("/m/a b.mov"))
    'file:///m/a%20b.mov'
    """
    return path.resolve().as_uri()
