"""Shard the weights of a model over processes (FSDP), save them as an ordinary folder and validate it.

    torchrun --nproc_per_node 2 tests/sharded_fixture.py OUT LORA_RANK...

Writes OUT/LORA_RANK/model and OUT/LORA_RANK/samples for each rank. The weights differ from those of the bundled model: each process changes all of them in the same way.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.distributed.fsdp import fully_shard
from transformers import Trainer, TrainingArguments

from pixel_reasoner.models.engine import unwrap_peft
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.train.callbacks import ValidationCallback
from pixel_reasoner.train.distributed import has_sharded_weights
from pixel_reasoner.train.weights import load_weights, lora_config, save_model

TINY = BUNDLED_MODELS["tiny"]


def changed_model(lora_rank: int) -> Any:
    """Return the bundled model with other weights, and LoRA weights that are not zero."""
    run = SimpleNamespace(train_vision=False, lora_rank=lora_rank, lora_alpha=0)
    model = load_weights(str(TINY), run, bf16=False)
    if lora_rank:
        from peft import get_peft_model

        torch.manual_seed(0)  # LoRA's first weights
        model = get_peft_model(model, lora_config(run))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model


def sharded_trainer(model: Any, out: Path) -> Any:
    """Return a trainer whose model is sharded layer by layer. accelerate sets up FSDP on GPUs only; torch also on CPUs."""
    args = TrainingArguments(output_dir=str(out / "trainer"), use_cpu=True, report_to="none")
    args.device  # noqa: B018 - starts the process group
    for layer in unwrap_peft(model).model.language_model.layers:
        fully_shard(layer)
    fully_shard(model)
    return Trainer(model=model, args=args)


def save_and_validate(out: Path, rank: int) -> None:
    trainer = sharded_trainer(changed_model(rank), out)
    assert has_sharded_weights(trainer)
    processor, settings = load_processor(str(TINY)), folder_settings(TINY)
    save_model(trainer, processor, settings, out / "model")
    run = SimpleNamespace(
        out=str(out), ask_families=("attribute",), ask_count=2, operations=DEFAULT_OPERATIONS
    )
    ValidationCallback(run, processor, settings, trainer).validate(trainer.state)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        save_and_validate(Path(sys.argv[1]) / name, int(name))
    # Threads of the process group that are still running end the interpreter with SIGABRT, now and then.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
