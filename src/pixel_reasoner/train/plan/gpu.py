"""Time and cost of a run on GPUs of which only the data sheet is at hand: `train sft|rl --plan --gpu H100`.

Computed, not measured. Assumptions, each a constant below, with its source:

    update       model FLOPs at a fixed MFU, or the time to move the shards of FSDP2 if that is longer
    prefill      model FLOPs at a fixed MFU; the pictures and the prompt of a group once
    decode       each step reads all weights and the keys and values of the rollouts in the batch
    weights      sent to the generator once per policy sync, over the slowest link

`docs/scale.md` compares them with published and with measured runs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pixel_reasoner.errors import UsageError
from pixel_reasoner.train.config import SftRun
from pixel_reasoner.train.monitor.hardware import GIB, GPUS, Gpu

RESULT_TEXT_TOKENS = 40
"""text around the picture that an operation returns"""
UPDATE_MFU = 0.30
"""SFT of 7B models with pictures reaches 30 to 40 % with packing (lmms-engine), RL 14 to 19 % on 8 H100 (EasyR1)"""
PREFILL_MFU = 0.40
BANDWIDTH_SHARE = 0.6
"""share of the memory bandwidth that decoding reaches"""
DECODE_OVERHEAD_S = 0.012
"""of one decode step: launching kernels, sampling, scheduling"""
TOWER_WEIGHTS = 0.63e9
"""of the vision tower of Qwen2.5-VL, per patch; four patches are one visual token"""
NODE_GPUS = 8
NODE_LINK = 300e9
"""bytes per second and GPU inside a node: two thirds of NVLink"""
NETWORK_LINK = 25e9
"""bytes per second and GPU between nodes: half of 400 Gbit/s"""


class Shape(NamedTuple):
    """Sizes of a model that determine its memory."""

    parameters: float
    layers: int
    hidden: int
    kv_heads: int
    head_dim: int


class Workload(NamedTuple):
    """Sequences of one gradient step over all GPUs, and of the rollouts that it needs."""

    sequences: int
    """of a gradient step"""
    sequence_tokens: float
    visual_tokens: float
    """of a sequence, included in its tokens"""
    micro_batches: float = 1.0
    """of a gradient step, per GPU"""
    prompts: float = 0.0
    """different prompts per gradient step; 0 for SFT"""
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    """of a rollout, that the model samples"""
    rollouts_at_once: int = 1
    """per GPU"""
    steps_per_sync: int = 1


class StepSeconds(NamedTuple):
    """Expected seconds of one gradient step."""

    compute: float
    """of the update"""
    network: float
    """of the update; it overlaps with computing"""
    prefill: float
    decode: float
    sync: float
    """weights to the generator"""

    @property
    def step(self) -> float:
        """The whole step."""
        return max(self.compute, self.network) + self.prefill + self.decode + self.sync

    @property
    def limit(self) -> str:
        """Name of the longest part."""
        parts = {
            "generation": self.prefill + self.decode,
            "network": self.network if self.network > self.compute else 0.0,
            "update": self.compute if self.compute >= self.network else 0.0,
            "weight sync": self.sync,
        }
        return max(parts, key=lambda name: parts[name])


class GpuCosts(NamedTuple):
    """Constants of a plan that a user may replace."""

    mfu: float = UPDATE_MFU
    overhead_s: float = DECODE_OVERHEAD_S


def step_seconds(
    shape: Shape,
    work: Workload,
    gpu: Gpu,
    gpus: int,
    *,
    is_lora: bool,
    costs: GpuCosts | None = None,
) -> StepSeconds:
    """Return the expected seconds of a gradient step.

    >>> shape = Shape(8.29e9, 28, 3584, 4, 128)
    >>> one, eight = (
    ...     step_seconds(shape, Workload(128, 2000, 1024), GPUS["H100"], n, is_lora=False).step for n in (1, 8)
    ... )
    >>> round(one / eight, 1)
    8.0
    """
    costs = costs or GpuCosts()
    peak = gpu.peak_flops * gpus
    tokens = work.sequences * work.sequence_tokens
    factor = 4 if is_lora else 6
    vision = 2 * TOWER_WEIGHTS * 4 * work.visual_tokens * work.sequences
    attention = 6 * shape.layers * shape.hidden * work.sequence_tokens * tokens
    update = factor * shape.parameters * tokens + attention + vision
    link = NODE_LINK if gpus <= NODE_GPUS else NETWORK_LINK
    prefilled = work.prompts * work.prompt_tokens
    results = work.sequences * max(
        0.0, work.sequence_tokens - work.prompt_tokens - work.generated_tokens
    )
    is_rl = bool(work.prompts)
    return StepSeconds(
        compute=update / (peak * costs.mfu),
        network=work.micro_batches
        * _shard_bytes(shape, is_lora=is_lora)
        * (gpus - 1)
        / gpus
        / link,
        prefill=2 * shape.parameters * (prefilled + results) / (peak * PREFILL_MFU) if is_rl else 0,
        decode=_decode_seconds(shape, work, gpu, gpus, costs) if is_rl else 0.0,
        sync=(0.02 if is_lora else 1.0) * 2 * shape.parameters / link / work.steps_per_sync
        if is_rl
        else 0.0,
    )


def _shard_bytes(shape: Shape, *, is_lora: bool) -> float:
    """Return the bytes that FSDP2 moves per GPU and micro-batch: weights twice in 16 bits, gradients once in 32."""
    return shape.parameters * (4 if is_lora else 8)


def _decode_seconds(shape: Shape, work: Workload, gpu: Gpu, gpus: int, costs: GpuCosts) -> float:
    """Return the seconds of decoding per gradient step. A model that does not fit is split over several GPUs."""
    split = tensor_parallel(shape, gpu)
    per_engine = work.rollouts_at_once * split
    batches = work.sequences / gpus / work.rollouts_at_once
    mean_length = work.sequence_tokens - work.generated_tokens / 2
    cache = 4 * shape.layers * shape.kv_heads * shape.head_dim * mean_length * per_engine
    reading = (2 * shape.parameters + cache) / (split * gpu.bytes_per_s * BANDWIDTH_SHARE)
    computing = 2 * shape.parameters * per_engine / (split * gpu.peak_flops * PREFILL_MFU)
    step = max(reading, computing) + costs.overhead_s
    return batches * work.generated_tokens * step


def tensor_parallel(shape: Shape, gpu: Gpu) -> int:
    """Return over how many GPUs the generator splits the weights: they use at most half of the memory.

    >>> [tensor_parallel(Shape(n, 1, 1, 1, 1), GPUS["H100"]) for n in (8e9, 33e9, 73e9)]
    [1, 2, 4]
    """
    share = 2 * shape.parameters / (gpu.memory_gib * GIB)
    return 1 if share <= 0.5 else 2 ** math.ceil(math.log2(share / 0.5))


def find_listed_gpu(name: str) -> Gpu:
    """Return the data sheet of a GPU.

    Raises:
        UsageError: it is not listed.
    """
    known = {key.lower(): gpu for key, gpu in GPUS.items()}
    if name.lower() not in known:
        raise UsageError(
            expected=f"--gpu this, or one of {', '.join(GPUS)}",
            got=name,
            fix="name a GPU of similar speed",
        )
    return known[name.lower()]


def sft_batch(run: SftRun, processes: int) -> tuple[int, int]:
    """Return the sequences of a micro-batch, and the micro-batches of a gradient step."""
    micro = int(run.trl.get("per_device_train_batch_size", 1))
    if run.batch_size:
        return micro, max(1, run.batch_size // (micro * processes))
    return micro, int(run.trl.get("gradient_accumulation_steps", 128))
