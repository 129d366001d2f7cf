"""Generation of RL rollouts with sharded weights: the engine runs on a whole copy, gathered once per policy sync.

A forward pass of sharded weights is a collective call. Generation with it needs the same number of passes in all processes,
but processes finish their rollouts at different times. With a copy, generation makes no collective call at all. The copy
needs memory for the whole model in every process: for larger models, a vLLM server generates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pixel_reasoner.errors import ModelError
from pixel_reasoner.models.engine import unwrap_peft
from pixel_reasoner.models.patches import optimize_vision_encoder
from pixel_reasoner.train import distributed
from pixel_reasoner.train.rollouts.engine_source import RolloutSource, can_use_engine
from pixel_reasoner.train.rollouts.turn_source import GeneratedTurn, TurnRequest
from pixel_reasoner.train.weights import empty_copy

WHOLE_COPY = ("fsdp2", "zero3")
"""kinds of sharding whose processes have no whole weights"""


class GatheredSource:
    """Turn source of a run with sharded weights: `ContinuousTurnSource`.

    Raises:
        ModelError: a family or sampling options that the engine does not support.
    """

    def __init__(self, trainer: Any) -> None:
        if not can_use_engine(trainer):
            raise ModelError(
                expected=f"a model and sampling options of the engine for sharding = {trainer.run.sharding!r}",
                got=type(unwrap_peft(distributed.unwrap_model(trainer))).__name__,
                fix='set sharding = "zero2", or add [vllm]',
            )
        self.trainer = trainer
        self._copy: Any = None
        self._source: RolloutSource | None = None
        self._step = -1

    def clear(self) -> None:
        """Update the copy if the weights have changed since the last call. Collective: all processes call it equally often."""
        step = self.trainer.state.global_step
        if self._source is None:
            self._source = self._build()
        elif step != self._step:
            copy_weights(self.trainer, self._copy, only_trained=True)
        self._step = step
        self._source.clear()

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any] | None
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return the token ids of one turn per prompt, and their log-probabilities. Not collective."""
        assert self._source is not None, "clear() gathers the weights first"
        return self._source.generate(prompt_ids, images)

    def submit(self, request: TurnRequest) -> None:
        """Queue a request."""
        assert self._source is not None, "clear() gathers the weights first"
        self._source.submit(request)

    def poll(self, timeout_s: float) -> list[GeneratedTurn]:
        """Run the engine until a turn finishes. Not collective."""
        assert self._source is not None, "clear() gathers the weights first"
        return self._source.poll(timeout_s)

    def release(self, key: int) -> None:
        """Free the keys and values of a rollout that has stopped."""
        assert self._source is not None, "clear() gathers the weights first"
        self._source.release(key)

    def interrupt(self) -> list[GeneratedTurn]:
        """End all requests in progress and return what they have generated."""
        return self._source.interrupt() if self._source is not None else []

    def _build(self) -> RolloutSource:
        self._copy = empty_copy(distributed.unwrap_model(self.trainer))
        self._copy.requires_grad_(requires_grad=False)
        if self.trainer.args.bf16:  # a forward pass of the trainer computes with these values too
            for weight in self._copy.parameters():
                weight.data = weight.data.to(torch.bfloat16)
        self._copy.to(self.trainer.accelerator.device)
        copy_weights(self.trainer, self._copy)
        model = unwrap_peft(self._copy)
        optimize_vision_encoder(model)
        return RolloutSource(self.trainer, model)


@torch.no_grad()
def copy_weights(trainer: Any, copy: Any, *, only_trained: bool = False) -> None:
    """Copy whole weights of a trainer to a model with the same modules, in every process. Collective."""
    targets = dict(copy.named_parameters())
    model = distributed.unwrap_model(trainer)
    for name, weight in distributed.gathered_weights(model, only_trained=only_trained):
        targets[name.replace("_checkpoint_wrapped_module.", "")].copy_(weight)
