"""Prefix cache: keys and values of finished sequences, and lookup of reusable prefixes.

A finished sequence is retained, so that the next turn of its conversation prefills only its new tokens. Sequences also
share prefixes that end at an image boundary: a system message, or an image in several questions.

Candidates are found by digest. Before reuse, token ids and image digests are compared.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections import OrderedDict, abc
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pixel_reasoner.models.engine.layer_state import SequenceTensors
from pixel_reasoner.models.engine.sequence import Sequence

MEMORY_FRACTION = 0.25
"""default limit of retained sequences, as a fraction of free memory when the first sequence is retained"""


class PrefixBlock(NamedTuple):
    """Prefix of a sequence up to an image boundary."""

    digest: bytes
    """digest of its ids and images"""
    num_tokens: int
    num_images: int
    ends_with_image: bool


_blocks: weakref.WeakKeyDictionary[Sequence, list[PrefixBlock]] = weakref.WeakKeyDictionary()


def prefix_blocks(sequence: Sequence, image_token: int) -> list[PrefixBlock]:
    """Return the prefix blocks of a prompt, shortest first; empty if its images cannot be separated."""
    if sequence not in _blocks:
        _blocks[sequence] = _compute_blocks(sequence, image_token)
    return _blocks[sequence]


def last_image_block(sequence: Sequence, image_token: int) -> PrefixBlock | None:
    """Return the prefix block of a prompt that ends with its last image; None for a prompt without images."""
    blocks = prefix_blocks(sequence, image_token)
    return next((one for one in reversed(blocks) if one.ends_with_image), None)


def _compute_blocks(sequence: Sequence, image_token: int) -> list[PrefixBlock]:
    ids = np.array(sequence.ids[: sequence.num_prompt_tokens], dtype=np.int32)
    edges = _image_edges(ids == image_token, sequence.image_lengths)
    if len(edges) != 2 * len(sequence.images):
        return []
    blocks: list[PrefixBlock] = []
    digest, start = b"", 0
    for n, edge in enumerate(edges):
        is_image = bool(n % 2)
        hashed = hashlib.blake2b(digest, digest_size=16)
        hashed.update(f"{edge}:".encode())
        hashed.update(ids[start:edge].tobytes())
        if is_image:
            hashed.update(sequence.images[n // 2].digest)
        digest, start = hashed.digest(), edge
        if 0 < edge < len(ids):
            blocks.append(PrefixBlock(digest, edge, (n + 1) // 2, is_image))
    return blocks


def _image_edges(is_image: Any, lengths: abc.Sequence[int] | None) -> list[int]:
    """Return the index of the first visual token of each image and of the token after its last one."""
    if lengths is None:
        edges: list[int] = np.flatnonzero(np.diff(is_image, prepend=False, append=False)).tolist()
        return edges
    sizes = np.array(lengths, dtype=np.int64)
    index, ends = np.flatnonzero(is_image), sizes.cumsum()
    if len(index) != sizes.sum():
        return []
    pairs = zip(index[ends - sizes].tolist(), (index[ends - 1] + 1).tolist(), strict=True)
    return [edge for pair in pairs for edge in pair]


class PrefixCache:
    """LRU cache of retained sequences with their keys and values.

    Args:
        device: of the keys and values.
        max_bytes: limit of all keys and values; None for `MEMORY_FRACTION` of the free memory. The least recently used
            sequences are evicted. Running sequences do not count.
    """

    def __init__(self, device: torch.device, max_bytes: int | None = None) -> None:
        self.device = device
        self._max_bytes = max_bytes
        self.num_bytes = 0
        self._retained: OrderedDict[Sequence, SequenceTensors] = OrderedDict()

    @property
    def max_bytes(self) -> int:
        """The limit in bytes."""
        if self._max_bytes is None:
            self._max_bytes = int(free_memory_bytes(self.device) * MEMORY_FRACTION)
        return self._max_bytes

    @property
    def memory_fraction(self) -> float:
        """Memory of the retained sequences as a fraction of the limit."""
        return self.num_bytes / self._max_bytes if self._max_bytes else 0.0

    @property
    def sequences(self) -> abc.Iterable[Sequence]:
        """The retained sequences, least recently used first."""
        return self._retained.keys()

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._retained

    def retain(self, sequence: Sequence, tensors: SequenceTensors) -> None:
        """Retain the keys and values of a finished sequence. Evicts the least recently used above the limit."""
        self._retained[sequence] = tensors
        self.num_bytes += tensors.num_bytes
        while self.num_bytes > self.max_bytes:
            self.drop(next(iter(self._retained)))

    def drop(self, sequence: Sequence) -> SequenceTensors | None:
        """Remove a sequence and return its keys and values; None if it is not retained."""
        tensors = self._retained.pop(sequence, None)
        if tensors is not None:
            self.num_bytes -= tensors.num_bytes
            sequence.snapshots = {}
        return tensors

    def tensors(self, sequence: Sequence) -> SequenceTensors:
        """Return the keys and values of a retained sequence, and mark it as used."""
        self._retained.move_to_end(sequence)
        return self._retained[sequence]

    def longest_prefix(self, sequence: Sequence) -> Sequence | None:
        """Return the longest retained sequence that is a prefix of another sequence."""
        found = [
            one
            for one in self._retained
            if 0 < one.num_cached < len(sequence.ids)
            and sequence.starts_with(one, one.num_cached, len(one.images))
        ]
        return max(found, key=lambda one: one.num_cached, default=None)


class BlockIndex:
    """Index of the cached prefix blocks of running and retained sequences.

    Args:
        sequences: running and retained.
        image_token: placeholder id of a visual token.
        needs_snapshot: whether a block can only be reused with a snapshot of the states after it.
    """

    def __init__(
        self, sequences: abc.Iterable[Sequence], image_token: int, *, needs_snapshot: bool = False
    ) -> None:
        self.image_token = image_token
        self._sources = {
            block.digest: sequence
            for sequence in sequences
            for block in prefix_blocks(sequence, image_token)
            if block.num_tokens <= sequence.num_cached
            and (not needs_snapshot or block.num_tokens in sequence.snapshots)
        }

    def longest_block(self, sequence: Sequence) -> tuple[Sequence, PrefixBlock] | None:
        """Return the longest block that is cached for another sequence but not for this one, with that sequence."""
        for block in reversed(prefix_blocks(sequence, self.image_token)):
            if block.num_tokens <= sequence.num_cached:
                return None
            source = self._sources.get(block.digest)
            if source is not None and sequence.starts_with(
                source, block.num_tokens, block.num_images
            ):
                return source, block
        return None


def free_memory_bytes(device: Any) -> int:
    """Return the free memory of a device in bytes, including memory reserved but not used by PyTorch."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
