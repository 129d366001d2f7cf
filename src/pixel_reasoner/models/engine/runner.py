"""Forward passes of the engine: vision encoder, prefill, decode."""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

from pixel_reasoner.models.engine.families import EncodedImage, ModelFamily
from pixel_reasoner.models.engine.layer_state import KVCache
from pixel_reasoner.models.engine.scheduler import PrefillChunk
from pixel_reasoner.models.engine.sequence import ImageInput, Sequence
from pixel_reasoner.models.engine.vision_cache import VisionCache

MAX_VISION_PIXELS = 8_000_000
"""maximum pixels of one pass of the vision encoder; a larger image has its own pass"""


class ModelRunner:
    """Runner of the forward passes of a model with a KV cache.

    Args:
        model: of a supported family.
        processor: of this model.
        family: of this model.
        cache: KV cache of the running sequences.
        images: cache of encoded images.
    """

    def __init__(
        self, model: Any, processor: Any, family: ModelFamily, cache: KVCache, images: VisionCache
    ) -> None:
        self.model, self.processor = model, processor
        self.family, self.cache, self.images = family, cache, images

    def prefill(self, chunks: abc.Sequence[PrefillChunk]) -> torch.Tensor:
        """Prefill chunks of sequences. Returns (sequences, vocabulary) logits after their last ids."""
        device, sequences = self.model.device, [one.sequence for one in chunks]
        new_images = [
            one.sequence.images[len(one.sequence.grids) : one.num_images] for one in chunks
        ]
        encoded = self._encode({image.digest: image for some in new_images for image in some})
        for sequence, some in zip(sequences, new_images, strict=True):
            sequence.grids += [encoded[image.digest].grid for image in some]
        ids, positions, counts = self._inputs(chunks)
        starts = torch.tensor([one.num_cached for one in sequences])
        write_at = (starts[:, None] + torch.arange(ids.shape[1])).to(device)
        counts = counts.to(device)
        self.cache.plan_prefill(write_at, sequences, counts)
        mask = self.cache.token_index[None] <= write_at[:, :, None]
        inputs = {
            "input_ids": ids.to(device),
            "position_ids": positions.to(device),
            "attention_mask": mask[:, None],
            "past_key_values": self.cache,
            "token_index": write_at,
            "all_ids": self._all_ids(chunks).to(device),
        }
        images = [encoded[image.digest] for some in new_images for image in some]
        hidden = self.family.prefill(self.model, inputs, images)
        last = hidden[torch.arange(len(sequences), device=device), counts - 1]
        for chunk in chunks:
            chunk.sequence.num_cached = chunk.end
        return self.family.logits(self.model, last)

    def _inputs(
        self, chunks: abc.Sequence[PrefillChunk]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (sequences, new) ids, (3, sequences, new) positions and (sequences,) numbers of new ids, padded on the right."""
        counts = [one.num_new for one in chunks]
        ids = torch.zeros((len(chunks), max(counts)), dtype=torch.long)
        positions = torch.zeros((3, len(chunks), max(counts)), dtype=torch.long)
        for n, (chunk, count) in enumerate(zip(chunks, counts, strict=True)):
            sequence = chunk.sequence
            ids[n, :count] = torch.tensor(sequence.ids[sequence.num_cached : chunk.end])
            all_positions, sequence.position_offset = self.family.positions(
                self.model, sequence.ids[: chunk.end], sequence.grids
            )
            positions[:, n, :count] = all_positions[:, sequence.num_cached :]
        return ids, positions, torch.tensor(counts)

    def _all_ids(self, chunks: abc.Sequence[PrefillChunk]) -> torch.Tensor:
        """Return (sequences, cached and new) ids, padded on the right with -1."""
        ids = torch.full((len(chunks), self.cache.max_length), -1, dtype=torch.long)
        for n, chunk in enumerate(chunks):
            ids[n, : chunk.end] = torch.tensor(chunk.sequence.ids[: chunk.end])
        return ids

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
            "token_index": cache.lengths[:, None],
        }
        hidden = self.family.decode(self.model, ids, inputs)
        cache.lengths += 1
        for sequence in sequences:
            sequence.num_cached += 1
        return self.family.logits(self.model, hidden)

    def _encode(self, images: dict[bytes, ImageInput]) -> dict[bytes, EncodedImage]:
        """Encode images with the vision encoder, or take them from the cache. Returns digest -> encoded image."""
        found = {digest: self.images.get(digest) for digest in images}
        encoded = {digest: one for digest, one in found.items() if one is not None}
        left = [image for digest, image in images.items() if digest not in encoded]
        while left:
            some, left = _split_by_pixels(left)
            out = self.family.encode_images(self.model, self.processor, some)
            for image, one in zip(some, out, strict=True):
                encoded[image.digest] = one
                self.images.put(image.digest, one)
        return encoded


def _split_by_pixels(images: list[ImageInput]) -> tuple[list[ImageInput], list[ImageInput]]:
    """Split images into the next pass of the vision encoder and the rest."""
    total = 0
    for n, one in enumerate(images):
        total += one.image.width * one.image.height
        if n and total > MAX_VISION_PIXELS:
            return images[:n], images[n:]
    return images, []
