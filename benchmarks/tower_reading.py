"""What a vision tower reads, from its probes: new scenes, by kind of view and height of the characters in the view.

    python benchmarks/tower_reading.py runs/tiny views [--scenes 200]

Loads the checkpoint of a stage. Prints the share of characters, words and numbers that are read, and of items whose
legibility is right. Seeds of the scenes are beyond those of training.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.tiny.batches import _scattered_characters, shift_view
from pixel_reasoner.tiny.build import build_model, build_processor
from pixel_reasoner.tiny.labels import IGNORE, LabelledPicture, detail_px, label_view
from pixel_reasoner.tiny.tower import embed, make_probes
from pixel_reasoner.tiny.version_cache import _selected, _version, make_crowd
from pixel_reasoner.tiny.views import (
    CROP_PX,
    FRAME_PX,
    PICTURE_PX,
    SELECTED_PX,
    View,
    crop_box,
    decode_frames,
    pixels_of,
)
from pixel_reasoner.world import draw_frames, draw_picture, make_scene, v2

FIRST_SEED = 5_000_000
HEIGHTS = (6, 8, 12, 16, 24, 40, 56)


def views(count: int) -> Iterator[tuple[str, LabelledPicture]]:
    """Yield kinds and labelled views of new scenes."""
    for height in HEIGHTS:
        rng = random.Random(f"text/{height}")
        for _ in range(12):
            yield f"text {height} px", _scattered_characters(rng, height, height + 0.5)
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        scene = _version(("attribute", "relation", "count", "where", "parts"), seed)
        yield from _of_picture("2", scene, v2.draw_picture(scene))
        yield from _of_picture("2 crowd", *_crowd(seed))
        page = make_scene("infographic", seed)
        yield from _of_picture("1 page", page, draw_picture(page))
        old = make_scene("attribute", seed)
        yield from _of_picture("1", old, draw_picture(old))
    for seed in range(FIRST_SEED, FIRST_SEED + count // 4):
        clip = _version(("video", "moments"), seed)
        frames = decode_frames(v2.draw_frames(clip))
        for number in _selected(clip)[:2]:
            yield from _of_frame("2", clip, frames, number)
        old = make_scene("video", seed)
        frames = decode_frames(draw_frames(old))
        for item in old.items[:2]:
            yield from _of_frame("1", old, frames, item.frames[0])


def _crowd(seed: int) -> tuple:
    scene = make_crowd(seed)
    return scene, v2.draw_picture(scene)


def _of_picture(world: str, scene, image) -> Iterator[tuple[str, LabelledPicture]]:
    view = View(pixels_of(image, WHOLE, PICTURE_PX), scene, WHOLE)
    yield _named(f"{world} overview", view), label_view(view)
    for item in scene.items[:2]:
        box = crop_box(scene, item)
        view = View(pixels_of(image, box, CROP_PX), scene, box, item=item)
        yield _named(f"{world} crop", view), label_view(view)


def _of_frame(world: str, scene, frames, number: int) -> Iterator[tuple[str, LabelledPicture]]:
    for kind, side in (("frame", FRAME_PX), ("selected", SELECTED_PX)):
        view = View(pixels_of(frames[number - 1], WHOLE, side), scene, WHOLE, number)
        if kind == "selected":
            view = shift_view(view, random.Random(number))
        yield _named(f"{world} {kind}", view), label_view(view)


def _named(kind: str, view: View) -> str:
    return f"{kind} {round(detail_px(view)):2d} px"


def main() -> None:
    """Print what the tower reads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("stage")
    parser.add_argument("--scenes", type=int, default=200)
    args = parser.parse_args()
    processor = build_processor(LocalModel("tiny").processor.tokenizer)
    visual = build_model(processor.tokenizer, 0).model.visual
    embed_patches_by_matmul(visual)
    probes = make_probes(visual)["final"]
    state = torch.load(args.folder / f"{args.stage}.pt", weights_only=True)["modules"]
    visual.load_state_dict(state["visual"])
    probes.load_state_dict(state["final"])
    right: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind, picture in views(args.scenes):
        with torch.no_grad():
            out = embed(visual, processor.image_processor, [picture.pixels])
            logits, _ = probes(out.pooler_output.float())
        for name, target in picture.labels.classes.items():
            counted = target != IGNORE if name not in ("color", "shape", "ball") else target > 0
            if name not in ("row", "col") and counted.any():
                right[kind][name] += (logits[name].argmax(-1) == target)[counted].tolist()
    for kind, by_label in sorted(right.items()):
        figures = (f"{name} {sum(v) / len(v):.3f} ({len(v)})" for name, v in by_label.items())
        print(f"{kind:24s}", "  ".join(figures), flush=True)


if __name__ == "__main__":
    main()
