"""Vision tower between two machines: checkpoints of the finished vision stages, from `tower.safetensors`, and back.

    python dev/tower/restore.py keep runs/tiny
    python dev/tower/restore.py restore runs/tiny
    pixel-reasoner train tiny --traces runs/tiny/synth --traces runs/tiny/synth2 --out runs/tiny

The weights are those of the last vision stage and its probes, before tokens are scaled down, in float16. Restored optimizers
are new, because a finished stage does not use them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.tiny.batches import TOWER_STAGES
from pixel_reasoner.tiny.build import build_model
from pixel_reasoner.tiny.loop import _optimizers, save_checkpoint
from pixel_reasoner.tiny.tower import Probes
from pixel_reasoner.tiny.train import _scaled_stage

KEPT = Path(__file__).with_name("tower.safetensors")


def keep(folder: Path) -> None:
    """Write the weights of the last vision stage of a folder, and of its probes, to `tower.safetensors`."""
    import torch

    modules = torch.load(folder / f"{TOWER_STAGES[-1].name}.pt", weights_only=True)["modules"]
    save_file(
        {
            f"{module}.{name}": value.half().contiguous()
            for module, weights in modules.items()
            for name, value in weights.items()
        },
        KEPT,
    )


def restore(folder: Path) -> None:
    """Write `STAGE.pt` of every vision stage into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    visual = build_model(LocalModel("tiny").processor.tokenizer, 0).model.visual
    embed_patches_by_matmul(visual)
    probes = {name: Probes(visual.config.out_hidden_size) for name in ("final", "early")}
    modules = {"visual": visual, **probes}
    kept = load_file(KEPT)
    for module, weights in modules.items():
        start = f"{module}."
        weights.load_state_dict(
            {
                name.removeprefix(start): kept[name].float()
                for name in kept
                if name.startswith(start)
            }
        )
    for stage in TOWER_STAGES:
        scaled = _scaled_stage(stage.name, stage.steps, stage.lr, 1.0)
        optimizers = _optimizers(scaled, modules)
        save_checkpoint(folder / f"{stage.name}.pt", stage.steps, modules, optimizers)


if __name__ == "__main__":
    {"keep": keep, "restore": restore}[sys.argv[1]](Path(sys.argv[2]))
