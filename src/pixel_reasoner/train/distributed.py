"""Helpers for several processes and sharded weights: gathering, unwrapping, module groups.

Every process must make the collective calls (`gather_rows`, `full_state_dict`) in the same order. With DDP each process
has all
weights. With FSDP and ZeRO-3 each process has a shard: weights used outside a forward pass of the trainer must be
gathered first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate.utils import gather
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from pixel_reasoner.errors import ModelError, PixelReasonerError, UsageError

T = TypeVar("T")


def gather_rows(rows: torch.Tensor, trainer: Any) -> torch.Tensor:
    """Return the rows of all processes on the CPU, in process order. Collective."""
    gathered: torch.Tensor = gather(rows.to(trainer.accelerator.device)).cpu()
    return gathered


def gather_sum(value: float, trainer: Any) -> torch.Tensor:
    """Return the sum of a number over all processes, on this process's device. Collective."""
    total: torch.Tensor = gather(torch.tensor(value).to(trainer.accelerator.device)).sum()
    return total


def check_whole_groups(num_rollouts: int, group_size: int, setting: str) -> None:
    """Raise an error if a group of rollouts spans processes.

    Raises:
        UsageError: the rollouts of this process are not whole groups.
    """
    if num_rollouts % group_size:
        raise UsageError(
            expected=f"whole groups in every process, for {setting}",
            got=f"{num_rollouts} rollouts in groups of {group_size}",
            fix="make questions_per_sync a multiple of the number of processes",
        )


def gather_max(value: int, trainer: Any) -> int:
    """Return the largest number over all processes. Collective."""
    return int(gather(torch.tensor([value], device=trainer.accelerator.device)).max())


def gather_mean(flags: list[float], trainer: Any) -> float:
    """Return the mean of numbers over all processes, which must have equal counts. Collective."""
    return float(gather(torch.tensor(flags, device=trainer.accelerator.device)).mean())


def filling_passes(places: Sequence[Any], batch_size: int, trainer: Any) -> list[Any]:
    """Return copies of the first place, so that all processes make equally many forward passes. Collective.

    The places start with a row of results. That of a copy is not used.
    """
    own = math.ceil(len(places) / batch_size)
    most = gather_max(own, trainer)
    if own == most:
        return []
    row, *rest = places[0]
    missing = (most - 1) * batch_size + 1 - len(places)
    return [(row.clone(), *rest) for _ in range(missing)]


def process_rows(trainer: Any, count: int) -> slice:
    """Return the slice of the gathered rows that belongs to this process, which has `count` rows."""
    first = trainer.accelerator.process_index * count
    return slice(first, first + count)


def is_main_process(trainer: Any) -> bool:
    """Return whether this process writes files and logs."""
    return bool(trainer.is_world_process_zero())


def has_sharded_weights(trainer: Any) -> bool:
    """Return whether this process has only a shard of the weights (FSDP, ZeRO-3)."""
    if trainer.is_fsdp_enabled or _has_distributed_tensors(trainer.model):
        return True
    return any(hasattr(weight, "ds_id") for weight in trainer.model.parameters())  # ZeRO-3


def _has_distributed_tensors(model: Any) -> bool:
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def unwrap_model(trainer: Any) -> Any:
    """Return the model without wrappers of distributed training; PEFT's wrapper stays."""
    return trainer.accelerator.unwrap_model(trainer.model)


def full_state_dict(trainer: Any) -> dict[str, torch.Tensor]:
    """Return all weights of the unwrapped model. With sharded weights only the main process gets them. Collective."""
    if _has_distributed_tensors(trainer.model):  # FSDP2
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return dict(get_model_state_dict(unwrap_model(trainer), options=options))
    state = {}
    for name, weight in gathered_weights(unwrap_model(trainer), remove_duplicate=False):
        if is_main_process(trainer):
            state[name] = weight.to("cpu", copy=True)
    return state


