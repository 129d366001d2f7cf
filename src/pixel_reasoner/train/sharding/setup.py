"""Sharding of a run over its processes with FSDP2 or DeepSpeed ZeRO, on GPUs and on CPUs.

    sharding = "fsdp2"      # in the TOML file of a run
    torchrun --nproc_per_node 2 -m pixel_reasoner.cli train sft run.toml

accelerate and transformers need help with this. On a CPU they ignore FSDP (each process gets all weights), or each process
trains alone and writes the same folder. So a run starts its process group itself, passes TRL the options of its sharding,
and checks before the first step that weights or optimizer states are really sharded.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import warnings
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from pixel_reasoner.errors import ModelError, UsageError
from pixel_reasoner.models.engine import unwrap_peft
from pixel_reasoner.train import distributed
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.sharding.processes import num_processes

_STAGES = {"zero2": 2, "zero3": 3}
_SIZES_OF_MODEL = ("stage3_param_persistence_threshold", "stage3_prefetch_bucket_size")
"""settings of ZeRO-3 that transformers computes from the size of the model"""
_OPTIONS_OF_TRL = {
    "bf16": "bf16",
    "gradient_clipping": "max_grad_norm",
    "train_batch_size": "per_device_train_batch_size",
    "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
}
"""option of DeepSpeed -> the option of TRL that sets it"""
_INSTALL = "DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed"


def start_processes(run: SftRun | RlRun) -> None:
    """Start the process group of a sharded run. Does nothing for a run without sharding.

    Raises:
        UsageError: a launcher with another kind of sharding, no launcher on several GPUs, or DeepSpeed is missing.
    """
    _check_launcher(run.sharding)
    if not run.sharding:
        return
    if PartialState._shared_state:
        if torch.distributed.is_initialized():
            return
        AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier run of this process
    if run.sharding in _STAGES:
        _check_deepspeed()
    _set_defaults_of_one_process()
    has_gpu = torch.cuda.is_available()
    if run.sharding == "fsdp2":
        state = PartialState(cpu=not has_gpu)
        if not has_gpu:  # accelerate looks at FSDP only for types of GPUs
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    else:
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
        if not has_gpu:
            os.environ["DS_ACCELERATOR"] = "cpu"
            _disable_compiled_communication()
        state = PartialState(backend="nccl" if has_gpu else "gloo")
        # DeepSpeed calls functions of torch.distributed that have new names.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    assert state.num_processes == num_processes()


def sharding_options(run: SftRun | RlRun) -> dict[str, Any]:
    """Return the options of `TrainingArguments` for the sharding of a run. Options under `[trl]` are merged."""
    if not run.sharding:
        return {}
    options: dict[str, Any] = {"accelerator_config": {"use_configured_state": True}}
    if run.sharding == "fsdp2":
        config = {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}
        return {
            **options,
            "fsdp": True,
            "fsdp_config": {**config, **run.trl.get("fsdp_config", {})},
        }
    # accelerate skips DeepSpeed if use_cpu is set.
    return {**options, "use_cpu": False, "deepspeed": _deepspeed_config(run)}


def _deepspeed_config(run: SftRun | RlRun) -> dict[str, Any]:
    stage = _STAGES[run.sharding]
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        # DeepSpeed's defaults keep weights below 100,000 elements whole in all processes.
        zero |= dict.fromkeys(_SIZES_OF_MODEL, "auto")
    given = run.trl.get("deepspeed", {})
    if automatic := [name for name in given if name in _OPTIONS_OF_TRL]:
        raise UsageError(
            expected="options of DeepSpeed that TRL does not have",
            got=f"{automatic[0]} in the table deepspeed",
            fix=f"set {_OPTIONS_OF_TRL[automatic[0]]} under [trl]",
        )
    own = given.get("zero_optimization", {})
    return {
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": "auto"},
        **{name: "auto" for name in _OPTIONS_OF_TRL if name != "bf16"},
        **given,
        "zero_optimization": {**zero, **own, "stage": stage},
    }


def set_wrapped_classes(args: Any, model: Any) -> None:
    """Set the classes of a model's layers, decoder layers and vision blocks, as the units of FSDP2."""
    if args.fsdp_plugin_args is not None:
        args.fsdp_plugin_args.setdefault(
            "transformer_cls_names_to_wrap", ",".join(wrapped_classes(model))
        )


