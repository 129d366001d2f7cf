"""Granite 4 vision: early and middle decoder layers receive features of the vision encoder."""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

from pixel_reasoner.models.engine.families import FAMILIES, _images
from pixel_reasoner.models.engine.families._decoder import DecoderFamily
from pixel_reasoner.models.engine.families.base import EncodedImage
from pixel_reasoner.models.engine.sequence import ImageInput


class Granite4Vision(DecoderFamily):
    """Granite 4 vision. Visual tokens have no embedding of their own: all features are added inside the decoder."""

    def encode_images(
        self, model: Any, processor: Any, images: abc.Sequence[ImageInput]
    ) -> list[EncodedImage]:
        """Encode images one by one. Features of each decoder layer are in `deepstack`, in the order of the model."""
        encoded = []
        for image in images:
            inputs = _images.prepare_image(processor, image, with_inputs=True).inputs
            out = _images.get_image_features(model, inputs)
            layers = [_images.joined(features) for _, features in out.deepstack_features]
            encoded.append(EncodedImage(torch.zeros(3, dtype=torch.long), layers[0], layers[1:]))
        _images.drop_inputs(processor, images)
        return encoded

    def merge(
        self, embeddings: torch.Tensor, is_image: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """Return embeddings with zeros in place of visual tokens."""
        return embeddings.masked_fill(is_image[..., None], 0.0)

    def image_inputs(
        self, model: Any, is_image: torch.Tensor, images: abc.Sequence[EncodedImage]
    ) -> dict[str, Any]:
        """Return the features that the decoder adds to its layers."""
        config = model.config
        layers = [layer for _, layer in config.deepstack_layer_map] + list(
            config.spatial_target_layers
        )
        features = zip(*((one.tokens, *one.deepstack) for one in images), strict=True)
        return {
            "vision_mask": is_image[..., None],
            "deepstack_features": {
                layer: torch.cat(some) for layer, some in zip(layers, features, strict=True)
            },
        }

    def logits(self, model: Any, hidden: torch.Tensor) -> torch.Tensor:
        """Return (sequences, vocabulary) logits, scaled as the config says."""
        return super().logits(model, hidden) / model.config.get_text_config().logits_scaling


FAMILIES.register("granite4_vision", Granite4Vision())
