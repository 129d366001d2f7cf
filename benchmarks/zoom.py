"""Time of a first zoom into a large photo, compared with Pillow's open, crop and resize.

Both decode the same 8,000 x 6,000 JPEG and scale one region to the same size. They alternate in one process. Prints medians.

    .venv/bin/python benchmarks/zoom.py
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.operations.registry import default_operations
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.schema.settings import PixelBudget, PixelBudgets
from pixel_reasoner.schema.trace import ToolCall

SIZE = (8000, 6000)
BOX = [0.40, 0.55, 0.46, 0.61]
BUDGETS = PixelBudgets(
    picture=PixelBudget(min_px=4 * 28 * 28, max_px=1280 * 28 * 28),
    crop=PixelBudget(min_px=256 * 28 * 28, max_px=1280 * 28 * 28),
    frame=PixelBudget(min_px=4 * 28 * 28, max_px=256 * 28 * 28),
    selected_frame=PixelBudget(min_px=4 * 28 * 28, max_px=1280 * 28 * 28),
    multiple=28,
)
MAX_RATIO = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        path = write_photo(Path(folder) / "photo.jpg")
        size = zoom_by_context(path).size
        times: dict[str, list[float]] = {"Pillow": [], "MediaContext": []}
        for _ in range(repeats):
            times["Pillow"].append(seconds(lambda: zoom_by_pillow(path, size)))
            times["MediaContext"].append(seconds(lambda: zoom_by_context(path)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"first zoom into a {SIZE[0]} x {SIZE[1]} JPEG, {repeats} repeats each")
    for name, values in times.items():
        print(
            f"{name:8} median {medians[name]:.3f} s   from {min(values):.3f} to {max(values):.3f} s"
        )
    ratio = medians["MediaContext"] / medians["Pillow"]
    print(f"ratio    {ratio:.2f}   (at most {MAX_RATIO})")
    raise SystemExit(ratio > MAX_RATIO)


def write_photo(path: Path) -> Path:
    """Write a JPEG of smooth shapes with camera noise, which JPEG cannot compress away."""
    random = np.random.default_rng(0)
    shapes = Image.fromarray(random.integers(0, 256, (60, 80, 3), np.uint8)).resize(SIZE)
    tile = random.normal(0, 8, (600, 800, 3))
    noise = np.tile(tile, (SIZE[1] // 600, SIZE[0] // 800, 1))
    pixels = (np.asarray(shapes) + noise.astype(np.int16)).clip(0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)
    return path


def zoom_by_pillow(path: Path, size: tuple[int, int]) -> Image.Image:
    with Image.open(path) as image:
        region = [round(share * side) for share, side in zip(BOX, SIZE * 2, strict=True)]
        return image.crop(tuple(region)).resize(size, Image.Resampling.LANCZOS)


def zoom_by_context(path: Path) -> Image.Image:
    medium = MediaItem(kind="image", path=str(path))
    context = MediaContext(Question(id="1", text="What is it?", media=(medium,)), BUDGETS)
    call = ToolCall(name="zoom_in", arguments={"bbox_2d": BOX})
    [picture] = default_operations().run(call, context).pictures
    return context.view(picture.number)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
