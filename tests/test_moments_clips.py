"""Cuts, reframed and redacted clips: the frames, the sound, the shape, and what they do not contain."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from moments_fixture import (
    RATES,
    SIZE,
    beep_times,
    number_of,
    numbered_picture,
    shown_numbers,
    sound_samples,
    video_times,
    write_test_clip,
)
from pixel_reasoner.errors import InputError, OutputError, UsageError
from pixel_reasoner.media.video_file import upright_rgb
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.workflows.moments.clips.camera import (
    crop_size,
    output_size,
    parse_aspect,
    shot_paths,
)
from pixel_reasoner.workflows.moments.clips.cut import copy_span, cut_exact, cut_fast
from pixel_reasoner.workflows.moments.clips.make import ClipOptions, make_clips
from pixel_reasoner.workflows.moments.clips.redact import METHODS, Subject, covered_boxes, redact
from pixel_reasoner.workflows.moments.clips.reframe import reframe
from pixel_reasoner.workflows.moments.moment import VideoMoments, moment_of
from pixel_reasoner.workflows.moments.replies import labelled
from pixel_reasoner.workflows.moments.sheets import (
    proof_frames,
    proof_state,
    write_contact_sheets,
    write_proof_sheet,
)
from pixel_reasoner.workflows.moments.shots import find_shots
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import read_video_index

pytest.importorskip("cv2", reason="needs the extra `workflows`")
pytest.importorskip("scenedetect", reason="needs the extra `workflows`")
CUT = Span(37, 75)
BEEP = 50


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return {
        (name, suffix): write_test_clip(
            folder / f"{name}{suffix}", name, 100, beep_frames=[20, BEEP]
        )
        for name in RATES
        for suffix in (".mp4", ".mkv")
        if suffix == ".mp4" or name in ("29.97", "variable")
    }


# --- cuts ---


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rate", RATES)
def test_an_exact_cut_has_exactly_the_frames_and_the_sound_in_sync(clips, tmp_path, rate, suffix):
    if (rate, suffix) not in clips:
        pytest.skip("one rate of each kind is enough for Matroska")
    clip = clips[rate, suffix]
    index = read_video_index(clip.path)
    out = cut_exact(index, CUT, tmp_path / "cut.mp4")
    assert shown_numbers(out.path) == list(range(CUT.first, CUT.end))
    start_s = clip.times_s[CUT.first]
    tolerance = (
        Fraction(1, 1000) if suffix == ".mkv" and rate == "variable" else Fraction(1, 10_000)
    )
    wanted = [time_s - start_s for time_s in clip.times_s[CUT.first : CUT.end]]
    for found, expected in zip(video_times(out.path), wanted, strict=True):
        assert abs(found - expected) <= tolerance
    cut = read_video_index(out.path)
    assert (cut.rate.per_s, cut.is_variable) == (index.rate.per_s, index.is_variable)
    assert abs(cut.duration_s - (clip.times_s[CUT.end] - start_s)) <= 2 * tolerance
    (beep_s,) = beep_times(out.path)
    assert abs(beep_s - float(clip.times_s[BEEP] - start_s)) < 0.002


@pytest.mark.parametrize(("rate", "suffix"), [("25", ".mp4"), ("29.97", ".mkv")])
def test_a_fast_cut_states_what_it_contains(clips, tmp_path, rate, suffix):
    clip = clips[rate, suffix]
    index = read_video_index(clip.path)
    out = cut_fast(index, CUT, tmp_path / f"cut{suffix}")
    assert not out.is_exact
    assert out.span.first == copy_span(index, CUT).first == 24
    assert shown_numbers(out.path) == list(range(out.span.first, out.span.end))
    assert out.start_s == index.time_s(out.span.first)
    (beep_s,) = beep_times(out.path)
    assert abs(beep_s - float(index.time_s(BEEP) - out.start_s)) < 0.003


def test_a_fast_cut_is_exact_where_key_frames_allow_it(clips, tmp_path):
    index = read_video_index(clips["25", ".mp4"].path)
    out = cut_fast(index, Span(24, 72), tmp_path / "cut.mp4")
    assert out.is_exact
    assert shown_numbers(out.path) == list(range(24, 72))


def test_sound_is_faded_at_both_ends_and_as_long_as_the_clip(tmp_path):
    clip = write_test_clip(tmp_path / "a.mp4", "25", 60, beep_frames=range(0, 60, 1))
    index = read_video_index(clip.path)
    samples, rate = sound_samples(cut_exact(index, Span(10, 30), tmp_path / "cut.mp4").path)
    assert 0.8 * rate <= len(samples) < 0.8 * rate + 1100
    assert (
        np.abs(samples[: rate // 1000]).max()
        < 0.3
        < np.abs(samples[rate // 100 : rate // 20]).max()
    )
    assert np.abs(samples[round(0.8 * rate) - rate // 1000 :]).max() < 0.3


def test_shape_rotation_colour_and_timecode_are_kept(tmp_path):
    clip = write_test_clip(
        tmp_path / "a.mov", "25", 60, rotation=90, aspect=Fraction(4, 3), timecode="10:00:00:00"
    )
    index = read_video_index(clip.path)
    path = cut_exact(index, Span(25, 50), tmp_path / "cut.mov").path
    cut = read_video_index(path)
    assert (cut.size, cut.rotation) == ((SIZE[1], SIZE[0]), 0), "upright pixels"
    assert cut.sample_aspect_ratio == index.sample_aspect_ratio
    assert cut.start_timecode == "10:00:01:00"
    with av.open(str(path)) as new, av.open(str(clip.path)) as old:
        first = next(new.decode(video=0)).to_ndarray(format="rgb24")
        before = [upright_rgb(f) for f in old.decode(video=0)][25]
        assert np.abs(first.astype(int) - np.asarray(before).astype(int)).mean() < 3


def test_a_video_without_sound_and_a_cut_without_sound_have_none(clips, tmp_path):
    silent = write_test_clip(tmp_path / "a.mp4", "25", 30, sound=False)
    out = cut_exact(read_video_index(silent.path), Span(3, 9), tmp_path / "a-cut.mp4")
    index = read_video_index(clips["25", ".mp4"].path)
    muted = cut_exact(index, Span(3, 9), tmp_path / "b-cut.mp4", sound=False)
    for path in (out.path, muted.path):
        assert not read_video_index(path).audio


# --- files ---


@contextmanager
def file_size_limit(num_bytes: int):
    """Writes beyond a size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


