"""Metadata of videos: start time, duration of frames, and orientation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageOps

from pixel_reasoner.errors import InputError
from pixel_reasoner.media import videos
from pixel_reasoner.media.sampling import FrameSelection, has_constant_rate, spread, spread_times
from pixel_reasoner.media.videos import sample_video
from pixel_reasoner.schema.settings import MediaLimits
from test_decoder import STEP, frame_number, write_video

LIMITS = MediaLimits()


def write_clip(path: Path, times_s, matrix=None, **coded: str) -> Path:
    """Write a clip whose frame i is grey i * STEP and is displayed at `times_s[i]`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"g": "10", "bf": "0"} | coded)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number, time_s in enumerate(times_s):
            pixels = np.full((48, 64, 3), number * STEP % 256, np.uint8)
            pixels[:16, :16] = 255  # the top left corner
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(frames) -> list[int]:
    return [frame_number(frame.image) for frame in frames]


# --- the start ---


@pytest.mark.parametrize("start_s", [0.0, 1.4, 100.0])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("seek_min_frames", [1, 2000])
def test_times_count_from_the_start_of_the_stream(
    tmp_path, monkeypatch, name, start_s, seek_min_frames
):
    monkeypatch.setattr(videos, "SEEK_MIN_FRAMES", seek_min_frames)
    path = write_clip(tmp_path / name, [start_s + number / 10 for number in range(40)])
    part = sample_video(path, MediaLimits(num_frames=5), start_s=0.95, end_s=2.95)
    assert numbers(part) == [12, 16, 20, 24, 28]
    assert [frame.time_s for frame in part] == pytest.approx([1.2, 1.6, 2.0, 2.4, 2.8])
    whole = sample_video(path, MediaLimits(num_frames=4))
    assert [frame.source_index for frame in whole] == numbers(whole) == [5, 15, 25, 35]


# --- variable frame rates ---


def test_frames_of_a_variable_rate_are_sampled_by_time(tmp_path):
    # One frame a second for 8 s, then 20 frames in 2 s.
    times_s = [*range(8), *(8 + number / 10 for number in range(20))]
    frames = sample_video(write_clip(tmp_path / "a.mkv", times_s), MediaLimits(num_frames=4))
    assert numbers(frames) == [1, 3, 6, 14], "displayed at 1.25, 3.7, 6.2 and 8.7 s"


def test_a_part_without_a_new_frame_gives_the_displayed_frame(tmp_path):
    path = write_clip(tmp_path / "a.mkv", [0.0, 1.0, 2.0, 20.0, 20.1, 20.2])
    assert numbers(sample_video(path, LIMITS, start_s=10, end_s=12)) == [2]
    with pytest.raises(InputError, match="no frame from 30"):
        sample_video(path, LIMITS, start_s=30, end_s=40)


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_sampling_by_time_gives_the_number_of_frames_in_order(steps, num_wanted):
    times_s = list(np.cumsum([0, *steps]) / 1000)
    positions = spread_times(times_s, 0.0, times_s[-1] + 1.0, num_wanted)
    assert positions == sorted(set(positions))
    assert len(positions) == min(len(times_s), num_wanted)
    assert 0 <= positions[0] <= positions[-1] < len(times_s)


@given(st.integers(1, 400), st.integers(1, 20), st.sampled_from([10, 15, 23.976, 24, 30, 60]))
@settings(max_examples=300)
def test_a_constant_rate_is_sampled_by_count_for_any_rounding_of_timestamps(
    num_frames, num_wanted, rate
):
    times_s = [round(number / rate, 3) for number in range(num_frames)]
    assert has_constant_rate(times_s)
    assert FrameSelection(num_wanted).of_times(times_s) == spread(num_frames, num_wanted)


def test_frames_without_times_are_sampled_by_count():
    assert FrameSelection(2).of_times([None] * 100) == [25, 75]


# --- orientation ---

MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda image: image),
    "mirrored": ((-1, 0, 0, 1), ImageOps.mirror),
    "flipped": ((1, 0, 0, -1), ImageOps.flip),
    "half a turn": ((-1, 0, 0, -1), lambda image: image.rotate(180)),
    "clockwise": ((0, 1, -1, 0), lambda image: image.rotate(-90, expand=True)),
    "counterclockwise": ((0, -1, 1, 0), lambda image: image.rotate(90, expand=True)),
    "transposed": ((0, 1, 1, 0), lambda image: image.transpose(Image.Transpose.TRANSPOSE)),
    "transversed": ((0, -1, -1, 0), lambda image: image.transpose(Image.Transpose.TRANSVERSE)),
}


@pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "set_display_matrix"),
    reason="PyAV 18 can write a rotation",
)
@pytest.mark.parametrize("name", MATRICES)
def test_a_display_matrix_is_applied(tmp_path, name):
    (a, b, c, d), expected = MATRICES[name]
    one = 2**16
    matrix = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 2**30]
    plain = sample_video(write_clip(tmp_path / "plain.mp4", [0, 0.1]), LIMITS)[0].image
    image = sample_video(write_clip(tmp_path / "a.mp4", [0, 0.1], matrix), LIMITS)[0].image
    difference = np.asarray(image).astype(int) - np.asarray(expected(plain))
    assert np.abs(difference).max() < 8


# --- selection of the stream ---


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.rate = 16_000
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode(None)])
        container.mux([*sound.encode(silence), *sound.encode(None)])
    with pytest.raises(InputError, match="only a cover picture"):
        sample_video(path, LIMITS)


def test_a_long_video_with_one_key_frame_is_decoded_once(tmp_path, monkeypatch):
    """Each wanted frame is decoded from the previous one, not from the start."""
    path = write_video(tmp_path / "a.mp4", 40, "libx264", coded={"g": "1000"})
    monkeypatch.setattr(videos, "SEEK_MIN_FRAMES", 30)
    seeks = []
    original = videos._key_time_s
    monkeypatch.setattr(
        videos, "_key_time_s", lambda *given: seeks.append(original(*given)) or seeks[-1]
    )
    monkeypatch.setattr(videos, "_decode", None)
    frames = sample_video(path, MediaLimits(num_frames=4))
    assert numbers(frames) == [5, 15, 25, 35]
    assert seeks == [0.0] * 4
