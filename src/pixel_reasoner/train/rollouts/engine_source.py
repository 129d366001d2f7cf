"""Generation of RL rollouts with `models.engine`.

TRL's own loop prefills every conversation from the start in each turn, prefills a question's prompt once per rollout,
and
decodes a batch until its longest sequence is finished. The engine keeps the KV cache of a conversation, shares the
prefix
of a question's rollouts, and removes finished sequences. Both sample from the same distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pixel_reasoner.models.engine import (
    Engine,
    ImageInput,
    Sampler,
    Sequence as EngineSequence,
    is_supported,
    unwrap_peft,
)
from pixel_reasoner.train.rollouts.turn_source import GeneratedTurn, TurnRequest

_KNOWN = frozenset({"max_new_tokens", "suppress_tokens"})
"""keys of `generation_kwargs` that the engine supports"""


def can_use_engine(trainer: Any) -> bool:
    """Return whether the engine can generate rollouts: a supported family and supported sampling."""
    args = trainer.args
    return not (
        args.use_transformers_continuous_batching
        or args.repetition_penalty != 1.0
        or args.cache_implementation
        or set(args.generation_kwargs or ()) - _KNOWN
    ) and is_supported(_weights(trainer))


class RolloutSource:
    """Engine of one trainer, with its sampling parameters, and its weights or a whole copy of sharded ones."""

    def __init__(self, trainer: Any, model: Any = None) -> None:
        self.trainer = trainer
        self.engine = Engine(
            _weights(trainer) if model is None else model,
            trainer.processing_class,
            trainer.eos_token_ids,
            sampler=build_sampler(trainer.generation_config),
        )
        self._requests: dict[int, EngineSequence] = {}
        """requests in progress by the number of their rollout"""
        self._finished: dict[int, EngineSequence] = {}
        """last turn of each rollout that has not stopped"""

    def clear(self) -> None:
        """Clear the KV cache, which changed weights make invalid."""
        self.engine.clear()

    def generate(
        self, prompt_ids: Sequence[Sequence[int]], images: Sequence[Any] | None
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return the token ids of one turn per prompt, including the end token, and their logprobs.

        Args:
            prompt_ids: token ids of the whole conversation so far.
            images: images of each prompt; None for a prompt, or for all, without images.
        """
        max_new_tokens = self.trainer.generation_config.max_new_tokens
        images = images or [None] * len(prompt_ids)
        sequences = [
            EngineSequence(list(ids), tuple(map(ImageInput.of, some or ())), max_new_tokens)
            for ids, some in zip(prompt_ids, images, strict=True)
        ]
        with self._inference():
            self.engine.run(sequences)
        return [one.new_ids for one in sequences], [one.logprobs for one in sequences]

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Generate in evaluation mode: in training mode, layers with gradient checkpointing return no keys and values."""
        model = self.engine.model
        training = model.training
        model.eval()
        with self.trainer.accelerator.autocast():
            yield
        model.train(training)

    # --- continuous generation ---

    def submit(self, request: TurnRequest) -> None:
        """Queue a request."""
        images = tuple(map(ImageInput.of, request.images))
        sequence = EngineSequence(list(request.prompt_ids), images, request.max_new_tokens)
        self._requests[request.key] = sequence
        self.engine.add_request(sequence)

    def poll(self, timeout_s: float) -> list[GeneratedTurn]:
        """Run the engine until a turn finishes. The timeout has no effect, so that the result depends on no clock."""
        del timeout_s
        finished: list[EngineSequence] = []
        with self._inference():
            while self.engine.has_unfinished and not finished:
                finished = self.engine.step()
        keys = [key for key, one in self._requests.items() if one in finished]
        self._finished |= {key: self._requests.pop(key) for key in keys}
        return [_generated(key, self._finished[key]) for key in keys]

    def release(self, key: int) -> None:
        """Free the keys and values of a rollout that has stopped."""
        sequence = self._finished.pop(key, None)
        if sequence is not None:
            self.engine.release(sequence)

    def interrupt(self) -> list[GeneratedTurn]:
        """End all requests in progress and return what they have generated."""
        turns = [_generated(key, one, is_interrupted=True) for key, one in self._requests.items()]
        for one in self._requests.values():
            self.engine.cancel(one)
        self._requests.clear()
        return turns


def _generated(
    key: int, sequence: EngineSequence, *, is_interrupted: bool = False
) -> GeneratedTurn:
    return GeneratedTurn(key, sequence.new_ids, list(sequence.logprobs), is_interrupted)


def _weights(trainer: Any) -> Any:
    """Return the model without wrappers of distributed training and PEFT; its LoRA layers stay."""
    return unwrap_peft(trainer.accelerator.unwrap_model(trainer.model))


def build_sampler(config: GenerationConfig) -> Sampler:
    """Return a sampler that applies a configuration's logits processors in the order of transformers.

    Logprobs equal those of a training step on the same tokens: with the temperature, without truncation.

    >>> sequences, logits = [], torch.tensor([[0.0, 2.0, 1.0]])
    >>> int(build_sampler(GenerationConfig(do_sample=True, top_k=1))(logits, sequences)[0])
    1
    >>> int(build_sampler(GenerationConfig(do_sample=True, top_k=1, suppress_tokens=[1]))(logits, sequences)[0])
    2
    """
    processors = LogitsProcessorList()
    if config.suppress_tokens:
        processors.append(SuppressTokensLogitsProcessor(config.suppress_tokens))
    if config.top_k:
        processors.append(TopKLogitsWarper(config.top_k))
    if config.top_p is not None and config.top_p < 1.0:
        processors.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        processors.append(MinPLogitsWarper(config.min_p))

    def sampler(
        logits: torch.Tensor, sequences: Sequence[EngineSequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        del sequences
        scores = logits.float() / (config.temperature or 1.0)
        ids = torch.multinomial(torch.softmax(processors(None, scores), dim=-1), 1)
        return ids[:, 0], torch.log_softmax(scores, dim=-1).gather(1, ids)[:, 0]

    return sampler
