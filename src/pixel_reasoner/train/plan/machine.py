"""Memory and time of a run on this machine, before it starts: `train sft|rl --plan --gpu this`.

Times come from `calibrate.measure_costs`: layers of the model's width, at the lengths of the run's data. Memory is the
sum of what a process holds at its peak, in the types of the run:

    weights, gradients and AdamW's moments of trained weights, copies of gradients that DDP sends
    activations and their gradients at the peak of a backward pass, measured
    keys and values of the rollouts of one batch, which stay in the engine's cache during the update

Libraries are not included: about 1 GiB of a process on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from pixel_reasoner.models.folder import budgets_for_processor, folder_settings, model_folder
from pixel_reasoner.models.hub import local_model
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.train import distributed
from pixel_reasoner.train.batch_sizes import batch_sizes
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.monitor.flops import (
    ModelShape,
    forward_flops,
    placeholder_ids,
    sequence_work,
)
from pixel_reasoner.train.monitor.hardware import GIB
from pixel_reasoner.train.plan.calibrate import Costs, Generation, Row, measure_costs
from pixel_reasoner.train.plan.data import RlData, SftData, rl_data, sft_data
from pixel_reasoner.train.plan.gpu import sft_batch
from pixel_reasoner.train.weights import lora_config

LINK_BYTES_PER_S = 1.5e9
"""gradients of two processes on one machine, with gloo"""
FIXED_STEP_S = 0.02
"""logs, metrics and callbacks of a step, on one CPU core"""
FIXED_MICRO_BATCH_S = 0.03
"""of a micro-batch: collating, moving, TRL's metrics"""


class MachinePlan(NamedTuple):
    """Expected memory and time of one process."""

    steps: int
    generation_s: float
    """per gradient step, mean over the steps of a policy sync"""
    update_s: float
    memory_bytes: float
    """without libraries"""

    @property
    def step_s(self) -> float:
        """Seconds of a gradient step."""
        return self.generation_s + self.update_s

    def lines(self, price: float, processes: int) -> list[str]:
        """Return the plan as text."""
        hours = self.step_s * self.steps / 3600
        parts = f"{self.generation_s:.2f} s generation, {self.update_s:.2f} s update"
        lines = [
            f"memory per process: {self.memory_bytes / GIB:.2f} GiB and libraries",
            f"time: {self.step_s:.2f} s per gradient step ({parts}), {self.steps} steps, {hours:.2f} h",
        ]
        if price:
            cost = hours * processes * price
            lines.append(f"cost: {cost:.2f} at {price:g} per GPU hour")
        return lines


class _Parameters(NamedTuple):
    total: float
    trained: float


def plan_machine(
    run: SftRun | RlRun, processes: int = 1, *, turns: float = 2.0, turn_tokens: int = 100
) -> MachinePlan:
    """Return the expected memory and time of a run on this machine.

    Args:
        run: the run; its model is a folder, and its data exist.
        processes: number of processes, each with the number of threads that this one has.
        turns: expected number of turns of a rollout.
        turn_tokens: expected tokens of a turn.

    Raises:
        ModelError: a model that is missing, or of a family that cannot be measured.
        InputError: data that cannot be read.
    """
    folder = local_model(run.model)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    processor = load_processor(str(folder))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    shape, parameters = ModelShape.of(model), _parameters(model, run)
    if isinstance(run, SftRun):
        data = sft_data(run, processor, placeholder_ids(config))
        return _plan_sft(run, config, processor, data, parameters, processes)
    settings = folder_settings(model_folder(str(folder)))
    budgets = budgets_for_processor(settings, processor.image_processor)
    settings = settings.model_copy(update={"budgets": budgets})
    found = rl_data(run, processor, settings, turns, turn_tokens)
    return _plan_rl(run, config, processor, found, (shape, parameters), processes)


def _plan_sft(
    run: SftRun,
    config: Any,
    processor: Any,
    data: SftData,
    parameters: _Parameters,
    processes: int,
) -> MachinePlan:
    micro, accumulation = sft_batch(run, processes)
    batches = data.micro_batches(micro)
    costs = measure_costs(run, config, _mean_batch(batches), None, processor)
    longest = max(batches, key=lambda rows: sum(row.tokens for row in rows))
    growth = sum(r.tokens for r in longest) / sum(r.tokens for r in _mean_batch(batches))
    epochs = float(run.trl.get("num_train_epochs", 1.0))
    per_epoch = math.ceil(math.ceil(data.num_traces / processes / micro) / accumulation)
    steps = int(run.trl.get("max_steps", -1))
    return MachinePlan(
        steps=steps if steps > 0 else math.ceil(per_epoch * epochs),
        generation_s=0.0,
        update_s=accumulation * (costs.update_s + FIXED_MICRO_BATCH_S)
        + costs.optimizer_s
        + _link_seconds(parameters, processes)
        + FIXED_STEP_S,
        memory_bytes=_states(parameters, processes) + growth * costs.activation_bytes,
    )


