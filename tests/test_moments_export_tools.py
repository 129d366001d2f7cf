"""Exports of moments, opened by programs and libraries that others wrote.

exiftool, ffprobe and mkvmerge are installed by `make tools`; pycmx and the FCPXML adapter of OpenTimelineIO are in the
environment of `make adapters`. A test whose tool is missing is skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from moments_fixture import write_test_clip
from pixel_reasoner.workflows.moments.exports.write import timeline_clips, write_exports
from pixel_reasoner.workflows.moments.moment import VideoMoments, moment_of
from pixel_reasoner.workflows.moments.replies import labelled
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import read_video_index

SPANS = (Span(10, 40), Span(50, 61), Span(80, 81))
TEXTS = ("a red <car> & a dog", "café; a=b #1", "third")


def output_of(program: str, *arguments: str | Path) -> str:
    """Output of a program; skips the test if it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: make tools")
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clips")


def moments_at(rate: str, folder: Path) -> VideoMoments:
    path = folder / f"{rate} clip.mov"
    if not path.exists():
        write_test_clip(path, rate, 100, timecode="01:00:59;28" if rate == "29.97" else None)
    index = read_video_index(path)
    queries = labelled(TEXTS)
    moments = tuple(
        moment_of(index, query, span) for query, span in zip(queries, SPANS, strict=True)
    )
    return VideoMoments(index.path, tuple(queries), index, moments=moments)


def written(found: VideoMoments, name: str, folder: Path) -> Path:
    [path] = write_exports([found], folder, [name], overwrite=True)
    return path


def test_exiftool_reads_subjects_and_markers_of_a_sidecar(folder):
    path = written(moments_at("25", folder), "xmp", folder)
    [read] = json.loads(output_of("exiftool", "-json", "-struct", "-n", path))
    assert read["Subject"] == list(TEXTS)
    [track] = read["Tracks"]
    assert [one["Name"] for one in track["Markers"]] == list(TEXTS)
    ticks = int(track["FrameRate"].removeprefix("f"))
    for one, span in zip(track["Markers"], SPANS, strict=True):
        assert Fraction(int(one["StartTime"]), ticks) == Fraction(span.first, 25)
        assert Fraction(int(one["Duration"]), ticks) == Fraction(span.end - span.first, 25)


def test_exiftool_finds_no_error_in_a_sidecar(folder):
    path = written(moments_at("29.97", folder), "xmp", folder)
    text = output_of("exiftool", "-validate", "-warning", "-error", "-a", path)
    assert "Error" not in text
    assert "OK" in text


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_ffprobe_reads_the_cues(folder, name):
    found = moments_at("29.97", folder)
    path = written(found, name, folder)
    read = json.loads(output_of("ffprobe", "-v", "error", "-of", "json", "-show_packets", path))
    times = [
        (float(one["pts_time"]), float(one["pts_time"]) + float(one["duration_time"]))
        for one in read["packets"]
    ]
    expected = [(float(one.start_s), float(one.end_s)) for one in found.moments]
    assert times == [pytest.approx(one, abs=0.0011) for one in expected]


@pytest.mark.parametrize("name", ["chapters", "chapters-mp4"])
def test_ffprobe_reads_the_chapters(folder, name):
    path = written(moments_at("25", folder), name, folder)
    read = json.loads(output_of("ffprobe", "-v", "error", "-of", "json", "-show_chapters", path))
    starts = {one["tags"]["title"]: float(one["start_time"]) for one in read["chapters"]}
    assert {text: starts[text] for text in TEXTS} == dict(zip(TEXTS, (0.4, 2.0, 3.2), strict=True))


def test_mkvmerge_keeps_the_chapters_of_a_video(folder):
    path = written(moments_at("25", folder), "chapters-mp4", folder)
    read = json.loads(output_of("mkvmerge", "--identify", "--identification-format", "json", path))
    assert read["container"]["recognized"]
    assert not read["errors"]
    [chapters] = read["chapters"]
    assert chapters["num_entries"] == 2 * len(TEXTS) + 1, "moments and what is between them"


@pytest.mark.parametrize("rate", ["23.976", "25", "29.97", "60"])
def test_pycmx_reads_the_same_events(folder, rate):
    pycmx = pytest.importorskip("pycmx")
    found = moments_at(rate, folder)
    path = written(found, "edl", folder)
    with path.open(encoding="ascii") as file:
        edl = pycmx.parse_cmx3600(file)
    frame_rate = found.index.rate
    edits = [event.edits[0] for event in edl.events]
    read = [(frame_rate.parse(one.source_in), frame_rate.parse(one.source_out)) for one in edits]
    clips = timeline_clips([found], Fraction(0))
    assert read == [(one.source_in, one.source_in + one.num_frames) for one in clips]
    assert all(one.channels.v and one.channels.a1 for one in edits)
    names = {one.clip_name for one in edits}
    assert names == {found.index.path.name}


@pytest.mark.parametrize("rate", ["25", "60"])
def test_the_fcpxml_adapter_of_opentimelineio_reads_the_same_frames(folder, rate):
    # At NTSC rates the adapter itself is wrong: 58 frames of a clip of 60.
    pytest.importorskip("otio_fcpx_xml_adapter")
    otio = pytest.importorskip("opentimelineio")
    found = moments_at(rate, folder)
    [timeline] = otio.adapters.read_from_file(
        str(written(found, "fcpxml", folder)), adapter_name="fcpx_xml"
    )
    clips = [one.source_range for one in timeline.video_tracks()[0].find_clips()]
    frames = [(one.start_time.to_frames(), one.duration.to_frames()) for one in clips]
    assert frames == [
        (one.source_in, one.num_frames) for one in timeline_clips([found], Fraction(0))
    ]
