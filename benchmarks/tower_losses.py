"""Which part of the tower's loss keeps it from learning small characters: the same steps with parts of the loss left out.

    python benchmarks/tower_losses.py runs/tiny/crowds.pt [--steps 150] [all no-place no-early neither characters]

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
from pixel_reasoner.tiny.labels import label_view
from pixel_reasoner.tiny.loop import Stage, _optimizers, _update
from pixel_reasoner.tiny.version_cache import drawn_crowd

ARMS: dict[str, dict[str, float]] = {
    "all": {},
    "no-place": {"PLACE_LOSS_WEIGHT": 0},
    "no-early": {"EARLY_LOSS_WEIGHT": 0},
    "neither": {"PLACE_LOSS_WEIGHT": 0, "EARLY_LOSS_WEIGHT": 0},
    "characters": {"rest_weight": 0},
}
TEST_HEIGHTS = (6, 8, 12)
PICTURES_PER_STEP, TEST_PICTURES = 20, 40


def train(arm: str, path: Path, steps: int, lr: float) -> None:
    """Train one arm and print what it reads before and after."""
    constants = dict(ARMS[arm])
    rest_weight = constants.pop("rest_weight", 1.0)
    before = {name: getattr(tower, name) for name in constants}
    for name, value in constants.items():
        setattr(tower, name, value)
    processor = build_processor(LocalModel("tiny").processor.tokenizer)
    visual = build_model(processor.tokenizer, 0).model.visual
    embed_patches_by_matmul(visual)
    probes = {name: tower.Probes(visual.config.out_hidden_size) for name in ("final", "early")}
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
        loss, _ = tower.tower_loss(probes, visual, processor.image_processor, batch, rest_weight)
        _update(optimizers, parameters, loss, stage, step)
        if (step + 1) % 50 == 0:
            print(arm, step + 1, _accuracy(probes, visual, processor), flush=True)
    for name, value in before.items():
        setattr(tower, name, value)


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
    parser.add_argument("arms", nargs="*", metavar="ARM", default=list(ARMS), help=" ".join(ARMS))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--lr", type=float, default=TOWER_LR / 3)
    args = parser.parse_args()
    for arm in args.arms:
        train(arm, args.checkpoint, args.steps, args.lr)
