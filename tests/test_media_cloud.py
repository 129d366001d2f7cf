"""Media in object stores: access, local copies, sparse videos, errors. `memory://` needs fsspec, `s3://` the extra `cloud` and moto."""

from __future__ import annotations

import http.server
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pixel_reasoner.errors import InputError, StorageError, UsageError
from pixel_reasoner.evals.benchmark import select_questions
from pixel_reasoner.evals.benchmarks import get_benchmark
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.media import object_cache, object_store, remote_media
from pixel_reasoner.media.cache import MediaCache
from pixel_reasoner.media.context import UNSCALED
from pixel_reasoner.media.object_cache import media_cache
from pixel_reasoner.media.object_errors import Failure, failure_of, object_error
from pixel_reasoner.media.pixels import OpenMedia, SourceKey
from pixel_reasoner.media.sparse_videos import SparseSample, index_ranges
from pixel_reasoner.media.worker_pool import WorkerPoolDecoder
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask_many
from pixel_reasoner.schema.media_url import (
    allow_media_urls,
    allowed_media_urls,
    check_url,
    is_below,
    join_media,
)
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import StopReason
from pixel_reasoner.sources.jsonl import question_of_row
from pixel_reasoner.workflows.evaluate import EvalSpec, evaluate
from pixel_reasoner.workflows.survey.questions import SurveyQuestion
from pixel_reasoner.workflows.survey.run import SurveySpec, survey_rows
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize

fsspec = pytest.importorskip("fsspec", reason="needs fsspec")

ROOT = "memory://bucket/images/"
FOUR_FRAMES = MediaLimits(num_frames=4)


@pytest.fixture(autouse=True)
def own_media_cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "media-cache"
    monkeypatch.setenv(object_cache.FOLDER_VARIABLE, str(folder))
    monkeypatch.setattr(object_store.OBJECTS, "_recent", {})
    monkeypatch.setattr(object_store.OBJECTS, "_down", {})
    monkeypatch.setattr(object_store.OBJECTS, "num_bytes_read", 0)
    return folder


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


@pytest.fixture
def allowed():
    with allow_media_urls(ROOT):
        yield


def picture(shade: int = 90) -> bytes:
    pixels = np.random.default_rng(shade).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path := Path(os.environ[object_cache.FOLDER_VARIABLE] + ".png"))
    return path.read_bytes()


def image(url: str) -> MediaItem:
    return MediaItem(kind="image", path=url)


def pixels(item: MediaItem) -> bytes:
    return OpenMedia([item]).image(SourceKey(0)).tobytes()