@pytest.mark.parametrize("cut", [cut_exact, cut_fast])
def test_a_full_disk_leaves_no_file_and_is_an_output_error(clips, tmp_path, cut):
    index = read_video_index(clips["25", ".mp4"].path)
    with file_size_limit(2_000), pytest.raises(OutputError, match=r"cut\.mp4"):
        cut(index, CUT, tmp_path / "cut.mp4")
    assert list(tmp_path.iterdir()) == []
    assert cut(index, CUT, tmp_path / "cut.mp4").path.exists()


def test_an_existing_file_is_never_replaced_silently(clips, tmp_path):
    index = read_video_index(clips["25", ".mp4"].path)
    path = tmp_path / "cut.mp4"
    path.write_bytes(b"mine")
    for cut in (cut_exact, cut_fast):
        with pytest.raises(UsageError, match="which exists"):
            cut(index, CUT, path)
    assert path.read_bytes() == b"mine"
    cut_exact(index, CUT, path, overwrite=True)
    assert len(shown_numbers(path)) == len(CUT)


def test_one_failed_clip_does_not_end_the_others(clips, tmp_path):
    index = read_video_index(clips["25", ".mp4"].path)
    (query,) = labelled(["x"])
    moments = tuple(moment_of(index, query, Span(n, n + 4)) for n in (0, 10, 20))
    found = VideoMoments(index.path, (query,), index, moments=moments)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "002-x.mp4").mkdir()  # cannot be replaced by a file
    options = ClipOptions(cut="exact", overwrite=True)
    made = list(make_clips(found, tmp_path, "a", options))
    assert [one.error is None for one in made] == [True, False, True]
    assert "002-x.mp4" in made[1].error
    again = list(make_clips(found, tmp_path, "a", ClipOptions(cut="exact")))
    assert [one.note[:12] for one in again] == ["exists, kept"] * 3


