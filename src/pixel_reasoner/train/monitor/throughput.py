"""Metrics of every gradient step: seconds and shares of its phases, tokens per second, MFU, and memory of all processes.

    seconds/PHASE, seconds/step         mean over processes; the phases are those of `timing.PHASES`
    seconds/between                     validation, checkpoints and logs between the last step and this one
    perf/share/PHASE                    share of the step
    perf/generated_tokens_per_s         tokens that the model generated, per second of generation, all processes
    perf/trained_tokens_per_s           tokens in forward and backward passes without padding, per second of the update
    perf/tokens_per_s                   trained tokens per second of the step, per process
    perf/mfu                            model FLOPs of generation and update / (seconds of the step x peak of all devices)
    perf/mfu_generation, perf/mfu_update        the same for one phase
    perf/memory_gib, perf/peak_memory_gib       resident memory of a process: now, and largest since its start
    perf/cuda_memory_gib                        largest reserved memory of a GPU

With several processes, seconds and memory also have the lowest and the highest process: `perf/min/...`, `perf/max/...`.
`flops` describes how FLOPs are counted; `hardware.peak_flops` where the peak comes from.

Each step makes two collective calls, whatever it contains: a barrier before its last micro-batch, whose duration is
the time this process waits for slower ones, and one gather. Waiting inside the backward pass (gradients of other
processes) is part of the update.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

from pixel_reasoner.models.engine import unwrap_peft
from pixel_reasoner.train import distributed
from pixel_reasoner.train.monitor.flops import (
    ModelShape,
    Work,
    forward_flops,
    picture_tokens,
    placeholder_ids,
    sequence_work,
    training_flops,
)
from pixel_reasoner.train.monitor.hardware import (
    GIB,
    peak_flops,
    peak_memory,
    resident_memory,
    synchronize,
)
from pixel_reasoner.train.monitor.timing import PHASES, StepTimer
from pixel_reasoner.train.rollouts.generator import GeneratedRollout

IGNORED_LABEL = -100
_SECONDS = ("step", "between", *PHASES)
_MEMORY = ("memory_gib", "peak_memory_gib", "cuda_memory_gib")
_SUMS = ("generated", "trained", "generation_flops", "update_flops", "peak_flops")


class StepMeter:
    """Measures one gradient step of a trainer at a time.

    Args:
        trainer: a trainer whose model is not wrapped yet.
    """

    def __init__(self, trainer: Any) -> None:
        model = unwrap_peft(trainer.model)
        self.run = trainer.run
        self.device = trainer.accelerator.device
        self.shape = ModelShape.of(model)
        self.placeholders = placeholder_ids(model.config)
        self.timer = StepTimer()
        self._dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
        self._peak = 0.0
        self._clear()

    def _clear(self) -> None:
        self._batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        """ids, mask of tokens, and mask of tokens with a loss"""
        self._num_generated = self._generation_flops = 0.0

    def start(self) -> None:
        """Start a step."""
        if not self._peak:
            self._peak = peak_flops(self.device, self._dtype, self.run.monitor.peak_tflops)
        self._clear()
        self.timer.start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the duration of the block to a phase. Work of a GPU that was started before belongs to the phase before."""
        synchronize(self.device)
        with self.timer.phase(name):
            yield
            synchronize(self.device)

    def wait_for_ranks(self, trainer: Any) -> None:
        """Wait until all processes are here, and count the time as waiting. Collective."""
        if trainer.accelerator.num_processes > 1:
            with self.phase("ranks"):
                trainer.accelerator.wait_for_everyone()

    def add_rollouts(self, rollouts: Sequence[GeneratedRollout], *, is_remote: bool) -> None:
        """Count generated rollouts. Executed calls are moved from generation to operations.

        Args:
            rollouts: those of one batch, the group of a question one after the other.
            is_remote: whether the model generates on other devices; then its FLOPs are not those of this process.
        """
        turns = [turn for one in rollouts for turn in one.trace.turns]
        self.timer.move(sum(turn.operate_s for turn in turns), "generation", "operations")
        self._num_generated += sum(sum(one.row.loss_mask) for one in rollouts)
        if not is_remote:
            work = generation_work(self.shape, rollouts, self.placeholders)
            self._generation_flops += forward_flops(self.shape, work).total

    def add_batch(self, inputs: dict[str, Any]) -> None:
        """Note a micro-batch of the update. Its tokens are counted at the end of the step, when a GPU has finished."""
        if "completion_ids" in inputs:
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            self._batches.append((ids, mask, inputs["completion_mask"].bool()))
        else:  # TRL computes the logits of labels only
            is_scored = inputs["labels"][:, 1:] != IGNORED_LABEL
            self._batches.append((inputs["input_ids"], inputs["attention_mask"], is_scored))

    def finish(self, trainer: Any) -> dict[str, float]:
        """Return the metrics of the step, over all processes. Collective."""
        synchronize(self.device)
        seconds = self.timer.finish()
        work, trained = self._update_work()
        flops = training_flops(
            self.shape,
            work,
            is_lora=bool(self.run.lora_rank),
            trains_vision=self.run.train_vision,
        )
        cuda = torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else 0
        row = [
            *(seconds[name] for name in _SECONDS),
            *(size / GIB for size in (resident_memory(), peak_memory(), cuda)),
            *(self._num_generated, trained, self._generation_flops, flops, self._peak),
        ]
        rows = distributed.gather_rows(torch.tensor([row], dtype=torch.float32), trainer)
        return step_metrics(rows)

    def _update_work(self) -> tuple[Work, float]:
        work, trained = Work(), 0
        for ids, mask, scored in self._batches:
            rows = zip(ids.cpu(), mask.cpu().bool(), scored.sum(dim=1).tolist(), strict=True)
            for row, is_token, head in rows:
                sequence = row[is_token]
                pictures = picture_tokens(sequence, self.placeholders)
                work += sequence_work(self.shape, len(sequence), pictures, head_tokens=head)
                trained += len(sequence)
        return work, trained


