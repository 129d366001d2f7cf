"""Sampling of next tokens with per-sequence parameters.

The result for a sequence depends only on its logits, parameters, seed and prompt ids, not on the rest of the batch.
"""

from __future__ import annotations

import hashlib
from collections import abc

import torch
from transformers import TopPLogitsWarper

from pixel_reasoner.models.engine.sequence import Sequence
from pixel_reasoner.schema.settings import SamplingParams

Sampler = abc.Callable[
    [torch.Tensor, abc.Sequence[Sequence]], tuple[torch.Tensor, torch.Tensor | None]
]
"""(sequences, vocabulary) logits -> (sequences,) ids and their logprobs, or None for no logprobs"""

_GREEDY = SamplingParams()


def sample(
    logits: torch.Tensor, sequences: abc.Sequence[Sequence]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (sequences,) next ids and their logprobs at the temperature of each sequence (1 when greedy).

    Sequences with the same temperature and top-p are sampled together.
    """
    groups: dict[tuple[float, float], list[int]] = {}
    for n, sequence in enumerate(sequences):
        params = sequence.sampling or _GREEDY
        groups.setdefault((params.temperature, params.top_p), []).append(n)
    if len(groups) == 1:
        ((temperature, top_p),) = groups
        return _sample_group(logits, sequences, temperature, top_p)
    ids = torch.empty(len(sequences), dtype=torch.long, device=logits.device)
    logprobs = torch.empty(len(sequences), dtype=torch.float32, device=logits.device)
    for (temperature, top_p), members in groups.items():
        index = torch.tensor(members, device=logits.device)
        some = [sequences[n] for n in members]
        ids[index], logprobs[index] = _sample_group(logits[index], some, temperature, top_p)
    return ids, logprobs


def _sample_group(
    logits: torch.Tensor, sequences: abc.Sequence[Sequence], temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = logits.float() / (temperature or 1.0)
    logprobs = torch.log_softmax(scores, dim=-1)
    if temperature > 0:
        if top_p < 1:
            scores = TopPLogitsWarper(top_p)(None, scores)
        scores = add_gumbel_noise(scores, [_get_generator(one) for one in sequences])
    ids = scores.argmax(dim=-1)
    return ids, logprobs.gather(1, ids[:, None])[:, 0]


def _get_generator(sequence: Sequence) -> torch.Generator:
    if sequence.generator is None:
        assert sequence.sampling is not None, "greedy sequences need no random numbers"
        prompt = sequence.ids[: sequence.num_prompt_tokens]
        sequence.generator = prompt_generator(sequence.sampling.seed, prompt)
    return sequence.generator


def prompt_generator(seed: int, prompt_ids: abc.Sequence[int]) -> torch.Generator:
    """Return the random generator of one turn. It depends only on the seed and the prompt ids."""
    key = f"{seed}:{list(prompt_ids)}".encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:7], "big"))


def add_gumbel_noise(
    scores: torch.Tensor, generators: abc.Sequence[torch.Generator]
) -> torch.Tensor:
    """Return scores plus Gumbel noise, whose argmax is a sample from their softmax; one generator per row."""
    uniform = [torch.rand(scores.shape[1], generator=one) for one in generators]
    noise = -torch.log(-torch.log(torch.stack(uniform).clamp(1e-20, 1 - 1e-7)))
    return scores + noise.to(scores.device)
