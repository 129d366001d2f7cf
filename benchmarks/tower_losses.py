"""Whether other labels keep the tower from learning small characters: the same steps with all labels, and with characters alone.

    python benchmarks/tower_losses.py runs/tiny/crowds.pt [--steps 100]

Starts from a checkpoint, trains on new crowds alone, and prints the accuracy of characters on new crowds by height.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.tiny import tower
from pixel_reasoner.tiny.batches import SHARPENED_PX, TOWER_LR
from pixel_reasoner.tiny.build import build_model, build_processor
from pixel_reasoner.tiny.labels import CELL_PX, LabelledPicture, label_view, sparse_labels
from pixel_reasoner.tiny.loop import Stage, _optimizers, _update
from pixel_reasoner.tiny.version_cache import drawn_crowd

TEST_HEIGHTS = (6, 8, 12)
PICTURES_PER_STEP, TEST_PICTURES = 20, 40


def train(path: Path, steps: int, lr: float, *, characters_alone: bool) -> None:
    """Train one arm and print what it reads before and after."""
    arm = "characters" if characters_alone else "all labels"
    early_weight = 0 if characters_alone else tower.EARLY_LOSS_WEIGHT
    processor = build_processor(LocalModel("tiny").processor.tokenizer)
    visual = build_model(processor.tokenizer, 0).model.visual
    embed_patches_by_matmul(visual)
    probes = tower.make_probes(visual)
    modules = {"visual": visual, **probes}
    for name, state in torch.load(path, weights_only=True)["modules"].items():
        modules[name].load_state_dict(state)
    stage = Stage(name="losses", steps=steps, lr=lr, warmup=20)
    optimizers = _optimizers(stage, modules)
    parameters = [p for module in modules.values() for p in module.parameters()]
    print(arm, "before", _accuracy(probes, visual, processor), flush=True)
    for step in range(steps):
        rng = random.Random(f"losses/{step}")
        batch = [label_view(drawn_crowd(rng, SHARPENED_PX)) for _ in range(PICTURES_PER_STEP)]
        if characters_alone:
            batch = [_characters_of(one) for one in batch]
        loss, _ = tower.tower_loss(probes, visual, processor.image_processor, batch, early_weight)
        loss.backward()
        _update(optimizers, parameters, stage, step)
        if (step + 1) % 50 == 0:
            print(arm, step + 1, _accuracy(probes, visual, processor), flush=True)


def _characters_of(picture: LabelledPicture) -> LabelledPicture:
    cells = picture.pixels.shape[0] // CELL_PX
    glyphs = picture.labels.classes["glyph"].numpy().reshape(cells, cells)
    return LabelledPicture(picture.pixels, sparse_labels({"glyph": glyphs}, cells))


def _accuracy(probes, visual, processor) -> dict[int, float]:
    found = {}
    for height in TEST_HEIGHTS:
        rng = random.Random(f"test/{height}")
        batch = [label_view(drawn_crowd(rng, (height,))) for _ in range(TEST_PICTURES)]
        with torch.no_grad():
            _, metrics = tower.tower_loss(probes, visual, processor.image_processor, batch)
        found[height] = round(metrics["glyph"], 3)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=TOWER_LR / 3)
    args = parser.parse_args()
    for characters_alone in (False, True):
        train(args.checkpoint, args.steps, args.lr, characters_alone=characters_alone)
