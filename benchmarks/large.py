"""Peak memory for large inputs: a photo of 100 megapixels with three zooms, a video of two hours, a question with fifty pictures.

    .venv/bin/python benchmarks/large.py

Each case runs in a separate process, and its peak memory is printed. The video (1920 x 1080, 24 frames per second) repeats the packets
of a clip of ten seconds 720 times.
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


def run_operations(question: Question, num_calls: int) -> None:
    context = MediaContext(question, PIXEL_REASONER.budgets)
    for picture in list(context.pictures):
        context.view(picture.number)
    for n in range(num_calls):
        name, arguments = "zoom_in", {"bbox_2d": [n / 10, 0.3, n / 10 + 0.1, 0.4]}
        if question.media[0].kind == "video":
            name, arguments = "select_frames", {"target_frames": [1 + n, 5 + n]}
        else:
            arguments["target_image"] = 1
        observation = default_operations().run(ToolCall(name=name, arguments=arguments), context)
        assert observation.error is None, observation.text
        for picture in observation.pictures:
            context.view(picture.number)


def measure(media: list[MediaItem], num_calls: int, results: Any) -> None:
    before = peak_mb()
    started = time.perf_counter()
    run_operations(Question(id="1", text="?", media=tuple(media)), num_calls)
    seconds = time.perf_counter() - started
    results.put((before, peak_mb(), seconds))


def peak_mb() -> float:
    """Return the peak memory of this process. `getrusage` would include its parent."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def report(title: str, media: list[MediaItem], num_calls: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=measure, args=(media, num_calls, results))
    process.start()
    before, peak, seconds = results.get()
    process.join()
    print(f"{title}: peak {peak:.0f} MB ({before:.0f} MB before), {seconds:.1f} s")


def write_with(path: Path, draw: Callable[[Path], None]) -> Path:
    draw(path)
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        photo = write_with(Path(name) / "photo.jpg", draw_photo)
        image = MediaItem(kind="image", path=str(photo))
        report(
            "12,500 x 8,000 px JPEG (100 megapixels), overview and three zooms",
            [image],
            num_calls=3,
        )
        small = Path(name) / "small.jpg"
        open_image(photo, DEFAULT_MEDIA_LIMITS).crop((0, 0, 4000, 3000)).save(small)
        report(
            "fifty pictures of 12 megapixels in one question, one zoom",
            [MediaItem(kind="image", path=str(small))] * 50,
            num_calls=1,
        )
        video = write_with(Path(name) / "video.mp4", draw_video)
        hours = SECONDS * COPIES / 3600
        print(f"{hours:g} hours, {video.stat().st_size / 1e9:.1f} GB:")
        report(
            "16 frames and two selections", [MediaItem(kind="video", path=str(video))], num_calls=2
        )


if __name__ == "__main__":
    main()
