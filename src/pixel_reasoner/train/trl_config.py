"""TRL's configuration of a run: defaults, options set by the run, and options under `[trl]`."""

from __future__ import annotations

from typing import Any, get_type_hints, overload

import torch
from pydantic import TypeAdapter, ValidationError
from trl import GRPOConfig, SFTConfig

from pixel_reasoner.errors import UsageError
from pixel_reasoner.train.batch_sizes import BatchSizes, batch_sizes
from pixel_reasoner.train.config import RlRun, SftRun, reject_unknown_keys
from pixel_reasoner.train.sharding.processes import num_processes
from pixel_reasoner.train.sharding.setup import sharding_options

SFT_DEFAULTS = {
    "learning_rate": 1e-6,
    "warmup_steps": 0.1,  # a fraction of all
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 128,
    "num_train_epochs": 1.0,
}
"""settings of the paper (arXiv 2505.15966, appendix), for one device"""
SFT_OPTIONS = {
    "max_length": None,  # truncation would separate picture tokens from their pixels
    "data_seed": 42,  # the same order with any number of processes
}
RL_DEFAULTS = {
    "learning_rate": 1e-6,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,  # a fraction of all
    "beta": 0.0,  # no KL term
    "epsilon": 0.2,
    "epsilon_high": 0.35,
    "scale_rewards": "none",
    "loss_type": "dapo",
    "max_completion_length": 4096,
    "num_train_epochs": 3.0,
}
"""settings of the paper (arXiv 2505.15966, appendix), or else of the upstream code"""
_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")
"""loss types of GRPOTrainer, which reports an unknown type only in the first gradient step"""


@overload
def trl_config(run: SftRun) -> SFTConfig: ...
@overload
def trl_config(run: RlRun) -> GRPOConfig: ...
def trl_config(run: SftRun | RlRun) -> SFTConfig | GRPOConfig:
    """Return TRL's configuration of a run.

    Raises:
        UsageError: an option that TRL does not have or rejects, or that does not fit the run.
    """
    if isinstance(run, SftRun):
        ours: dict[str, Any] = {**SFT_DEFAULTS, **SFT_OPTIONS, **sft_batches(run)}
        return _checked(SFTConfig, _options(run, ours))
    numbers = batch_sizes(run, num_processes())
    ours = {**RL_DEFAULTS, **_rl_options(run, numbers)}
    limits = {"generation_kwargs": _generation_options(run)}
    args = _checked(GRPOConfig, _options(run, ours) | limits)
    _check_rl(args, _steps_per_sync(run, numbers))
    return args


def check_trl_options(run: SftRun | RlRun) -> None:
    """Check names and types of the options under `[trl]`, which do not depend on the machine.

    Raises:
        UsageError: an unknown name, with the nearest one, or a value of another type.
    """
    kind = SFTConfig if isinstance(run, SftRun) else GRPOConfig
    reject_unknown_keys(run.trl, kind.__dataclass_fields__, "[trl]")
    _check_types(run.trl, kind)


def _options(run: SftRun | RlRun, ours: dict[str, Any]) -> dict[str, Any]:
    check_trl_options(run)
    has_gpu = torch.cuda.is_available()
    common = {
        "output_dir": run.out,
        "remove_unused_columns": False,  # collators and rollouts use them
        "use_cpu": not has_gpu,
        "bf16": has_gpu,
        "report_to": "tensorboard",
        "logging_steps": 1,
        "dataloader_pin_memory": has_gpu,
        "ddp_find_unused_parameters": run.train_vision,  # a batch may contain no picture
    }
    return {**common, **ours, **run.trl, **sharding_options(run)}


def _check_types(options: dict[str, Any], kind: Any) -> None:
    """Raise `UsageError` for a value of another type than TRL's. TRL's dataclass accepts any type and fails later."""
    types = get_type_hints(kind)
    for name, value in options.items():
        try:
            TypeAdapter(types[name]).validate_python(value, strict=True)
        except ValidationError as error:
            reasons = dict.fromkeys(one["msg"] for one in error.errors())
            raise UsageError(
                expected=f"a value of trl.{kind.__name__}.{name}: {'; '.join(reasons)}",
                got=f"{name} = {value!r}",
                fix="correct [trl]",
            ) from error


def _checked(kind: Any, options: dict[str, Any]) -> Any:
    try:
        return kind(**options)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UsageError(
            expected=f"options that trl.{kind.__name__} accepts",
            got=str(error),
            fix="correct [trl]",
        ) from error


def sft_batches(run: SftRun) -> dict[str, int]:
    """Return the number of micro-batches per gradient step that gives the run's batch size."""
    if not run.batch_size:
        return {}
    micro = run.trl.get("per_device_train_batch_size", 1)
    accumulation, rest = divmod(run.batch_size, micro * num_processes())
    if rest or not accumulation:
        raise UsageError(
            expected=f"batch_size as a multiple of {micro} traces x {num_processes()} processes",
            got=str(run.batch_size),
            fix="change the number of processes, or per_device_train_batch_size under [trl]",
        )
    return {"gradient_accumulation_steps": accumulation}


def _steps_per_sync(run: RlRun, numbers: BatchSizes) -> int:
    """Return the number of gradient steps per policy sync."""
    return numbers.minibatches_per_sync * int(run.trl.get("num_iterations", 1))


def _rl_options(run: RlRun, numbers: BatchSizes) -> dict[str, Any]:
    steps = _steps_per_sync(run, numbers)
    return {
        "num_generations": run.group_size,
        "per_device_train_batch_size": numbers.micro_batch,
        "gradient_accumulation_steps": numbers.accumulation,
        "steps_per_generation": numbers.accumulation * numbers.minibatches_per_sync,
        "save_steps": steps * max(1, 50 // steps),
        "gradient_checkpointing": torch.cuda.is_available(),
    }


def _generation_options(run: RlRun) -> dict[str, Any]:
    return {"max_new_tokens": run.max_new_tokens, **run.trl.get("generation_kwargs", {})}


def _check_rl(args: GRPOConfig, steps_per_sync: int) -> None:
    if args.loss_type not in _LOSSES:
        raise UsageError(
            expected=f"loss_type {', '.join(_LOSSES)}",
            got=repr(args.loss_type),
            fix="use one of these",
        )
    if args.save_strategy == "steps" and args.save_steps % steps_per_sync:
        raise UsageError(
            expected=f"save_steps as a multiple of the {steps_per_sync} steps of a sync, so that a "
            "resumed run has no rollouts to lose",
            got=str(args.save_steps),
            fix="correct save_steps under [trl]",
        )
