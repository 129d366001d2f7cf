"""Media cache: opened media are shared by questions and rollouts, bounded, and thread-safe."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixel_reasoner.errors import InputError
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.media.decoder import IN_PROCESS
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import FrameSampling
from test_decoder import scene, write_video
from test_media_context import BUDGETS, build_question


class CountingDecoder:
    """Decoder in this process that counts its calls."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.decoded: list[str] = []
        self.delay_s = delay_s
        self.lock = threading.Lock()

    is_isolated = False

    def header(self, path: Path, limits: MediaLimits, page=None):
        return IN_PROCESS.header(path, limits, page)

    def image(self, path: Path, limits: MediaLimits, page=None):
        self._count(path.name)
        return IN_PROCESS.image(path, limits, page)

    def frames(self, item, limits, indices=()):
        self._count(Path(item.path).name)
        return IN_PROCESS.frames(item, limits, indices)

    def _count(self, name: str) -> None:
        with self.lock:
            self.decoded.append(name)
        time.sleep(self.delay_s)


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    for number in range(3):
        scene(40 + number, 30).save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(3)]


def test_questions_about_one_file_decode_it_once(pictures, tmp_path):
    decoder = CountingDecoder()
    cache = MediaCache(decoder=decoder)
    clip = write_video(tmp_path / "clip.mp4", 4)
    for number in range(3):
        question = build_question(("image", pictures[0]), ("video", clip))
        named = question.model_copy(update={"id": str(number), "text": f"Question {number}?"})
        context = cache.open(named, BUDGETS)
        assert context.question == named
        context.view(context.add_crop(1, Box(0, 0, 0.5, 0.5)).number)
    assert sorted(decoder.decoded) == ["0.png", "clip.mp4"]


def test_contexts_of_one_file_number_their_pictures_independently(pictures):
    cache, question = MediaCache(), build_question(("image", pictures[0]))
    first, second = cache.open(question, BUDGETS), cache.open(question, BUDGETS)
    first.add_crop(1, Box(0, 0, 0.5, 0.5))
    assert (len(first), len(second)) == (2, 1)
    assert first.view(1) is second.view(1)


def test_other_limits_and_other_sampling_are_other_media(tmp_path):
    question = build_question(("video", write_video(tmp_path / "clip.mp4", 12)))
    cache = MediaCache()
    recorded = (FrameSampling(medium=0, num_frames=2, indices=(1, 9)),)
    assert cache.open(question, BUDGETS).num_frames == 12
    assert cache.open(question, BUDGETS, MediaLimits(num_frames=3)).num_frames == 3
    assert cache.open(question, BUDGETS, sampling=recorded).sampling == recorded
    assert len(cache) == 3


def test_a_file_that_changed_is_opened_again(pictures):
    cache, question = MediaCache(), build_question(("image", pictures[0]))
    assert cache.open(question, BUDGETS).view(1) is cache.open(question, BUDGETS).view(1)
    Image.new("RGB", (64, 64), "red").save(pictures[0])
    os.utime(pictures[0], (1, 1))
    assert cache.open(question, BUDGETS).picture(1).source_px == (64, 64)


def test_the_least_recently_used_media_are_closed_first(pictures):
    decoder = CountingDecoder()
    cache = MediaCache(max_entries=2, decoder=decoder)
    for number in (0, 1, 0, 2, 0, 1):
        cache.open(build_question(("image", pictures[number])), BUDGETS).view(1)
    assert decoder.decoded == ["0.png", "1.png", "2.png", "1.png"]
    assert len(cache) == 2


def test_decoded_pixels_are_bounded(pictures):
    cache = MediaCache(max_px=1)
    kept = cache.open(build_question(("image", pictures[0])), BUDGETS)
    kept.view(1)
    cache.open(build_question(("image", pictures[1])), BUDGETS).view(1)
    assert len(cache) == 1, "the set used last stays, whatever its size"
    assert kept.view(1).size == kept.picture(1).seen_px, "a context in use keeps its media"


def test_media_that_cannot_be_opened_are_not_cached(tmp_path):
    cache, question = MediaCache(), build_question(("image", tmp_path / "a.png"))
    for _ in range(2):
        with pytest.raises(InputError):
            cache.open(question, BUDGETS)
    assert len(cache) == 0
    scene().save(tmp_path / "a.png")
    assert len(cache.open(question, BUDGETS)) == 1


def test_threads_that_need_the_same_media_decode_them_once(pictures, tmp_path):
    decoder = CountingDecoder(delay_s=0.05)
    cache = MediaCache(decoder=decoder)
    clip = write_video(tmp_path / "clip.mp4", 4)
    question = build_question(("image", pictures[0]), ("video", clip))
    barrier = threading.Barrier(8)

    def view(number: int) -> np.ndarray:
        barrier.wait()
        context = cache.open(question, BUDGETS)
        crop = context.add_crop(1, Box(0, 0, (number + 1) / 8, 1))
        return np.asarray(context.view(crop.number))

    with ThreadPoolExecutor(8) as threads:
        ours = list(threads.map(view, range(8)))
    assert sorted(decoder.decoded) == ["0.png", "clip.mp4"]
    alone = MediaCache().open(question, BUDGETS)
    for number, pixels in enumerate(ours):
        crop = alone.add_crop(1, Box(0, 0, (number + 1) / 8, 1))
        assert np.array_equal(pixels, np.asarray(alone.view(crop.number)))
