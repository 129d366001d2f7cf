"""The numbered pictures of a rollout: references whose pixels always come from the originals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits, PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Observation, StopReason, Trace, Turn
from test_decode import scene, write_video

BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=1024, max_px=36_864),
    crop=PixelBudget(min_px=4096, max_px=16_384),
    frame=PixelBudget(min_px=1024, max_px=4096),
    selected_frame=PixelBudget(min_px=8192, max_px=16_384),
    multiple=32,
)


def album_of(*media: tuple[str, object], **limits) -> MediaContext:
    return MediaContext(question_of(*media), BUDGETS, MediaLimits(**limits))


def question_of(*media: tuple[str, object]) -> Question:
    named = tuple(MediaItem(kind=kind, path=str(path)) for kind, path in media)
    return Question(id="1", text="What is it?", media=named)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A large picture, a small one, a video of 12 frames and a folder of 3."""
    folder = tmp_path_factory.mktemp("media")
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(noise).save(folder / "large.png")
    scene().save(folder / "small.png")
    write_video(folder / "clip.mp4", 12)
    (folder / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (80, 60), (number, 0, 0)).save(folder / "frames" / f"{number}.png")
    return folder


@st.composite
def boxes(draw) -> Box:
    x1, x2, y1, y2 = (draw(st.integers(0, 47)) for _ in range(4))
    return Box(min(x1, x2) / 48, min(y1, y2) / 48, (max(x1, x2) + 1) / 48, (max(y1, y2) + 1) / 48)


def same(first: Image.Image, second: Image.Image) -> bool:
    return np.array_equal(np.asarray(first), np.asarray(second))


# --- numbers ---


def test_images_are_numbered_from_1_in_their_order(folder):
    album = album_of(("image", folder / "large.png"), ("image", folder / "small.png"))
    assert [(p.number, p.medium, p.source_px) for p in album.pictures] == [
        (1, 0, (640, 480)),
        (2, 1, (40, 30)),
    ]
    assert album.num_frames == 0


def test_frames_are_numbered_from_1_whatever_comes_before(folder):
    album = album_of(("image", folder / "small.png"), ("video", folder / "clip.mp4"), num_frames=4)
    frames = [p for p in album.pictures if p.frame is not None]
    assert [(p.number, p.frame, p.time_s) for p in frames] == [
        (2, 1, pytest.approx(0.1)),
        (3, 2, pytest.approx(0.4)),
        (4, 3, pytest.approx(0.7)),
        (5, 4, pytest.approx(1.0)),
    ]
    assert album.frames == {1: 2, 2: 3, 3: 4, 4: 5}


def test_a_folder_is_a_video_without_times(folder):
    album = album_of(("frames", folder / "frames"))
    assert [(p.frame, p.time_s) for p in album.pictures] == [(1, None), (2, None), (3, None)]
    assert album.num_frames == 3


def test_results_continue_the_count_and_name_their_parent(folder):
    album = album_of(("video", folder / "clip.mp4"), num_frames=4)
    crop = album.add_crop(2, Box(0, 0, 0.5, 0.5))
    again = album.add_frames([4, 1])
    assert [(p.number, p.parent, p.frame) for p in [crop, *again]] == [
        (5, 2, 2),
        (6, 4, 4),
        (7, 1, 1),
    ]
    assert again[0].box == WHOLE
    assert again[0].time_s == album.picture(4).time_s


# --- pixels ---


def test_a_view_has_the_size_it_promises(folder):
    album = album_of(("image", folder / "large.png"), ("video", folder / "clip.mp4"), num_frames=2)
    album.add_crop(1, Box(0.1, 0.2, 0.15, 0.4))
    album.add_frames([1])
    for number in range(1, len(album) + 1):
        assert album.view(number).size == album.picture(number).seen_px
        assert album.view(number) is album.view(number)


def test_sizes_follow_the_budget_of_their_kind(folder):
    album = album_of(("image", folder / "large.png"), ("video", folder / "clip.mp4"), num_frames=2)
    album.add_crop(1, Box(0, 0, 0.5, 0.5))
    album.add_frames([1])
    kinds = [BUDGETS.picture, BUDGETS.frame, BUDGETS.frame, BUDGETS.crop, BUDGETS.selected_frame]
    for picture, budget in zip(album.pictures, kinds, strict=True):
        assert picture.seen_px == fit_size(picture.source_px, budget, BUDGETS.multiple)


def test_a_region_holds_the_pixels_of_the_original(folder):
    album = album_of(("image", folder / "large.png"))
    album.add_crop(1, Box(0.25, 0.5, 0.5, 0.75))
    original = np.asarray(Image.open(folder / "large.png"))
    assert np.array_equal(np.asarray(album.pixels(2)), original[240:360, 160:320])
    assert album.picture(2).source_px == album.pixels(2).size == (160, 120)


def test_a_zoom_into_a_zoom_is_the_direct_zoom(folder):
    album = album_of(("image", folder / "large.png"))

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(boxes(), boxes())
    def check(outer: Box, inner: Box) -> None:
        first = album.add_crop(1, outer)
        nested = album.add_crop(first.number, inner)
        direct = album.add_crop(1, inner.within(outer))
        assert (nested.box, nested.source_px, nested.seen_px) == (
            direct.box,
            direct.source_px,
            direct.seen_px,
        )
        assert same(album.view(nested.number), album.view(direct.number))

    check()


