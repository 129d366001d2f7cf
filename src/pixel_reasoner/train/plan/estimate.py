"""Resource plan of a run before loading: batch sizes, tokens, memory, time and cost.

The estimate of memory adds weights, gradients, optimizer states, checkpointed activations, and the weights and cache of a
colocated
generator. Library buffers and fragmentation are not included: keep 10 % free.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import ModelError, UsageError, require_extra
from pixel_reasoner.evals.run import TRACES
from pixel_reasoner.files import read_json_object
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.train.batch_sizes import BatchSizes, batch_sizes
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.monitor.hardware import GIB
from pixel_reasoner.train.plan.gpu import (
    RESULT_TEXT_TOKENS,
    Shape,
    Workload,
    find_listed_gpu,
    sft_batch,
    step_seconds,
)
from pixel_reasoner.train.reward_functions import load_reward

_GPUS_PER_NODE = 8
_STATES_BYTES = 16  # per trained weight: itself, its gradient and two AdamW moments, 4 bytes each
_FROZEN_BYTES = 2  # per frozen weight under a LoRA
_TEXT_TOKENS = 600  # system message, question and labels


KNOWN_SHAPES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": Shape(3.75e9, 36, 2048, 2, 128),
    "Qwen/Qwen2.5-VL-7B-Instruct": Shape(8.29e9, 28, 3584, 4, 128),
    "Qwen/Qwen2.5-VL-32B-Instruct": Shape(33.45e9, 64, 5120, 8, 128),
    "Qwen/Qwen2.5-VL-72B-Instruct": Shape(73.41e9, 80, 8192, 8, 128),
    "TIGER-Lab/PixelReasoner-RL-v1": Shape(8.29e9, 28, 3584, 4, 128),
    "TIGER-Lab/PixelReasoner-WarmStart": Shape(8.29e9, 28, 3584, 4, 128),
    "Qwen/Qwen3-VL-4B-Instruct": Shape(4.44e9, 36, 2560, 8, 128),
    "Qwen/Qwen3-VL-8B-Instruct": Shape(8.77e9, 36, 4096, 8, 128),
}
"""frequently tuned models; a plan for them needs no file"""


class PlanOptions(NamedTuple):
    """Options of a plan."""

    gpus: int = 8
    """GPUs or, on this machine, processes that train"""
    gpu: str = "H100"
    """name in `hardware.GPUS`; `this`: measure on this machine"""
    gpu_gib: float | None = None
    """memory per GPU, in GiB; by default of the data sheet"""
    like: str | None = None
    """model of the same shape, where the model of the run does not exist yet"""
    price: float = 0.0
    """per GPU hour, in any currency"""
    turns: float = 2.0
    """expected turns of a rollout"""
    turn_tokens: int = 100
    """expected tokens of a turn"""
    picture_tokens: int = 0
    """expected visual tokens of a question; 0: the most that the model allows. Measured with `gpu="this"`"""

    def visual_tokens(self, budgets: PixelBudgets) -> float:
        """Return the expected visual tokens of a question."""
        return self.picture_tokens or budgets.picture.max_px / budgets.multiple**2

    @property
    def memory_gib(self) -> float:
        """Memory per GPU."""
        return self.gpu_gib or find_listed_gpu(self.gpu).memory_gib


def plan_lines(run: SftRun | RlRun, options: PlanOptions) -> list[str]:
    """Return the plan of a run as text.

    Raises:
        UsageError: sizes that do not fit together, too little memory, or an unknown GPU.
        ModelError: the shape of the model is unknown.
    """
    if not (options.turns >= 1 and options.turn_tokens >= 1 and options.price >= 0):
        raise UsageError(
            expected="1 turn and 1 token or more, and a price of 0 or more",
            got=f"{options.turns:g}, {options.turn_tokens}, {options.price:g}",
            fix="correct --turns, --turn-tokens or --price",
        )
    if options.gpu == "this":
        with require_extra("local,train", "measure a run on this machine"):
            from pixel_reasoner.train.plan.machine import plan_machine
        made = plan_machine(run, options.gpus, turns=options.turns, turn_tokens=options.turn_tokens)
        return made.lines(options.price, options.gpus)
    shape = load_shape(options.like or run.model)
    if isinstance(run, RlRun):
        planned = plan(run, options.gpus, options.memory_gib, options.like)
        lines = planned.lines(run, options.memory_gib)
        return [*lines, *_time_lines(run, options, shape, rl_workload(run, planned, options))]
    work = sft_workload(run, options)
    return [*_sft_memory_lines(run, options, shape, work), *_time_lines(run, options, shape, work)]


def _time_lines(
    run: SftRun | RlRun, options: PlanOptions, shape: Shape, work: Workload
) -> list[str]:
    gpu = find_listed_gpu(options.gpu)
    seconds = step_seconds(shape, work, gpu, options.gpus, is_lora=bool(run.lora_rank))
    parts = {
        "generation": seconds.prefill + seconds.decode,
        "update": max(seconds.compute, seconds.network),
        "weight sync": seconds.sync,
    }
    shown = ", ".join(f"{value:.1f} s {name}" for name, value in parts.items() if value)
    lines = [
        f"computed time on {options.gpus} {options.gpu}: {seconds.step:.1f} s per gradient step "
        f"({shown}); limited by: {seconds.limit}"
    ]
    if steps := _num_steps(run, work):
        hours = steps * seconds.step / 3600
        cost = f", {hours * options.gpus * options.price:,.0f} at {options.price:g} per GPU hour"
        lines.append(
            f"{steps:,} steps: {hours:,.1f} h, {hours * options.gpus:,.0f} GPU hours"
            f"{cost if options.price else ''}"
        )
    return lines


def _num_steps(run: SftRun | RlRun, work: Workload) -> int:
    """Return the number of gradient steps of a run; 0 if its data cannot be counted."""
    if int(run.trl.get("max_steps", -1)) > 0:
        return int(run.trl["max_steps"])
    if isinstance(run, SftRun):
        paths = [Path(one) for one in run.traces]
        files = [path / TRACES if path.is_dir() else path for path in paths]
        count = sum(path.read_bytes().count(b"\n") for path in files if path.is_file())
        return math.ceil(count * float(run.trl.get("num_train_epochs", 1.0)) / work.sequences)
    if run.questions or run.pixelworld is None:
        return 0
    count = run.pixelworld.count * len(run.pixelworld.families) * run.group_size
    return math.ceil(count * float(run.trl.get("num_train_epochs", 3.0)) / run.minibatch)


def _budgets(run: SftRun | RlRun, options: PlanOptions) -> PixelBudgets:
    settings = folder_settings(model_folder(options.like or run.model))
    return settings.budgets or get_dialect(settings.dialect).budgets


def _result_tokens(budgets: PixelBudgets, options: PlanOptions) -> float:
    """Return the tokens of all results of operations of a rollout."""
    crop = budgets.crop.max_px / budgets.multiple**2
    return (options.turns - 1) * (crop + RESULT_TEXT_TOKENS)


def rl_workload(run: RlRun, planned: Plan, options: PlanOptions) -> Workload:
    """Return the expected sequences of a gradient step of RL."""
    budgets, generated = _budgets(run, options), options.turns * options.turn_tokens
    results = _result_tokens(budgets, options)
    visual = options.visual_tokens(budgets)
    prompt = _TEXT_TOKENS + visual
    sizes = planned.batch_sizes
    return Workload(
        sequences=run.minibatch,
        sequence_tokens=prompt + generated + results,
        visual_tokens=visual + results,
        micro_batches=sizes.accumulation,
        prompts=run.minibatch / run.group_size,
        prompt_tokens=prompt,
        generated_tokens=generated,
        rollouts_at_once=min(run.rollouts_at_once, sizes.rollouts_per_process),
        steps_per_sync=sizes.minibatches_per_sync,
    )


def sft_workload(run: SftRun, options: PlanOptions) -> Workload:
    """Return the expected sequences of a gradient step of SFT."""
    budgets = _budgets(run, options)
    results = _result_tokens(budgets, options)
    visual = options.visual_tokens(budgets)
    generated = options.turns * options.turn_tokens
    micro, accumulation = sft_batch(run, options.gpus)
    return Workload(
        sequences=micro * accumulation * options.gpus,
        sequence_tokens=_TEXT_TOKENS + visual + generated + results,
        visual_tokens=visual + results,
        micro_batches=accumulation,
    )


def _sft_memory_lines(run: SftRun, options: PlanOptions, shape: Shape, work: Workload) -> list[str]:
    micro, accumulation = sft_batch(run, options.gpus)
    states = _states(run, shape, options.gpus)
    is_checkpointed = bool(run.trl.get("gradient_checkpointing", False))
    activations = _activations(micro, shape, work.sequence_tokens, is_checkpointed=is_checkpointed)
    total = (states + activations) / GIB
    if total > options.memory_gib:
        raise UsageError(
            expected=f"a run that fits into {options.memory_gib:g} GiB per GPU",
            got=f"about {total:.0f} GiB ({states / GIB:.0f} weights and optimizer, {activations / GIB:.0f} activations)",
            fix="use more GPUs, lora_rank, gradient_checkpointing, or a smaller per_device_train_batch_size",
        )
    return [
        f"GPUs: {options.gpus}, {options.memory_gib:g} GiB each",
        f"gradient step: {work.sequences:,} traces: {micro} per GPU at once x {accumulation} x {options.gpus} GPUs, about "
        f"{work.sequence_tokens:,.0f} tokens each",
        f"estimated memory per GPU: {states / GIB:.1f} GiB weights, gradients and optimizer, "
        f"{activations / GIB:.1f} GiB activations; {total:.1f} of {options.memory_gib:g} GiB",
    ]


class Plan(NamedTuple):
    """Sizes of a run. Bytes are per GPU."""

    batch_sizes: BatchSizes
    prompt_tokens: int
    """maximum tokens of a question with its pictures"""
    rollout_tokens: int
    """maximum tokens of a rollout"""
    states_bytes: float
    activations_bytes: float
    generator_bytes: float
    is_time_shared: bool
    """whether the generator frees the GPU during updates (vLLM's sleep mode)"""

    @property
    def bytes(self) -> float:
        """Return the maximum over all phases."""
        both = self.activations_bytes, self.generator_bytes
        return self.states_bytes + (max(both) if self.is_time_shared else sum(both))

    def lines(self, run: RlRun, gpu_gib: float) -> list[str]:
        """Return the plan as text."""
        sums = self.batch_sizes
        return [
            f"GPUs: {sums.processes}, {gpu_gib:g} GiB each",
            f"policy sync: {run.questions_per_sync} questions x {run.group_size} rollouts = "
            f"{sums.rollouts_per_sync} rollouts, {sums.rollouts_per_process} per GPU, {run.rollouts_at_once} at a time",
            f"gradient steps per sync: {sums.minibatches_per_sync}, of {run.minibatch} rollouts each: {sums.micro_batch} per GPU at "
            f"once x {sums.accumulation} x {sums.processes} GPUs",
            f"tokens: at most {self.prompt_tokens:,} per question with its pictures, {self.rollout_tokens:,} per rollout, "
            f"{self.rollout_tokens * sums.rollouts_per_sync:,} per sync",
            f"estimated memory per GPU: {self.states_bytes / GIB:.1f} GiB weights, gradients and optimizer, "
            f"{self.activations_bytes / GIB:.1f} GiB activations, {self.generator_bytes / GIB:.1f} GiB generator"
            f"{' (one or the other)' if self.is_time_shared else ''}; at most {self.bytes / GIB:.1f} of {gpu_gib:g} GiB",
        ]


def plan(run: RlRun, gpus: int, gpu_gib: float, like: str | None = None) -> Plan:
    """Return the sizes of a run on a number of GPUs with sharded weights and optimizer states (FSDP2 or ZeRO-3).

    Args:
        run: configuration of the run.
        gpus: number of training GPUs.
        gpu_gib: memory per GPU, GiB.
        like: model of the same shape, if the run's own model is not available.

    Raises:
        UsageError: batch sizes that do not divide evenly, more memory than available, or an unknown reward function.
        ModelError: the shape of the model is unknown.
    """
    if gpus < 1 or gpu_gib <= 0:
        raise UsageError(
            expected="1 GPU or more, with memory", got=f"{gpus}, {gpu_gib} GiB", fix="correct it"
        )
    for name in run.reward_functions:
        load_reward(name)
    sums = batch_sizes(run, gpus)
    shape = load_shape(like or run.model)
    settings = folder_settings(model_folder(like or run.model))
    budgets: PixelBudgets = settings.budgets or get_dialect(settings.dialect).budgets
    prompt = _TEXT_TOKENS + _picture_tokens(budgets)
    rollout = prompt + int(run.trl.get("max_completion_length", 4096))
    made = Plan(
        batch_sizes=sums,
        prompt_tokens=prompt,
        rollout_tokens=rollout,
        states_bytes=_states(run, shape, gpus),
        activations_bytes=_activations(sums.micro_batch, shape, rollout),
        generator_bytes=_generator(run, shape, rollout, gpus, gpu_gib * GIB),
        is_time_shared=run.vllm is not None and run.vllm.colocated_memory > 0,
    )
    if made.bytes > gpu_gib * GIB:
        raise UsageError(
            expected=f"a run that fits into {gpu_gib:g} GiB per GPU",
            got=f"about {made.bytes / GIB:.0f} GiB ({made.states_bytes / GIB:.0f} weights and optimizer, "
            f"{made.activations_bytes / GIB:.0f} activations, {made.generator_bytes / GIB:.0f} generator)",
            fix="use more GPUs, lora_rank, a smaller per_device_train_batch_size, rollouts_at_once or max_completion_length",
        )
    return made


def load_shape(model: str) -> Shape:
    """Return the shape of a model, from its `config.json` without weights, or from `KNOWN_SHAPES`.

    Raises:
        ModelError: neither a folder with a config nor a known name.
    """
    path = model_folder(model) / "config.json"
    if not path.is_file():
        if model in KNOWN_SHAPES:
            return KNOWN_SHAPES[model]
        raise ModelError(
            expected=f"a model folder, or one of {', '.join(KNOWN_SHAPES)}",
            got=repr(model),
            fix="name a folder with its config.json, which needs no weights, or a model of the same shape with --like",
        )
    config = read_json_object(path, "the config.json of a model", "copy the whole folder")
    try:
        text = config.get("text_config", config)
        heads = text["num_attention_heads"]
        return Shape(
            parameters=_count_parameters(path),
            layers=text["num_hidden_layers"],
            hidden=text["hidden_size"],
            kv_heads=text.get("num_key_value_heads", heads),
            head_dim=text.get("head_dim") or text["hidden_size"] // heads,
        )
    except Exception as error:  # transformers raises any type for unexpected values
        raise ModelError(
            expected="the config.json of a language model with vision",
            got=f"{path}: {type(error).__name__}: {str(error)[:200]}",
            fix="copy the whole folder of the model",
        ) from error


def _count_parameters(config: Path) -> float:
    """Return the number of weights of a model, built without memory for them."""
    with require_extra("local", "build the model of a folder"):
        import torch
        from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(config.parent, trust_remote_code=False)
        )
    return float(sum(weight.numel() for weight in model.parameters()))