def gathered_weights(
    model: Any, *, only_trained: bool = False, remove_duplicate: bool = True
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and whole value of each weight, one after the other, in every process. Collective.

    The tensor is valid until the next one is requested, so that memory holds one whole weight at a time.
    """
    for name, weight in model.named_parameters(remove_duplicate=remove_duplicate):
        if only_trained and not weight.requires_grad:
            continue
        if isinstance(weight, DTensor):
            yield name, weight.detach().full_tensor()
        elif hasattr(weight, "ds_id"):  # ZeRO-3
            from deepspeed import zero

            with zero.GatheredParameters([weight]):
                yield name, weight.detach()
        else:
            yield name, weight.detach()


def num_parameters(model: Any) -> int:
    """Return the number of parameters of a model, whole ones also where ZeRO-3 has left a shard."""
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in model.parameters())


def main_process_result(compute: Callable[[], T]) -> T:
    """Return in every process what a function returns in the main process, or raise its error in every process. Collective."""
    if not torch.distributed.is_initialized():
        return compute()
    found: list[Any] = [None, None]
    if torch.distributed.get_rank() == 0:
        try:
            found[0] = compute()
        except PixelReasonerError as error:
            found[1] = error
    torch.distributed.broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    value: T = found[0]
    return value


def raise_together(error: PixelReasonerError | None) -> None:
    """Raise the first error of any process in every process, so that none waits for another. Collective."""
    if torch.distributed.is_initialized():
        errors: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(errors, error)
        error = next((one for one in errors if one is not None), None)
    if error is not None:
        raise error


# --- module groups ---


class ModuleGroups(NamedTuple):
    """Modules of an image-text-to-text model by role. A projector module may be part of the vision tower."""

    vision: Any
    """encodes pixels"""
    projector: list[Any]
    """map visual features to the size of text embeddings"""
    language: Any
    """decoder"""

    def freeze_vision(self) -> None:
        """Disable gradients of the vision tower and the projector."""
        for module in (self.vision, *self.projector):
            module.requires_grad_(requires_grad=False)


_VISION = ("visual", "vision_tower", "vision_model", "embed_vision", "embed_tokens_extend")
_PROJECTOR = ("multi_modal_projector", "connector", "embed_vision", "aligner", "projector")
_PROJECTOR_IN_VISION = ("merger", "deepstack_merger_list")
_LANGUAGE = ("language_model", "text_model")
LANGUAGE_LINEAR_LAYERS = rf".*\b({'|'.join(_LANGUAGE)})\b.*\.(q|k|v|o|gate|up|down)_proj"
"""regular expression of the linear layers that LoRA adapts"""


def module_groups(model: Any) -> ModuleGroups:
    """Return the module groups of an unwrapped model.

    Families differ in the names of their attributes: `visual` with a `merger` inside (Qwen-VL), `vision_tower` and
    `multi_modal_projector` (LLaVA, InternVL, Gemma 3), `vision_model` and `connector` (Idefics 3, SmolVLM).

    Raises:
        ModelError: a family with other names.
    """
    body = model.model if hasattr(model, "model") else model
    vision, language = _first(body, _VISION), _first(body, _LANGUAGE)
    if language is None and hasattr(body, "layers"):
        language = body  # the decoder of Phi-4 contains its vision tower
    if vision is None or language is None:
        missing = "vision tower" if vision is None else "language model"
        known = _VISION if vision is None else _LANGUAGE
        raise ModelError(
            expected=f"a model whose {missing} is {', '.join(known)}",
            got=f"{type(model).__name__} with {', '.join(name for name, _ in body.named_children())}",
            fix="set train_vision = true, which needs no module groups, or add the name in train/distributed.py",
        )
    return ModuleGroups(
        vision, [*_all(vision, _PROJECTOR_IN_VISION), *_all(body, _PROJECTOR)], language
    )


def _all(module: Any, names: tuple[str, ...]) -> Iterator[Any]:
    yield from (getattr(module, name) for name in names if getattr(module, name, None) is not None)


def _first(module: Any, names: tuple[str, ...]) -> Any:
    return next(_all(module, names), None)
