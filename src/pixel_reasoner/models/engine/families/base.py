"""Interface for model-specific parts of the engine."""

from __future__ import annotations

from collections import abc
from typing import Any, NamedTuple, Protocol

import torch


class EncodedImage(NamedTuple):
    """Output of the vision encoder for one image."""

    grid: torch.Tensor
    """(3,) patches in time, height and width"""
    tokens: torch.Tensor
    """(visual tokens, hidden)"""
    deepstack: list[torch.Tensor]
    """(visual tokens, hidden) for each early decoder layer that receives visual features; empty in most families"""


class ModelFamily(Protocol):
    """Tokens, positions and forward passes of one model family."""

    def supports(self, model: Any) -> bool:
        """Return whether the engine supports the layers and the attention of a model of this family."""

    def image_token(self, config: Any) -> int:
        """Return the placeholder id of a visual token in a prompt."""

    def banned_tokens(self, config: Any) -> list[int]:
        """Return the ids that a model must not generate: placeholders of media."""

    def num_image_tokens(self, image_processor: Any, size: tuple[int, int]) -> int:
        """Return the number of visual tokens of an image of this (width, height)."""

    def positions(
        self, model: Any, ids: abc.Sequence[int], grids: abc.Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        """Return (3, ids) positions of a prompt, and the position minus the index of generated tokens."""

    def encode_images(
        self, model: Any, image_processor: Any, images: abc.Sequence[Any]
    ) -> list[EncodedImage]:
        """Encode images with the vision encoder."""

    def prefill(
        self, model: Any, inputs: dict[str, Any], images: abc.Sequence[EncodedImage]
    ) -> torch.Tensor:
        """Return (sequences, tokens, hidden) states of the last layer.

        Args:
            model: with its vision encoder and language model.
            inputs: `input_ids`, `position_ids`, `attention_mask`, `past_key_values`.
            images: of all sequences, in order.
        """

    def decode(self, model: Any, ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return (sequences, hidden) states of one new token for each sequence.

        Args:
            model: with its language model.
            ids: (sequences,) the last ids.
            inputs: `position_ids`, `attention_mask`, `past_key_values`.
        """

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return (sequences, vocabulary) logits."""
