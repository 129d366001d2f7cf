"""PixelWorld moments: spans, boxes and sounds of decoded clips are exact to the frame."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner import api
from pixel_reasoner.errors import UsageError
from pixel_reasoner.media.video_file import upright_rgb
from pixel_reasoner.world.moments import (
    RATES,
    FrameCode,
    MomentsParams,
    make_clip,
    read_frame_code,
    read_moments,
    write_moments,
)
from pixel_reasoner.world.moments.draw import Painter
from pixel_reasoner.world.moments.encode import SAMPLE_RATE, _Pictures
from pixel_reasoner.world.moments.frame_code import write_frame_code
from pixel_reasoner.world.moments.table import ClipTable

DENSE = {"min_shot_s": 2.6, "max_shot_s": 3.4, "event_share": 1.0, "max_event_s": 0.7}
VARIANTS = [
    MomentsParams(
        duration_s=5, rate="23.976", start_s=1.4, container="mov", timecode="01:00:00:00", **DENSE
    ),
    MomentsParams(duration_s=5, rate="25", **DENSE),
    MomentsParams(
        duration_s=5, rate="29.97", rotation=90, container="mov", timecode="01:00:00;00", **DENSE
    ),
    MomentsParams(duration_s=5, rate="60", start_s=2.5, rotation=180, **DENSE),
    MomentsParams(duration_s=5, rate="variable", start_s=0.5, rotation=270, **DENSE),
]
each_clip = pytest.mark.parametrize(
    "number", range(len(VARIANTS)), ids=[one.rate for one in VARIANTS]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("moments")
    write_moments(VARIANTS, out)
    return out


@pytest.fixture(scope="module")
def rows(folder):
    return list(read_moments(folder))


# --- decoded clips ---


@each_clip
def test_every_decoded_frame_has_its_number_its_time_and_the_painted_pixels(number, folder, rows):
    row, clip = rows[number], make_clip(VARIANTS[number], "test", 0, number)
    painter = Painter(clip)
    with av.open(str(folder / row.path)) as container:
        stream = container.streams.video[0]
        count = 0
        for count, frame in enumerate(container.decode(stream), start=1):
            picture = upright_rgb(frame)
            assert picture.size == row.size_px
            assert read_frame_code(picture) == FrameCode(row.code, count - 1)
            assert frame.pts * stream.time_base == row.time(count - 1) == clip.times[count - 1]
            if count % 5 == 0:
                error = np.abs(np.asarray(picture, int) - painter.frame(count - 1))
                assert error.mean() < 6
        assert count == row.num_frames == clip.num_frames
        assert row.time(0) == pytest.approx(row.params.start_s, abs=0.01)


@each_clip
def test_a_beep_is_heard_at_the_start_of_each_event(number, folder, rows):
    row = rows[number]
    with av.open(str(folder / row.path)) as container:
        frames = list(container.decode(container.streams.audio[0]))
    start = float(frames[0].pts * frames[0].time_base)
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    starts = sorted({*row.beeps_s})
    assert starts
    for before, beep in zip([-1.0, *starts], starts, strict=False):
        at = round((beep - start) * SAMPLE_RATE)
        window = np.abs(sound[max(0, at - 2400) : at + 2400])
        first = int(np.argmax(window > 0.15)) - min(at, 2400)
        if beep - before > 0.3:  # otherwise the beep before is still heard
            assert abs(first) / SAMPLE_RATE < 0.003


def test_rotation_and_time_code_are_in_the_files(folder, rows):
    for row in rows:
        with av.open(str(folder / row.path)) as container:
            stream = container.streams.video[0]
            quarter = row.params.rotation in (90, 270)
            assert (stream.width, stream.height) == ((360, 640) if quarter else (640, 360))
            assert stream.metadata.get("timecode") == row.params.timecode


# --- events ---


@each_clip
def test_an_event_is_visible_in_its_frames_alone(number):
    clip = make_clip(VARIANTS[number], "test", 0, number)
    painter = Painter(clip)
    assert clip.events
    for event in clip.events:
        without = Painter(clip._replace(events=tuple(e for e in clip.events if e is not event)))
        for frame in (event.first - 1, event.first, event.end - 1, event.end):
            is_inside = event.first <= frame < event.end
            differs = (painter.frame(frame) != without.frame(frame)).any(axis=2)
            assert differs.any() == is_inside
            if is_inside:
                left, top, right, bottom = painter.event_box(event, frame)
                assert differs[top:bottom, left:right].mean() > 0.2
                if event.kind != "light":  # a lamp lights its surroundings
                    differs[top:bottom, left:right] = False
                    assert not differs.any()


def test_rows_describe_each_event_once_and_some_that_never_happen(rows):
    for number, row in enumerate(rows):
        clip = make_clip(VARIANTS[number], "test", 0, number)
        spans = [span for query in row.queries for span in query.spans]
        assert sorted((span.first_frame, span.end_frame) for span in spans) == sorted(
            (event.first, event.end) for event in clip.events
        )
        for span in spans:
            assert (
                span.start == row.time(span.first_frame) == span.start_pts * Fraction(row.time_base)
            )
            assert span.end == row.time(span.end_frame)
            assert span.start_s == pytest.approx(float(span.start), abs=1e-6)
        assert any(not query.spans for query in row.queries)
        assert len({query.text for query in row.queries}) == len(row.queries)


def test_shots_cover_the_clip_and_pictures_change_at_cuts():
    clip = make_clip(MomentsParams(duration_s=60), "test", 3)
    assert clip.shots[0].first == 0
    assert clip.shots[-1].end == clip.num_frames
    painter = Painter(clip)
    assert {bool(shot.dissolve) for shot in clip.shots} == {True, False}
    for before, shot in zip(clip.shots, clip.shots[1:], strict=False):
        assert before.end == shot.first
        change = [
            np.abs(painter.frame(n).astype(int) - painter.frame(n - 1)).mean()
            for n in (shot.first, shot.first + shot.dissolve)
        ]
        assert (change[0] > 20) == (shot.dissolve == 0)
        assert change[0] > 0.5


# --- the target ---


@pytest.mark.parametrize("seed", range(4))
def test_boxes_contain_the_text_or_face_of_the_target_in_every_frame(seed):
    clip = make_clip(MomentsParams(duration_s=30), "test", seed)
    painter, num_visible = Painter(clip), 0
    other = Painter(clip._replace(target_text="ZZ 888 Z" if clip.target == "plate" else "Z. ZZZZ"))
    for frame in range(0, clip.num_frames, 31):
        boxes = painter.target_boxes(frame)
        num_visible += bool(boxes)
        picture = painter.frame(frame)
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= 640
            assert 0 <= top < bottom <= 360
        if clip.target == "plate":
            differs = (picture != other.frame(frame)).any(axis=2)
            for left, top, right, bottom in boxes:
                differs[top:bottom, left:right] = False
            assert not differs.any()
        elif len(boxes) == 1 and boxes[0][2] - boxes[0][0] > 30:
            left, top, right, bottom = boxes[0]
            middle = picture[top + 30, (left + right) // 2].astype(int)
            assert middle[0] > middle[2] + 20  # skin
    assert num_visible > 3


# --- determinism and splits ---


def test_a_seed_determines_the_file_and_another_seed_gives_another_clip(tmp_path):
    params = MomentsParams(duration_s=2)
    for name in ("first", "second"):
        write_moments([params], tmp_path / name)
    write_moments([params], tmp_path / "third", seed=1)
    first, second, third = (
        next((tmp_path / name / "media").iterdir()).read_bytes()
        for name in ("first", "second", "third")
    )
    assert first == second != third


def test_splits_share_no_clip():
    ids = [
        make_clip(MomentsParams(duration_s=2), split, 0).id
        for split in ("train", "validation", "test")
    ]
    assert len(set(ids)) == 3


def test_frames_that_are_not_painted_again_are_equal_to_painted_ones():
    clip = make_clip(MomentsParams(duration_s=14), "test", 2)
    painter, pictures = Painter(clip), _Pictures(clip)
    still = [n for n in range(clip.num_frames) if painter.is_still(n)]
    assert len(still) > 20
    for number in range(clip.num_frames):
        frame = pictures.frame(number)
        if number in still[::7]:
            before, now = painter.frame(number - 1), painter.frame(number)
            assert np.array_equal(before[:352], now[:352])
            error = np.abs(frame.to_ndarray(format="rgb24").astype(int) - now)
            assert error.mean() < 3


@pytest.mark.parametrize("rate", list(RATES))
def test_frames_follow_each_other_at_the_rate(rate):
    times = make_clip(MomentsParams(duration_s=60, rate=rate, start_s=1.0), "test", 0).times
    lengths = {after - before for before, after in itertools.pairwise(times)}
    assert float(times[-1] - times[0]) == pytest.approx(60, abs=0.1)
    assert min(lengths) > 0
    if rate == "variable":
        assert len(lengths) > 3
    else:
        assert max(lengths) - min(lengths) == 0
        assert lengths == {1 / RATES[rate]}


# --- frame codes ---


@settings(max_examples=60)
@given(
    st.integers(0, 4095),
    st.integers(0, 2**18 - 1),
    st.integers(120, 1280),
    st.integers(0, 255),
)
def test_a_frame_code_is_read_back_at_any_size(clip, frame, width, grey):
    pixels = np.full((360, 640, 3), grey, np.uint8)
    write_frame_code(pixels, FrameCode(clip, frame))
    picture = Image.fromarray(pixels).resize(
        (width, round(width * 9 / 16)), Image.Resampling.BILINEAR
    )
    assert read_frame_code(picture) == FrameCode(clip, frame)


@given(st.integers(0, 2**32))
def test_a_picture_without_a_frame_code_has_none(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (90, 160, 3), np.uint8)
    assert read_frame_code(Image.fromarray(pixels)) is None


def test_frames_are_recognised_by_their_code(rows, folder):
    table = ClipTable(folder)
    clip = make_clip(VARIANTS[1], "test", 0, 1)
    found = table.recognise(Image.fromarray(Painter(clip).frame(17)).resize((320, 180)))
    assert (found.clip, found.frame) == (rows[1], 17)
    assert table.recognise(Image.new("RGB", (320, 180))) is None


# --- options ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": "24"}, "frame rates"),
        ({"count": 0}, "count"),
        ({"duration_s": 1.0}, "--duration-s"),
        ({"split": "tset"}, "split"),
        ({"seed": 10**7}, "seed"),
    ],
)
def test_wrong_values_are_rejected_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        api.render_moments(api.MomentsSpec(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clips_take_turns_in_rate_start_rotation_and_time_code():
    params = api.MomentsSpec(count=10).params()
    assert {one.rate for one in params} == set(RATES)
    assert {one.rotation for one in params} == {0, 90, 180, 270}
    assert {one.container for one in params} == {"mp4", "mov"}
    assert {one.timecode for one in params} == {None, "01:00:00:00", "01:00:00;00"}
    plain = api.MomentsSpec(count=3, plain=True).params()
    assert {(one.container, one.start_s, one.rotation, one.timecode) for one in plain} == {
        ("mp4", 0.0, 0, None)
    }