def test_frames_that_cannot_be_decoded_are_an_input_error(clips, tmp_path):
    content = bytearray(clips["25", ".mp4"].path.read_bytes())
    path = tmp_path / "damaged.mp4"
    middle = len(content) // 3
    content[middle : middle + len(content) // 3] = bytes(len(content) // 3)
    path.write_bytes(content)
    try:
        index = read_video_index(path)
        cut_exact(index, Span(0, index.num_frames), tmp_path / "cut.mp4")
        outcome = f"{index.num_frames} frames"
    except InputError as error:
        outcome = str(error)
    assert "damaged.mp4" in outcome or outcome == "100 frames", "FFmpeg may conceal the damage"
    assert {one.name for one in tmp_path.iterdir()} <= {"damaged.mp4", "cut.mp4"}


# --- shots ---


@pytest.mark.parametrize("rate", ["25", "variable"])
def test_cuts_between_shots_are_found_to_the_frame(tmp_path, rate):
    rng = np.random.default_rng(1)
    scenes = [
        rng.integers(0, 255, (8, 12, 3), np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(3)
    ]
    clip = write_test_clip(
        tmp_path / "a.mp4", rate, 90, pictures=lambda n: scenes[n // 30], sound=False
    )
    assert find_shots(read_video_index(clip.path)) == [Span(0, 30), Span(30, 60), Span(60, 90)]


def textured(seed: int, size: tuple[int, int] = (480, 200)) -> np.ndarray:
    """A picture of soft shapes of all sizes: shape (height, width, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size[1], size[0], 3))
    for cell in (80, 40, 20, 10):
        cells = rng.integers(0, 255, (size[1] // cell + 2, size[0] // cell + 2, 3), np.uint8)
        layer = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
        picture += np.asarray(layer, float)
    return (picture / 4).astype(np.uint8)


def shot_starts_of(path, pictures, num_frames=100, rate="25"):
    write_test_clip(path, rate, num_frames, pictures=pictures, sound=False, size=(192, 128))
    return [shot.first for shot in find_shots(read_video_index(path))]


@pytest.mark.parametrize(("rate", "length"), [("25", 12), ("25", 38), ("60", 60), ("variable", 25)])
def test_a_dissolve_divides_shots_in_its_middle(tmp_path, rate, length):
    one, other = textured(1)[:128, :192], textured(2)[:128, :192]

    def picture(number):
        share = min(1.0, max(0.0, (number - 40) / length))
        return (one * (1 - share) + other * share).astype(np.uint8)

    starts = shot_starts_of(tmp_path / "a.mp4", picture, 40 + length + 30, rate)
    assert len(starts) == 2
    assert abs(starts[1] - (40 + length / 2)) <= 0.15 * length + 1


def test_a_moving_camera_and_a_change_of_light_do_not_divide_a_shot(tmp_path):
    wide = textured(3)

    def pan(step):
        return lambda number: wide[20:148, step * number :][:, :192]

    for step in (1, 4):
        assert shot_starts_of(tmp_path / f"{step}.mp4", pan(step), 70) == [0]
    still = wide[:128, :192]

    def brighter(number):
        return (still * (0.4 + 0.6 * min(1.0, max(0.0, (number - 30) / 20)))).astype(np.uint8)

    assert shot_starts_of(tmp_path / "light.mp4", brighter, 80) == [0]


# --- reframing ---


def test_aspect_ratios_are_checked():
    assert parse_aspect("4:5") == Fraction(4, 5)
    for text in ("", "9", "9x16", "0:1", "1:0", "1:9", "a:b"):
        with pytest.raises(UsageError, match="9:16"):
            parse_aspect(text)


@pytest.mark.parametrize("size", [(1920, 1080), (640, 360), (1080, 1920), (853, 480)])
@pytest.mark.parametrize("aspect", ["9:16", "1:1", "16:9"])
def test_outputs_have_even_sides_and_the_ratio(size, aspect):
    ratio = parse_aspect(aspect)
    width, height = output_size(size, Fraction(1), ratio)
    assert width % 2 == height % 2 == 0
    assert abs(width / height - ratio) < 0.02
    share = crop_size(size, Fraction(1), ratio)
    assert max(share) == 1.0
    assert abs(share[0] * size[0] / (share[1] * size[1]) - ratio) < 1e-9


def moving(n: int) -> Box:
    return Box(0.05 + 0.006 * n, 0.3, 0.15 + 0.006 * n, 0.6)


def test_a_crop_follows_its_subject_smoothly_and_jumps_only_at_a_cut():
    evidence = {n: [moving(n if n < 50 else 120 - n)] for n in range(100)}
    paths = shot_paths(Span(0, 100), [Span(0, 50), Span(50, 100)], evidence, (0.316, 1.0), 25.0)
    assert [path.span for path in paths] == [Span(0, 50), Span(50, 100)]
    for path in paths:
        lefts = [box.x1 for box in path.boxes]
        steps = np.diff(lefts)
        assert np.abs(np.diff(steps)).max() < 0.004, "eased"
        for number, box in zip(range(path.span.first, path.span.end), path.boxes, strict=True):
            assert box.x1 <= evidence[number][0].x1
            assert evidence[number][0].x2 <= box.x2
            assert 0 <= box.x1 <= box.x2 <= 1 + 1e-9


def test_a_subject_wider_than_the_crop_is_padded_with_a_reason():
    (path,) = shot_paths(Span(0, 10), [], {3: [Box(0, 0, 0.8, 1)]}, (0.316, 1.0), 25.0)
    assert path.boxes == ()
    assert "80% of the frame wide" in path.reason


def test_a_reframed_clip_shows_the_subject(tmp_path):
    def picture(n):
        shown = np.full((180, 320, 3), 60, np.uint8)
        box = moving(n)
        shown[54:108, round(box.x1 * 320) : round(box.x2 * 320)] = (250, 250, 250)
        return shown

    clip = write_test_clip(tmp_path / "a.mp4", "25", 60, pictures=picture, size=(320, 180))
    index = read_video_index(clip.path)
    evidence = {n: [moving(n)] for n in range(60)}
    found = reframe(index, Span(5, 55), Fraction(9, 16), tmp_path / "b.mp4", evidence=evidence)
    assert found.size == (102, 180)
    with av.open(str(found.path)) as container:
        frames = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
    assert len(frames) == 50
    for frame in frames:
        assert 0.9 < (frame > 150).sum() / (54 * 32) < 1.1
    wide = {n: [Box(0, 0, 0.9, 1)] for n in range(60)}
    padded = reframe(index, Span(5, 9), Fraction(9, 16), tmp_path / "c.mp4", evidence=wide)
    assert padded.paths[0].reason.startswith("padded")
    with av.open(str(padded.path)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="gray")
    assert frame.shape == (180, 102)
    assert (frame > 200).sum() > 100, "the whole frame is visible"


# --- redaction ---

SECRET = (Box(0.1, 0.2, 0.225, 0.467), 4)
W, H = 320, 180


def secret_place(n: int) -> tuple[int, int]:
    return 24 + 3 * n, 40 + round(20 * np.sin(n / 9))


def secret_box(n: int) -> Box:
    x, y = secret_place(n)
    return Box(x / W, y / H, (x + 40) / W, (y + 48) / H)


@pytest.fixture(scope="module")
def secret_clip(tmp_path_factory):
    """A bright red pattern moves over a dull background; nothing else is red."""
    rng = np.random.default_rng(0)
    back = rng.integers(60, 160, (H // 12, W // 16, 1), np.uint8).repeat(12, 0).repeat(16, 1)
    pattern = np.zeros((48, 40, 3), np.uint8)
    pattern[..., 0] = rng.choice([120, 255], (8, 5)).astype(np.uint8).repeat(6, 0).repeat(8, 1)

    def picture(n):
        shown = back.repeat(3, 2).copy()
        if n < 70:
            x, y = secret_place(n)
            shown[y : y + 48, x : x + 40] = pattern
            if 30 <= n < 33:
                shown[:, 110:190] = 90  # hidden for three frames
        return shown

    return write_test_clip(
        tmp_path_factory.mktemp("secret") / "SECRETNAME.mp4",
        "25",
        80,
        pictures=picture,
        size=(W, H),
        metadata={"title": "SECRETTITLE", "comment": "SECRETPLACE", "location": "+48.1+011.5/"},
        beep_frames=[10],
    )


def redness(picture: np.ndarray) -> np.ndarray:
    """How much more red than green and blue each pixel is."""
    values = picture.astype(int)
    return values[..., 0] - values[..., 1:].max(axis=2)


KNOWN = {0: secret_box(0), 40: secret_box(40), 69: secret_box(69)}


def test_nothing_of_a_covered_area_is_in_any_frame_or_in_the_bytes(secret_clip, tmp_path):
    index = read_video_index(secret_clip.path)
    found = redact(index, [Subject(Span(0, 70), KNOWN)], tmp_path / "out.mp4")
    with av.open(str(found.path)) as container:
        assert len(container.streams) == 2
        assert not {"title", "comment", "location"} & set(container.metadata)
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 80
    for number, frame in enumerate(frames):
        assert redness(frame).max() < 40, f"red is visible in frame {number}"
        for one in found.boxes.get(number, ()):
            box = one.box
            inner = frame[
                round(box.y1 * H) + 2 : round(box.y2 * H) - 2,
                round(box.x1 * W) + 2 : round(box.x2 * W) - 2,
            ]
            assert inner.max() < 30, "opaque"
    content = found.path.read_bytes()
    for word in (b"SECRET", b"+48.1", b"\xa9xyz"):
        assert word not in content
    assert any("sound" in one for one in found.left)
    assert beep_times(found.path)


def test_every_frame_of_the_subject_is_covered_also_where_it_is_hidden(secret_clip):
    index = read_video_index(secret_clip.path)
    boxes = covered_boxes(index, [Subject(Span(0, 70), {5: secret_box(5)})], (), 0.15)
    for number in range(70):
        wanted = secret_box(number)
        assert any(
            one.box.x1 <= wanted.x1
            and one.box.y1 <= wanted.y1
            and one.box.x2 >= wanted.x2
            and one.box.y2 >= wanted.y2
            for one in boxes[number]
        ), f"frame {number}"


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_change_the_area_and_nothing_else(secret_clip, tmp_path, method):
    index = read_video_index(secret_clip.path)
    span = Span(0, 12)
    known = {n: secret_box(n) for n in range(12)}
    found = redact(
        index, [Subject(span, known)], tmp_path / "out.mp4", span=span, method=method, sound=False
    )
    with av.open(str(found.path)) as new, av.open(str(secret_clip.path)) as old:
        pairs = [
            (a.to_ndarray(format="rgb24").astype(int), b.to_ndarray(format="rgb24").astype(int))
            for a, b in zip(new.decode(video=0), old.decode(video=0), strict=False)
        ]
    assert len(pairs) == 12
    x, y = secret_place(6)
    new, old = pairs[6]
    assert np.abs(new[y : y + 48, x : x + 40] - old[y : y + 48, x : x + 40]).mean() > 20
    assert np.abs(new[140:, 200:] - old[140:, 200:]).mean() < 4
    assert not read_video_index(found.path).audio


def test_clips_and_thumbnails_of_a_redacted_video_are_redacted_too(secret_clip, tmp_path):
    index = read_video_index(secret_clip.path)
    (query,) = labelled(["a face"])
    boxes = {n: (box,) for n, box in KNOWN.items()}
    moment = moment_of(index, query, Span(0, 70), boxes=boxes)
    found = VideoMoments(index.path, (query,), index, (Span(0, 80),), (moment,))
    options = ClipOptions(redact="box", thumbnails=True, cut="exact")
    made = {one.kind: one for one in make_clips(found, tmp_path, "a", options)}
    assert all(one.error is None for one in made.values())
    assert set(made) == {"redacted", "proof sheet", "cut", "thumbnail"}
    with Image.open(made["thumbnail"].path) as thumbnail:
        assert redness(np.asarray(thumbnail.convert("RGB"))).max() < 60
        assert not thumbnail.getexif()
    with av.open(str(made["cut"].path)) as container:
        for frame in container.decode(video=0):
            assert redness(frame.to_ndarray(format="rgb24")).max() < 40


def test_a_moment_without_a_box_is_covered_as_a_whole(secret_clip, tmp_path):
    index = read_video_index(secret_clip.path)
    (query,) = labelled(["a face"])
    moment = moment_of(index, query, Span(10, 20))
    found = VideoMoments(index.path, (query,), index, (Span(0, 80),), (moment,))
    made = list(make_clips(found, tmp_path, "a", ClipOptions(redact="box")))
    assert "without a box, covered as a whole: 1" in made[0].note
    with av.open(str(made[0].path)) as container:
        frames = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
    assert all(frame.max() < 40 for frame in frames[10:20])
    assert frames[40].max() > 100


def test_a_proof_sheet_shows_the_ends_and_the_worst_frames(secret_clip, tmp_path):
    index = read_video_index(secret_clip.path)
    known = {n: secret_box(n) for n in (20, 40)}
    found = redact(index, [Subject(Span(20, 41), known)], tmp_path / "out.mp4", sound=False)
    numbers = proof_frames(found, 12)
    covered = sorted(found.boxes)
    assert {covered[0] - 1, covered[0], covered[-1], covered[-1] + 1} <= set(numbers)
    worst = min(found.boxes, key=lambda n: max(one.match for one in found.boxes[n]))
    assert worst in numbers
    outside = {proof_state(found, n) for n in numbers if n not in found.boxes}
    assert outside == {"before a span", "after a span"}
    assert proof_state(found, covered[0]).startswith("match ")
    path = write_proof_sheet(found, index, tmp_path / "proof.webp")
    with Image.open(path) as sheet:
        assert sheet.width == 1920
    with pytest.raises(UsageError, match="which exists"):
        write_proof_sheet(found, index, path)


def test_a_contact_sheet_has_a_row_for_each_moment(clips, tmp_path):
    index = read_video_index(clips["25", ".mp4"].path)
    (query,) = labelled(["a long description " * 10])
    moments = tuple(moment_of(index, query, Span(n, n + 9)) for n in (0, 20, 40))
    found = VideoMoments(index.path, (query,), index, moments=moments)
    (path,) = write_contact_sheets([found], tmp_path / "sheet.webp")
    with Image.open(path) as sheet:
        picture = np.asarray(sheet.convert("RGB"))
    assert picture.shape[1] == 1920
    assert number_of(numbered_picture(5)) == 5
    assert picture.std() > 10
