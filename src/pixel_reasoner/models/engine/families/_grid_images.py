"""Images as a grid of patches: one placeholder id, repeated for each visual token, and 3D positions."""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

from pixel_reasoner.models.engine.families._decoder import DecoderFamily
from pixel_reasoner.models.engine.families._mrope import mrope_positions
from pixel_reasoner.models.engine.families._placeholders import check_placeholders
from pixel_reasoner.models.engine.families.base import EncodedImage, PromptText, Tokenize
from pixel_reasoner.models.engine.sequence import ImageInput


class GridImages:
    """Images of Qwen-VL and GLM-V."""

    def image_token(self, config: Any) -> int:
        """Return `image_token_id`."""
        return int(config.image_token_id)

    def link_images(self, images: abc.Sequence[ImageInput]) -> tuple[ImageInput, ...]:
        """Return the images unchanged: the features of an image depend on nothing else."""
        return tuple(images)

    def image_lengths(self, processor: Any, images: abc.Sequence[ImageInput]) -> list[int] | None:
        """Return None: an image is one run of placeholders."""
        return None

    def prompt_ids(self, processor: Any, prompt: PromptText, tokenize: Tokenize) -> list[int]:
        """Return the ids of a text, with the placeholder of each image repeated for each of its visual tokens.

        This is faster than the processor, which repeats the placeholder in the text before tokenization.
        """
        ids = tokenize(prompt.text)
        check_placeholders(ids.count(processor.image_token_id), len(prompt.images))
        left, expanded = iter(prompt.images), list[int]()
        for token in ids:
            is_image = token == processor.image_token_id
            times = num_image_tokens(processor, next(left).image.size) if is_image else 1
            expanded += [token] * times
        return expanded

    def positions(
        self, model: Any, ids: abc.Sequence[int], grids: abc.Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, int]:
        """Return the positions of transformers `get_rope_index`."""
        merge = model.config.vision_config.spatial_merge_size
        return mrope_positions(ids, grids, self.image_token(model.config), merge)

    def encode_images(
        self, model: Any, processor: Any, images: abc.Sequence[ImageInput]
    ) -> list[EncodedImage]:
        """Encode images with the vision encoder."""
        image_processor = getattr(processor, "image_processor", processor)
        inputs = image_processor(images=[one.image for one in images], return_tensors="pt")
        grids, pixels = inputs["image_grid_thw"], inputs["pixel_values"]
        out = model.model.get_image_features(pixels.to(model.device), grids.to(model.device))
        deepstack = getattr(out, "deepstack_features", None) or []
        return [
            EncodedImage(grids[n].cpu(), out.pooler_output[n], [layer[n] for layer in deepstack])
            for n in range(len(images))
        ]


class GridDecoderFamily(GridImages, DecoderFamily):
    """Decoder of transformers with the images and positions of Qwen-VL and GLM-V."""

    def decoder_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Return the 3D positions."""
        return positions


def num_image_tokens(processor: Any, size: tuple[int, int]) -> int:
    """Return the number of visual tokens of an image of this (width, height)."""
    image_processor = getattr(processor, "image_processor", processor)
    patches = image_processor.get_number_of_image_patches(size[1], size[0])
    return int(patches // image_processor.merge_size**2)