def generation_work(
    shape: ModelShape, rollouts: Sequence[GeneratedRollout], placeholders: Sequence[int]
) -> Work:
    """Return the work that generating rollouts needs: each token once, the first prompt of a group once.

    A backend that prefills a prompt again in each turn or for each rollout does more, which does not count.
    """
    work = Work()
    seen: set[tuple[int, ...]] = set()
    for rollout in rollouts:
        for sequence in rollout.sequences:
            prompt = tuple(sequence.prompt_ids)
            shared = len(prompt) if prompt in seen else 0
            seen.add(prompt)
            length = len(prompt) + len(sequence.completion_ids)
            pictures = picture_tokens(torch.tensor(sequence.ids[shared:]), placeholders)
            generated = sum(sequence.loss_mask)
            work += sequence_work(shape, length, pictures, num_cached=shared, head_tokens=generated)
    return work


def step_metrics(rows: torch.Tensor) -> dict[str, float]:
    """Return the metrics of a step from the (processes, numbers) of all processes."""
    values = dict(zip((*_SECONDS, *_MEMORY, *_SUMS), rows.double().T, strict=True))
    means = {name: float(values[name].mean()) for name in (*_SECONDS, *_MEMORY)}
    sums = {name: float(values[name].sum()) for name in _SUMS}
    found = {f"seconds/{name}": means[name] for name in _SECONDS}
    found |= {f"perf/share/{name}": _ratio(means[name], means["step"]) for name in PHASES}
    found |= {f"perf/{name}": means[name] for name in _MEMORY if means[name]}
    generation, update = means["generation"], means["update"]
    if sums["generated"]:
        found["perf/generated_tokens_per_s"] = _ratio(sums["generated"], generation)
    if sums["generation_flops"]:
        found["perf/mfu_generation"] = _ratio(
            sums["generation_flops"], generation * sums["peak_flops"]
        )
    found["perf/trained_tokens_per_s"] = _ratio(sums["trained"], update)
    found["perf/tokens_per_s"] = _ratio(sums["trained"], means["step"] * len(rows))
    found["perf/mfu_update"] = _ratio(sums["update_flops"], update * sums["peak_flops"])
    flops = sums["generation_flops"] + sums["update_flops"]
    found["perf/mfu"] = _ratio(flops, means["step"] * sums["peak_flops"])
    if len(rows) > 1:
        for name in (*_SECONDS, *_MEMORY):
            if means[name]:
                short = name if name in _MEMORY else f"seconds/{name}"
                found[f"perf/min/{short}"] = float(values[name].min())
                found[f"perf/max/{short}"] = float(values[name].max())
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _ratio(one: float, two: float) -> float:
    return one / two if two else math.nan


class ThroughputMixin:
    """Mixin for TRL's trainers: measures each gradient step, and logs its metrics."""

    args: Any
    accelerator: Any
    _metrics: Any
    meter: StepMeter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meter = StepMeter(self)
        self.add_callback(_StepEnd(self))  # type: ignore[attr-defined]

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return the batches of the next gradient step, which starts here."""
        self.meter.start()
        with self.meter.phase("data"):
            return super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train one micro-batch. Before the last one of a step, wait for all processes: gradients would wait too."""
        if self.accelerator.gradient_state.sync_gradients:
            self.meter.wait_for_ranks(self)
        return super().training_step(*args, **kwargs)  # type: ignore[misc]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a micro-batch, and count its tokens."""
        if model.training:
            self.meter.add_batch(inputs)
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]


class _StepEnd(TrainerCallback):
    """Adds the metrics of a step to its log, before other callbacks take time."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, value in self.trainer.meter.finish(self.trainer).items():
            self.trainer._metrics["train"][name].append(value)
