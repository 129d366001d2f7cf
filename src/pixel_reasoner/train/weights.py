"""The model of a training run: loaded with what is not trained frozen, and saved as an ordinary model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from pixel_reasoner.errors import ModelError
from pixel_reasoner.files import write_json
from pixel_reasoner.models.engine import FAMILIES
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.patches import speed_up_tower
from pixel_reasoner.train.config import RlRun, SftRun

Run = SftRun | RlRun


def load_weights(where: str, run: Run, *, bf16: bool) -> Any:
    """The weights that a run tunes; what it does not train is frozen.

    Weights that are trained are kept in 32 bits, and computed with in 16 (autocast): at a learning rate of 1e-6 nearly every update
    is smaller than what 16 bits can tell apart, and would be lost.

    Raises:
        ModelError: they cannot be loaded.
    """
    frozen = bf16 and run.lora_rank
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            where, dtype=torch.bfloat16 if frozen else torch.float32
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            expected="a model folder or hub id with config.json and weights",
            got=f"{where}: {str(error).strip().splitlines()[0][:300]}",
            fix="name another under model",
        ) from error
    if model.config.model_type in FAMILIES:
        speed_up_tower(model)
    if not run.train_vision and not run.lora_rank:
        model.model.visual.requires_grad_(requires_grad=False)
    return model


def lora_config(run: Run) -> Any:
    """The LoRA of a run, or None."""
    if not run.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=run.lora_rank,
        lora_alpha=run.lora_alpha or 2 * run.lora_rank,
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
        task_type="CAUSAL_LM",
    )


def last_checkpoint(out: Path) -> str | None:
    """The newest checkpoint of a run that was written to its end; the trainer's state is written last."""
    folders = [path.parent for path in out.glob("checkpoint-*/trainer_state.json")]
    newest = max(folders, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    return None if newest is None else str(newest)


def save_model(trainer: Any, processor: Any, settings: FolderSettings, folder: Path) -> None:
    """An ordinary model folder, LoRA merged in, with the dialect and budgets of the traces beside it.

    Weights that are spread over processes (FSDP, ZeRO-3) are gathered first: every process has to call this.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not hasattr(model, "merge_and_unload"):
        trainer.save_model(str(folder))
    elif trainer.is_world_process_zero():  # a LoRA
        model.merge_and_unload().save_pretrained(folder)
    if trainer.is_world_process_zero():
        (folder / "training_args.bin").unlink(
            missing_ok=True
        )  # says where it was trained, and is a pickle
        processor.save_pretrained(folder)
        write_json(settings.model_dump(mode="json"), folder / "pixel_reasoner.json")
