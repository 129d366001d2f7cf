"""Continuous-batching engine with prefix sharing and a persistent KV cache per conversation.

    add_request(sequence)   queues a sequence until `step` prefills it; cached prefixes are reused
    step()                  prefills waiting sequences or decodes one token for every running sequence
    cancel(sequence)        at any time between two steps; its slot is free immediately
    clear()                 after a change of the weights

A sequence is one turn of a conversation: the prompt ids and the generated ids. When it is finished, it leaves the batch
and its keys and values are retained. The next turn starts with its ids and prefills only its new tokens. Shared prefixes
are prefilled once: the prompt of several samples of one question, an image in several questions, the system message.

Models of other families use transformers `generate`, which prefills the whole conversation in every turn.
"""

from __future__ import annotations

from collections import abc
from typing import Any

import torch

from pixel_reasoner.models.api import CacheUsage
from pixel_reasoner.models.engine.families import FAMILIES
from pixel_reasoner.models.engine.layer_state import KVCache
from pixel_reasoner.models.engine.prefix_cache import (
    MEMORY_FRACTION,
    BlockIndex,
    PrefixBlock,
    PrefixCache,
    free_memory_bytes,
    last_image_block,
)
from pixel_reasoner.models.engine.runner import ModelRunner
from pixel_reasoner.models.engine.sampler import Sampler, sample
from pixel_reasoner.models.engine.scheduler import (
    PrefillChunk,
    Scheduler,
    length_batches,
    split_by_shared_prefix,
)
from pixel_reasoner.models.engine.sequence import Sequence, SequenceState
from pixel_reasoner.models.engine.vision_cache import VisionCache


