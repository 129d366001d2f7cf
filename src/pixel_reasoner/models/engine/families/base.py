"""Interface for model-specific parts of the engine."""

from __future__ import annotations

from collections import abc
from typing import Any, NamedTuple, Protocol

import torch

from pixel_reasoner.models.engine.sequence import ImageInput

Tokenize = abc.Callable[[str], list[int]]


class EncodedImage(NamedTuple):
    """Output of the vision encoder for one image."""

    grid: torch.Tensor
    """(3,) patches in time, height and width; zeros in families whose positions do not depend on it"""
    tokens: torch.Tensor
    """(visual tokens, hidden)"""
    deepstack: list[torch.Tensor]
    """(visual tokens, hidden) for each early decoder layer that receives visual features; empty in most families"""

    @property
    def num_bytes(self) -> int:
        """Memory of all features."""
        return sum(one.numel() * one.element_size() for one in (self.tokens, *self.deepstack))


class PromptText(NamedTuple):
    """Next text of a prompt, with one placeholder for each of its images."""

    text: str
    images: abc.Sequence[ImageInput]
    num_earlier_images: int = 0
    """images of the prompt before this text"""
    is_start: bool = True
    """whether the prompt starts with this text"""


class ModelFamily(Protocol):
    """Tokens, positions and forward passes of one model family."""

    has_states: bool
    """whether layers keep a state that cannot be rewound: linear attention or convolution"""

    def unsupported(self, model: Any) -> str | None:
        """Return why the engine cannot run a model of this family, for example its attention; None if it can."""

    def image_token(self, config: Any) -> int:
        """Return the placeholder id of a visual token in a prompt."""

    def banned_tokens(self, config: Any) -> list[int]:
        """Return the ids that a model must not generate: placeholders of media."""

    def link_images(self, images: abc.Sequence[ImageInput]) -> tuple[ImageInput, ...]:
        """Return the images of a prompt with digests that name all that their features depend on."""

    def prompt_ids(self, processor: Any, prompt: PromptText, tokenize: Tokenize) -> list[int]:
        """Return the token ids of the next text of a prompt, with all visual tokens of its images.

        Args:
            processor: of the model.
            prompt: the text and its images.
            tokenize: tokenizer of the model, which adds special tokens only at the start of a prompt.

        Raises:
            InputError: the text has not one placeholder for each image.
        """

    def image_lengths(self, processor: Any, images: abc.Sequence[ImageInput]) -> list[int] | None:
        """Return the number of visual tokens of each image; None if each image is one run of placeholders."""

    def positions(
        self, model: Any, ids: abc.Sequence[int], grids: abc.Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        """Return (3, ids) positions of a prompt, and the position minus the index of generated tokens."""

    def encode_images(
        self, model: Any, processor: Any, images: abc.Sequence[ImageInput]
    ) -> list[EncodedImage]:
        """Encode images with the vision encoder."""

    def prefill(
        self, model: Any, inputs: dict[str, Any], images: abc.Sequence[EncodedImage]
    ) -> torch.Tensor:
        """Return (sequences, tokens, hidden) states of the last layer.

        Args:
            model: with its vision encoder and language model.
            inputs: `input_ids`, `position_ids` (3, sequences, tokens), `past_key_values`, `attention_mask` (sequences, 1,
                tokens, cached tokens), `token_index` (sequences, tokens) index of each token in its sequence, `all_ids`
                (sequences, cached tokens) ids of the sequences from their start, padded with -1.
            images: of all sequences, in order.
        """

    def decode(self, model: Any, ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return (sequences, hidden) states of one new token for each sequence.

        Args:
            model: with its language model.
            ids: (sequences,) the last ids.
            inputs: `position_ids`, `attention_mask`, `past_key_values`, `token_index`.
        """

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return (sequences, vocabulary) logits."""
