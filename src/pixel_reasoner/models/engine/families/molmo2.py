"""Molmo2: the tokens of all images of a prompt attend to each other, and features are added to their placeholders."""

from __future__ import annotations

import hashlib
from collections import abc
from typing import Any

import torch

from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.families._decoder import DecoderFamily
from pixel_reasoner.models.engine.families._masks import united
from pixel_reasoner.models.engine.families.base import PromptText, Tokenize
from pixel_reasoner.models.engine.sequence import ImageInput


class Molmo2(DecoderFamily):
    """Molmo2. Keys and values of an image depend on the images after it, so a new image invalidates the prefix before it."""

    def link_images(self, images: abc.Sequence[ImageInput]) -> tuple[ImageInput, ...]:
        """Return images whose digests depend on all images of the prompt."""
        if len(images) < 2 or not all(one.is_single for one in images):
            return tuple(images)
        every = b"".join(one.digest for one in images)
        return tuple(
            one._replace(digest=hashlib.sha256(one.digest + every).digest()[:16], is_single=False)
            for one in images
        )

    def image_lengths(self, processor: Any, images: abc.Sequence[ImageInput]) -> list[int]:
        """Return no lengths, so that no prefix ends at an image: marks before its first token depend on the image."""
        return []

    def prompt_ids(self, processor: Any, prompt: PromptText, tokenize: Tokenize) -> list[int]:
        """Return the ids of a text. A prompt starts with a start token, as the processor adds it."""
        tokenizer = processor.tokenizer
        start = tokenizer.bos_token or tokenizer.eos_token
        if prompt.is_start and not prompt.text.startswith(start):
            prompt = prompt._replace(text=start + prompt.text)
        return super().prompt_ids(processor, prompt, tokenize)

    def embedded_ids(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        """Return all ids: features are added to the embedding of a placeholder."""
        return ids

    def merge(
        self, embeddings: torch.Tensor, is_image: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """Return embeddings with the features of images added to those of visual tokens."""
        merged = embeddings.clone()
        merged[is_image] += features.to(embeddings.dtype)
        return merged

    def banned_tokens(self, config: Any) -> list[int]:
        """Return the placeholders and the marks around them, which a later prefill would take for an image."""
        return sorted({*super().banned_tokens(config), *_marks(config)})

    def prefill_masks(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return masks with attention in both directions between all visual tokens, marks of rows included."""
        ids = inputs["all_ids"]
        is_image = torch.isin(ids, torch.tensor(_marks(model.config), device=ids.device))
        query = is_image.gather(1, inputs["token_index"].clamp(max=is_image.shape[1] - 1))
        pairs = (query[:, :, None] & is_image[:, None])[:, None]
        return united(super().prefill_masks(model, inputs), pairs)


def _marks(config: Any) -> list[int]:
    """Return the ids that the processor counts as visual tokens."""
    return [
        config.image_patch_id,
        config.image_col_id,
        config.image_start_token_id,
        config.low_res_image_start_token_id,
        config.image_end_token_id,
    ]


FAMILIES.register("molmo2", Molmo2())
