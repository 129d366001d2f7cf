"""Exports are opened by their own tools, and contain the same frames and texts."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlparse

import av
import pytest
from hypothesis import given, settings, strategies as st

from moments_fixture import RATES, write_test_clip
from pixel_reasoner.errors import UsageError
from pixel_reasoner.workflows.moments.exports.cues import (
    Cue,
    chapters,
    ffmetadata_text,
    srt_text,
    vtt_text,
)
from pixel_reasoner.workflows.moments.exports.edl import edl_text, reel_names
from pixel_reasoner.workflows.moments.exports.sequence import Clip, Sequence, sequences
from pixel_reasoner.workflows.moments.exports.write import (
    FORMATS,
    parse_formats,
    timeline_clips,
    write_exports,
)
from pixel_reasoner.workflows.moments.exports.xmp import TICKS_PER_S, xmp_text
from pixel_reasoner.workflows.moments.moment import VideoMoments, moment_of
from pixel_reasoner.workflows.moments.replies import labelled
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.table import csv_text, moment_rows, read_spans
from pixel_reasoner.workflows.moments.timecode import FrameRate
from pixel_reasoner.workflows.moments.video_index import VideoIndex, read_video_index

SPANS = (Span(10, 40), Span(25, 61), Span(80, 81))
TEXTS = ("a red <car> & a dog", "café; a=b #1", "--> arrow")


def result(index: VideoIndex) -> VideoMoments:
    queries = labelled(TEXTS)
    moments = tuple(
        moment_of(index, query, span) for query, span in zip(queries, SPANS, strict=True)
    )
    return VideoMoments(index.path, tuple(queries), index, moments=moments)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    made = {
        name: write_test_clip(folder / f"{name} clip.mov", name, 100, timecode=timecode).path
        for name, timecode in (
            ("23.976", None),
            ("25", "10:00:00:00"),
            ("29.97", "01:00:59;28"),
            ("60", None),
            ("variable", None),
        )
    }
    return {name: read_video_index(path) for name, path in made.items()}


@pytest.fixture(scope="module", params=RATES)
def index(request, clips) -> VideoIndex:
    return clips[request.param]


def expected_frames(index: VideoIndex) -> list[tuple[int, int]]:
    """Source in and length of each clip, in frames of the nominal rate."""
    return [
        (clip.source_in, clip.num_frames) for clip in timeline_clips([result(index)], Fraction(0))
    ]


# --- timelines ---


def test_an_edl_is_read_by_the_cmx_adapter(index, tmp_path):
    otio = pytest.importorskip("opentimelineio")
    is_film = index.rate.per_s == 24 * Fraction(1000, 1001)
    rate = 24.0 if is_film else float(index.rate.per_s)  # labels of 23.976 are those of 24
    text = edl_text(sequences(timeline_clips([result(index)], Fraction(0)), "cut")[0])
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=rate)
    read = list(timeline.tracks[0].find_clips())
    found = [
        (round(c.source_range.start_time.value), round(c.source_range.duration.value)) for c in read
    ]
    assert found == expected_frames(index)
    assert text.split("\r\n")[1] == f"FCM: {'DROP FRAME' if index.rate.drop else 'NON-DROP FRAME'}"
    assert text.isascii()
    for clip in read:
        assert clip.metadata["cmx_3600"]["reel"] == next(iter(reel_names([index.path]).values()))


def test_an_edl_has_equal_lengths_and_follows_itself(index):
    text = edl_text(sequences(timeline_clips([result(index)], Fraction(0)), "cut")[0])
    events = re.findall(r"^(\d{3})  \S+ +B +C +(\S+) (\S+) (\S+) (\S+)\r$", text, re.MULTILINE)
    assert [number for number, *_ in events] == ["001", "002", "003"]
    end = index.rate.parse("01:00:00;00" if index.rate.drop else "01:00:00:00")
    for (_, *labels), (source, length) in zip(events, expected_frames(index), strict=True):
        frames = [index.rate.parse(label) for label in labels]
        assert frames == [source, source + length, end, end + length]
        end += length


def _fcpx_time(text: str) -> Fraction:
    assert re.fullmatch(r"\d+(/\d+)?s", text), text
    return Fraction(text[:-1])


def test_fcpxml_times_are_whole_frames_and_the_same_frames(index, tmp_path):
    paths = list(write_exports([result(index)], tmp_path, ["fcpxml"], title="a & b"))
    root = ET.fromstring(paths[0].read_text().split("\n", 2)[2])
    form, asset = root.find("resources/format"), root.find("resources/asset")
    frame = _fcpx_time(form.get("frameDuration"))
    assert frame == index.rate.frame_s
    assert (int(form.get("width")), int(form.get("height"))) == index.size
    for element in root.iter():
        for name in ("start", "offset", "duration", "tcStart"):
            if element.get(name) is not None:
                assert (_fcpx_time(element.get(name)) / frame).denominator == 1, (element.tag, name)
    assert _fcpx_time(asset.get("start")) == index.start_frame * frame
    assert _fcpx_time(asset.get("duration")) == index.rate.frame_of(index.duration_s) * frame
    uri = urlparse(asset.find("media-rep").get("src"))
    assert uri.scheme == "file"
    assert " " not in uri.path
    assert Path(unquote(uri.path)) == index.path
    clips = root.findall("library/event/project/sequence/spine/asset-clip")
    found = [
        (_fcpx_time(c.get("start")) / frame, _fcpx_time(c.get("duration")) / frame) for c in clips
    ]
    assert found == expected_frames(index)
    end = _fcpx_time(root.find("library/event/project/sequence").get("tcStart"))
    for clip in clips:
        assert _fcpx_time(clip.get("offset")) == end
        end += _fcpx_time(clip.get("duration"))


def test_an_otio_timeline_is_read_back(index, tmp_path):
    otio = pytest.importorskip("opentimelineio")
    path = next(write_exports([result(index)], tmp_path, ["otio"]))
    timeline = otio.adapters.read_from_file(str(path))
    assert [track.kind for track in timeline.tracks] == ["Video", "Audio"]
    for track in timeline.tracks:
        clips = list(track.find_clips())
        found = [(c.source_range.start_time.value, c.source_range.duration.value) for c in clips]
        assert found == expected_frames(index)
        assert clips[0].source_range.start_time.rate == pytest.approx(float(index.rate.per_s))
        assert clips[0].media_reference.available_range.contains(clips[0].source_range)
        assert unquote(urlparse(clips[0].media_reference.target_url).path) == str(index.path)


def test_each_frame_rate_has_its_own_timeline(clips, tmp_path):
    results = [result(clips[name]) for name in ("25", "60", "25")]
    paths = list(write_exports(results, tmp_path, ["edl"]))
    assert [path.name for path in paths] == ["moments.edl", "moments-60-2.edl"]
    assert paths[0].read_text().count("FROM CLIP NAME") == 6


def test_an_edl_has_at_most_999_events(clips):
    clip = Clip(clips["25"], Span(0, 5), "a")
    with pytest.raises(UsageError, match="999"):
        edl_text(Sequence("many", FrameRate.of(25), (clip,) * 1000))


@given(st.lists(st.text("aZ9é ._-日", max_size=20), max_size=6))
@settings(max_examples=50)
def test_reels_are_short_and_differ(names):
    paths = [
        Path("/m", str(number), f"{name.replace('/', '')}.mov") for number, name in enumerate(names)
    ]
    reels = list(reel_names(paths).values())
    assert len(set(reels)) == len(reels)
    assert all(re.fullmatch(r"[A-Z0-9]{1,8}", reel) for reel in reels)


# --- cues ---

ODD = st.text("aé<&->\n\r\t :=#;'\\\x00☃日")
CUES = st.lists(
    st.builds(
        lambda start, length, text: Cue(
            Fraction(start, 1001), Fraction(start + length, 1001), text
        ),
        st.integers(0, 5_000_000),
        st.integers(0, 50_000),
        ODD,
    ),
    max_size=5,
)


@given(CUES)
@settings(max_examples=30, deadline=None)
def test_srt_is_read_by_pysubs2(cues):
    pysubs2 = pytest.importorskip("pysubs2")
    text = srt_text(cues)
    read = pysubs2.SSAFile.from_string(text, format_="srt") if cues else []
    found = [(event.start, event.end) for event in read]
    assert sorted(found) == sorted(_ms(cue) for cue in cues)
    _check_order(text, ",")


@given(CUES)
@settings(max_examples=30, deadline=None)
def test_vtt_is_read_by_webvtt(cues):
    webvtt = pytest.importorskip("webvtt")
    text = vtt_text(cues)
    read = webvtt.from_string(text)
    assert len(read) == len(cues), "webvtt drops invalid cues without a message"
    assert text.startswith("WEBVTT\n")
    assert sorted((one.start, one.end) for one in read) == sorted(_clocks(cue) for cue in cues)
    _check_order(text, ".")
    for line in text.splitlines():
        assert "-->" not in line or re.fullmatch(r"[\d:.]+ --> [\d:.]+", line)


def _rounded(time_s: Fraction) -> int:
    return (time_s * 1000 + Fraction(1, 2)).__floor__()


def _ms(cue: Cue) -> tuple[int, int]:
    return _rounded(cue.start_s), _rounded(max(cue.end_s, cue.start_s + Fraction(1, 1000)))


def _clocks(cue: Cue) -> tuple[str, str]:
    def clock(ms: int) -> str:
        return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"

    start, end = _ms(cue)
    return clock(start), clock(end)


def _check_order(text: str, sign: str) -> None:
    times = re.findall(rf"([\d:]+\{sign}\d\d\d) --> ([\d:]+\{sign}\d\d\d)", text)
    assert times == sorted(times, key=lambda pair: pair[0])
    assert all(start < end for start, end in times)


def test_texts_survive_in_vtt_and_srt():
    pysubs2, webvtt = pytest.importorskip("pysubs2"), pytest.importorskip("webvtt")
    cues = [Cue(Fraction(n), Fraction(n + 1), text) for n, text in enumerate(TEXTS)]
    shown = [text.replace("-->", "→") for text in TEXTS]
    assert [e.plaintext for e in pysubs2.SSAFile.from_string(srt_text(cues)[:], format_="srt")][
        1:
    ] == shown[1:]
    assert [one.text for one in webvtt.from_string(vtt_text(cues))] == [
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text in shown
    ]


# --- chapters ---


def test_ffmetadata_is_read_by_ffmpeg(tmp_path):
    cues = [Cue(Fraction(n), Fraction(n + 2), text) for n, text in enumerate(TEXTS)]
    path = tmp_path / "a.ffmetadata"
    path.write_text(ffmetadata_text(cues), encoding="utf-8")
    with av.open(str(path), format="ffmetadata") as container:
        read = [
            (one["start"], one["end"], one["metadata"]["title"]) for one in container.chapters()
        ]
    assert read == [(0, 1000, TEXTS[0]), (1000, 2000, TEXTS[1]), (2000, 4000, TEXTS[2])]


@given(CUES)
@settings(max_examples=30, deadline=None)
def test_chapters_never_overlap(cues):
    found = chapters(cues)
    assert all(one.end_s <= after.start_s for one, after in pairwise(found))
    assert {cue.start_s for cue in found} == {cue.start_s for cue in cues}


def test_chapters_in_mp4_leave_the_packets_as_they_are(clips, tmp_path):
    index = clips["25"]
    path = next(write_exports([result(index)], tmp_path, ["chapters-mp4"]))
    with av.open(str(path)) as copy, av.open(str(index.path)) as source:
        titles = [one["metadata"]["title"] for one in copy.chapters()]
        starts = [one["start"] * one["time_base"] for one in copy.chapters()]
        packets = [[bytes(p) for p in one.demux(video=0) if p.size] for one in (copy, source)]
    found = dict(zip(titles, starts, strict=True))
    assert [found[text] for text in TEXTS] == [Fraction(n, 25) for n in (10, 25, 80)]
    assert starts[0] == 0, "players need a chapter at the start"
    assert packets[0] == packets[1]


# --- XMP ---


def test_xmp_is_read_by_lxml(index):
    etree = pytest.importorskip("lxml.etree")
    defused = pytest.importorskip("defusedxml.ElementTree")
    cues = [Cue(one.start_s, one.end_s, one.query.text) for one in result(index).moments]
    text = xmp_text(cues)
    defused.fromstring(text)
    root = etree.fromstring(text.encode())
    names = {
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "dc": "http://purl.org/dc/elements/1.1/",
        "xmpDM": "http://ns.adobe.com/xmp/1.0/DynamicMedia/",
    }
    assert root.xpath("//dc:subject/rdf:Bag/rdf:li/text()", namespaces=names) == list(TEXTS)
    starts = root.xpath("//xmpDM:startTime/text()", namespaces=names)
    lengths = root.xpath("//xmpDM:markers//xmpDM:duration/text()", namespaces=names)
    for start, length, cue in zip(starts, lengths, cues, strict=True):
        begin = Fraction(int(start), TICKS_PER_S)
        assert abs(begin - cue.start_s) < Fraction(1, 10**9)
        assert abs(begin + Fraction(int(length), TICKS_PER_S) - cue.end_s) < Fraction(1, 10**9)


# --- CSV ---


def test_the_table_is_read_back_as_the_same_frames(index, tmp_path):
    path = tmp_path / "moments.csv"
    path.write_bytes(csv_text(moment_rows([result(index)])).encode())
    spans, problems = read_spans(path)
    assert not problems
    assert [row.query for row in spans] == list(TEXTS)
    found = [
        Span(index.nearest_boundary(row.start_s), index.nearest_boundary(row.end_s))
        for row in spans
    ]
    assert found == list(SPANS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["video"] == str(index.path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")


def test_cells_of_a_table_are_no_formulas(clips):
    found = result(clips["25"])
    queries = labelled(["=HYPERLINK(1)"])
    moment = moment_of(found.index, queries[0], Span(0, 5))
    one = VideoMoments(found.video, tuple(queries), found.index, moments=(moment,))
    assert ",'=HYPERLINK(1)," in csv_text(moment_rows([one]))


def test_rows_of_a_table_with_mistakes_are_counted(tmp_path):
    path = tmp_path / "spans.csv"
    path.write_text(
        "video,query,start_s,end_s,boxes\na.mp4,x,1,2,\na.mp4,x,one,2,\na.mp4,x,1,2,3=4\n"
    )
    spans, problems = read_spans(path)
    assert len(spans) == 1
    assert [re.search(r"line (\d)", one)[1] for one in problems] == ["3", "4"]
    path.write_text("video,query,start_s,end_s,colour\n")
    with pytest.raises(UsageError, match="'colour'"):
        read_spans(path)


# --- all formats ---


def test_all_formats_are_written_once_and_never_replaced(clips, tmp_path):
    results = [result(clips["25"])]
    paths = list(write_exports(results, tmp_path, FORMATS))
    assert len(paths) == len(FORMATS) == len({path.suffix for path in paths})
    again = parse_formats("edl,vtt")
    assert len(list(write_exports(results, tmp_path, again))) == 2, (
        "the same content is no conflict"
    )
    with pytest.raises(UsageError, match="which exists"):
        list(write_exports(results, tmp_path, ["edl"], handles_s=Fraction(1)))
    assert list(write_exports(results, tmp_path, ["edl"], handles_s=Fraction(1), overwrite=True))


def test_an_unknown_format_is_a_usage_error():
    with pytest.raises(UsageError, match="'mp3'"):
        parse_formats("edl,mp3")


def test_all_exports_have_the_same_numbers(clips, tmp_path):
    found = result(clips["29.97"])
    (edl,) = write_exports([found], tmp_path, ["edl"])
    (fcpxml,) = write_exports([found], tmp_path, ["fcpxml"])
    (otio,) = write_exports([found], tmp_path, ["otio"])
    rate = found.index.rate
    labels = re.findall(r"C +(\S+) (\S+) ", edl.read_text())
    by_edl = [(rate.parse(a), rate.parse(b) - rate.parse(a)) for a, b in labels]
    times = re.findall(r'start="(\S+)s" duration="(\S+)s" tcFormat', fcpxml.read_text())
    by_fcpxml = [(int(Fraction(a) * rate.per_s), int(Fraction(b) * rate.per_s)) for a, b in times]
    clips = json.loads(otio.read_text())["tracks"]["children"][0]["children"]
    by_otio = [
        (one["source_range"]["start_time"]["value"], one["source_range"]["duration"]["value"])
        for one in clips
    ]
    assert by_edl == by_fcpxml == by_otio == expected_frames(found.index)