def wrapped_classes(model: Any) -> list[str]:
    """Return the names of the repeated layer classes of the vision tower and the language model.

    Raises:
        ModelError: a tower or a language model without a list of layers.
    """
    groups = distributed.module_groups(model)
    names = []
    for part, role in ((groups.vision, "vision tower"), (groups.language, "language model")):
        lists = [one for one in part.modules() if isinstance(one, torch.nn.ModuleList) and len(one)]
        if not lists:
            raise ModelError(
                expected=f"a {role} with a list of layers",
                got=type(part).__name__,
                fix='set sharding = "zero3", which needs no layers',
            )
        names.append(_layer_class(lists, set(getattr(model, "_no_split_modules", None) or ())))
    return list(dict.fromkeys(names))


def _layer_class(lists: list[torch.nn.ModuleList], known: set[str]) -> str:
    """Return the class of the layers of one of these lists: one that transformers never splits, or that of the longest list."""
    lengths = {type(one[0]).__name__: len(one) for one in lists}
    return max(lengths, key=lambda name: (name in known, lengths[name]))


class ShardedHeadMixin:
    """Mixin for trainers: FSDP2 shards an untied output head in the group of the whole model.

    accelerate gives it a group of its own, whose weights are gathered in the head's forward pass. TRL multiplies with the
    weight instead of calling the head, and gathers it so that each process keeps the gradient of its own batch alone.
    """

    model: Any

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Shard the model. accelerate finds no output head meanwhile, so the head stays in the group of the model."""
        model = unwrap_peft(self.model)
        head = model.get_output_embeddings()
        is_tied = head is None or head.weight is model.get_input_embeddings().weight
        if is_tied or not self.is_fsdp_enabled:  # type: ignore[attr-defined]
            return super()._prepare_for_training(*args, **kwargs)  # type: ignore[misc]
        model.get_output_embeddings = lambda: None
        try:
            return super()._prepare_for_training(*args, **kwargs)  # type: ignore[misc]
        finally:
            del model.get_output_embeddings


# --- before the process group ---


def _check_launcher(sharding: str) -> None:
    """Raise `UsageError` if an accelerate configuration asks for other sharding than the run, which it would get only in part."""
    for name, own in (("FSDP", ("fsdp2",)), ("DEEPSPEED", tuple(_STAGES))):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() != "true":
            continue
        if sharding not in own:
            raise UsageError(
                expected="the sharding of a run in its TOML file",
                got=f"{name} in the configuration of accelerate, and sharding = {sharding!r} in the run",
                fix=f"set sharding = {' or '.join(repr(one) for one in own)} in the run, and start it with torchrun",
            )
        del os.environ[f"ACCELERATE_USE_{name}"]
    has_launcher = "LOCAL_RANK" in os.environ
    if sharding and not has_launcher and torch.cuda.device_count() > 1:
        raise UsageError(
            expected=f"a process per GPU for sharding = {sharding!r}",
            got=f"one process, and {torch.cuda.device_count()} GPUs",
            fix="start it with torchrun --nproc_per_node gpu -m pixel_reasoner.cli train ...",
        )


def _check_deepspeed() -> None:
    if importlib.util.find_spec("deepspeed") is None:
        raise UsageError(
            expected="DeepSpeed for zero2 and zero3",
            got="no package deepspeed",
            fix=f'{_INSTALL}, or set sharding = "fsdp2"',
        )


def _set_defaults_of_one_process() -> None:
    """Set what torchrun sets, so that a run resumes in a single process, without a launcher."""
    if "LOCAL_RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ.update(one | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})


def _disable_compiled_communication() -> None:
    """Disable DeepSpeed's operator for shared memory, which would be compiled at every start; gloo replaces it."""
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False
