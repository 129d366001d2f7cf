"""Media in an object store: an evaluation over S3 next to one over files, bytes of a sparse video, and a store that does not answer.

The store is a local emulator (moto). Needs the extra `cloud` and moto[server]:

    PYTHONPATH=src:benchmarks .venv-cloud/bin/python -m clusters.storage
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
import fsspec
import numpy as np

from clusters.record import Result, save
from clusters.s3_emulator import SECRET, S3Emulator
from pixel_reasoner.errors import StorageError
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.media.object_cache import FOLDER_VARIABLE
from pixel_reasoner.media.object_store import OBJECTS, ObjectStore
from pixel_reasoner.media.pixels import OpenMedia
from pixel_reasoner.schema.media_url import allow_media_urls
from pixel_reasoner.schema.question import MediaItem, load_questions
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.workflows.world import WorldSpec, render_world

BUCKET = "media"
NUM_QUESTIONS = 100
VIDEO_MB, VIDEO_S, FPS = 30, 120, 25
MAX_WAIT_S = 20.0
"""longest wait for a store that does not answer"""
PACKAGES = ("fsspec", "s3fs", "aiobotocore", "moto", "av")


class _Run(NamedTuple):
    rows: list[tuple[str, str | None, str]]
    seconds: float


def main() -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, S3Emulator() as emulator:
        os.environ.update(emulator.environment)
        emulator.create_bucket(BUCKET)
        folder = Path(name)
        results = [*_evaluations(folder, emulator), *_video(folder, emulator), *_errors(folder)]
    save("storage", results, PACKAGES, seconds=time.monotonic() - started)
    if not all(one.passed for one in results):
        raise SystemExit(1)


# --- evaluation ---


def _evaluations(folder: Path, emulator: S3Emulator) -> list[Result]:
    """Evaluate the same questions over files, over S3 with an empty cache, and over S3 with a filled one."""
    world = folder / "world"
    render_world(WorldSpec(family="attribute", count=NUM_QUESTIONS), world)
    questions = list(load_questions(world / "questions.jsonl"))
    rows, num_bytes = folder / "rows" / "questions.jsonl", 0
    rows.parent.mkdir()
    with rows.open("w") as file:
        for question in questions:
            path = Path(question.media[0].path)
            emulator.put(BUCKET, f"images/{path.name}", path.read_bytes())
            num_bytes += path.stat().st_size
            media = [{"kind": "image", "path": path.name}]
            file.write(json.dumps({**json.loads(question.to_line()), "media": media}) + "\n")
    local_rows = folder / "local"
    shutil.copytree(rows.parent, local_rows)
    for question in questions:
        shutil.copy(question.media[0].path, local_rows)
    root = ("--media-root", f"s3://{BUCKET}/images/")
    cache = folder / "cache"
    local = _evaluate(folder / "a", local_rows, cache)
    cold = _evaluate(folder / "b", rows.parent, cache, root)
    warm = _evaluate(folder / "c", rows.parent, cache, root)
    heads, gets = (len(emulator.requests(method)) for method in ("HEAD", "GET"))
    texts = "".join((folder / "b" / name).read_text() for name in ("traces.jsonl", "summary.json"))
    equal = sum(a == b == c for a, b, c in zip(local.rows, cold.rows, warm.rows, strict=True))
    is_secret_shown = SECRET in texts + " ".join(map(str, cache.rglob("*")))
    path = f"eval of {NUM_QUESTIONS} questions over s3:// (emulator) and over files, tiny model"
    return [
        Result(path, "equal rows", f"{equal} of {NUM_QUESTIONS}", "all", equal == NUM_QUESTIONS),
        Result(path, "time of files, cold cache, warm cache", _seconds(local, cold, warm)),
        Result(
            path,
            "requests of both runs over s3://",
            f"{heads} HEAD, {gets} GET for {num_bytes:,} bytes",
            f"{NUM_QUESTIONS} GET",
            gets == NUM_QUESTIONS,
        ),
        Result(
            path, "secret in traces or cache", str(is_secret_shown), "False", not is_secret_shown
        ),
    ]


def _evaluate(out: Path, data: Path, cache: Path, more: Sequence[str] = ()) -> _Run:
    started = time.monotonic()
    result = _command(["eval", "jsonl", "--data", str(data), "--out", str(out), *more], cache)
    if result.returncode:
        raise SystemExit(result.stderr[-2000:])
    seconds = time.monotonic() - started
    rows = [
        (one.question.id, one.answer, json.dumps([t.text for t in one.turns]))
        for one in load_run(out)
    ]
    return _Run(sorted(rows), seconds)


def _command(arguments: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pixel_reasoner.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, FOLDER_VARIABLE: str(cache)},
        check=False,
    )


def _seconds(*runs: _Run) -> str:
    return ", ".join(f"{run.seconds:.1f} s" for run in runs)


# --- video ---


def _video(folder: Path, emulator: S3Emulator) -> list[Result]:
    """Sample 4 frames of a long video: bytes that are read, and equal frames."""
    video = _write_video(folder / "long.mp4")
    emulator.put(BUCKET, "long.mp4", video.read_bytes())
    os.environ[FOLDER_VARIABLE] = str(folder / "video-cache")
    limits, frames, seconds = MediaLimits(num_frames=4), [], []
    with allow_media_urls(f"s3://{BUCKET}/"):
        for path in (str(video), f"s3://{BUCKET}/long.mp4", f"s3://{BUCKET}/long.mp4"):
            started = time.monotonic()
            media = OpenMedia([MediaItem(kind="video", path=path)], limits)
            seconds.append(time.monotonic() - started)
            frames.append([(one.time_s, media.image(one.key).tobytes()) for one in media.sources])
    size, num_read = video.stat().st_size, OBJECTS.num_bytes_read
    path = f"4 frames of a video of {size / 1e6:.1f} MB, {VIDEO_S} s"
    is_equal = frames[0] == frames[1] == frames[2]
    return [
        Result(
            path,
            "bytes read",
            f"{num_read:,} ({100 * num_read / size:.1f} %)",
            "20 %",
            num_read < size / 5,
        ),
        Result(path, "frames equal those of the file", str(is_equal), "True", is_equal),
        Result(
            path,
            "time of the file, cold cache, warm cache",
            ", ".join(f"{one:.2f} s" for one in seconds),
        ),
    ]


def _write_video(path: Path) -> Path:
    """Write a video of moving noise of about `VIDEO_MB`, with a key frame every 2 s."""
    noise = np.random.default_rng(0).integers(0, 255, (180, 320, 3), np.uint8)
    options = {"preset": "ultrafast", "bf": "2", "b": str(VIDEO_MB * 8_000_000 // VIDEO_S)}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 320, 180, "yuv420p", 2 * FPS
        for number in range(FPS * VIDEO_S):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 3 * number, axis=1))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


# --- errors ---


def _errors(folder: Path) -> list[Result]:
    """Evaluate over stores that cannot be used: each is one line."""
    results = [_error(folder, "a missing bucket", "no such bucket", "absent")]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{one.getsockname()[1]}"
        results.append(_error(folder, "a store that refuses connections", "no answer"))
        one.listen(64)  # accepts connections from now on, and never answers
        results.append(_error(folder, "a store that never answers", "no answer"))
    return results


def _error(folder: Path, what: str, message: str, bucket: str = BUCKET) -> Result:
    """Run an evaluation, and measure the wait for the store alone: the start of Python depends on the load of the machine."""
    arguments = ["eval", "jsonl", "--data", str(folder / "rows"), "--out", str(folder / "error")]
    result = _command([*arguments, "--media-root", f"s3://{bucket}/"], folder / "empty-cache")
    lines = result.stderr.splitlines()
    is_one_line = result.returncode == 2 and len(lines) == 1 and message in lines[0]
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    started = time.monotonic()
    with suppress(StorageError):
        ObjectStore().find(f"s3://{bucket}/a.png")
    wait_s = time.monotonic() - started
    return Result(
        f"eval over {what}",
        "one line and exit code 2, wait for the store",
        f"{is_one_line}, {wait_s:.1f} s",
        f"True, {MAX_WAIT_S:.0f} s",
        is_one_line and wait_s <= MAX_WAIT_S,
    )


if __name__ == "__main__":
    main()
