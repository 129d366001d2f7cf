"""Decoding in workers: equal pixels as in process, and a failing worker ends only one request."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from attacks.media_paths import KINDS
from PIL import Image

import worker_tasks
from pixel_reasoner.errors import InputError, PixelLimitError, UsageError
from pixel_reasoner.media import worker
from pixel_reasoner.media.context import UNSCALED, MediaContext
from pixel_reasoner.media.decoder import IN_PROCESS
from pixel_reasoner.media.worker_pool import WorkerLimits, WorkerPoolDecoder
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask_many, decode_with
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits, PixelBudget
from pixel_reasoner.schema.trace import StopReason, Transform
from test_decoder import FORMATS, scene, write_video
from test_media_context import build_question

LIMITS = MediaLimits()
LIMITED = WorkerLimits(memory_bytes=2 * 2**30, cpu_s=20, timeout_s=20)


@pytest.fixture(scope="module")
def pool():
    with WorkerPoolDecoder(num_workers=1, limits=LIMITED) as pool:
        yield pool


@pytest.fixture
def picture(tmp_path):
    scene().save(tmp_path / "a.png")
    return tmp_path / "a.png"


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.mode == second.mode and np.array_equal(np.asarray(first), np.asarray(second))


# --- equal results ---


@pytest.mark.parametrize("suffix", FORMATS)
def test_pictures_equal_those_of_the_decoder_in_process(tmp_path, pool, suffix):
    path = tmp_path / f"a.{suffix}"
    scene().save(path, **FORMATS[suffix])
    assert pool.header(path, LIMITS) == IN_PROCESS.header(path, LIMITS) == ((40, 30), ())
    assert same(pool.image(path, LIMITS), IN_PROCESS.image(path, LIMITS))


@pytest.mark.parametrize("part", [None, Box(0.1, 0.2, 0.9, 0.8)])
def test_regions_equal_those_of_the_decoder_in_process(tmp_path, pool, part):
    scene(400, 300).save(tmp_path / "a.png")
    item = MediaItem(kind="image", path=str(tmp_path / "a.png"), region=part)
    question = Question(id="1", text="?", media=(item,))
    budgets = UNSCALED.model_copy(update={"picture": PixelBudget(min_px=1, max_px=5000)})
    ours, theirs = (
        MediaContext(question, budgets, decoder=decoder) for decoder in (pool, IN_PROCESS)
    )
    for context in (ours, theirs):
        context.add_crop(1, Box(0.31, 0.17, 0.77, 0.6))
        context.add_region(
            1, Box(0.5, 0.5, 1, 1), [Transform(name="rotate", arguments={"quarter_turns": 1})]
        )
    for number in (1, 2, 3):
        assert same(ours.view(number), theirs.view(number))
    assert not ours.media.open_keys, "no whole picture was sent"


def test_a_changed_file_is_decoded_again_by_the_same_worker(picture, pool):
    item = MediaItem(kind="image", path=str(picture))
    before = pool.region(item, LIMITS, WHOLE, (8, 6))
    Image.new("RGB", (40, 30), "blue").save(picture)
    assert same(pool.region(item, LIMITS, WHOLE, (8, 6)), Image.new("RGB", (8, 6), "blue"))
    assert not same(before, Image.new("RGB", (8, 6), "blue"))
    picture.unlink()
    with pytest.raises(InputError, match="a whole picture file"):
        pool.region(item, LIMITS, WHOLE, (8, 6))


def test_a_worker_decodes_a_picture_once_for_all_its_regions(picture):
    other = picture.with_name("b.png")
    scene(50, 20).save(other)
    items = [MediaItem(kind="image", path=str(path)) for path in (picture, other)]
    with WorkerPoolDecoder(num_workers=2) as pool:
        for item in items * 3:
            pool.region(item, LIMITS, Box(0, 0, 0.5, 0.5), (8, 6))
        kept = [pool.run(Path(item.path), worker_tasks.kept_files).values for item in items]
    assert kept[0] == kept[1] == sorted(item.path for item in items)


def test_kept_pictures_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "MAX_KEPT_PX", 2500)
    kept = worker._KeptPictures()
    for number in range(4):
        scene(40, 30).save(tmp_path / f"{number}.png")
        kept.image(MediaItem(kind="image", path=str(tmp_path / f"{number}.png")), LIMITS)
    assert len(kept._images) == 2


@pytest.mark.parametrize("indices", [(), (3, 17)])
@pytest.mark.parametrize("kind", ["video", "frames"])
def test_frames_equal_those_of_the_decoder_in_process(tmp_path, pool, kind, indices):
    if kind == "video":
        path = write_video(tmp_path / "a.mp4", 20)
    else:
        path = tmp_path
        for number in range(20):
            Image.new("RGB", (8, 6), (number, 0, 0)).save(path / f"{number}.png")
    item = MediaItem(kind=kind, path=str(path), start_s=0.5, fps=10)
    limits = MediaLimits(num_frames=4)
    ours, theirs = (one.frames(item, limits, indices) for one in (pool, IN_PROCESS))
    assert [one[1:] for one in ours] == [one[1:] for one in theirs]
    assert all(same(a.image, b.image) for a, b in zip(ours, theirs, strict=True))
    assert len(ours) == (len(indices) or 4)


def test_errors_equal_those_of_the_decoder_in_process(tmp_path, pool):
    (tmp_path / "text.png").write_text("not a picture")
    for path, limits in [
        (tmp_path / "text.png", LIMITS),
        (tmp_path / "missing.png", LIMITS),
    ]:
        texts = []
        for decoder in (pool, IN_PROCESS):
            with pytest.raises(InputError) as caught:
                decoder.image(path, limits)
            texts.append(str(caught.value))
        assert texts[0] == texts[1]
    scene().save(tmp_path / "large.png")
    with pytest.raises(PixelLimitError, match="40 x 30"):
        pool.header(tmp_path / "large.png", MediaLimits(max_px=100))


def test_a_context_decodes_in_workers(tmp_path, pool, picture):
    clip = write_video(tmp_path / "clip.mp4", 4)
    question = build_question(("image", picture), ("video", clip))
    ours = MediaContext(question, UNSCALED, decoder=pool)
    theirs = MediaContext(question, UNSCALED)
    assert ours.pictures == theirs.pictures
    assert ours.sampling == theirs.sampling
    assert all(same(ours.view(n), theirs.view(n)) for n in range(1, len(ours) + 1))


# --- failures ---


@pytest.mark.parametrize(
    ("task", "arguments", "why"),
    [
        (worker_tasks.use_memory, (8 * 2**30,), "it exceeds the memory limit of a worker"),
        (worker_tasks.crash, (signal.SIGSEGV,), "the decoder ended with signal SIGSEGV"),
        (worker_tasks.crash, (signal.SIGKILL,), "the decoder ended with signal SIGKILL"),
        (worker_tasks.leave, (), "the decoder ended with exit code 3"),
        (worker_tasks.fail, (), "RuntimeError: a mistake of the decoder"),
    ],
)
def test_a_failing_worker_is_an_error_of_its_file_and_the_pool_continues(
    pool, picture, task, arguments, why
):
    with pytest.raises(InputError, match=why) as caught:
        pool.run(picture, task, *arguments)
    assert str(picture) in caught.value.got
    assert caught.value.fix
    assert pool.image(picture, LIMITS).size == (40, 30)


@pytest.mark.medium
def test_a_request_over_its_time_limit_is_ended(picture):
    with WorkerPoolDecoder(num_workers=1, limits=WorkerLimits(timeout_s=0.5)) as pool:
        (first,) = [pool.run(picture, worker_tasks.process_id).values]
        started = time.monotonic()
        with pytest.raises(InputError, match=r"decoding took more than 0\.5 s"):
            pool.run(picture, worker_tasks.hang, str(picture))
        assert time.monotonic() - started < 5
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        assert pool.run(picture, worker_tasks.process_id).values != first


@pytest.mark.medium
def test_an_endless_loop_is_ended_by_its_cpu_time(picture):
    with WorkerPoolDecoder(num_workers=1, limits=WorkerLimits(cpu_s=0.5)) as pool:
        with pytest.raises(InputError, match="too much CPU time"):
            pool.run(picture, worker_tasks.loop)
        assert pool.image(picture, LIMITS).size == (40, 30)


@pytest.mark.medium
def test_cpu_time_is_counted_per_request(picture):
    with WorkerPoolDecoder(num_workers=1, limits=WorkerLimits(cpu_s=1)) as pool:
        ids = {pool.run(picture, worker_tasks.use_cpu, 0.7).values for _ in range(3)}
    assert len(ids) == 1, "no request exceeded its time, so no worker was replaced"


def test_a_worker_killed_while_idle_is_replaced(pool, picture):
    pool.image(picture, LIMITS)
    (worker,) = pool.process_ids
    os.kill(worker, signal.SIGKILL)
    while pool.process_ids:
        time.sleep(0.01)
    assert pool.image(picture, LIMITS).size == (40, 30)


@pytest.mark.medium
def test_requests_of_several_threads_run_in_several_workers(picture):
    with (
        WorkerPoolDecoder(num_workers=2, limits=LIMITED) as pool,
        ThreadPoolExecutor(4) as threads,
    ):
        failing = threads.submit(pool.run, picture, worker_tasks.crash, signal.SIGABRT)
        ids = list(
            threads.map(lambda _: pool.run(picture, worker_tasks.process_id, 0.2).values, range(8))
        )
        with pytest.raises(InputError, match="SIGABRT"):
            failing.result()
        assert len(set(ids)) == 2


def test_the_error_of_workers_that_cannot_start_states_the_fix(picture):
    with (
        WorkerPoolDecoder(1, WorkerLimits(memory_bytes=2**20)) as pool,
        pytest.raises(UsageError, match=r"raise WorkerLimits\.memory_bytes"),
    ):
        pool.image(picture, LIMITS)
    with pytest.raises(UsageError, match="at least 1"):
        WorkerPoolDecoder(0)


def test_workers_do_not_inherit_keys(picture, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "secret")
    with WorkerPoolDecoder(1) as pool:
        assert "MY_API_KEY" not in pool.run(picture, worker_tasks.environment).values


def test_a_closed_pool_leaves_no_process(picture):
    pool = WorkerPoolDecoder(1)
    pool.image(picture, LIMITS)
    (worker,) = pool.process_ids
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    with pytest.raises(UsageError, match="an open decoder"):
        pool.image(picture, LIMITS)


def test_media_of_questions_are_decoded_in_workers_if_enabled(tmp_path, pool, picture):
    model = ScriptedModel([r"\boxed{red}"])
    decode_with(model, pool)
    (tmp_path / "text.png").write_text("not a picture")
    asked = [build_question(("image", path)) for path in (picture, tmp_path / "text.png")]
    asked[1] = asked[1].model_copy(update={"id": "2"})
    monitored = {trace.question.id: trace for trace in ask_many(asked, model)}
    assert monitored["1"].answer == "red"
    assert monitored["2"].stop is StopReason.FAILED
    assert pool.process_ids


@pytest.mark.parametrize(
    "kind", ["jpeg_many_scans", "webp_header_alone", "tiff_many_strips", "video_odd_times"]
)
def test_hostile_media_are_refused_or_opened_in_workers(tmp_path, pool, kind):
    path = KINDS[kind](tmp_path, Random(3))
    item = MediaItem(kind="video" if kind.startswith("video") else "image", path=str(path))
    with suppress(InputError):
        context = MediaContext(Question(id="1", text="?", media=(item,)), UNSCALED, decoder=pool)
        context.view(1)
    assert pool.process_ids, "the limits of media ended the request, not those of the process"


def test_a_reply_with_more_pixels_than_the_worker_limit_is_an_error(pool, picture):
    with pytest.raises(InputError, match="more pixels than a worker can hold"):
        pool.run(picture, worker_tasks.claim_pixels)
    assert pool.image(picture, LIMITS).size == (40, 30)


def test_a_picture_of_several_bands_is_returned_completely(tmp_path, pool):
    scene(3000, 1500).save(tmp_path / "a.png", compress_level=1)
    path = tmp_path / "a.png"
    assert same(pool.image(path, LIMITS), IN_PROCESS.image(path, LIMITS))
