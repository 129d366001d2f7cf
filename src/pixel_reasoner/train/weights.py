"""Model of a training run: loading with frozen modules, and saving as an ordinary model folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMultimodalLM

from pixel_reasoner.errors import ModelError
from pixel_reasoner.files import atomic_folder, write_json
from pixel_reasoner.models.engine import unwrap_peft
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.patches import (
    add_names_for_trl,
    has_qwen_vision,
    optimize_vision_encoder,
)
from pixel_reasoner.text import visible
from pixel_reasoner.train import distributed
from pixel_reasoner.train.checkpoints import STATE, checkpoint_step, find_checkpoint_problem
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.folder import checkpoint_errors, save_run_settings
from pixel_reasoner.train.model_card import write_model_card
from pixel_reasoner.train.monitor.stalls import watch_for_stalls
from pixel_reasoner.train.preemption import PreemptionCallback
from pixel_reasoner.train.sharding.layout import check_batch_size
from pixel_reasoner.train.sharding.resharding import prepare_resharding

Run = SftRun | RlRun
_LOG = logging.getLogger(__name__)


def load_weights(where: str, run: Run, *, bf16: bool) -> Any:
    """Return the model of a run, with untrained modules frozen.

    Trained weights are stored in 32 bits, and computation uses 16 bits (autocast): at a learning rate of 1e-6 nearly
    every update is
    smaller than the resolution of 16 bits and would be lost.

    Raises:
        ModelError: the weights cannot be loaded, TRL cannot train the family, or its vision tower is unknown.
    """
    frozen = bf16 and run.lora_rank
    try:
        model = AutoModelForMultimodalLM.from_pretrained(
            where,
            dtype=torch.bfloat16 if frozen else torch.float32,
            trust_remote_code=False,
        )
    except Exception as error:  # transformers and safetensors raise any type for broken files
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            expected="a model folder or hub id with config.json and weights",
            got=f"{where}: {lines[0][:300]}",
            fix="give another one as model",
        ) from error
    if model.base_model is model:
        raise ModelError(
            expected="a model whose decoder is a module of its own, without the output head: TRL's losses need it",
            got=f"{where}, whose decoder and output head are one module",
            fix="train a model of another family",
        )
    prepare_vision(model, run)
    add_names_for_trl(model.config)
    return model


def prepare_vision(model: Any, run: Run) -> None:
    """Optimize the vision encoder of a model, and freeze it if the run does not train it.

    Raises:
        ModelError: the family's vision tower is unknown.
    """
    if has_qwen_vision(model):
        optimize_vision_encoder(model)
        if not run.train_vision:
            _run_without_gradients(distributed.module_groups(model).vision)
    if not run.train_vision and not run.lora_rank:
        distributed.module_groups(model).freeze_vision()


def _run_without_gradients(module: Any) -> None:
    """Run a frozen module without a graph.

    With a LoRA and gradient checkpointing, `enable_input_require_grads` of transformers makes the inputs of the vision
    encoder require gradients too: the frozen encoder would then be recomputed and run a backward pass.
    """
    module.forward = torch.no_grad()(module.forward)


def lora_config(run: Run) -> Any:
    """Return the LoRA configuration of a run, or None."""
    if not run.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=run.lora_rank,
        lora_alpha=run.lora_alpha or 2 * run.lora_rank,
        target_modules=distributed.LANGUAGE_LINEAR_LAYERS,
        task_type="CAUSAL_LM",
    )


def last_checkpoint(out: Path) -> str | None:
    """Return the newest complete checkpoint of a run, or None. Logs one line per incomplete checkpoint."""
    folders = [path.parent for path in out.glob(f"checkpoint-*/{STATE}")]
    steps = {step: folder for folder in folders if (step := checkpoint_step(folder)) >= 0}
    for step in sorted(steps, reverse=True):
        problem = find_checkpoint_problem(steps[step])
        if problem is None:
            return str(steps[step])
        _LOG.warning("skipped %s, which is incomplete: %s", steps[step], visible(problem))
    return None


def train_and_save(
    trainer: Any, run: Run, processor: Any, settings: FolderSettings, out: Path
) -> Path:
    """Train from the last checkpoint, and return the folder of the finished model. Collective: every process must call this.

    Raises:
        OutputError: the folder cannot be written.
        PreemptedError: a signal or a stop file ended training after a checkpoint.
    """
    if distributed.is_main_process(trainer):
        save_run_settings(run)
    checkpoint = distributed.main_process_result(lambda: last_checkpoint(out))
    if checkpoint is not None:
        check_batch_size(trainer, Path(checkpoint))
        prepare_resharding(trainer, Path(checkpoint))
        if distributed.is_main_process(trainer):
            sys.stderr.write(f"continues at {Path(checkpoint).name}\n")
    preemption = PreemptionCallback(trainer, out)
    trainer.add_callback(preemption)
    with watch_for_stalls(trainer, out, run.monitor.stall_timeout_s):
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        finally:
            preemption.restore_handlers()
        preemption.finish()
        save_model(trainer, processor, settings, out / "model")
    if distributed.is_main_process(trainer):
        write_model_card(run, out / "model")
    return out / "model"


def save_model(trainer: Any, processor: Any, settings: FolderSettings, folder: Path) -> None:
    """Write an ordinary model folder atomically, with merged LoRA and the dialect and budgets of the traces.

    Sharded weights (FSDP, ZeRO-3) are gathered first. Collective: every process must call this.

    Raises:
        OutputError: the folder cannot be written.
    """
    state = None
    if distributed.has_sharded_weights(trainer):
        state = distributed.full_state_dict(trainer)  # collective, so called unconditionally
    if distributed.is_main_process(trainer):
        model = distributed.unwrap_model(trainer)
        if _is_lora(model):
            model = model.merge_and_unload() if state is None else _copy_with(model, state)
            state = None
        with checkpoint_errors(folder), atomic_folder(folder) as part:
            model.save_pretrained(part, state_dict=state)
            processor.save_pretrained(part)
            write_json(settings.model_dump(mode="json"), part / "pixel_reasoner.json")
    trainer.accelerator.wait_for_everyone()


def gathered_model(trainer: Any) -> Any:
    """Return a copy of the model with the weights of all processes and merged LoRA; None outside the main process.

    The copy needs memory for the whole model on the main process's device. Collective.
    """
    state = distributed.full_state_dict(trainer)
    if not distributed.is_main_process(trainer):
        return None
    copy = _copy_with(distributed.unwrap_model(trainer), state).to(trainer.accelerator.device)
    optimize_vision_encoder(copy)
    return copy.eval()


def write_weights(
    model: Any, state: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype
) -> None:
    """Write config and weights of an unwrapped model, with merged LoRA, in another dtype. The model does not change.

    Args:
        model: the model, which may be sharded.
        state: all of its weights.
        folder: an existing folder.
        dtype: dtype of floating-point weights.
    """
    if _is_lora(model):
        model = _copy_with(model, state)
        state = model.state_dict()
    state = {
        name: (one.to(dtype) if one.is_floating_point() else one).cpu()
        for name, one in state.items()
    }
    model.save_pretrained(folder, state_dict=state)


def _is_lora(model: Any) -> bool:
    return hasattr(model, "merge_and_unload")


def _copy_with(model: Any, state: dict[str, torch.Tensor]) -> Any:
    """Return a CPU copy of a model with gathered weights and merged LoRA."""
    copy = empty_copy(model)
    copy.load_state_dict({name: value.cpu() for name, value in state.items()})
    return copy.merge_and_unload() if _is_lora(model) else copy


def empty_copy(model: Any) -> Any:
    """Return an unsharded model on the CPU with the modules of an unwrapped model, LoRA included, and random weights.

    The random state does not change, so that a resumed run samples what an uninterrupted run does.
    """
    base = unwrap_peft(model)
    config = type(base.config).from_dict(base.config.to_dict())  # without patched attention
    with torch.random.fork_rng(devices=[]), _without_zero_init():
        copy = AutoModelForMultimodalLM.from_config(config, dtype=base.dtype)
        copy.generation_config = base.generation_config
        if _is_lora(model):
            from peft import get_peft_model

            copy = get_peft_model(copy, model.peft_config["default"])
    return copy


@contextmanager
def _without_zero_init() -> Iterator[None]:
    """Build models whole inside the context. With ZeRO-3, transformers shards every model that it builds."""
    from transformers.integrations import deepspeed

    active = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = active
