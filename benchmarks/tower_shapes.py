"""How well vision towers of several shapes learn to read small characters: pictures full of characters alone.

    python benchmarks/tower_shapes.py 600 16x128x3 16x256x3 8x96x3 8x128x3

A shape is PATCHxWIDTHxLAYERS: the side of a patch in pixels, the width, and the number of layers. A visual token is 32 px
wide in all. Prints the accuracy by height on new pictures, seconds a step, and the number of weights.
"""

from __future__ import annotations

import os
import random
import sys
import time

import torch
from transformers import Qwen3VLConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel
from transformers import Qwen2VLImageProcessor

from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.tiny import batches
from pixel_reasoner.tiny.labels import VERSION_CLASSES, CELL_PX, IGNORE
from pixel_reasoner.tiny.loop import Stage, _optimizers, _update
from pixel_reasoner.tiny.tower import Probes, embed, tower_loss
from pixel_reasoner.tiny.precision import mixed_precision

HEIGHTS = (6, 7, 8, 10, 12, 16, 24)
PER_STEP = 40
LR = float(os.environ.get("LR", "1.5e-3"))


def tower(patch: int, width: int, layers: int):
    merge = CELL_PX // patch
    config = Qwen3VLConfig(
        vision_config=dict(
            depth=layers,
            hidden_size=width,
            intermediate_size=3 * width,
            num_heads=width // 32,
            patch_size=patch,
            spatial_merge_size=merge,
            temporal_patch_size=2,
            out_hidden_size=128,
            num_position_embeddings=(192 // patch) ** 2,
            deepstack_visual_indexes=[1],
        )
    ).vision_config
    config._attn_implementation = "sdpa"
    visual = Qwen3VLVisionModel._from_config(config)
    embed_patches_by_matmul(visual)
    processor = Qwen2VLImageProcessor(
        size={"shortest_edge": 1024, "longest_edge": 2048 * 2048},
        patch_size=patch,
        merge_size=merge,
        temporal_patch_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return visual, processor


def run(shape: str, steps: int) -> None:
    torch.manual_seed(0)
    visual, processor = tower(*map(int, shape.split("x")))
    probes = {name: Probes(128, VERSION_CLASSES) for name in ("final", "early")}
    modules = {"visual": visual, **probes}
    stage = Stage(name="shape", steps=steps, lr=LR, warmup=50, muon=True)
    optimizers = _optimizers(stage, modules)
    parameters = [p for m in modules.values() for p in m.parameters()]
    print(shape, sum(p.numel() for p in visual.parameters()), "weights", flush=True)
    began, recent = time.process_time(), []
    wall = time.monotonic()
    for step in range(steps):
        rng = random.Random(f"shape/{step}")
        batch = [batches._scattered_characters(rng, 6, 20) for _ in range(PER_STEP)]
        loss, metrics = tower_loss(probes, visual, processor, batch)
        _update(optimizers, parameters, loss, stage, step)
        recent.append(metrics.get("glyph", 0))
        if (step + 1) % 100 == 0:
            mean = sum(recent) / len(recent)
            print(
                f"{shape} {step + 1} glyph {mean:.3f} {(time.monotonic() - wall) / (step + 1):.2f} s/step",
                flush=True,
            )
            recent = []
    visual.eval()
    line = []
    for height in HEIGHTS:
        rng = random.Random(f"test/{height}")
        batch = [batches._scattered_characters(rng, height, height + 0.5) for _ in range(24)]
        with torch.no_grad():
            _, metrics = tower_loss(probes, visual, processor, batch)
        line.append(f"{height} px {metrics['glyph']:.2f}")
    print(
        shape,
        "; ".join(line),
        f"{(time.process_time() - began) / steps:.2f} CPU s/step",
        flush=True,
    )


if __name__ == "__main__":
    for shape in sys.argv[2:]:
        run(shape, int(sys.argv[1]))