def _plan_rl(
    run: RlRun,
    config: Any,
    processor: Any,
    data: RlData,
    model: tuple[ModelShape, _Parameters],
    processes: int,
) -> MachinePlan:
    shape, parameters = model
    sizes = batch_sizes(run, processes)
    at_once = min(run.rollouts_at_once, sizes.rollouts_per_process)
    prompts = max(1, at_once // run.group_size)
    generation = Generation(prompts, at_once, data.prompt)
    costs = measure_costs(run, config, [data.row] * sizes.micro_batch, generation, processor)
    batches = math.ceil(sizes.rollouts_per_process / at_once)
    generated = batches * _batch_seconds(costs, data, shape, generation)
    steps_per_sync = sizes.minibatches_per_sync * int(run.trl.get("num_iterations", 1))
    rollouts = data.num_questions * run.group_size * float(run.trl.get("num_train_epochs", 3.0))
    steps = int(run.trl.get("max_steps", -1))
    cache = 2 * 4 * shape.layers * shape.kv_heads * shape.head_dim * data.row.tokens * at_once
    return MachinePlan(
        steps=steps if steps > 0 else math.ceil(rollouts / run.minibatch),
        generation_s=generated / steps_per_sync,
        update_s=sizes.accumulation * (costs.update_s + FIXED_MICRO_BATCH_S)
        + costs.optimizer_s
        + _link_seconds(parameters, processes)
        + FIXED_STEP_S,
        memory_bytes=_states(parameters, processes) + costs.activation_bytes + cache,
    )


def _batch_seconds(costs: Costs, data: RlData, shape: ModelShape, generation: Generation) -> float:
    """Return the seconds of one batch of rollouts. Results of operations are prefilled at the speed of the prompts."""
    prompts = forward_flops(
        shape, sequence_work(shape, data.prompt.tokens, data.prompt.pictures)
    ).total
    decoded = data.turns * data.turn_tokens * costs.decode_s
    if data.turns <= 1:
        return costs.prefill_s + decoded
    start = data.prompt.tokens + data.turn_tokens
    result = sequence_work(
        shape, start + data.result_tokens, [data.result_tokens], num_cached=start
    )
    ratio = (data.turns - 1) * generation.rollouts * forward_flops(shape, result).total
    return costs.prefill_s * (1 + ratio / (generation.prompts * prompts)) + decoded


def _mean_batch(batches: Sequence[Sequence[Row]]) -> list[Row]:
    """Return a micro-batch of the mean length, with the mean number of visual tokens."""
    rows = [row for batch in batches for row in batch]
    num_pictures = max(1, round(fmean(len(row.pictures) for row in rows)))
    visual = fmean(sum(row.pictures) for row in rows)
    pictures = (max(1, round(visual / num_pictures)),) * num_pictures
    one = Row(
        round(fmean(row.tokens for row in rows)), pictures, round(fmean(row.scored for row in rows))
    )
    return [one] * len(batches[0])


def _parameters(model: Any, run: SftRun | RlRun) -> _Parameters:
    """Return the numbers of all and of trained weights of a model on the meta device."""
    if run.lora_rank:
        from peft import get_peft_model

        with torch.device("meta"):
            model = get_peft_model(model, lora_config(run))
    elif not run.train_vision:
        distributed.module_groups(model).freeze_vision()
    counts = [(one.numel(), one.requires_grad) for one in model.parameters()]
    return _Parameters(sum(n for n, _ in counts), sum(n for n, is_trained in counts if is_trained))


def _states(parameters: _Parameters, processes: int) -> float:
    """Return the bytes of weights, gradients, moments, and DDP's copy of the gradients."""
    copies = 1 if processes > 1 else 0
    return 4 * parameters.total + (12 + 4 * copies) * parameters.trained


def _link_seconds(parameters: _Parameters, processes: int) -> float:
    """Return the seconds of the all-reduce of gradients: a ring sends each byte twice."""
    return 2 * (processes - 1) / processes * 4 * parameters.trained / LINK_BYTES_PER_S
