"""How well vision towers of several shapes learn to read small characters, from pictures full of characters alone.

    python benchmarks/tower_shapes.py 16x128x3 16x256x3 8x64x3 --steps 700

A shape is PATCHxWIDTHxLAYERS: the side of a patch in pixels, the width, and the number of layers. A visual token is 32 px
wide in all. Prints the accuracy every 100 steps, by height on new pictures at the end, and the time of a step.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import torch
from transformers import Qwen2VLImageProcessor, Qwen3VLConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.tiny.batches import _scattered_characters
from pixel_reasoner.tiny.labels import CELL_PX
from pixel_reasoner.tiny.loop import Stage, _optimizers, _update
from pixel_reasoner.tiny.tower import Probes, tower_loss

SMALLEST_PX, LARGEST_PX = 6, 20
TEST_HEIGHTS = (6, 7, 8, 10, 12, 16, 24)
PICTURES_PER_STEP, TEST_PICTURES = 40, 24


def build_tower(patch: int, width: int, layers: int) -> tuple[Any, Any]:
    """Return a tower with random weights, and its image processor."""
    merge = CELL_PX // patch
    settings = {
        "depth": layers,
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_heads": width // 32,
        "patch_size": patch,
        "spatial_merge_size": merge,
        "temporal_patch_size": 2,
        "out_hidden_size": 128,
        "num_position_embeddings": (192 // patch) ** 2,
        "deepstack_visual_indexes": [1],
    }
    config = Qwen3VLConfig(vision_config=settings).vision_config
    config._attn_implementation = "sdpa"
    visual = Qwen3VLVisionModel._from_config(config)
    embed_patches_by_matmul(visual)
    processor = Qwen2VLImageProcessor(
        size={"shortest_edge": CELL_PX**2, "longest_edge": 2048**2},
        patch_size=patch,
        merge_size=merge,
        temporal_patch_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return visual, processor


def train(shape: str, steps: int, lr: float) -> None:
    """Train a tower and print what it reads."""
    torch.manual_seed(0)
    visual, processor = build_tower(*map(int, shape.split("x")))
    probes = {name: Probes(128) for name in ("final", "early")}
    modules = {"visual": visual, **probes}
    stage = Stage(name="shape", steps=steps, lr=lr, warmup=50)
    optimizers = _optimizers(stage, modules)
    parameters = [p for module in modules.values() for p in module.parameters()]
    print(shape, f"{sum(p.numel() for p in visual.parameters()) / 1e6:.1f} M weights", flush=True)
    began, found = time.process_time(), []
    for step in range(steps):
        rng = random.Random(f"shape/{step}")
        batch = [
            _scattered_characters(rng, SMALLEST_PX, LARGEST_PX) for _ in range(PICTURES_PER_STEP)
        ]
        loss, metrics = tower_loss(probes, visual, processor, batch)
        loss.backward()
        _update(optimizers, parameters, stage, step)
        found.append(metrics["glyph"])
        if (step + 1) % 100 == 0:
            print(f"{shape} step {step + 1}: {sum(found) / len(found):.3f}", flush=True)
            found.clear()
    print(f"{shape}: {(time.process_time() - began) / steps:.2f} s of CPU time a step")
    for height in TEST_HEIGHTS:
        rng = random.Random(f"test/{height}")
        batch = [_scattered_characters(rng, height, height + 0.5) for _ in range(TEST_PICTURES)]
        with torch.no_grad():
            _, metrics = tower_loss(probes, visual, processor, batch)
        print(f"{shape} {height} px: {metrics['glyph']:.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("shapes", nargs="+", metavar="PATCHxWIDTHxLAYERS")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    args = parser.parse_args()
    for shape in args.shapes:
        train(shape, args.steps, args.lr)
