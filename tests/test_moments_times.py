"""Timecode, frame times of files, and spans of frames."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from hypothesis import given, settings, strategies as st

from moments_fixture import RATES, write_test_clip
from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.workflows.moments.spans import Span, complement, merge_spans, span_of_times
from pixel_reasoner.workflows.moments.timecode import FrameRate, clock, standard_rate
from pixel_reasoner.workflows.moments.video_index import read_video_index

DROP = [FrameRate.of("29.97", drop=True), FrameRate.of("59.94", drop=True)]
ALL = [*DROP, *(FrameRate.of(rate) for rate in (23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 12.5))]


@given(st.sampled_from(ALL), st.integers(0, 12 * 86_400 - 1))
def test_a_timecode_is_read_back_as_the_same_frame(rate, frame):
    assert rate.parse(rate.timecode(frame)) == frame


@given(st.sampled_from(DROP), st.integers(0, 23 * 3600))
def test_drop_frame_follows_the_clock_to_two_frames(rate, seconds):
    frame = rate.frame_of(Fraction(seconds))
    hours, minutes, rest = rate.timecode(frame)[:8].split(":")
    label_s = int(hours) * 3600 + int(minutes) * 60 + int(rest)
    assert abs(label_s + int(rate.timecode(frame)[9:]) / rate.label_base - seconds) < 0.15


def test_labels_that_drop_frame_skips_are_rejected():
    for rate in DROP:
        known = {rate.timecode(frame) for frame in range(rate.label_base * 130)}
        assert "00:00:59;29" in known
        for label in ("00:01:00;00", "00:01:00;01", "00:02:00;01"):
            assert label not in known
            with pytest.raises(UsageError, match="drop-frame"):
                rate.parse(label)
    assert DROP[0].timecode(107_892) == "01:00:00;00"
    assert FrameRate.of(29.97).timecode(107_892) == "00:59:56:12"
    assert FrameRate.of(29.97).timecode(108_000) == "01:00:00:00"


@pytest.mark.parametrize("text", ["", "1:2", "00:00:00:30", "00:61:00:00", "aa:bb:cc:dd"])
def test_no_timecode_is_a_usage_error(text):
    with pytest.raises(UsageError, match="for example"):
        FrameRate.of(30).parse(text)


@pytest.mark.parametrize("rate", [25, 24, 30, 12.5])
def test_other_rates_have_no_drop_frame(rate):
    with pytest.raises(UsageError, match=r"29\.97"):
        FrameRate.of(rate, drop=True)


@given(st.fractions(1, 240, max_denominator=100_000))
def test_only_rates_near_a_standard_rate_are_changed(rate):
    found = standard_rate(rate)
    assert found == rate or abs(found - rate) <= found / 2000


@given(st.fractions(0, 86_000, max_denominator=90_000))
def test_a_clock_time_is_rounded_once_to_milliseconds(time_s):
    hours, minutes, seconds = clock(time_s).split(":")
    read = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    assert abs(read - time_s) <= Fraction(1, 2000)


# --- frames of files ---


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_has_its_exact_time_after_the_start_offset(tmp_path, rate, suffix):
    clip = write_test_clip(tmp_path / f"a{suffix}", rate, 50, start_s=Fraction(7), sound=False)
    index = read_video_index(clip.path)
    tolerance = Fraction(1, 1000) if suffix == ".mkv" else 0
    assert index.num_frames == 50
    assert index.is_variable == (rate == "variable")
    if RATES[rate] is not None:
        assert index.rate.per_s == RATES[rate]
    for number, time_s in enumerate(clip.times_s[:50]):
        assert abs(index.time_s(number) - time_s) <= tolerance
        assert index.frame_at(time_s + Fraction(1, 500)) == number
    assert abs(index.duration_s - clip.times_s[50]) <= Fraction(1, 500)


def test_rotation_timecode_and_shape_are_read(tmp_path):
    clip = write_test_clip(
        tmp_path / "a.mov",
        "29.97",
        12,
        rotation=90,
        timecode="01:00:00;02",
        aspect=Fraction(4, 3),
    )
    index = read_video_index(clip.path)
    assert index.size == (128, 192), "upright"
    assert index.sample_aspect_ratio == Fraction(3, 4)
    assert index.start_timecode == "01:00:00;02"
    assert index.rate.drop
    assert index.start_frame == 107_894
    assert index.source_frame(index.time_s(5)) == 107_899


def test_a_file_without_times_counts_its_frames(tmp_path):
    clip = write_test_clip(tmp_path / "a.avi", "25", 30, sound=False)
    index = read_video_index(clip.path)
    assert index.num_frames == 30
    assert index.time_s(10) - index.time_s(0) == Fraction(10, 25)


def test_files_that_are_no_whole_video_are_input_errors(tmp_path):
    whole = write_test_clip(tmp_path / "a.mp4", "25", 60).path.read_bytes()
    contents = {"empty": b"", "text": b"hello" * 100, "cut": whole[: len(whole) // 2]}
    for name, content in contents.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_video_index(path)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"sound\.mp4"):
        read_video_index(tmp_path / "sound.mp4")


# --- spans ---


def test_a_span_of_times_becomes_the_frames_that_start_in_it(tmp_path):
    index = read_video_index(write_test_clip(tmp_path / "a.mp4", "29.97", 60, sound=False).path)
    assert span_of_times(index, index.time_s(7), index.time_s(20)) == Span(7, 20)
    assert span_of_times(index, Fraction("0.2336"), Fraction("0.6673")) == Span(7, 20)
    assert span_of_times(index, Fraction(1), Fraction("1.001")) == Span(30, 31), (
        "one frame at least"
    )
    for start, end in ((-1, 1), (1, 1), (3, 4), (0, 9)):
        with pytest.raises(InputError, match="correct or remove"):
            span_of_times(index, Fraction(start), Fraction(end))


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 20)), max_size=8))
@settings(max_examples=60)
def test_merged_spans_and_their_complement_contain_each_frame_once(pairs):
    spans = [Span(first, first + length) for first, length in pairs]
    frames = {frame for span in spans for frame in range(span.first, span.end)}
    merged = [frame for span in merge_spans(spans) for frame in range(span.first, span.end)]
    rest = [frame for span in complement(spans, 120) for frame in range(span.first, span.end)]
    assert merged == sorted(frames)
    assert rest == [frame for frame in range(120) if frame not in frames]


def test_handles_stay_in_the_video(tmp_path):
    index = read_video_index(write_test_clip(tmp_path / "a.mp4", "25", 50, sound=False).path)
    assert Span(10, 20).with_handles(index, Fraction(1, 5)) == Span(5, 25)
    assert Span(2, 48).with_handles(index, Fraction(1)) == Span(0, 50)