def write_video(path: Path, num_frames: int = 160, *, varies: bool = False, **options: str) -> Path:
    """Write a video of noise with a key frame per 20 frames, and frames that depend on later ones.

    Args:
        path: of the file.
        num_frames: number of frames.
        varies: whether the frame rate varies.
        options: of the container.
    """
    base = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream("libx264", rate=20, options={"preset": "ultrafast", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 160, 90, "yuv420p", 20
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(base, 3 * number, axis=1))
            if varies:
                frame.time_base = Fraction(1, 20)
                frame.pts = number + number // 3 + 5 * (number > 50)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


# --- which URLs are read ---


def test_no_url_is_read_unless_its_prefix_is_allowed(memory):
    memory.pipe_file("/bucket/images/a.png", picture())
    with pytest.raises(InputError, match=r"not allowed.*--media-url memory://bucket/images/"):
        OpenMedia([image(ROOT + "a.png")])
    with pytest.raises(InputError, match="not allowed"), allow_media_urls("memory://bucket/image"):
        OpenMedia([image(ROOT + "a.png")])
    with allow_media_urls("memory://bucket/images"):
        assert len(OpenMedia([image(ROOT + "a.png")]).sources) == 1
    assert object_store.OBJECTS.num_bytes_read == len(picture())


def test_an_item_keeps_what_was_allowed_when_it_was_read_from_a_file(memory):
    memory.pipe_file("/bucket/images/a.png", picture())
    with allow_media_urls(ROOT):
        item = image(ROOT + "a.png").restricted([])
    assert allowed_media_urls() == ()
    assert len(OpenMedia([item]).sources) == 1
    with pytest.raises(InputError, match="not allowed"):
        OpenMedia([item.model_copy(update={"path": "memory://bucket/b.png"})])


@pytest.mark.parametrize(
    "url",
    [
        *("http://bucket/a.png", "file:///etc/passwd", "s3://", "s3://b/x/../y.png"),
        *("s3://b/./a", "simplecache::s3://b/a", "s3://b/zip://a::http://c", "s3://b/a\n.png"),
        *("s3://b/a?versionId=1", "s3://key:hidden@bucket/a.png", "github://a/b"),
    ],
)
def test_a_url_of_another_form_is_refused_and_no_secret_is_shown(url):
    with pytest.raises(InputError) as caught:
        check_url(url)
    assert "hidden" not in str(caught.value)
    with allow_media_urls(ROOT), pytest.raises(InputError):
        OpenMedia([image(url)])


def test_paths_are_joined_to_a_url_without_folding_slashes():
    row = {"id": 1, "image": "a//b.png", "question": "How many?", "answer": 2}
    question = question_of_row(row, "s3://bucket/root/")
    assert question.media[0].path == "s3://bucket/root/a//b.png"
    assert join_media("s3://bucket", "/data/a.png") == "/data/a.png"
    assert not is_below("s3://bucket/rooting", "s3://bucket/root")


def test_rows_with_urls_that_are_not_allowed_are_dropped_and_counted(tmp_path, memory):
    rows = [{"id": n, "image": f"{ROOT}{n}.png", "question": "?", "answer": "1"} for n in "ab"]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    dropped = select_questions(get_benchmark("jsonl"), path, tmp_path).dropped
    assert [row.reason for row in dropped] == ["outside_media"] * 2
    assert "--media-url" in dropped[0].detail
    with allow_media_urls(ROOT):
        assert len(select_questions(get_benchmark("jsonl"), path, tmp_path).questions) == 2


@pytest.mark.parametrize("option", ["--data", "--out"])
def test_only_media_may_be_urls(option, tmp_path, run):
    options = {"--data": tmp_path, "--out": tmp_path / "run", option: "s3://bucket/rows"}
    code, _, error = run("eval", "jsonl", *(one for pair in options.items() for one in pair))
    assert (code, error.count("\n")) == (2, 1)
    assert f"{option} with a local file or folder; got the URL s3://bucket/rows" in error


def test_the_option_of_a_command_ends_with_the_command(tmp_path, run):
    code, _, error = run("check", tmp_path / "none", "--media-url", "s3://bucket/images/")
    assert code == 2
    assert "none" in error
    assert allowed_media_urls() == ()
    code, _, error = run("check", tmp_path, "--media-url", "https://example.org/")
    assert (code, error.count("\n")) == (2, 1)


def test_a_url_on_the_command_line_is_allowed_by_that_alone(memory, run):
    code, _, error = run("ask", "What is it?", "--image", ROOT + "none.png")
    assert (code, error.count("\n")) == (2, 1)
    assert f"{ROOT}none.png: no such object" in error
    assert allowed_media_urls() == ()


# --- pictures ---


def test_a_picture_of_a_store_has_the_pixels_and_notes_of_its_file(memory, allowed, tmp_path):
    frames = [Image.new("RGB", (30, 20), shade) for shade in ("red", "blue")]
    frames[0].save(tmp_path / "two.tiff", save_all=True, append_images=frames[1:])
    memory.pipe_file("/bucket/images/two.tiff", (tmp_path / "two.tiff").read_bytes())
    local, remote = (
        OpenMedia([image(str(tmp_path / "two.tiff"))]),
        OpenMedia([image(ROOT + "two.tiff")]),
    )
    assert remote.notes == local.notes != ()
    assert remote.image(SourceKey(0)).tobytes() == local.image(SourceKey(0)).tobytes()


def test_a_changed_object_is_read_again(memory, allowed):
    memory.pipe_file("/bucket/images/a.png", picture(1))
    cache, question = MediaCache(), Question(id="1", text="?", media=(image(ROOT + "a.png"),))
    first = cache.open(question, UNSCALED)
    assert cache.open(question, UNSCALED).media is first.media
    memory.pipe_file("/bucket/images/a.png", picture(2))
    second = cache.open(question, UNSCALED)
    assert second.view(1).tobytes() != first.view(1).tobytes()
    assert object_store.OBJECTS.num_bytes_read == len(picture(1)) + len(picture(2))


def test_an_unchanged_object_is_transferred_once(memory, allowed):
    memory.pipe_file("/bucket/images/a.png", picture())
    for _ in range(3):
        OpenMedia([image(ROOT + "a.png")]).image(SourceKey(0))
    assert object_store.OBJECTS.num_bytes_read == len(picture())


def test_the_cache_stays_within_its_size_and_removes_the_least_recently_used(
    memory, allowed, monkeypatch, own_media_cache
):
    monkeypatch.setenv(object_cache.SIZE_VARIABLE, "0.00005")
    content = picture()
    num_files = 50_000 // (-(-len(content) // 4096) * 4096)
    for number in range(3 * num_files):
        memory.pipe_file(f"/bucket/images/{number}.png", content)
        OpenMedia([image(f"{ROOT}{number}.png")])
        OpenMedia([image(ROOT + "0.png")])
        assert media_cache().num_bytes <= 50_000
    assert object_store.OBJECTS.num_bytes_read == 3 * num_files * len(content)


def test_a_copy_in_use_is_not_removed(memory, allowed, monkeypatch):
    content = picture()
    monkeypatch.setenv(object_cache.SIZE_VARIABLE, str(1.5 * len(content) / 10**9))
    memory.pipe_file("/bucket/images/a.png", content)
    memory.pipe_file("/bucket/images/b.png", content)
    with remote_media.local_item(image(ROOT + "a.png"), MediaLimits()) as first:
        pixels(image(ROOT + "b.png"))
        assert Path(first.path).read_bytes() == content
    pixels(image(ROOT + "b.png"))
    memory.pipe_file("/bucket/images/c.png", content)
    pixels(image(ROOT + "c.png"))
    assert not Path(first.path).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such object"),
        (b"", "an empty object"),
        (b"\x89PNG\r\n\x1a\n", "a.png"),
        (b"x" * 2000, "2,000 bytes"),
    ],
)
def test_an_unusable_object_is_an_error_that_names_its_url(
    memory, allowed, content, message, own_media_cache
):
    if content is not None:
        memory.pipe_file("/bucket/images/a.png", content)
    with pytest.raises(InputError, match=message) as caught:
        OpenMedia([image(ROOT + "a.png")], MediaLimits(max_picture_bytes=1000))
    assert ROOT + "a.png" in str(caught.value)
    assert str(own_media_cache) not in str(caught.value)


