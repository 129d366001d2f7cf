"""Loss and accuracy of the language model over cached visual tokens (last training stage)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.tiny.attention import NUMBERING_HEAD, POINTING_HEAD, Head, observe_attention
from pixel_reasoner.tiny.examples import Example
from pixel_reasoner.tiny.labels import IGNORE
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.precision import mixed_precision
from pixel_reasoner.tiny.token_cache import PromptImage, VisualTokens

ATTENTION_LOSS_WEIGHT = 0.3
EXAMPLES_PER_PASS = 6
LENGTH_MULTIPLE = 32
"""padded lengths are multiples of it, because a kernel is compiled for each new shape"""


def language_loss(
    model: Any,
    cache: Mapping[Size, VisualTokens],
    examples: Sequence[Example],
    *,
    call_weight: float = 1.0,
    per_pass: int = EXAMPLES_PER_PASS,
) -> tuple[torch.Tensor, Metrics]:
    """Return the mean next-token loss over trained tokens plus the attention loss, and metrics.

    Examples of similar length share a forward pass: padding all to the longest example would double the cost.

    Args:
        model: the whole model; its tower is not used.
        cache: visual tokens by picture size.
        examples: a batch.
        call_weight: weight of the tokens of calls next to all others: a call has few digits among many words.
        per_pass: examples per forward pass.
    """
    by_length = sorted(examples, key=lambda example: len(example.ids))
    predicted: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    attended: dict[str, list[torch.Tensor]] = {"looks": [], "numbers": []}
    for start in range(0, len(by_length), per_pass):
        batch = by_length[start : start + per_pass]
        with observe_attention() as weights:
            hidden, targets = _hidden_states(model, cache, batch)
        trained = targets != IGNORE
        in_call = _in_call(batch, targets)[trained]
        predicted.append((_logits(model, hidden[trained]), targets[trained], in_call))
        for name, head in (("looks", POINTING_HEAD), ("numbers", NUMBERING_HEAD)):
            attended[name].append(_attention_on_targets(weights[head], batch, head))
    logits, targets, calls = (torch.cat(parts) for parts in zip(*predicted, strict=True))
    weights = torch.where(calls, call_weight, 1.0)
    loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
    correct = (logits.argmax(-1) == targets).float()
    metrics = {"token": correct.mean().item()}
    if calls.any():
        metrics["call"] = correct[calls].mean().item()
    for name, parts in attended.items():
        shares = torch.cat(parts)
        if len(shares):
            loss = loss - ATTENTION_LOSS_WEIGHT * (shares + 1e-6).log().mean()
            metrics[name] = shares.mean().item()
    return loss, metrics


def text_loss(model: Any, examples: Sequence[Example]) -> tuple[torch.Tensor, Metrics]:
    """Return the mean next-token loss over trained tokens of examples without pictures, and the share of right ones."""
    device = next(model.parameters()).device
    ids, trained = (
        one.to(device) for one in _padded(examples, model.config.text_config.pad_token_id)
    )
    with mixed_precision(device):
        out = model.model.language_model(input_ids=ids, use_cache=False)
    is_target = trained[:, 1:]
    targets = ids[:, 1:][is_target]
    logits = _logits(model, out.last_hidden_state[:, :-1][is_target])
    is_right = torch.ones_like(is_target).masked_scatter(is_target, logits.argmax(-1) == targets)
    metrics = {
        "token": is_right[is_target].float().mean().item(),
        "whole": is_right.all(1).float().mean().item(),
    }
    return F.cross_entropy(logits, targets), metrics


def _attention_on_targets(
    weights: torch.Tensor, examples: Sequence[Example], head: Head
) -> torch.Tensor:
    """Return (targets of this head,) the attention on each target, averaged over the tokens of the target.

    Args:
        weights: (examples, tokens, tokens) attention of the head.
        examples: examples with attention targets.
        head: head whose targets are used.
    """
    of_head = [
        (row, target)
        for row, example in enumerate(examples)
        for target in example.attention
        if target.head == head
    ]
    # One index for all: a slice per target would cost a whole matrix of zeros in the backward pass.
    index = torch.tensor(
        [
            (number, row, token, position)
            for number, (row, target) in enumerate(of_head)
            for token in range(target.first, target.end)
            for position in target.targets
        ],
        device=weights.device,
        dtype=torch.long,
    ).reshape(-1, 4)
    number, row, token, position = index.unbind(1)
    sums = weights.new_zeros(len(of_head)).index_add(0, number, weights[row, token, position])
    return sums / sums.new_tensor([target.end - target.first for _, target in of_head])


def digit_accuracy(
    model: Any,
    cache: Mapping[Size, VisualTokens],
    examples: Sequence[Example],
    opening: int,
    offset: int,
) -> float:
    """Return the teacher-forced accuracy of the token `offset` positions after the opening token of a call.

    Only the first corner of a box measures pointing: the second follows from the first.
    """
    with torch.no_grad():
        hidden, targets = _hidden_states(model, cache, examples)
        rows, positions = (targets == opening).nonzero(as_tuple=True)
        at = (rows, positions + offset)
        logits = _logits(model, hidden[at])
    return (logits.argmax(-1) == targets[at]).float().mean().item()


def _logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Return (tokens, vocabulary) logits of (tokens, width) hidden states: most tokens of an example need none."""
    with mixed_precision(hidden.device):
        logits: torch.Tensor = model.lm_head(hidden).float()
    return logits


def _hidden_states(
    model: Any, cache: Mapping[Size, VisualTokens], examples: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (examples, tokens - 1, width) last hidden states and the (examples, tokens - 1) tokens to predict."""
    config = model.config
    device = next(model.parameters()).device
    ids, trained = _padded(examples, config.text_config.pad_token_id)
    images = [image for example in examples for image in example.images]
    grids = [(1, 2 * rows, 2 * columns) for rows, columns in (image.grid for image in images)]
    with mixed_precision(device):
        # No mask of the padding: it follows all tokens, so no token attends to it, and plain causal attention is faster.
        out = model.model(
            input_ids=ids.to(device),
            mm_token_type_ids=(ids == config.image_token_id).int().to(device),
            image_grid_thw=torch.tensor(grids).to(device),
            mm_encoder_outputs={"image": _tower_output(cache, images, device)},
            use_cache=False,
        )
    targets = ids.masked_fill(~trained, IGNORE)[:, 1:].to(device)
    return out.last_hidden_state[:, :-1], targets


def _in_call(examples: Sequence[Example], targets: torch.Tensor) -> torch.Tensor:
    """Return (examples, tokens - 1) whether the predicted token is part of a call."""
    marks = torch.zeros(targets.shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        marks[row, : len(example.ids) - 1] = torch.tensor(example.in_call[1:])
    return marks.to(targets.device)


def _padded(examples: Sequence[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (examples, tokens) ids and loss mask, padded on the right."""
    longest = max(len(example.ids) for example in examples)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    ids = torch.full((len(examples), length), pad_id)
    trained = torch.zeros(ids.shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        trained[row, : len(example.ids)] = torch.tensor(example.trained)
    return ids, trained


def _tower_output(
    cache: Mapping[Size, VisualTokens], images: Sequence[PromptImage], device: torch.device
) -> Any:
    """Return cached tokens in the tower's output format."""
    final = torch.cat([cache[image.size].final[image.row] for image in images]).float()
    early = torch.cat([cache[image.size].early[image.row] for image in images]).float()
    return BaseModelOutputWithDeepstackFeatures(
        pooler_output=[final.to(device)], deepstack_features=[[early.to(device)]]
    )
