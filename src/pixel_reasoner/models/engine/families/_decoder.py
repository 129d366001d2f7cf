"""Families with a decoder of transformers and features of images in place of visual tokens.

The class of a family names only what differs: positions, masks, the scale of logits, layers with a state.
"""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

from pixel_reasoner.models.engine.families import _cpu_decode, _images, _masks
from pixel_reasoner.models.engine.families._placeholders import check_placeholders
from pixel_reasoner.models.engine.families.base import EncodedImage, PromptText, Tokenize
from pixel_reasoner.models.engine.sequence import ImageInput


class DecoderFamily:
    """Model family with 1D positions: text, and features of images in place of visual tokens.

    Args:
        has_states: whether layers keep a state that cannot be rewound.
    """

    def __init__(self, *, has_states: bool = False) -> None:
        self.has_states = has_states

    # --- configuration ---

    def unsupported(self, model: Any) -> str | None:
        """Return a reason unless all layers are of known kinds, with `scaled_dot_product_attention`."""
        text = model.config.get_text_config()
        supported = set(_masks.ATTENTION_KINDS)
        if self.has_states:
            supported |= _masks.STATE_KINDS
        return _masks.unsupported_attention(text, _masks.layer_kinds(text), supported)

    def image_token(self, config: Any) -> int:
        """Return `image_token_id`."""
        return int(config.image_token_id)

    def banned_tokens(self, config: Any) -> list[int]:
        """Return the placeholders of media that the config names."""
        names = ("image_token_id", "video_token_id", "audio_token_id")
        named = [getattr(config, name, None) for name in names]
        size = config.get_text_config().vocab_size
        return sorted({int(one) for one in named if one is not None and 0 <= one < size})

    # --- prompts ---

    def link_images(self, images: abc.Sequence[ImageInput]) -> tuple[ImageInput, ...]:
        """Return the images unchanged: the features of an image depend on nothing else."""
        return tuple(images)

    def image_lengths(self, processor: Any, images: abc.Sequence[ImageInput]) -> list[int] | None:
        """Return the number of visual tokens of each image."""
        return [_images.prepare_image(processor, one).num_tokens for one in images]

    def prompt_ids(self, processor: Any, prompt: PromptText, tokenize: Tokenize) -> list[int]:
        """Return the ids of a text whose placeholders are replaced as the processor does."""
        before, *after = prompt.text.split(processor.image_token)
        check_placeholders(len(after), len(prompt.images))
        parts = [before]
        for n, (image, text) in enumerate(zip(prompt.images, after, strict=True)):
            parts += [self.replacement(processor, image, prompt.num_earlier_images + n), text]
        return tokenize("".join(parts))

    def replacement(self, processor: Any, image: ImageInput, number: int) -> str:
        """Return the text that replaces the placeholder of the image with this number in its prompt."""
        del number
        return _images.prepare_image(processor, image).replacement

    def positions(
        self, model: Any, ids: abc.Sequence[int], grids: abc.Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        """Return the indexes of the ids, three times."""
        return torch.arange(len(ids)).expand(3, -1), 0

    # --- forward passes ---

    def encode_images(
        self, model: Any, processor: Any, images: abc.Sequence[ImageInput]
    ) -> list[EncodedImage]:
        """Encode images with the vision encoder and the projector."""
        return _images.encode_images(model, processor, images)

    def prefill(
        self, model: Any, inputs: dict[str, Any], images: abc.Sequence[EncodedImage]
    ) -> torch.Tensor:
        """Return (sequences, tokens, hidden) states of the last layer."""
        ids = inputs["input_ids"]
        is_image = ids == self.image_token(model.config)
        embeddings = self.embed(model, self.embedded_ids(model, ids))
        given = self.decoder_inputs(model, ids)
        if images:
            embeddings = self.merge(embeddings, is_image, torch.cat([one.tokens for one in images]))
            given |= self.image_inputs(model, is_image, images)
        return self._run(model, embeddings, inputs, self.prefill_masks(model, inputs), given)

    def prefill_masks(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Return the masks of a prefill. Some families attend within images in both directions."""
        return _masks.attention_masks(model.config.get_text_config(), inputs)

    def decode(self, model: Any, ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return (sequences, hidden) states of one new token for each sequence."""
        text, masks = (
            self.decoder(model),
            _masks.attention_masks(model.config.get_text_config(), inputs),
        )
        if text.config.model_type in _cpu_decode.LLAMA_LIKE and _cpu_decode.can_decode(text):
            positions = self.decoder_positions(inputs["position_ids"])
            given = {**inputs, "position_ids": positions, "attention_mask": masks}
            return _cpu_decode.decode(text, ids, given)
        ids = ids[:, None]
        given = self.decoder_inputs(model, ids)
        return self._run(model, self.embed(model, ids), inputs, masks, given)[:, -1]

    def _run(
        self,
        model: Any,
        embeddings: torch.Tensor,
        inputs: dict[str, Any],
        masks: Any,
        given: dict[str, Any],
    ) -> torch.Tensor:
        hidden: torch.Tensor = self.decoder(model)(
            inputs_embeds=embeddings,
            position_ids=self.decoder_positions(inputs["position_ids"]),
            attention_mask=masks,
            past_key_values=inputs["past_key_values"],
            use_cache=True,
            **given,
        ).last_hidden_state
        return hidden

    def decoder(self, model: Any) -> Any:
        """Return the decoder of a model."""
        return model.model.language_model

    def decoder_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Return positions as the decoder takes them, from (3, sequences, tokens) positions."""
        return positions[0]

    def decoder_inputs(self, model: Any, ids: torch.Tensor) -> dict[str, Any]:
        """Return further arguments of the decoder."""
        return {}

    def image_inputs(
        self, model: Any, is_image: torch.Tensor, images: abc.Sequence[EncodedImage]
    ) -> dict[str, Any]:
        """Return arguments of the decoder for (sequences, tokens) visual tokens of these images."""
        return {}

    def embedded_ids(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        """Return ids that the embedding has: a placeholder may be beyond its vocabulary."""
        return ids.masked_fill(ids == self.image_token(model.config), 0)

    def embed(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        """Return (sequences, tokens, hidden) embeddings of ids."""
        embeddings: torch.Tensor = self.decoder(model).get_input_embeddings()(ids)
        return embeddings

    def merge(
        self, embeddings: torch.Tensor, is_image: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """Return embeddings with the features of images in place of visual tokens."""
        mask = is_image[..., None].expand_as(embeddings)
        return embeddings.masked_scatter(mask, features.to(embeddings.dtype))

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return (sequences, vocabulary) logits."""
        logits: torch.Tensor = model.lm_head(hidden)
        return logits