def test_an_object_larger_than_the_cache_is_refused_before_it_is_read(memory, allowed, monkeypatch):
    monkeypatch.setenv(object_cache.SIZE_VARIABLE, "0.000001")
    memory.pipe_file("/bucket/images/a.png", picture())
    with pytest.raises(InputError, match="raise PIXEL_REASONER_MEDIA_CACHE_GB"):
        OpenMedia([image(ROOT + "a.png")])
    assert object_store.OBJECTS.num_bytes_read == 0


def test_a_truncated_reply_is_read_again_and_then_an_error(memory, allowed, monkeypatch):
    memory.pipe_file("/bucket/images/a.png", picture())
    whole, calls = type(memory).cat_file, []

    def cut(self, path, start=None, end=None, **options):
        calls.append(path)
        content = whole(self, path, start=start, end=end, **options)
        return content[:-5] if len(calls) < most else content

    monkeypatch.setattr(type(memory), "cat_file", cut)
    monkeypatch.setattr(object_store, "BACKOFF_S", (0.0, 0.0, 0.0))
    most = 3
    assert pixels(image(ROOT + "a.png"))
    most = 100
    memory.pipe_file("/bucket/images/b.png", picture(2))
    with pytest.raises(InputError, match=r"b.png: truncated"):
        OpenMedia([image(ROOT + "b.png")])
    assert not [one for one in media_cache().root.glob("??/*") if one.name.endswith(".part")]


# --- videos ---


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        "end.mp4": write_video(folder / "end.mp4"),
        "start.mov": write_video(folder / "start.mov", movflags="faststart"),
        "varies.mp4": write_video(folder / "varies.mp4", varies=True),
        "whole.mkv": write_video(folder / "whole.mkv", 40),
        "parts.mp4": write_video(folder / "parts.mp4", 40, movflags="frag_keyframe+empty_moov"),
    }


@pytest.fixture
def small_is_sparse(monkeypatch):
    monkeypatch.setattr(remote_media, "SPARSE_MIN_BYTES", 0)
    monkeypatch.setattr(remote_media, "SPARSE_MAX_GAP_BYTES", 0)