def test_an_upright_picture_is_cropped_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(64, 32).save(tmp_path / "a.png", exif=exif)
    album = album_of(("image", tmp_path / "a.png"))
    assert album.picture(1).source_px == album.source(1).size == (32, 64)
    album.add_crop(1, Box(0, 0.5, 1, 1))
    lower_half = scene(64, 32).transpose(Image.Transpose.ROTATE_270).crop((0, 32, 32, 64))
    assert same(album.pixels(2), lower_half)


# --- when files are read ---


def test_a_missing_file_is_known_at_once(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        album_of(("image", tmp_path / "gone.png"))


def test_pixels_of_an_image_are_decoded_on_first_use_and_once(tmp_path):
    path = tmp_path / "a.png"
    scene(200, 200).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    album = album_of(("image", path))
    with pytest.raises(InputError, match=r"a\.png"):
        album.view(1)
    path.write_bytes(whole)
    album.view(1)
    path.unlink()
    album.view(album.add_crop(1, Box(0, 0, 0.5, 0.5)).number)


def test_many_large_pictures_are_not_kept_open_all_at_once(tmp_path, monkeypatch):
    """Those that were opened first are closed, and opened again when they are looked at; frames of a video stay."""
    monkeypatch.setattr("pixel_reasoner.media.context.MAX_OPEN_PX", 3 * 40 * 30)
    names = [tmp_path / f"{n}.png" for n in range(5)]
    for n, name in enumerate(names):
        Image.new("RGB", (40, 30), (n, 0, 0)).save(name)
    clip = write_video(tmp_path / "clip.mp4", 4)
    album = album_of(("video", clip), *(("image", name) for name in names), num_frames=4)
    for picture in album.pictures:
        album.view(picture.number)
    opened = [key for key in album._sources if key[1] is None]
    assert opened == [(3, None), (4, None), (5, None)]
    assert sum(key[1] is not None for key in album._sources) == 4
    first = album.picture(5)
    assert album.source(first.number).getpixel((0, 0)) == (0, 0, 0)
    assert (1, None) in album._sources


def test_a_picture_larger_than_what_is_kept_open_is_opened_all_the_same(folder, monkeypatch):
    monkeypatch.setattr("pixel_reasoner.media.context.MAX_OPEN_PX", 10)
    album = album_of(("image", folder / "large.png"))
    assert album.source(1).size == (640, 480)


def test_the_pixel_limit_holds(folder):
    with pytest.raises(PixelLimitError):
        album_of(("image", folder / "large.png"), max_px=1000)


# --- replay ---


def rollout(album: MediaContext) -> Trace:
    """A trace of zooms into zooms and selected frames, through its own JSON."""
    first = tuple(album.pictures)
    zoom = album.add_crop(1, Box(0.1, 0.2, 0.7, 0.6))
    results = [(zoom,), (album.add_crop(zoom.number, Box(0.3, 0.3, 0.9, 0.8)),)]
    if album.num_frames:
        results.append(tuple(album.add_frames([2, 1])))
    turns = tuple(Turn(text="", observations=(Observation(text="", pictures=p),)) for p in results)
    trace = Trace(question=album.question, pictures=first, turns=turns, stop=StopReason.ANSWERED)
    return Trace.from_line(trace.to_line())


@pytest.mark.parametrize("num_frames", [3, 16])
def test_a_replay_gives_equal_pictures_and_pixels(folder, num_frames):
    media = [
        ("image", folder / "large.png"),
        ("video", folder / "clip.mp4"),
        ("frames", folder / "frames"),
    ]
    album = album_of(*media, num_frames=num_frames)
    replay = MediaContext.of_trace(rollout(album))
    assert replay.pictures == album.pictures
    for number in range(1, len(album) + 1):
        assert same(replay.view(number), album.view(number))
        assert same(replay.pixels(number), album.pixels(number))


def test_a_trace_is_retold_without_decoding_again(folder, monkeypatch):
    album = album_of(("image", folder / "large.png"), ("video", folder / "clip.mp4"))
    trace = rollout(album)
    opened = album_of(("image", folder / "large.png"), ("video", folder / "clip.mp4"))
    opened.source(1), album.source(1)
    monkeypatch.setattr("pixel_reasoner.media.context.open_image", None)
    again = opened.retold(trace)
    assert again.pictures == album.pictures
    assert all(same(again.view(n), album.view(n)) for n in range(1, len(album) + 1))
    assert len(opened) == len(trace.pictures)


def test_a_replay_can_go_on(folder):
    album = album_of(("image", folder / "large.png"))
    replay = MediaContext.of_trace(rollout(album), BUDGETS)
    assert replay.add_crop(2, Box(0, 0, 0.5, 0.5)) == album.add_crop(2, Box(0, 0, 0.5, 0.5))


def test_a_replay_from_other_media_is_refused(tmp_path):
    scene().save(tmp_path / "a.png")
    trace = rollout(album_of(("image", tmp_path / "a.png")))
    scene(41, 30).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="the media that the trace was made from"):
        MediaContext.of_trace(trace)


def test_a_trace_with_invented_pictures_is_refused(folder):
    trace = rollout(album_of(("image", folder / "large.png")))
    picture = trace.pictures[0]
    for wrong in ({"number": 9}, {"medium": 3}, {"frame": 1}):
        changed = trace.model_copy(update={"pictures": (picture.model_copy(update=wrong),)})
        with pytest.raises(InputError):
            MediaContext.of_trace(changed)


def test_a_failed_trace_has_no_pictures(folder):
    question = question_of(("image", folder / "large.png"))
    assert len(MediaContext.of_trace(Trace(question=question, stop=StopReason.FAILED))) == 0
