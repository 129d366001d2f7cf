"""A half-trained model between two machines: its vision tower and its language model, in two small files.

    python dev/tower/restore.py keep runs/tiny
    python dev/tower/restore.py restore runs/tiny
    pixel-reasoner train tiny --traces runs/tiny/synth --traces runs/tiny/synth2 --out runs/tiny

    python dev/tower/restore.py keep-language runs/tiny
    python dev/tower/restore.py restore-model runs/start
    pixel-reasoner train tiny --from runs/start --traces runs/tiny/synth --traces runs/tiny/synth2 --out runs/tiny

The weights are those of the last vision stage and its probes, before tokens are scaled down, in float16. Restored optimizers
are new, because a finished stage does not use them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.patches import embed_patches_by_matmul
from pixel_reasoner.tiny.batches import TOWER_STAGES
from pixel_reasoner.tiny.build import build_model, build_processor, save_folder
from pixel_reasoner.tiny.loop import _optimizers, save_checkpoint
from pixel_reasoner.tiny.tower import make_probes, shrink_tokens
from pixel_reasoner.tiny.train import _scaled_stage

KEPT = Path(__file__).with_name("tower.safetensors")
LANGUAGE = Path(__file__).with_name("language.safetensors")
TOKENIZER = Path(__file__).with_name("tokenizer")


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
    modules = {"visual": visual, **make_probes(visual)}
    for name, module in modules.items():
        module.load_state_dict(_kept_part(name))
    for stage in TOWER_STAGES:
        scaled = _scaled_stage(stage.name, stage.steps, stage.lr, 1.0)
        optimizers = _optimizers(scaled, modules)
        save_checkpoint(folder / f"{stage.name}.pt", stage.steps, modules, optimizers)


def _kept_part(module: str) -> dict[str, Any]:
    """Return the kept weights of `visual`, `final` or `early`."""
    start = f"{module}."
    return {
        name.removeprefix(start): weight.float()
        for name, weight in load_file(KEPT).items()
        if name.startswith(start)
    }


def keep_language(folder: Path) -> None:
    """Write the language model of a folder's model to `language.safetensors`, and its tokenizer to `tokenizer`."""
    weights = load_file(folder / "model" / "model.safetensors")
    save_file({name: one for name, one in weights.items() if "visual." not in name}, LANGUAGE)
    LocalModel(str(folder / "model")).processor.tokenizer.save_pretrained(TOKENIZER)


def restore_model(folder: Path) -> None:
    """Write a model folder with the kept tower and language model."""
    from transformers import PreTrainedTokenizerFast

    processor = build_processor(PreTrainedTokenizerFast.from_pretrained(TOKENIZER))
    model = build_model(processor.tokenizer, 0)
    model.model.visual.load_state_dict(_kept_part("visual"))
    shrink_tokens(model.model.visual)
    language = {name: one.float() for name, one in load_file(LANGUAGE).items()}
    left_out, unknown = model.load_state_dict(language, strict=False)
    assert not unknown
    assert all("visual." in name or name == "lm_head.weight" for name in left_out)
    save_folder(model, processor, folder, worlds=(1, 2))


if __name__ == "__main__":
    {
        "keep": keep,
        "restore": restore,
        "keep-language": keep_language,
        "restore-model": restore_model,
    }[sys.argv[1]](Path(sys.argv[2]))
