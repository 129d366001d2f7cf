"""Checkpoints of the finished vision stages, from `tower.safetensors`: the next `train tiny` begins with `reason`.

    python dev/tower/restore.py runs/tiny
    pixel-reasoner train tiny --traces runs/tiny/synth --traces runs/tiny/synth2 --out runs/tiny

The weights are those of the last vision stage, before tokens are scaled down, in float16. Probes and optimizers are new,
because a finished stage does not use them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import load_file

from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.tiny.batches import LABELS, TOWER_STAGES
from pixel_reasoner.tiny.build import build_model
from pixel_reasoner.tiny.loop import _optimizers, save_checkpoint
from pixel_reasoner.tiny.tower import Probes
from pixel_reasoner.tiny.train import _scaled_stage


def restore(folder: Path) -> None:
    """Write `STAGE.pt` of every vision stage into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(LocalModel("tiny").processor.tokenizer, 0)
    visual = model.model.visual
    embed_patches_by_matmul(visual)
    weights = load_file(Path(__file__).with_name("tower.safetensors"))
    visual.load_state_dict({name: value.float() for name, value in weights.items()})
    for stage in TOWER_STAGES:
        width = visual.config.out_hidden_size
        probes = {name: Probes(width, LABELS[stage.labels]) for name in ("final", "early")}
        modules = {"visual": visual, **probes}
        scaled = _scaled_stage(stage.name, stage.steps, 1.5e-3, 1.0, muon=stage.muon)
        save_checkpoint(
            folder / f"{stage.name}.pt", stage.steps, modules, _optimizers(scaled, modules)
        )


if __name__ == "__main__":
    restore(Path(sys.argv[1]))