def frames_of(path: str, decoder=None, **part: float) -> list[tuple[float, bytes]]:
    options = {} if decoder is None else {"decoder": decoder}
    media = OpenMedia([MediaItem(kind="video", path=path, **part)], FOUR_FRAMES, **options)
    return [(one.time_s, media.image(one.key).tobytes()) for one in media.sources]


@pytest.mark.parametrize("part", [{}, {"start_s": 2.0, "end_s": 5.0}])
@pytest.mark.parametrize("name", ["end.mp4", "start.mov", "varies.mp4"])
def test_frames_of_a_sparse_video_are_those_of_the_file_for_a_part_of_its_bytes(
    videos, name, part, memory, allowed, small_is_sparse
):
    memory.pipe_file(f"/bucket/images/{name}", videos[name].read_bytes())
    assert frames_of(ROOT + name, **part) == frames_of(str(videos[name]), **part)
    share = object_store.OBJECTS.num_bytes_read / videos[name].stat().st_size
    assert 0.05 < share < 0.6  # the headers are a third of these short videos
    frames_of(ROOT + name, **part)
    again = object_store.OBJECTS.num_bytes_read / videos[name].stat().st_size
    assert again == share  # nothing is read twice


@pytest.mark.parametrize("name", ["whole.mkv", "parts.mp4"])
def test_a_video_without_one_index_is_read_as_a_whole(
    videos, name, memory, allowed, small_is_sparse
):
    memory.pipe_file(f"/bucket/images/{name}", videos[name].read_bytes())
    assert frames_of(ROOT + name) == frames_of(str(videos[name]))
    assert object_store.OBJECTS.num_bytes_read >= videos[name].stat().st_size


def test_a_video_is_read_as_a_whole_if_the_frames_need_most_of_it(
    videos, memory, allowed, monkeypatch
):
    monkeypatch.setattr(remote_media, "SPARSE_MIN_BYTES", 0)
    memory.pipe_file("/bucket/images/end.mp4", videos["end.mp4"].read_bytes())
    media = OpenMedia([MediaItem(kind="video", path=ROOT + "end.mp4")], MediaLimits(num_frames=80))
    assert len(media.sources) == 80
    size = videos["end.mp4"].stat().st_size
    assert size <= object_store.OBJECTS.num_bytes_read < 1.5 * size


