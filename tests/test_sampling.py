"""Sampled frame indices are recorded, and a replay decodes exactly those frames."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st
from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.media import videos
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.sampling import FrameSelection, spread
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import FrameSampling, StopReason, Trace
from test_decoder import frame_number, write_video


@given(st.integers(1, 500), st.integers(1, 40))
def test_positions_are_the_middles_of_equal_parts(num_frames, num_wanted):
    positions = spread(num_frames, num_wanted)
    assert len(positions) == min(num_frames, num_wanted)
    for part, position in enumerate(positions):
        middle = Fraction((2 * part + 1) * num_frames, 2 * len(positions))
        assert position <= middle < position + 1
    assert positions == sorted(set(positions))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_recorded_indices_have_priority_over_every_rule(indices):
    selection = FrameSelection(4, start_s=5.0, end_s=6.0, indices=tuple(indices))
    found = selection.of_times([n / 10 for n in range(20)])
    assert found == sorted(n for n in set(indices) if n < 20)


@pytest.fixture(params=["video", "seek", "frames"])
def item(request, tmp_path, monkeypatch) -> MediaItem:
    """Video of 40 frames that is decoded completely, one that is decoded by seeking, and a folder."""
    if request.param == "frames":
        for number in range(40):
            Image.new("RGB", (8, 6), (number * 6,) * 3).save(tmp_path / f"{number}.png")
        return MediaItem(kind="frames", path=str(tmp_path), start_s=1.0, fps=10)
    if request.param == "seek":
        monkeypatch.setattr(videos, "SEEK_MIN_FRAMES", 20)
    path = write_video(tmp_path / "a.mp4", 40)
    return MediaItem(kind="video", path=str(path), start_s=1.0)


def trace_of(context: MediaContext, **changes) -> Trace:
    fields = {
        "question": context.question,
        "pictures": tuple(context.pictures),
        "sampling": context.sampling,
        "stop": StopReason.ANSWERED,
    }
    return Trace.from_line(Trace(**fields | changes).to_line())


def numbers(context: MediaContext) -> list[int]:
    return [frame_number(context.source(n)) for n in range(1, len(context) + 1)]


def test_indices_are_recorded(item):
    question = Question(id="1", text="?", media=(item,))
    context = MediaContext(question, UNSCALED, MediaLimits(num_frames=5))
    (sampling,) = context.sampling
    assert (sampling.medium, sampling.num_frames) == (0, 5)
    assert list(sampling.indices) == numbers(context) == [13, 19, 25, 31, 37]


def test_a_replay_decodes_the_recorded_frames_under_any_rule(item, monkeypatch):
    question = Question(id="1", text="?", media=(item,))
    context = MediaContext(question, UNSCALED, MediaLimits(num_frames=5))
    trace = trace_of(context)
    monkeypatch.setattr(FrameSelection, "is_whole", True)  # another rule: the part is ignored
    again = MediaContext.of_trace(trace, limits=MediaLimits(num_frames=2))
    assert again.sampling == trace.sampling
    assert numbers(again) == numbers(context)


def test_recorded_indices_outside_all_rules_are_decoded(item):
    question = Question(id="1", text="?", media=(item,))
    recorded = FrameSampling(medium=0, num_frames=3, indices=(0, 7, 8))
    context = MediaContext(question, UNSCALED, sampling=(recorded,))
    assert numbers(context) == [0, 7, 8]
    assert MediaContext.of_trace(trace_of(context)).sampling == (recorded,)


def test_a_trace_without_recorded_indices_is_sampled_by_the_rule(item):
    question = Question(id="1", text="?", media=(item,))
    context = MediaContext(question, UNSCALED, MediaLimits(num_frames=5))
    without = FrameSampling(medium=0, num_frames=5)
    for sampling in [(), (without,)]:
        trace = trace_of(context, sampling=sampling)
        assert numbers(MediaContext.of_trace(trace)) == numbers(context)


def test_frames_of_another_sampling_are_refused(item):
    question = Question(id="1", text="?", media=(item,))
    trace = trace_of(MediaContext(question, UNSCALED, MediaLimits(num_frames=5)))
    other = MediaContext(question, UNSCALED, MediaLimits(num_frames=8))
    with pytest.raises(InputError, match="the original media of the trace"):
        other.replay(trace)


def test_a_video_shorter_than_recorded_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", 40)
    question = Question(id="1", text="?", media=(MediaItem(kind="video", path=str(path)),))
    trace = trace_of(MediaContext(question, UNSCALED, MediaLimits(num_frames=5)))
    write_video(path, 30)
    with pytest.raises(InputError, match="the original media of the trace"):
        MediaContext.of_trace(trace)


def test_each_media_item_keeps_its_own_number_of_frames(tmp_path):
    paths = [write_video(tmp_path / f"{n}.mp4", 20) for n in range(2)]
    media = tuple(MediaItem(kind="video", path=str(path)) for path in paths)
    recorded = (
        FrameSampling(medium=0, num_frames=2, indices=(5, 15)),
        FrameSampling(medium=1, num_frames=3, indices=(1, 2, 3)),
    )
    context = MediaContext(Question(id="1", text="?", media=media), UNSCALED, sampling=recorded)
    assert context.sampling == recorded
    assert MediaContext.of_trace(trace_of(context)).pictures == context.pictures
