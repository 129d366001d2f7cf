"""Forward passes of the engine: vision encoder, prefill, decode."""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

from pixel_reasoner.models.engine.families import EncodedImage, ModelFamily
from pixel_reasoner.models.engine.layer_state import KVCache
from pixel_reasoner.models.engine.sequence import ImageInput, Sequence

MAX_VISION_PIXELS = 8_000_000
"""maximum pixels of one pass of the vision encoder; a larger image has its own pass"""


class ModelRunner:
    """Runner of the forward passes of a model with a KV cache.

    Args:
        model: of a supported family.
        image_processor: of this model.
        family: of this model.
        cache: KV cache of the running sequences.
    """

    def __init__(
        self, model: Any, image_processor: Any, family: ModelFamily, cache: KVCache
    ) -> None:
        self.model, self.image_processor = model, image_processor
        self.family, self.cache = family, cache

    def prefill(self, sequences: abc.Sequence[Sequence]) -> torch.Tensor:
        """Prefill the uncached ids of sequences. Returns (sequences, vocabulary) logits after the last ids."""
        device = self.model.device
        new_images = [one.images[len(one.grids) :] for one in sequences]
        encoded = self._encode({image.digest: image for some in new_images for image in some})
        for sequence, some in zip(sequences, new_images, strict=True):
            sequence.grids += [encoded[image.digest].grid for image in some]
        ids, positions, counts = self._inputs(sequences)
        starts = torch.tensor([one.num_cached for one in sequences])
        write_at = (starts[:, None] + torch.arange(ids.shape[1])).to(device)
        self.cache.plan_prefill(write_at, sequences)
        mask = self.cache.token_index[None] <= write_at[:, :, None]
        inputs = {
            "input_ids": ids.to(device),
            "position_ids": positions.to(device),
            "attention_mask": mask[:, None],
            "past_key_values": self.cache,
        }
        images = [encoded[image.digest] for some in new_images for image in some]
        hidden = self.family.prefill(self.model, inputs, images)
        last = hidden[torch.arange(len(sequences), device=device), counts.to(device) - 1]
        for sequence in sequences:
            sequence.num_cached = len(sequence.ids)
        return self.family.logits(self.model, last)

    def _inputs(
        self, sequences: abc.Sequence[Sequence]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (sequences, new) ids, (3, sequences, new) positions and (sequences,) numbers of new ids, padded on the right."""
        counts = [one.num_uncached for one in sequences]
        ids = torch.zeros((len(sequences), max(counts)), dtype=torch.long)
        positions = torch.zeros((3, len(sequences), max(counts)), dtype=torch.long)
        for n, (sequence, count) in enumerate(zip(sequences, counts, strict=True)):
            ids[n, :count] = torch.tensor(sequence.ids[sequence.num_cached :])
            all_positions, sequence.position_offset = self.family.positions(
                self.model, sequence.ids, sequence.grids
            )
            positions[:, n, :count] = all_positions[:, sequence.num_cached :]
        return ids, positions, torch.tensor(counts)

    def decode(self, sequences: abc.Sequence[Sequence]) -> torch.Tensor:
        """Decode one step: process the last id of every running sequence. Returns (sequences, vocabulary) logits."""
        cache = self.cache
        mask = cache.plan_decode()
        ids = torch.tensor([one.ids[-1] for one in sequences], device=self.model.device)
        positions = cache.lengths + cache.position_offsets
        inputs = {
            "position_ids": positions[None, :, None].expand(3, -1, -1),
            "attention_mask": mask[:, None, None],
            "past_key_values": cache,
        }
        hidden = self.family.decode(self.model, ids, inputs)
        cache.lengths += 1
        for sequence in sequences:
            sequence.num_cached += 1
        return self.family.logits(self.model, hidden)

    def _encode(self, images: dict[bytes, ImageInput]) -> dict[bytes, EncodedImage]:
        """Encode images with the vision encoder. Returns digest -> encoded image."""
        encoded: dict[bytes, EncodedImage] = {}
        left = list(images.values())
        while left:
            some, left = _split_by_pixels(left)
            out = self.family.encode_images(
                self.model, self.image_processor, [one.image for one in some]
            )
            encoded |= {image.digest: one for image, one in zip(some, out, strict=True)}
        return encoded


def _split_by_pixels(images: list[ImageInput]) -> tuple[list[ImageInput], list[ImageInput]]:
    """Split images into the next pass of the vision encoder and the rest."""
    total = 0
    for n, one in enumerate(images):
        total += one.image.width * one.image.height
        if n and total > MAX_VISION_PIXELS:
            return images[:n], images[n:]
    return images, []