def test_a_cut_video_in_a_store_is_an_error_that_names_its_url(
    videos, memory, allowed, small_is_sparse
):
    content = videos["start.mov"].read_bytes()
    memory.pipe_file("/bucket/images/cut.mov", content[: len(content) // 2])
    with pytest.raises(InputError, match=r"memory://bucket/images/cut.mov"):
        frames_of(ROOT + "cut.mov")


@pytest.mark.medium
def test_workers_decode_copies_without_the_store(videos, memory, allowed, small_is_sparse):
    memory.pipe_file("/bucket/images/end.mp4", videos["end.mp4"].read_bytes())
    memory.pipe_file("/bucket/images/a.png", picture())
    with WorkerPoolDecoder(num_workers=1) as pool:
        assert frames_of(ROOT + "end.mp4", pool) == frames_of(str(videos["end.mp4"]))
        assert object_store.OBJECTS.num_bytes_read < videos["end.mp4"].stat().st_size / 2
        media = OpenMedia([image(ROOT + "a.png")], decoder=pool)
        assert media.image(SourceKey(0)).tobytes() == pixels(image(ROOT + "a.png"))


def test_ranges_that_a_decoder_names_outside_of_the_object_are_not_read(
    videos, memory, allowed, small_is_sparse
):
    class HostileDecoder:
        is_isolated = True

        def sparse_frames(self, item, limits, indices, present):
            return SparseSample([], [(-10, 5), (0, 10**15)])

        def frames(self, item, limits, indices=()):
            return []

    memory.pipe_file("/bucket/images/end.mp4", videos["end.mp4"].read_bytes())
    item = MediaItem(kind="video", path=ROOT + "end.mp4")
    assert remote_media.remote_frames(item, FOUR_FRAMES, HostileDecoder()) == []
    assert object_store.OBJECTS.num_bytes_read < 2.5 * videos["end.mp4"].stat().st_size


@pytest.mark.parametrize(
    "content", [b"", b"ftyp", b"\0\0\0\x08free" * 100, b"\0\0\0\x02ftyp", b"\0" * 99]
)
def test_a_file_without_an_index_has_no_ranges(content):
    assert index_ranges(lambda start, end: content[start:end], len(content)) is None


# --- a store that fails ---


def test_errors_that_may_pass_are_tried_again(memory, allowed, monkeypatch):
    memory.pipe_file("/bucket/images/a.png", picture())
    whole, failures = type(memory).info, [ConnectionResetError("reset"), TimeoutError()]

    def info(self, path, **options):
        if failures:
            raise failures.pop()
        return whole(self, path, **options)

    monkeypatch.setattr(type(memory), "info", info)
    monkeypatch.setattr(object_store, "BACKOFF_S", (0.0, 0.0, 0.0))
    assert pixels(image(ROOT + "a.png"))
    assert failures == []


def questions(num: int) -> list[Question]:
    return [
        Question(id=str(n), text="Which colour?", media=(image(f"{ROOT}{n}.png"),), answer=("red",))
        for n in range(num)
    ]


def test_a_missing_object_fails_its_question_and_a_dead_store_ends_the_run(
    memory, allowed, monkeypatch
):
    for number in (0, 2):
        memory.pipe_file(f"/bucket/images/{number}.png", picture())
    model = ScriptedModel([r"\boxed{red}"] * 9)
    traces = {one.question.id: one for one in ask_many(questions(3), model)}
    assert [traces[n].stop for n in "012"] == [
        StopReason.ANSWERED,
        StopReason.FAILED,
        StopReason.ANSWERED,
    ]
    assert "1.png: no such object" in traces["1"].error

    def refuse(self, path, **options):
        raise ConnectionRefusedError("connect to key=hidden")

    monkeypatch.setattr(type(memory), "info", refuse)
    monkeypatch.setattr(object_store, "BACKOFF_S", (0.0, 0.0, 0.0))
    with pytest.raises(StorageError, match="no answer") as caught:
        list(ask_many(questions(3), model))
    assert "hidden" not in str(caught.value)


class NoCredentialsError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (NoCredentialsError("secret"), Failure.REJECTED),
        (PermissionError("secret"), Failure.DENIED),
        (TimeoutError(), Failure.UNREACHABLE),
        (OSError(16, "busy"), Failure.BUSY),
        (ZeroDivisionError("secret"), Failure.UNUSABLE),
    ],
)
def test_every_exception_of_a_store_becomes_an_error_without_its_text(error, failure):
    assert failure_of(error) is failure
    for scheme in ("s3", "gs", "az", "hf", "memory"):
        raised = object_error(f"{scheme}://bucket/a.png", failure_of(error), type(error).__name__)
        assert "secret" not in str(raised)
        assert "\n" not in str(raised)


def test_a_scheme_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with allow_media_urls("az://bucket/"), pytest.raises(StorageError, match="pip install adlfs"):
        OpenMedia([image("az://bucket/a.png")])


def test_a_size_of_the_cache_that_is_no_number_is_an_error(allowed, memory, monkeypatch):
    monkeypatch.setenv(object_cache.SIZE_VARIABLE, "much")
    with pytest.raises(UsageError, match="PIXEL_REASONER_MEDIA_CACHE_GB"):
        OpenMedia([image(ROOT + "a.png")])


# --- commands ---


