"""Vision tower: forward pass over pictures, and loss against dense labels.

Linear probes predict the labels from visual tokens. They are discarded after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pixel_reasoner.tiny.labels import (
    CLASSES,
    IGNORE,
    NUM_PLACE_VALUES,
    LabelledPicture,
    Labels,
)
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.precision import mixed_precision

EARLY_LOSS_WEIGHT = 0.3
"""in `sharpen` it is less: with this weight, crowds lose two points"""
PLACE_LOSS_WEIGHT = 4
MOSTLY_NONE = ("color", "shape", "ball")
"""labels that are `none` in most cells"""


class Probes(nn.Module):
    """Linear probes of visual tokens, one per label."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, sum(CLASSES.values()) + NUM_PLACE_VALUES)

    def forward(self, tokens: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return logits by name and (tokens, 3) offsets and sizes, from (tokens, width) visual tokens."""
        parts = self.read(tokens).split([*CLASSES.values(), NUM_PLACE_VALUES], dim=-1)
        return dict(zip(CLASSES, parts[:-1], strict=True)), parts[-1]


def make_probes(visual: Any) -> dict[str, Probes]:
    """Return untrained probes of both outputs of a tower: `final`, and `early`, that of an earlier layer."""
    return {name: Probes(visual.config.out_hidden_size) for name in ("final", "early")}


def embed(visual: nn.Module, image_processor: Any, pictures: Sequence[np.ndarray]) -> Any:
    """Return the tower's output, `pooler_output` and `deepstack_features`, with pictures concatenated."""
    images = [torch.tensor(pixels).permute(2, 0, 1) for pixels in pictures]
    inputs = image_processor(images=images, return_tensors="pt")
    inputs = inputs.to(next(visual.parameters()).device)
    return visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"], return_dict=True)


def shrink_tokens(visual: Any, factor: float = 1 / 8) -> None:
    """Scale down a tower's output through the weights of its last layers.

    Training with probes lets visual tokens grow to a norm of forty. At that norm, the language model's additions to a
    token are
    lost: a frame would not receive its number.
    """
    with torch.no_grad():
        for merger in (visual.merger, *visual.deepstack_merger_list):
            merger.linear_fc2.weight.mul_(factor)
            merger.linear_fc2.bias.mul_(factor)


def tower_loss(
    probes: dict[str, Probes],
    visual: nn.Module,
    image_processor: Any,
    batch: Sequence[LabelledPicture],
    early_weight: float = EARLY_LOSS_WEIGHT,
) -> tuple[torch.Tensor, Metrics]:
    """Return the loss of the probes, and their accuracy by label.

    Both outputs of the tower are trained: the final tokens and, with less weight, the earlier layer's tokens, which the
    language
    model also receives.

    Args:
        probes: `final` and `early`.
        visual: vision tower.
        image_processor: image processor of the model.
        batch: labelled pictures.
        early_weight: weight of the loss of the earlier layer's tokens.
    """
    device = next(visual.parameters()).device
    target = Labels(
        {
            name: torch.cat([one.labels.classes[name] for one in batch]).to(device)
            for name in CLASSES
        },
        torch.cat([one.labels.place for one in batch]).to(device),
    )
    with mixed_precision(device):
        out = embed(visual, image_processor, [one.pixels for one in batch])
    final, metrics = _probe_loss(probes["final"], out.pooler_output, target)
    early, _ = _probe_loss(probes["early"], out.deepstack_features[0], target)
    return final + early_weight * early, metrics


def _probe_loss(
    probes: Probes, tokens: torch.Tensor, target: Labels
) -> tuple[torch.Tensor, Metrics]:
    logits, place = probes(tokens.float())
    loss, metrics = torch.zeros((), device=tokens.device), {}
    for name, labels in target.classes.items():
        counted = labels != IGNORE
        if not counted.any():
            continue
        losses = F.cross_entropy(logits[name], labels, ignore_index=IGNORE, reduction="none")
        loss = loss + losses[counted].mean()
        if name in MOSTLY_NONE and (labels > 0).any():
            # Without a separate term, the few cells with an item would hardly matter.
            counted = labels > 0
            loss = loss + losses[counted].mean()
        correct = logits[name][counted].argmax(-1) == labels[counted]
        metrics[name] = correct.float().mean().item()
    placed = target.classes["shape"] > 0
    if not placed.any():
        return loss, metrics
    error = (place[placed] - target.place[placed]).abs()
    metrics["offset"] = error[:, :2].mean().item()
    return loss + PLACE_LOSS_WEIGHT * error.mean(), metrics
