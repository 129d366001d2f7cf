"""Generation with transformers `generate`, for families without engine support. Every turn prefills the whole conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from pixel_reasoner.models.api import Completion, ContextFull, Messages, OnText
from pixel_reasoner.models.engine.sampler import add_gumbel_noise, prompt_generator
from pixel_reasoner.models.local_text import TextStream
from pixel_reasoner.schema.settings import SamplingParams

if TYPE_CHECKING:
    from pixel_reasoner.models.local import LocalModel


@torch.inference_mode()
def generate_with_transformers(
    model: LocalModel,
    conversations: Sequence[Messages],
    sampling: SamplingParams,
    on_text: OnText | None = None,
) -> list[Completion | ContextFull]:
    """Return one turn for each conversation, in order.

    For the same seed the ids equal those of the engine, up to rounding. Tests use this function as the reference.
    """
    inputs = model.prompt_inputs(conversations)
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    limit = model.context_limit(sampling)
    fits = [length + sampling.max_new_tokens <= limit for length in lengths]
    results: list[Completion | ContextFull] = [ContextFull(n, limit) for n in lengths]
    if not any(fits):
        return results
    if not all(fits):
        fitting = [one for one, fit in zip(conversations, fits, strict=True) if fit]
        inputs = model.prompt_inputs(fitting)
    written = iter(_generate(model, inputs, sampling, on_text))
    return [next(written) if fit else full for fit, full in zip(fits, results, strict=True)]


def _generate(
    model: LocalModel, inputs: Any, sampling: SamplingParams, on_text: OnText | None
) -> list[Completion]:
    processors = LogitsProcessorList()
    if sampling.temperature > 0:
        processors.append(_SeededSampling(sampling, inputs["input_ids"], inputs["attention_mask"]))
    out = model.model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=sampling.max_new_tokens,
        logits_processor=processors,
        streamer=_Streamer(model, on_text) if on_text else None,
        return_dict_in_generate=True,
        output_logits=True,
        # A rollout depends only on its settings, not on generation defaults in the model folder.
        temperature=None,
        top_p=None,
        top_k=None,
        repetition_penalty=1.0,
    )
    prompt_length = inputs["input_ids"].shape[1]
    new_ids = out.sequences[:, prompt_length:].tolist()
    logprobs = _logprobs(out, prompt_length, sampling)
    prompt_lengths = inputs["attention_mask"].sum(dim=1).tolist()
    return [model.completion(*row) for row in zip(new_ids, logprobs, prompt_lengths, strict=True)]


def _logprobs(out: Any, prompt_length: int, sampling: SamplingParams) -> list[list[float]]:
    """Return (batch, new tokens) log-probabilities at the temperature of the sampling parameters (1 when greedy)."""
    columns = []
    for step, logits in enumerate(out.logits):
        scaled = torch.log_softmax(logits.float() / (sampling.temperature or 1.0), dim=-1)
        chosen = out.sequences[:, prompt_length + step, None].to(scaled.device)
        columns.append(scaled.gather(1, chosen))
    return [[float(x) for x in row] for row in torch.cat(columns, dim=1).tolist()]


class _SeededSampling(LogitsProcessor):
    """Sampling that does not depend on the rest of the batch."""

    def __init__(self, sampling: SamplingParams, ids: torch.Tensor, mask: torch.Tensor) -> None:
        self.temperature = sampling.temperature
        self.top_p = TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None
        self.generators = [
            prompt_generator(sampling.seed, row[keep].tolist())
            for row, keep in zip(ids.cpu(), mask.cpu().bool(), strict=True)
        ]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        scores = scores.float() / self.temperature
        if self.top_p is not None:
            scores = self.top_p(input_ids, scores)
        return add_gumbel_noise(scores, self.generators)


class _Streamer(BaseStreamer):
    """Streamer that returns text while `generate` runs."""

    def __init__(self, model: LocalModel, on_text: OnText) -> None:
        self.on_text, self.end_tokens = on_text, model.end_tokens
        self.decode, self.stream = model.decode, TextStream(model.decode)
        self.ids: list[int] | None = None  # the first call of `put` passes the prompt

    def put(self, value: torch.Tensor) -> None:
        """Receive the prompt or the next id."""
        if self.ids is None:
            self.ids = []
            return
        ids = [id for id in value.flatten().tolist() if id not in self.end_tokens]
        self.ids += ids
        self._emit(self.stream.push(ids))

    def end(self) -> None:
        """Return the remaining text."""
        self._emit(self.stream.finish(self.decode(self.ids or [])))

    def _emit(self, text: str) -> None:
        if text:
            self.on_text(text)
