"""Memory of large inputs: a photograph of 100 megapixels with three zooms, a video of two hours, fifty pictures in one question.

    .venv/bin/python benchmarks/large.py

Each in a process of its own; what is printed is the most memory that it took. The video (1920 x 1080, 24 frames a second) is 720 copies of
ten seconds, packet by packet: a decoder sees two hours.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from pixel_reasoner.dialects import PIXEL_REASONER
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.images import open_image
from pixel_reasoner.operations.registry import default_operations
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import DEFAULT_MEDIA_LIMITS
from pixel_reasoner.schema.trace import ToolCall

RATE, SECONDS, COPIES = 24, 10, 720


def draw_photo(path: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (1000, 1250, 3), np.uint8)
    Image.fromarray(np.tile(tile, (8, 10, 1))).save(path, quality=90)


def draw_video(path: Path) -> None:
    with av.open(str(path.with_suffix(".part.mp4")), "w") as short:
        stream = short.add_stream("libx264", rate=RATE, options={"g": "48", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        still = np.full((1080, 1920, 3), 90, np.uint8)
        for n in range(RATE * SECONDS):
            pixels = still.copy()
            pixels[400:600, 6 * n : 6 * n + 200] = 255
            short.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        short.mux(stream.encode())
    with av.open(str(path.with_suffix(".part.mp4"))) as short, av.open(str(path), "w") as long:
        source = short.streams.video[0]
        copied = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in short.demux(source)
            if packet.size
        ]
        target = long.add_stream_from_template(source)
        step = round(SECONDS / source.time_base)
        for copy in range(COPIES):
            for data, pts, dts, is_key in copied:
                packet = av.Packet(data)
                packet.stream, packet.time_base = target, Fraction(source.time_base)
                packet.pts, packet.dts = pts + copy * step, dts + copy * step
                packet.is_keyframe = is_key
                long.mux(packet)


def look(question: Question, looks: int) -> None:
    album = MediaContext(question, PIXEL_REASONER.budgets)
    for picture in list(album.pictures):
        album.view(picture.number)
    for n in range(looks):
        name, arguments = "zoom_in", {"bbox_2d": [n / 10, 0.3, n / 10 + 0.1, 0.4]}
        if question.media[0].kind == "video":
            name, arguments = "select_frames", {"target_frames": [1 + n, 5 + n]}
        else:
            arguments["target_image"] = 1
        seen = default_operations().run(ToolCall(name=name, arguments=arguments), album)
        assert seen.error is None, seen.text
        for picture in seen.pictures:
            album.view(picture.number)


def measured(media: list[MediaItem], looks: int, told: Any) -> None:
    before = most_mb()
    started = time.perf_counter()
    look(Question(id="1", text="?", media=tuple(media)), looks)
    seconds = time.perf_counter() - started
    told.put((before, most_mb(), seconds))


def most_mb() -> float:
    """The most memory that this process has had. `getrusage` would tell its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def show(title: str, media: list[MediaItem], looks: int) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=measured, args=(media, looks, told))
    process.start()
    before, most, seconds = told.get()
    process.join()
    print(f"{title}: {most:.0f} MB at most ({before:.0f} MB before), {seconds:.1f} s")


def made(path: Path, draw: Callable[[Path], None]) -> Path:
    draw(path)
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        photo = made(Path(name) / "photo.jpg", draw_photo)
        image = MediaItem(kind="image", path=str(photo))
        show("12,500 x 8,000 px JPEG (100 megapixels), overview and three zooms", [image], looks=3)
        small = Path(name) / "small.jpg"
        open_image(photo, DEFAULT_MEDIA_LIMITS).crop((0, 0, 4000, 3000)).save(small)
        show(
            "fifty pictures of 12 megapixels in one question, one zoom",
            [MediaItem(kind="image", path=str(small))] * 50,
            looks=1,
        )
        video = made(Path(name) / "video.mp4", draw_video)
        hours = SECONDS * COPIES / 3600
        print(f"{hours:g} hours, {video.stat().st_size / 1e9:.1f} GB:")
        show("16 frames and two selections", [MediaItem(kind="video", path=str(video))], looks=2)


if __name__ == "__main__":
    main()
