"""What a search can miss: shots at cuts and dissolves, and moments shorter than the step of the coarse pass.

    python benchmarks/moments_recall.py                  # both parts, minutes
    python benchmarks/moments_recall.py --part shots --count 20
    python benchmarks/moments_recall.py --part short --lengths 0.3 0.5

Shots: clips of soft textures and backdrops of PixelWorld under a camera that rests, pans, zooms or shakes, with changes of light
and large moving objects; cuts, and dissolves of 0.5 to 1.5 s. A boundary counts if it is within one frame of a cut, or in a
dissolve. Short: clips of PixelWorld with events of one length; the model is a script that answers from the annotation.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw

from pixel_reasoner.moments_api import SearchOptions, annotated_model, find_moments
from pixel_reasoner.workflows.moments.shots import find_shots
from pixel_reasoner.workflows.moments.spans import Span
from pixel_reasoner.workflows.moments.video_index import read_video_index
from pixel_reasoner.world.moments import MomentsParams, read_moments, write_moments
from pixel_reasoner.world.moments.draw import draw_backdrop
from pixel_reasoner.world.moments.script import BACKDROPS, Shot

RATE = 25
SIZE = (320, 180)
_SCENE = (640, 360)
MOTIONS = ("rest", "slow pan", "pan", "fast pan", "zoom", "shake", "object", "light")
_SPEED = {"slow pan": 0.03, "pan": 0.12, "fast pan": 0.4}
"""widths of the scene per second"""
MIN_IOU = 0.5
Pixels = np.ndarray


class Cut(NamedTuple):
    """A true boundary."""

    first: int
    end: int
    """first frame of the new shot; for a dissolve the end of the transition"""
    motion: str


# --- shots ---


def scene(rng: random.Random) -> Pixels:
    """Return a picture to look at: shape (height, width, 3)."""
    kind = rng.choice(("texture", "shapes", "backdrop"))
    if kind == "backdrop":
        shot = Shot(0, 1, 0, rng.choice(BACKDROPS), rng.getrandbits(30), has_target=False)
        return draw_backdrop(shot).picture
    if kind == "shapes":
        picture = Image.new("RGB", _SCENE, _color(rng))
        pen = ImageDraw.Draw(picture)
        for _ in range(60):
            x, y, side = rng.randrange(640), rng.randrange(360), rng.randint(8, 110)
            draw = rng.choice((pen.ellipse, pen.rectangle))
            draw((x, y, x + side, y + side), fill=_color(rng))
        return np.asarray(picture)
    cells = np.random.default_rng(rng.getrandbits(30))
    total = np.zeros((_SCENE[1], _SCENE[0], 3))
    for side in (120, 60, 30, 15, 8):
        shape = (_SCENE[1] // side + 2, _SCENE[0] // side + 2, 3)
        layer = Image.fromarray(cells.integers(0, 255, shape, np.uint8))
        total += np.asarray(layer.resize(_SCENE, Image.Resampling.BICUBIC), float)
    return (total / 5).astype(np.uint8)


def _color(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def camera(motion: str, num_frames: int, rng: random.Random) -> Iterator[Pixels]:
    """Yield the frames of one shot."""
    picture = Image.fromarray(scene(rng))
    width, height = (0.6 * side for side in _SCENE)
    x, y = rng.uniform(0, _SCENE[0] - width), rng.uniform(0, _SCENE[1] - height)
    step = _SPEED.get(motion, 0.0) * _SCENE[0] / RATE
    direction = rng.choice((-1, 1))
    noise = np.random.default_rng(rng.getrandbits(30))
    block = np.full((130, 120, 3), _color(rng), np.uint8)
    for number in range(num_frames):
        if not 0 <= x + direction * step <= _SCENE[0] - width:
            direction = -direction
        x += direction * step
        left, top, zoom = x, y, 1.0
        if motion == "shake":
            left += 4 * np.sin(number * 0.7) + 2 * np.sin(number * 1.9)
            top += 2 * np.sin(number * 0.9)
        if motion == "zoom":
            zoom = 1 - 0.5 * number / num_frames
        box = _inside(left, top, width * zoom, height * zoom)
        frame = np.asarray(picture.resize(SIZE, Image.Resampling.BILINEAR, box=box), float)
        if motion == "light":
            frame *= 0.45 + 0.55 / (1 + np.exp(-(number - num_frames / 2) / (0.15 * RATE)))
        if motion == "object":
            at = round(number / num_frames * (SIZE[0] + 120)) - 120
            part = frame[40:170, max(0, at) : max(0, at + 120)]
            part[:] = block[:, : part.shape[1]]
        yield np.clip(frame + noise.normal(0, 2, frame.shape), 0, 255)


def _inside(left: float, top: float, width: float, height: float) -> tuple[float, ...]:
    left = min(max(0.0, left), _SCENE[0] - width)
    top = min(max(0.0, top), _SCENE[1] - height)
    return left, top, left + width, top + height


def write_shots(path: Path, seed: int, num_shots: int = 8) -> list[Cut]:
    """Write a clip, and return its boundaries."""
    rng = random.Random(seed)
    cuts: list[Cut] = []
    frames: list[Pixels] = []
    tail: list[Pixels] = []
    for number in range(num_shots):
        motion, length = rng.choice(MOTIONS), rng.randint(60, 125)
        shot = list(camera(motion, length + 40, rng))
        mixed = 0 if not number or rng.random() < 0.4 else rng.randint(12, 38)
        for place in range(mixed):
            share = (place + 1) / (mixed + 1)
            frames.append(tail[place] * (1 - share) + shot[place] * share)
        if number:
            cuts.append(Cut(len(frames) - mixed, len(frames), motion))
        frames += shot[mixed:length]
        tail = shot[length:]
    _encode(path, frames)
    return cuts


def _encode(path: Path, frames: Sequence[Pixels]) -> None:
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "23", "threads": "1"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            pixels = (picture + 0.5).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def measure_shots(count: int, seed: int, folder: Path) -> None:
    """Print recall of cuts and dissolves, and false boundaries."""
    totals: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for number in range(count):
        path = folder / f"shots-{number}.mp4"
        cuts = write_shots(path, seed + number)
        starts = [shot.first for shot in find_shots(read_video_index(path))][1:]
        unused = set(starts)
        for cut in cuts:
            kind = "cuts" if cut.first == cut.end else "dissolves"
            slack = 1 if kind == "cuts" else 2
            hits = [one for one in starts if cut.first - slack <= one <= cut.end + slack]
            totals[kind] += 1
            totals[f"{kind} found"] += bool(hits)
            unused -= set(hits[:1])
            if not hits:
                missed[f"{kind}, then {cut.motion}"] += 1
        totals["false"] += len(unused)
        totals["found"] += len(starts)
        path.unlink()
    right = totals["found"] - totals["false"]
    print("| | found | recall |\n| --- | --- | --- |")
    for kind in ("cuts", "dissolves"):
        found, total = totals[f"{kind} found"], totals[kind]
        print(f"| {kind} | {found} of {total} | {found / max(1, total):.2f} |")
    print(f"\nfalse: {totals['false']}; precision {right / max(1, totals['found']):.3f}")
    print(f"missed: {dict(missed)}", flush=True)


# --- short moments ---


def measure_short(lengths: Sequence[float], seed: int, folder: Path, duration_s: float) -> None:
    """Print the share of events of each length that a search with the default options finds."""
    print("| events | even samples | with short changes | frames at full size | calls |")
    print("| --- | --- | --- | --- | --- |")
    for length in lengths:
        params = MomentsParams(
            duration_s=duration_s,
            event_share=1.0,
            min_event_s=length,
            max_event_s=length,
            min_shot_s=max(4.0, length + 3),
            max_shot_s=max(8.0, length + 6),
        )
        out = folder / f"{length}"
        write_moments([params] * 2, out, seed=seed)
        cells = []
        for shots in (False, True):
            totals: Counter[str] = Counter()
            for row in read_moments(out):
                (found,) = find_moments(
                    out / row.path,
                    [query.text for query in row.queries],
                    annotated_model(out),
                    search=SearchOptions(shots=shots),
                )
                for query in row.queries:
                    spans = [one.span for one in found.moments if one.query.text == query.text]
                    for true in query.spans:
                        wanted = Span(true.first_frame, true.end_frame)
                        totals["events"] += 1
                        totals["found"] += any(wanted.iou(one) >= MIN_IOU for one in spans)
                totals["asked"] += found.num_asked
                totals["frames"] += row.num_frames
                totals["calls"] += len(found.traces)
            cells.append(totals)
        even, changed = cells
        print(
            f"| {length:g} s | {even['found']} of {even['events']} | {changed['found']} of {changed['events']} | "
            f"{even['asked'] / even['frames']:.1%}, {changed['asked'] / changed['frames']:.1%} | "
            f"{even['calls']}, {changed['calls']} |",
            flush=True,
        )


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("shots", "short", "both"), default="both")
    parser.add_argument("--count", type=int, default=12, help="clips of the part `shots`")
    parser.add_argument("--lengths", type=float, nargs="+", default=[0.3, 0.5, 1.0, 2.0, 5.0])
    parser.add_argument("--duration-s", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.part != "short":
            measure_shots(options.count, options.seed, folder)
        if options.part != "shots":
            measure_short(options.lengths, options.seed, folder, options.duration_s)


if __name__ == "__main__":
    main()
