"""Resource plan of a run before loading: batch sizes, tokens, and a memory estimate.

The estimate adds weights, gradients, optimizer states, checkpointed activations, and the weights and cache of a
colocated
generator. Library buffers and fragmentation are not included: keep 10 % free.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import ModelError, UsageError, require_extra
from pixel_reasoner.files import read_json_object
from pixel_reasoner.models.folder import folder_settings, model_folder
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.train.config import BatchSizes, RlRun, batch_sizes
from pixel_reasoner.train.reward_functions import load_reward

_GPUS_PER_NODE = 8
GIB = 2**30
_STATES_BYTES = 16  # per trained weight: itself, its gradient and two AdamW moments, 4 bytes each
_FROZEN_BYTES = 2  # per frozen weight under a LoRA
_TEXT_TOKENS = 600  # system message, question and labels


class Shape(NamedTuple):
    """Sizes of a model that determine its memory."""

    parameters: float
    layers: int
    hidden: int
    kv_heads: int
    head_dim: int


KNOWN_SHAPES = {
    "Qwen/Qwen2.5-VL-3B-Instruct": Shape(3.75e9, 36, 2048, 2, 128),
    "Qwen/Qwen2.5-VL-7B-Instruct": Shape(8.29e9, 28, 3584, 4, 128),
    "TIGER-Lab/PixelReasoner-RL-v1": Shape(8.29e9, 28, 3584, 4, 128),
    "TIGER-Lab/PixelReasoner-WarmStart": Shape(8.29e9, 28, 3584, 4, 128),
    "Qwen/Qwen3-VL-4B-Instruct": Shape(4.44e9, 36, 2560, 8, 128),
    "Qwen/Qwen3-VL-8B-Instruct": Shape(8.77e9, 36, 4096, 8, 128),
}
"""frequently tuned models; a plan for them needs no file"""


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
        activations_bytes=_activations(sums, shape, rollout),
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


def _states(run: RlRun, shape: Shape, gpus: int) -> float:
    if run.lora_rank:
        # LoRA on 7 matrices per layer: rank x (in + out), about 4 x hidden each.
        adapters = shape.layers * 7 * run.lora_rank * 4 * shape.hidden
        return (shape.parameters * _FROZEN_BYTES + adapters * _STATES_BYTES) / gpus
    return shape.parameters * _STATES_BYTES / gpus


def _activations(sums: BatchSizes, shape: Shape, tokens: int) -> float:
    """Return bytes of checkpoints between layers (2 each), plus one layer: about 34 times the hidden size (arXiv 2205.05198)."""
    per_token = shape.hidden * (2 * shape.layers + 34)
    return float(sums.micro_batch * tokens * per_token)


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
