"""Media context: numbered pictures of a rollout, with pixels always computed from the originals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner.errors import InputError, PixelLimitError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.pixels import SourceKey
from pixel_reasoner.media.resize import fit_size
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits, PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import Observation, StopReason, Trace, Turn
from test_decoder import scene, write_video

BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=1024, max_px=36_864),
    crop=PixelBudget(min_px=4096, max_px=16_384),
    frame=PixelBudget(min_px=1024, max_px=4096),
    selected_frame=PixelBudget(min_px=8192, max_px=16_384),
    multiple=32,
)


def context_of(*media: tuple[str, object], **limits) -> MediaContext:
    return MediaContext(build_question(*media), BUDGETS, MediaLimits(**limits))


def build_question(*media: tuple[str, object]) -> Question:
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
    context = context_of(("image", folder / "large.png"), ("image", folder / "small.png"))
    assert [(p.number, p.medium, p.source_px) for p in context.pictures] == [
        (1, 0, (640, 480)),
        (2, 1, (40, 30)),
    ]
    assert context.num_frames == 0


def test_frames_are_numbered_from_1_after_any_pictures(folder):
    context = context_of(
        ("image", folder / "small.png"), ("video", folder / "clip.mp4"), num_frames=4
    )
    frames = [p for p in context.pictures if p.frame is not None]
    assert [(p.number, p.frame, p.time_s) for p in frames] == [
        (2, 1, pytest.approx(0.1)),
        (3, 2, pytest.approx(0.4)),
        (4, 3, pytest.approx(0.7)),
        (5, 4, pytest.approx(1.0)),
    ]
    assert context.frames == {1: 2, 2: 3, 3: 4, 4: 5}


def test_a_folder_is_a_video_without_times(folder):
    context = context_of(("frames", folder / "frames"))
    assert [(p.frame, p.time_s) for p in context.pictures] == [(1, None), (2, None), (3, None)]
    assert context.num_frames == 3


def test_results_continue_the_numbering_and_record_their_parent(folder):
    context = context_of(("video", folder / "clip.mp4"), num_frames=4)
    crop = context.add_crop(2, Box(0, 0, 0.5, 0.5))
    again = context.add_frames([4, 1])
    assert [(p.number, p.parent, p.frame) for p in [crop, *again]] == [
        (5, 2, 2),
        (6, 4, 4),
        (7, 1, 1),
    ]
    assert again[0].box == WHOLE
    assert again[0].time_s == context.picture(4).time_s


# --- pixels ---


def test_a_view_has_its_announced_size(folder):
    context = context_of(
        ("image", folder / "large.png"), ("video", folder / "clip.mp4"), num_frames=2
    )
    context.add_crop(1, Box(0.1, 0.2, 0.15, 0.4))
    context.add_frames([1])
    for number in range(1, len(context) + 1):
        assert context.view(number).size == context.picture(number).seen_px
        assert context.view(number) is context.view(number)


def test_sizes_follow_the_budget_of_their_kind(folder):
    context = context_of(
        ("image", folder / "large.png"), ("video", folder / "clip.mp4"), num_frames=2
    )
    context.add_crop(1, Box(0, 0, 0.5, 0.5))
    context.add_frames([1])
    kinds = [BUDGETS.picture, BUDGETS.frame, BUDGETS.frame, BUDGETS.crop, BUDGETS.selected_frame]
    for picture, budget in zip(context.pictures, kinds, strict=True):
        assert picture.seen_px == fit_size(picture.source_px, budget, BUDGETS.multiple)


def test_a_crop_contains_the_pixels_of_the_original(folder):
    context = context_of(("image", folder / "large.png"))
    context.add_crop(1, Box(0.25, 0.5, 0.5, 0.75))
    original = np.asarray(Image.open(folder / "large.png"))
    assert np.array_equal(np.asarray(context.pixels(2)), original[240:360, 160:320])
    assert context.picture(2).source_px == context.pixels(2).size == (160, 120)


def test_a_zoom_into_a_crop_equals_the_direct_zoom(folder):
    context = context_of(("image", folder / "large.png"))

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(boxes(), boxes())
    def check(outer: Box, inner: Box) -> None:
        first = context.add_crop(1, outer)
        nested = context.add_crop(first.number, inner)
        direct = context.add_crop(1, inner.within(outer))
        assert (nested.box, nested.source_px, nested.seen_px) == (
            direct.box,
            direct.source_px,
            direct.seen_px,
        )
        assert same(context.view(nested.number), context.view(direct.number))

    check()


def test_an_upright_picture_is_cropped_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(64, 32).save(tmp_path / "a.png", exif=exif)
    context = context_of(("image", tmp_path / "a.png"))
    assert context.picture(1).source_px == context.source(1).size == (32, 64)
    context.add_crop(1, Box(0, 0.5, 1, 1))
    lower_half = scene(64, 32).transpose(Image.Transpose.ROTATE_270).crop((0, 32, 32, 64))
    assert same(context.pixels(2), lower_half)


# --- when files are opened ---


def test_a_missing_file_is_an_error_at_once(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        context_of(("image", tmp_path / "gone.png"))


def test_pixels_of_an_image_are_decoded_on_first_use_and_once(tmp_path):
    path = tmp_path / "a.png"
    scene(200, 200).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    context = context_of(("image", path))
    with pytest.raises(InputError, match=r"a\.png"):
        context.view(1)
    path.write_bytes(whole)
    context.view(1)
    path.unlink()
    context.view(context.add_crop(1, Box(0, 0, 0.5, 0.5)).number)


def test_only_a_bounded_number_of_pixels_is_kept_decoded(tmp_path):
    """The pictures decoded first are closed and decoded again on demand. Frames of a video stay decoded."""
    names = [tmp_path / f"{n}.png" for n in range(5)]
    for n, name in enumerate(names):
        Image.new("RGB", (40, 30), (n, 0, 0)).save(name)
    clip = write_video(tmp_path / "clip.mp4", 4)
    media = [("video", clip), *(("image", name) for name in names)]
    context = context_of(*media, num_frames=4, max_open_px=3 * 40 * 30)
    for picture in context.pictures:
        context.view(picture.number)
    opened = [key[:2] for key in context.media.open_keys if key.is_picture]
    assert opened == [(3, None), (4, None), (5, None)]
    assert sum(key.frame is not None for key in context.media.open_keys) == 4
    first = context.picture(5)
    assert context.source(first.number).getpixel((0, 0)) == (0, 0, 0)
    assert SourceKey(1) in context.media.open_keys


def test_a_picture_larger_than_the_cache_is_opened(folder):
    context = context_of(("image", folder / "large.png"), max_open_px=10)
    assert context.source(1).size == (640, 480)


def test_the_pixel_limit_applies(folder):
    with pytest.raises(PixelLimitError):
        context_of(("image", folder / "large.png"), max_px=1000)


# --- copies ---


def test_a_fork_continues_independently_and_decodes_nothing_again(folder, monkeypatch):
    context = context_of(("image", folder / "large.png"))
    crop = context.add_crop(1, Box(0, 0, 0.5, 0.5))
    shown = context.view(crop.number)
    monkeypatch.setattr("pixel_reasoner.media.decoder.open_image", None)
    fork = context.fork()
    assert fork.view(crop.number) is shown
    ours = context.add_crop(1, Box(0.5, 0, 1, 1))
    theirs = fork.add_crop(2, Box(0, 0.5, 1, 1))
    assert (ours.number, theirs.number) == (3, 3)
    assert context.picture(3).box != fork.picture(3).box
    assert not same(context.view(3), fork.view(3))


def test_a_truncated_context_reuses_the_next_number(folder):
    context = context_of(("image", folder / "large.png"))
    context.view(context.add_crop(1, Box(0, 0, 0.5, 0.5)).number)
    context.truncate(1)
    assert len(context) == 1
    again = context.add_crop(1, Box(0.5, 0.5, 1, 1))
    fresh = context.fresh()
    assert again.number == 2
    assert same(context.view(2), fresh.view(fresh.add_crop(1, Box(0.5, 0.5, 1, 1)).number))


# --- replay ---


def rollout(context: MediaContext) -> Trace:
    """Return a trace with nested zooms and selected frames, after a round trip through JSON."""
    first = tuple(context.pictures)
    zoom = context.add_crop(1, Box(0.1, 0.2, 0.7, 0.6))
    results = [(zoom,), (context.add_crop(zoom.number, Box(0.3, 0.3, 0.9, 0.8)),)]
    if context.num_frames:
        results.append(tuple(context.add_frames([2, 1])))
    turns = tuple(Turn(text="", observations=(Observation(text="", pictures=p),)) for p in results)
    trace = Trace(question=context.question, pictures=first, turns=turns, stop=StopReason.ANSWERED)
    return Trace.from_line(trace.to_line())


@pytest.mark.parametrize("num_frames", [3, 16])
def test_a_replay_gives_equal_pictures_and_pixels(folder, num_frames):
    media = [
        ("image", folder / "large.png"),
        ("video", folder / "clip.mp4"),
        ("frames", folder / "frames"),
    ]
    context = context_of(*media, num_frames=num_frames)
    replay = MediaContext.of_trace(rollout(context))
    assert replay.pictures == context.pictures
    for number in range(1, len(context) + 1):
        assert same(replay.view(number), context.view(number))
        assert same(replay.pixels(number), context.pixels(number))


def test_a_trace_is_replayed_without_decoding_again(folder, monkeypatch):
    context = context_of(("image", folder / "large.png"), ("video", folder / "clip.mp4"))
    trace = rollout(context)
    opened = context_of(("image", folder / "large.png"), ("video", folder / "clip.mp4"))
    opened.source(1), context.source(1)
    monkeypatch.setattr("pixel_reasoner.media.decoder.open_image", None)
    again = opened.replay(trace)
    assert again.pictures == context.pictures
    assert all(same(again.view(n), context.view(n)) for n in range(1, len(context) + 1))
    assert len(opened) == len(trace.pictures)


def test_a_replay_can_be_continued(folder):
    context = context_of(("image", folder / "large.png"))
    replay = MediaContext.of_trace(rollout(context), BUDGETS)
    assert replay.add_crop(2, Box(0, 0, 0.5, 0.5)) == context.add_crop(2, Box(0, 0, 0.5, 0.5))


def test_a_replay_from_other_media_is_refused(tmp_path):
    scene().save(tmp_path / "a.png")
    trace = rollout(context_of(("image", tmp_path / "a.png")))
    scene(41, 30).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="the original media of the trace"):
        MediaContext.of_trace(trace)


def test_a_trace_with_invented_pictures_is_refused(folder):
    trace = rollout(context_of(("image", folder / "large.png")))
    picture = trace.pictures[0]
    for wrong in ({"number": 9}, {"medium": 3}, {"frame": 1}):
        changed = trace.model_copy(update={"pictures": (picture.model_copy(update=wrong),)})
        with pytest.raises(InputError):
            MediaContext.of_trace(changed)


def test_a_failed_trace_has_no_pictures(folder):
    question = build_question(("image", folder / "large.png"))
    assert len(MediaContext.of_trace(Trace(question=question, stop=StopReason.FAILED))) == 0