def own_rows(folder: Path, num: int, root: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    rows = [
        {"id": n, "image": f"{root}{n}.png", "question": "Which colour?", "answer": "red"}
        for n in range(num)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


def answers(out: Path) -> list[tuple[str, str | None, list[object]]]:
    return [
        (one.question.id, one.answer, [(p.source_px, p.seen_px) for p in one.pictures])
        for one in load_run(out)
    ]


def test_an_evaluation_over_urls_equals_one_over_files(memory, tmp_path):
    rows = own_rows(tmp_path / "local", 4)
    for number in range(4):
        (rows.parent / f"{number}.png").write_bytes(picture(number))
        memory.pipe_file(f"/bucket/images/{number}.png", picture(number))
    spec = EvalSpec(benchmark="jsonl", out=tmp_path / "a", data=rows)
    model = ScriptedModel([r"\boxed{red}"] * 40)
    local = evaluate(spec, model=model)
    away = own_rows(tmp_path / "away", 4)
    remote = evaluate(replace(spec, out=tmp_path / "b", data=away, media_root=ROOT), model=model)
    assert (remote["accuracy"], remote["count"], remote["failed"]) == (local["accuracy"], 4, {})
    assert answers(tmp_path / "a") == answers(tmp_path / "b")
    for trace in load_run(tmp_path / "b"):  # a report of an own run needs no option
        assert pixels(trace.question.media[0])


def test_traces_of_rows_with_urls_equal_those_of_files(memory, tmp_path):
    """Boxes in pixels need the size of the picture in the store."""
    row = {
        "id": 1,
        "image": "0.png",
        "question": "Which colour?",
        "answer": "red",
        "boxes": [[10, 10, 30, 30]],
    }
    texts = []
    for name, root in (("local", None), ("away", ROOT)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rows.jsonl").write_text(json.dumps(row))
        if root is None:
            (folder / "0.png").write_bytes(picture())
        else:
            memory.pipe_file("/bucket/images/0.png", picture())
        spec = SynthSpec(
            source="jsonl",
            out=tmp_path / f"{name}-run",
            data=folder / "rows.jsonl",
            model="pixel_reasoner",
            media_root=root,
        )
        assert synthesize(spec)["count"] == 1
        (trace,) = load_run(tmp_path / f"{name}-run")
        texts.append([turn.text for turn in trace.turns])
        assert pixels(trace.question.media[0]) == pixels(image(str(tmp_path / "local" / "0.png")))
    assert texts[0] == texts[1]


def test_a_survey_of_a_prefix_has_the_rows_of_the_folder(memory, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in (1, 2, 10):
        (folder / f"{number}.png").write_bytes(picture(number))
        memory.pipe_file(f"/bucket/images/{number}.png", picture(number))
    memory.pipe_file("/bucket/images/notes.txt", b"no picture")
    model = ScriptedModel([r"\boxed{red}"] * 40)
    asked = (SurveyQuestion(id="colour", text="Which colour?"),)
    found = []
    for source in (str(folder), ROOT):
        rows = survey_rows(SurveySpec(questions=asked, media=(source,)), model)
        found.append(sorted((row.id.rpartition("/")[2], row.answer, row.error) for row in rows))
    assert found[0] == found[1] != []


# --- S3, by an emulator in another process ---


@pytest.fixture(scope="module")
def emulator():
    pytest.importorskip("s3fs", reason="needs the extra cloud")
    pytest.importorskip("moto", reason="needs moto[server]")
    from clusters.s3_emulator import S3Emulator

    with S3Emulator() as running:
        running.create_bucket("bucket")
        yield running


@pytest.fixture
def s3(emulator, monkeypatch):
    use_emulator(emulator, monkeypatch)
    with allow_media_urls("s3://bucket/"):
        yield emulator


def use_emulator(emulator, monkeypatch) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store.OBJECTS, "_file_systems", {})
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_s3_a_picture_and_a_changed_one_without_secrets_in_names(s3, own_media_cache):
    s3.put("bucket", "a b/ü//1.png", picture(1))
    item = image("s3://bucket/a b/ü//1.png")
    first = pixels(item)
    s3.put("bucket", "a b/ü//1.png", picture(2))
    object_store.OBJECTS._recent.clear()
    assert pixels(item) != first
    names = " ".join(map(str, own_media_cache.rglob("*")))
    assert "bucket" not in names
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in names


def test_s3_few_frames_of_a_video_read_a_part_of_it(s3, videos, small_is_sparse):
    s3.put("bucket", "end.mp4", videos["end.mp4"].read_bytes())
    assert frames_of("s3://bucket/end.mp4") == frames_of(str(videos["end.mp4"]))
    assert object_store.OBJECTS.num_bytes_read < videos["end.mp4"].stat().st_size / 2


def _open_all(num: int, environment: dict[str, str], names: multiprocessing.Queue) -> None:
    os.environ.update(environment)
    with allow_media_urls("s3://bucket/"):
        names.put([pixels(image(f"s3://bucket/both/{number}.png")) for number in range(num)])


@pytest.mark.medium
def test_s3_two_processes_transfer_each_object_once(s3):
    for number in range(6):
        s3.put("bucket", f"both/{number}.png", picture(number))
    spawn = multiprocessing.get_context("spawn")
    names = spawn.Queue()
    environment = {
        **s3.environment,
        object_cache.FOLDER_VARIABLE: os.environ[object_cache.FOLDER_VARIABLE],
    }
    processes = [spawn.Process(target=_open_all, args=(6, environment, names)) for _ in range(2)]
    for one in processes:
        one.start()
    first, second = names.get(timeout=60), names.get(timeout=60)
    for one in processes:
        one.join(timeout=30)
    assert first == second
    reads = [path for path in s3.requests("GET") if path.startswith("/bucket/both/")]
    assert sorted(reads) == [f"/bucket/both/{number}.png" for number in range(6)]


def test_s3_a_missing_bucket_and_rejected_credentials_end_the_run(s3, monkeypatch):
    s3.put("bucket", "1.png", picture())
    with (
        allow_media_urls("s3://absent/"),
        pytest.raises(StorageError, match="s3://absent: no such bucket"),
    ):
        OpenMedia([image("s3://absent/1.png")])
    with pytest.raises(InputError, match="no such object"):
        OpenMedia([image("s3://bucket/absent.png")])
    s3.reject_credentials(rejects=True)
    try:
        with pytest.raises(StorageError, match="AWS_PROFILE") as caught:
            OpenMedia([image("s3://bucket/1.png")])
    finally:
        s3.reject_credentials(rejects=False)
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
    assert s3.environment["AWS_ACCESS_KEY_ID"] not in str(caught.value)


@pytest.mark.medium
def test_s3_a_run_stops_in_one_line_when_the_store_dies_and_continues_later(
    s3, monkeypatch, tmp_path
):
    from clusters.s3_emulator import S3Emulator

    rows = own_rows(tmp_path / "rows", 6)
    spec = EvalSpec(
        benchmark="jsonl", out=tmp_path / "run", data=rows, media_root="s3://bucket/", batch_size=1
    )
    model = ScriptedModel([r"\boxed{red}"] * 60)

    def fill(emulator, num: int) -> None:
        emulator.create_bucket("bucket")
        for number in range(num):
            emulator.put("bucket", f"{number}.png", picture(number))

    with S3Emulator() as first:
        use_emulator(first, monkeypatch)
        fill(first, 6)
        opened, original = [], object_store.ObjectStore.find

        def find(store, url, max_age_s=0.0):
            opened.append(url)
            if url.endswith("3.png"):
                first.kill()
            return original(store, url, max_age_s)

        monkeypatch.setattr(object_store.ObjectStore, "find", find)
        started = time.monotonic()
        with pytest.raises(StorageError, match="s3://bucket; got no answer"):
            evaluate(spec, model=model)
        assert time.monotonic() - started < 30
        monkeypatch.setattr(object_store.ObjectStore, "find", original)
    num_before = sum(1 for _ in load_run(tmp_path / "run"))
    assert 0 < num_before < 6
    with S3Emulator(first.port) as second:
        use_emulator(second, monkeypatch)
        object_store.OBJECTS._down.clear()
        fill(second, 6)
        summary = evaluate(spec, model=model)
    assert (summary["count"], summary["failed"]) == (6, {})
    text = (tmp_path / "run" / "traces.jsonl").read_text() + (
        tmp_path / "run" / "settings.json"
    ).read_text()
    assert second.environment["AWS_SECRET_ACCESS_KEY"] not in text


class _Expired(http.server.BaseHTTPRequestHandler):
    """Server that answers like S3 to expired credentials: a HEAD request gets no reason."""

    def do_HEAD(self):
        self.send_response(400)
        self.end_headers()

    def do_GET(self):
        content = b"<Error><Code>ExpiredToken</Code><Message>token hidden</Message></Error>"
        self.send_response(400)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


class _Liar(http.server.BaseHTTPRequestHandler):
    """Server whose objects end before their announced size."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.send_header("ETag", '"1"')
        self.end_headers()

    def do_GET(self):
        self.send_response(206)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 500)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(handler: type, monkeypatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_s3_an_object_that_ends_early_is_an_error_within_30_s(s3, monkeypatch):
    monkeypatch.setattr(object_store, "BACKOFF_S", (0.0, 0.1, 0.1))
    started = time.monotonic()
    with (
        serving(_Liar, monkeypatch),
        pytest.raises((InputError, StorageError), match="s3://bucket"),
    ):
        OpenMedia([image("s3://bucket/a.png")])
    assert time.monotonic() - started < 30


def test_s3_expired_credentials_end_the_run_and_are_not_shown(s3, monkeypatch):
    with (
        serving(_Expired, monkeypatch),
        pytest.raises(
            StorageError, match=r"missing, expired or wrong.*AWS_SESSION_TOKEN"
        ) as caught,
    ):
        OpenMedia([image("s3://bucket/a.png")])
    assert "hidden" not in str(caught.value)