def unwrap_peft(model: Any) -> Any:
    """Return a model without its PEFT wrapper. LoRA layers stay in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class Engine:
    """Continuous-batching engine. Not thread-safe.

    Args:
        model: of a supported family.
        processor: of this model; Qwen-VL families also accept its image processor.
        end_tokens: ids that end a sequence.
        sampler: samples the next tokens; by default `sample`, with per-sequence parameters.
        max_cache_bytes: limit of the KV cache of retained (finished) sequences; by default a quarter of the memory that is
            free when the first sequence is retained. The least recently used are evicted; running sequences never are.
            Encoded images have an eighth of it in addition.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        end_tokens: abc.Iterable[int],
        *,
        sampler: Sampler = sample,
        max_cache_bytes: int | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.family = FAMILIES.get(model.config.model_type)
        self.end_tokens = frozenset(end_tokens)
        self.sampler = sampler
        self.image_token = self.family.image_token(model.config)
        self._banned = self.family.banned_tokens(model.config)
        self._scheduler = Scheduler()
        self._cache = KVCache(model.device)
        self._prefixes = PrefixCache(model.device, max_cache_bytes)
        self._images = VisionCache(_vision_cache_bytes(model.device, max_cache_bytes))
        self._runner = ModelRunner(model, processor, self.family, self._cache, self._images)
        self._num_prompt_tokens = self._num_prefilled_tokens = 0

    @property
    def has_unfinished(self) -> bool:
        """Whether sequences are waiting or running."""
        return bool(self._scheduler.waiting or self._cache.running)

    @property
    def running(self) -> tuple[Sequence, ...]:
        """The running sequences, by slot."""
        return tuple(self._cache.running)

    @property
    def waiting(self) -> tuple[Sequence, ...]:
        """The sequences to prefill."""
        return tuple(self._scheduler.waiting)

    @property
    def retained(self) -> tuple[Sequence, ...]:
        """Finished sequences in the KV cache, least recently used first."""
        return tuple(self._prefixes.sequences)

    @property
    def num_cache_bytes(self) -> int:
        """Memory of the keys and values of retained sequences."""
        return self._prefixes.num_bytes

    @property
    def cache_usage(self) -> CacheUsage:
        """Use of the cache since the start."""
        num_reused = self._num_prompt_tokens - self._num_prefilled_tokens
        return CacheUsage(self._num_prompt_tokens, num_reused, self._prefixes.memory_fraction)

    def is_retained(self, sequence: Sequence) -> bool:
        """Whether the keys and values of a finished sequence are cached."""
        return sequence in self._prefixes

    def num_reusable_tokens(self, sequence: Sequence) -> int:
        """Return the number of ids of a new sequence that would be reused from the cache."""
        self._describe_images(sequence)
        longest = self._prefixes.longest_prefix(sequence)
        shared = self._block_index().longest_block(sequence)
        return max(longest.num_cached if longest else 0, shared[1].num_tokens if shared else 0)

    def add_request(self, sequence: Sequence) -> None:
        """Add a sequence to the queue."""
        sequence.state = SequenceState.WAITING
        self._describe_images(sequence)
        self._scheduler.add(sequence)

    def _describe_images(self, sequence: Sequence) -> None:
        """Set the digests and the numbers of visual tokens of the images of a sequence, on which shared prefixes depend."""
        if not sequence.is_described:
            sequence.images = self.family.link_images(sequence.images)
            sequence.image_lengths = self.family.image_lengths(self.processor, sequence.images)
            sequence.is_described = True

    @torch.inference_mode()
    def run(self, sequences: abc.Sequence[Sequence]) -> None:
        """Run until these sequences are finished. Retained sequences that none of them reuses are dropped first."""
        for one in sequences:
            self._describe_images(one)
        index = self._block_index()
        useful = {self._prefixes.longest_prefix(one) for one in sequences}
        useful |= {found[0] for one in sequences if (found := index.longest_block(one))}
        for one in self.retained:
            if one not in useful:
                self._prefixes.drop(one)
        for one in sequences:
            self.add_request(one)
        while self.has_unfinished:
            self.step()

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Prefill waiting sequences or decode one token for every running sequence.

        Returns the sequences that finished. If a prefill raises, for example for lack of memory, its sequences are
        cancelled and the others continue.
        """
        assert self.has_unfinished, "a step needs sequences"
        joining = self._scheduler.next_prefill(len(self._cache.running))
        sequences = joining or list(self._cache.running)
        if joining:
            try:
                logits = self._prefill(joining)
            except BaseException:
                self._drop_from_batch(joining)
                raise
        else:
            logits = self._runner.decode(sequences)
        logits[:, self._banned] = -torch.inf
        self._append(sequences, *self.sampler(logits, sequences))
        if joining:
            self._cache.sync_lengths()
        finished = [one for one in sequences if self._is_finished(one)]
        for one in finished:
            self._retain(one)
        return finished

    @torch.inference_mode()
    def cancel(self, sequence: Any) -> bool:
        """Stop a sequence (or the sequence with this `id`) in any state. Frees its slot and its cache.

        Returns whether the engine had this sequence.
        """
        known = (*self._scheduler.waiting, *self._cache.running, *self._prefixes.sequences)
        found = [one for one in known if one is sequence or one.id == sequence]
        for one in found:
            if one.state is SequenceState.WAITING:
                self._scheduler.remove(one)
            elif one.state is SequenceState.RUNNING:
                self._cache.leave(one)
            self._prefixes.drop(one)
            one.state = SequenceState.CANCELLED
        for one in found:
            one.snapshots = {}
        self._free_unused()
        return bool(found)

    @torch.inference_mode()
    def release(self, sequence: Sequence) -> None:
        """Drop the keys and values of a finished sequence."""
        self._prefixes.drop(sequence)

    @torch.inference_mode()
    def clear(self) -> None:
        """Drop the keys and values of all retained sequences. Required after a change of the weights."""
        for one in self.retained:
            self._prefixes.drop(one)
        self._images.clear()
        if not self._cache.running:
            self._cache.free()

    # --- one step ---

    def _append(
        self, sequences: abc.Sequence[Sequence], ids: torch.Tensor, logprobs: torch.Tensor | None
    ) -> None:
        for sequence, token in zip(sequences, ids.tolist(), strict=True):
            sequence.ids.append(token)
        if logprobs is not None:
            for sequence, logprob in zip(sequences, logprobs.tolist(), strict=True):
                sequence.logprobs.append(logprob)

    def _is_finished(self, sequence: Sequence) -> bool:
        num_new = len(sequence.ids) - sequence.num_prompt_tokens
        return sequence.ids[-1] in self.end_tokens or num_new >= sequence.max_new_tokens

    def _retain(self, sequence: Sequence) -> None:
        sequence.state = SequenceState.FINISHED
        tensors = self._cache.export(sequence)
        self._cache.leave(sequence)
        self._prefixes.retain(sequence, tensors)
        self._free_unused()

    def _free_unused(self) -> None:
        """Free the slots of an idle engine if they exceed the memory limit of retained sequences."""
        if not self._cache.running and self._cache.num_bytes > self._prefixes.max_bytes:
            self._cache.free()

    def _drop_from_batch(self, sequences: abc.Sequence[Sequence]) -> None:
        for one in sequences:
            one.state = SequenceState.CANCELLED
            if one.slot >= 0:
                self._cache.leave(one)

    # --- prefill ---

    def _prefill(self, joining: list[Sequence]) -> torch.Tensor:
        """Prefill new sequences, append them to the batch, and return the logits after their prompts."""
        groups: dict[tuple[Any, ...], list[Sequence]] = {}
        for one in joining:
            groups.setdefault((*one.ids, *(i.digest for i in one.images)), []).append(one)
        self._num_prompt_tokens += sum(len(one.ids) for one in joining)
        for one in joining:
            self._cache.join(one)
            one.state = SequenceState.RUNNING
        self._cache.reserve(len(self._cache.running), max(len(one.ids) for one in joining))
        for one in joining:
            self._reuse_prefix(one)
        logits: dict[Sequence, torch.Tensor] = {}
        continued = {one for one in joining if one.num_cached}
        remaining = [group[0] for group in groups.values()]
        while remaining:
            self._share_blocks(remaining)
            wave, remaining = split_by_shared_prefix(
                remaining, self.image_token, needs_snapshot=self.family.has_states
            )
            for one in wave:
                one.num_reused = one.num_cached
            self._num_prefilled_tokens += sum(len(one.ids) - one.num_cached for one in wave)
            if self.family.has_states:
                self._snapshot([one for one in wave if one not in continued])
            logits |= self._prefill_chunks([PrefillChunk.rest(one) for one in wave])
        for first, *others in groups.values():
            if others:
                self._cache.copy(first, others, first.num_cached)
            for one in others:
                one.num_cached, one.grids = first.num_cached, list(first.grids)
                one.num_reused, one.snapshots = first.num_cached, dict(first.snapshots)
                one.position_offset, logits[one] = first.position_offset, logits[first]
        return torch.stack([logits[one] for one in joining])

    def _prefill_chunks(self, chunks: abc.Iterable[PrefillChunk]) -> dict[Sequence, torch.Tensor]:
        """Prefill chunks in batches of similar length. Returns the logits after each."""
        logits: dict[Sequence, torch.Tensor] = {}
        for batch in length_batches(chunks):
            sequences = [one.sequence for one in batch]
            logits |= zip(sequences, self._runner.prefill(batch), strict=True)
        return logits

    def _snapshot(self, sequences: abc.Sequence[Sequence]) -> None:
        """Prefill sequences up to the end of their last image, and keep a copy of the states there.

        Other questions about these images start with the copy, and so do later turns whose chat template rewrites earlier
        replies. A turn that continues with the state of its conversation needs no copy and no additional forward pass.
        """
        blocks = {
            one: block
            for one in sequences
            if (block := last_image_block(one, self.image_token)) is not None
            and block.num_tokens > one.num_cached
        }
        chunks = (PrefillChunk(one, *block[1:3]) for one, block in blocks.items())
        self._prefill_chunks(chunks)
        for one in blocks:
            one.snapshots[one.num_cached] = self._cache.states.export(one.slot)

    def _reuse_prefix(self, sequence: Sequence) -> None:
        """Move the keys and values of the longest retained prefix of a sequence to its slot."""
        source = self._prefixes.longest_prefix(sequence)
        if source is not None and (tensors := self._prefixes.drop(source)) is not None:
            self._cache.load(tensors, [sequence], source.num_cached)
            sequence.num_cached, sequence.grids = source.num_cached, list(source.grids)
            sequence.snapshots = tensors.snapshots

    def _share_blocks(self, sequences: abc.Sequence[Sequence]) -> None:
        """Copy cached prefix blocks of other sequences to the slots of these sequences."""
        index = self._block_index()
        found: dict[tuple[Sequence, int], tuple[PrefixBlock, list[Sequence]]] = {}
        for one in sequences:
            if shared := index.longest_block(one):
                source, block = shared
                found.setdefault((source, block.num_tokens), (block, []))[1].append(one)
        for (source, size), (block, targets) in found.items():
            states = source.snapshots.get(size)
            if source in self._prefixes:
                self._cache.load(self._prefixes.tensors(source), targets, size, states)
            else:
                self._cache.copy(source, targets, size, states)
            for one in targets:
                one.num_cached, one.grids = size, source.grids[: block.num_images]
                one.snapshots = {} if states is None else {size: states}

    def _block_index(self) -> BlockIndex:
        return BlockIndex(
            (*self._cache.running, *self._prefixes.sequences),
            self.image_token,
            needs_snapshot=self.family.has_states,
        )


def _vision_cache_bytes(device: torch.device, max_cache_bytes: int | None) -> int:
    if max_cache_bytes is None:
        max_cache_bytes = int(free_memory_bytes(device) * MEMORY_FRACTION)
    return max_cache_bytes // 8
