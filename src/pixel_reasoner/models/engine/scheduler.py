"""Scheduler: choice between prefill and decode, and batches of sequences for one forward pass."""

from __future__ import annotations

from collections import abc
from typing import NamedTuple

from pixel_reasoner.models.engine.prefix_cache import last_image_block, prefix_blocks
from pixel_reasoner.models.engine.sequence import Sequence

MAX_PREFILL_TOKENS = 16_384
"""maximum tokens of one forward pass, including padding; a longer sequence has its own pass"""

MIN_LENGTH_RATIO = 0.7
"""minimum ratio of shortest to longest sequence of one prefill pass, because padding costs computation"""

WAITING_FRACTION_TO_PREFILL = 0.25
"""Prefill once this fraction of the batch is waiting. One prefill costs about as much as one decode step."""

MAX_WAITING_STEPS = 64
"""decode steps after which any number of waiting sequences is prefilled"""

PREFIX_MIN_TOKENS = 1024
"""minimum number of saved prefill tokens to prefill a shared prefix first, in a separate forward pass"""


class Scheduler:
    """Queue of waiting sequences, with the choice between prefill and decode."""

    def __init__(self) -> None:
        self.waiting: list[Sequence] = []
        self._num_steps = 0

    def add(self, sequence: Sequence) -> None:
        """Append a sequence to the queue."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Remove a waiting sequence."""
        self.waiting.remove(sequence)

    def next_prefill(self, num_running: int) -> list[Sequence]:
        """Return the sequences to prefill now; an empty list means decode."""
        if not self.waiting:
            return []
        self._num_steps += 1
        is_worth_a_pass = len(self.waiting) >= num_running * WAITING_FRACTION_TO_PREFILL
        if not is_worth_a_pass and self._num_steps <= MAX_WAITING_STEPS:
            return []
        taken, self.waiting, self._num_steps = self.waiting, [], 0
        return taken


class PrefillChunk(NamedTuple):
    """Tokens of a sequence to prefill in one forward pass: from the first uncached one to `end`."""

    sequence: Sequence
    end: int
    num_images: int
    """images of the sequence up to `end`"""

    @classmethod
    def rest(cls, sequence: Sequence) -> PrefillChunk:
        """Return the chunk with all uncached tokens."""
        return cls(sequence, len(sequence.ids), len(sequence.images))

    @property
    def num_new(self) -> int:
        """Number of tokens to prefill."""
        return self.end - self.sequence.num_cached


def split_by_shared_prefix(
    sequences: abc.Sequence[Sequence], image_token: int, *, needs_snapshot: bool = False
) -> tuple[list[Sequence], list[Sequence]]:
    """Split sequences into two groups: the first to prefill now, the second to prefill later with a prefix of the first.

    The second group is empty if it would save fewer than `PREFIX_MIN_TOKENS` tokens. With `needs_snapshot` a prefix can
    only end after the last image of a sequence.
    """
    first: list[Sequence] = []
    later: list[Sequence] = []
    num_saved, sizes = 0, dict[bytes, int]()
    for sequence in sequences:
        blocks = prefix_blocks(sequence, image_token)
        shared = max((sizes.get(block.digest, 0) for block in blocks), default=0)
        if shared > sequence.num_cached:
            later.append(sequence)
            num_saved += shared - sequence.num_cached
        else:
            first.append(sequence)
            if needs_snapshot:
                last = last_image_block(sequence, image_token)
                blocks = [last] if last is not None else []
            sizes |= {block.digest: block.num_tokens for block in blocks}
    return (first, later) if num_saved >= PREFIX_MIN_TOKENS else (list(sequences), [])


def length_batches(chunks: abc.Iterable[PrefillChunk]) -> list[list[PrefillChunk]]:
    """Group chunks of similar length into forward passes, longest first."""
    batches: list[list[PrefillChunk]] = []
    for chunk in sorted(chunks, key=lambda one: -one.num_new):
        size = chunk.num_new
        longest = batches[-1][0].num_new if batches else 0
        free = MAX_PREFILL_TOKENS - longest * len(batches[-1] if batches else ())
        if not batches or size < longest * MIN_LENGTH_RATIO or longest > free:
            batches.append([])
        batches[-1].append(chunk)
    return batches