def _picture_tokens(budgets: PixelBudgets) -> int:
    """Return the maximum number of visual tokens of one picture, or of 16 frames of a clip."""
    unit = budgets.multiple**2
    return max(budgets.picture.max_px // unit, 16 * budgets.frame.max_px // unit)


def _states(run: SftRun | RlRun, shape: Shape, gpus: int) -> float:
    if run.lora_rank:
        # LoRA on 7 matrices per layer: rank x (in + out), about 4 x hidden each.
        adapters = shape.layers * 7 * run.lora_rank * 4 * shape.hidden
        return (shape.parameters * _FROZEN_BYTES + adapters * _STATES_BYTES) / gpus
    return shape.parameters * _STATES_BYTES / gpus


def _activations(micro: int, shape: Shape, tokens: float, *, is_checkpointed: bool = True) -> float:
    """Return bytes of activations: about 34 times the hidden size for each layer (arXiv 2205.05198).

    With gradient checkpointing those of one layer, and 2 bytes times the hidden size between layers.
    """
    per_token = 2 * shape.layers + 34 if is_checkpointed else 34 * shape.layers
    return micro * tokens * shape.hidden * per_token


def _generator(run: RlRun, shape: Shape, tokens: int, gpus: int, gpu_bytes: float) -> float:
    """Return the bytes for generation on a training GPU. vLLM reserves a fixed fraction and queues requests beyond it."""
    cache = 2 * 2 * shape.layers * shape.kv_heads * shape.head_dim * tokens  # per rollout
    if run.vllm is None:
        # The generator gathers all weights.
        return shape.parameters * (2 if run.lora_rank else 4) + cache * run.rollouts_at_once
    share = run.vllm.colocated_memory
    if not share:
        return 0.0  # on other GPUs
    parallel = max(1, min(gpus // len(run.vllm.url), _GPUS_PER_NODE))
    least = (shape.parameters * 2 + cache) / parallel
    if least > share * gpu_bytes:
        raise UsageError(
            expected=f"colocated_memory under [vllm] for the weights and one rollout, {least / GIB:.1f} GiB",
            got=f"{share:g} of {gpu_bytes / GIB:g} GiB",
            fix="raise it, or let a server use more GPUs (--tensor-parallel-size)",
        )
    return share * gpu_bytes
