"""Layer state of the running sequences: keys and values of attention layers, states of linear and convolution layers.

    keys or values of a layer: (slots, key-value heads, tokens, head dimension)
    state of a layer: (slots, ...); its size does not depend on the number of tokens

Slot n belongs to the n-th running sequence. Slots of running sequences are contiguous, so a decode step uses them as a
view. When a sequence leaves, the last sequence moves to its slot.

Sliding-window layers keep the keys and values of all tokens, and masks limit what they attend to: a prefix can end at any
token. A state is that after the last token. It cannot be rewound, so a shared prefix needs a copy of the state at its end.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, field
from typing import Any

import torch

from pixel_reasoner.models.engine.recurrent_state import RecurrentStates, StateTensors
from pixel_reasoner.models.engine.sequence import Sequence

CACHE_BLOCK_TOKENS = 128
"""growth of a slot, in tokens"""


@dataclass
class SequenceTensors:
    """Layer state of one sequence, outside of the slots."""

    tokens: dict[int, tuple[torch.Tensor, torch.Tensor]]
    """layer -> (key-value heads, tokens, head dimension) keys and values"""
    states: StateTensors = field(default_factory=dict)
    """states of the layers after the last token"""
    snapshots: dict[int, StateTensors] = field(default_factory=dict)
    """number of tokens -> states of the layers after them"""

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors."""
        tensors = [one for pair in self.tokens.values() for one in pair]
        for states in (self.states, *self.snapshots.values()):
            tensors += states.values()
        return sum(one.numel() * one.element_size() for one in tensors)


class KVCache:
    """KV cache of the running sequences. transformers calls `update` and the methods of `RecurrentStates`.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.running: list[Sequence] = []
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.states = RecurrentStates()
        self.lengths = torch.zeros(0, dtype=torch.long)
        """(running,) index of the last id of each running sequence, written by the next decode step"""
        self.position_offsets = torch.zeros(0, dtype=torch.long)
        self.max_length = 0
        """tokens per sequence that the next forward pass attends to"""
        self._token_index = torch.arange(0)
        self._write_at = self._slots = torch.zeros(0, dtype=torch.long)
        self._read_slots: Any = slice(0)
        self._flat_index: dict[torch.Size, torch.Tensor] = {}
        self._is_decode = False

    @property
    def num_bytes(self) -> int:
        """Memory of all slots."""
        tensors = (*self.keys.values(), *self.values.values(), *self.states.stores.values())
        return sum(one.numel() * one.element_size() for one in tensors)

    # --- sequences that join and leave ---

    def join(self, sequence: Sequence) -> None:
        """Assign the next slot to a sequence."""
        sequence.slot = len(self.running)
        self.running.append(sequence)
        self.states.reset(sequence.slot)

    def leave(self, sequence: Sequence) -> None:
        """Free the slot of a sequence; the last running sequence moves there."""
        here, last = sequence.slot, self.running.pop()
        if last is not sequence:
            for store in (*self.keys.values(), *self.values.values()):
                store[here, :, : last.num_cached] = store[last.slot, :, : last.num_cached]
            self.states.move(last.slot, here)
            self.running[here] = last
            if len(self.lengths) > last.slot:
                self.lengths[here] = self.lengths[last.slot]
                self.position_offsets[here] = self.position_offsets[last.slot]
            last.slot = here
        sequence.slot = -1
        self.lengths = self.lengths[: len(self.running)]
        self.position_offsets = self.position_offsets[: len(self.running)]

    def sync_lengths(self) -> None:
        """Update lengths and offsets after sequences joined."""
        self.lengths = torch.tensor([len(one.ids) - 1 for one in self.running], device=self.device)
        offsets = [one.position_offset for one in self.running]
        self.position_offsets = torch.tensor(offsets, device=self.device)

    def free(self) -> None:
        """Free the memory of all slots; no sequence may be running."""
        assert not self.running, "running sequences need their slots"
        self.keys, self.values = {}, {}
        self.states.free()

    # --- copies ---

    def export(self, sequence: Sequence) -> SequenceTensors:
        """Return copies of the layer state of a running sequence, with its snapshots."""
        slot, size = sequence.slot, sequence.num_cached
        tokens = {
            layer: (keys[slot, :, :size].clone(), self.values[layer][slot, :, :size].clone())
            for layer, keys in self.keys.items()
        }
        return SequenceTensors(tokens, self.states.export(slot), dict(sequence.snapshots))

    def load(
        self,
        tensors: SequenceTensors,
        targets: abc.Sequence[Sequence],
        size: int,
        states: StateTensors | None = None,
    ) -> None:
        """Copy the first tokens of exported tensors into the slots of running sequences.

        Args:
            tensors: of one sequence.
            targets: running sequences.
            size: number of tokens.
            states: states after these tokens; by default those after the last token.
        """
        slots = self._get_slots(targets)
        for layer, (keys, values) in tensors.tokens.items():
            self._ensure_layer(layer, keys, values, size)
            self.keys[layer][slots, :, :size] = keys[:, :size]
            self.values[layer][slots, :, :size] = values[:, :size]
        self.states.load(tensors.states if states is None else states, slots, len(self.running))

    def copy(
        self,
        source: Sequence,
        targets: abc.Sequence[Sequence],
        size: int,
        states: StateTensors | None = None,
    ) -> None:
        """Copy the first tokens of a running sequence into the slots of others; `states` as in `load`."""
        slots = self._get_slots(targets)
        for store in (*self.keys.values(), *self.values.values()):
            store[slots, :, :size] = store[source.slot, :, :size]
        if states is None:
            states = self.states.export(source.slot)
        self.states.load(states, slots, len(self.running))

    def _get_slots(self, sequences: abc.Sequence[Sequence]) -> torch.Tensor:
        return torch.tensor([one.slot for one in sequences], device=self.device)

    # --- forward passes ---

    def plan_prefill(
        self, write_at: torch.Tensor, sequences: abc.Sequence[Sequence], counts: torch.Tensor
    ) -> None:
        """Set where the next forward pass writes.

        Args:
            write_at: (sequences, new tokens) indexes in the slots of these sequences.
            sequences: to prefill.
            counts: (sequences,) number of new tokens without padding.
        """
        self._slots = self._read_slots = self._get_slots(sequences)
        self._is_decode = False
        self.states.plan_prefill(self._slots, counts)
        self._plan(write_at, int(write_at.max()) + 1)

    def plan_decode(self) -> torch.Tensor:
        """Let the next forward pass write one token for each running sequence; returns its (running, tokens) mask."""
        self._read_slots, self._is_decode = slice(0, len(self.running)), True
        self.states.plan_decode(len(self.running))
        self._plan(self.lengths[:, None], max(len(one.ids) for one in self.running))
        return self.token_index <= self.lengths[:, None]

    def _plan(self, write_at: torch.Tensor, max_length: int) -> None:
        self._write_at, self.max_length = write_at, max_length
        self._flat_index.clear()
        if len(self._token_index) < max_length:
            self._token_index = torch.arange(_rounded(max_length), device=self.device)
        self.reserve(len(self.running), max_length)

    @property
    def token_index(self) -> torch.Tensor:
        """(1, max_length) index of each token that the next forward pass attends to."""
        return self._token_index[None, : self.max_length]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (sequences, heads, new, dim) keys and values. Returns all keys and values of these sequences."""
        # Under autocast keys have 32 bits after the rotary embedding and values have 16 bits. Attention uses 16 bits for both.
        self._ensure_layer(layer, keys[0].to(values.dtype), values[0], self.max_length)
        write = self._write_decode if self._is_decode else self._write_prefill
        write(self.keys[layer], keys)
        write(self.values[layer], values)
        return (
            self.keys[layer][self._read_slots, :, : self.max_length],
            self.values[layer][self._read_slots, :, : self.max_length],
        )

    def get_conv_state(self, layer: int, state_idx: int = 0) -> torch.Tensor | None:
        """Return the inputs of a causal convolution before the new tokens (`RecurrentStates`)."""
        return self.states.get_conv_state(layer, state_idx)

    def update_conv_state(self, new: torch.Tensor, layer: int, **given: Any) -> torch.Tensor:
        """Write the last inputs of a causal convolution (`RecurrentStates`)."""
        return self.states.update_conv_state(new, layer, len(self.running), **given)

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> torch.Tensor | None:
        """Return the states of linear attention before the new tokens (`RecurrentStates`)."""
        return self.states.get_recurrent_state(layer, state_idx)

    def update_recurrent_state(self, new: torch.Tensor, layer: int, **given: Any) -> torch.Tensor:
        """Write the states of linear attention after the new tokens (`RecurrentStates`)."""
        return self.states.update_recurrent_state(new, layer, len(self.running), **given)

    def is_recording_past(self, layer: int) -> bool:
        """Return whether a layer records past states, as transformers asks: never."""
        del layer
        return False

    def _ensure_layer(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor, length: int
    ) -> None:
        """Create the stores of a layer for its (heads, tokens, dim) keys and values. With MLA the dims differ."""
        if layer in self.keys:
            return
        for stores, one in ((self.keys, keys), (self.values, values)):
            heads, _, dim = one.shape
            stores[layer] = one.new_zeros((0, heads, 0, dim))
        self.reserve(len(self.running), length)

    def _write_prefill(self, store: torch.Tensor, new: torch.Tensor) -> None:
        store[self._slots[:, None], :, self._write_at] = new.transpose(1, 2).to(store.dtype)

    def _write_decode(self, store: torch.Tensor, new: torch.Tensor) -> None:
        """Write one token for each running sequence; `index_copy_` takes a fraction of the time of indexed assignment."""
        index = self._flat_index.get(store.shape)
        if index is None:
            _, heads, length, _ = store.shape
            first = torch.arange(len(new) * heads, device=self.device).view(-1, heads) * length
            index = self._flat_index[store.shape] = (first + self._write_at).view(-1)
        dim = store.shape[3]
        store.view(-1, dim).index_copy_(0, index, new.reshape(-1, dim).to(store.dtype))

    def reserve(self, num_slots: int, length: int) -> None:
        """Grow the slots. New memory is zero, because masked values must be finite."""
        for stores in (self.keys, self.values):
            for layer, store in stores.items():
                slots, heads, reserved, dim = store.shape
                if slots >= num_slots and reserved >= length:
                    continue
                # Grow by a factor, because zeroing new memory takes most of the time.
                size = slots if slots >= num_slots else max(num_slots, slots * 2)
                tokens = reserved if reserved >= length else max(length, reserved * 3 // 2)
                grown = store.new_zeros((size, heads, _rounded(tokens), dim))
                grown[:slots, :, :reserved] = store
                stores[layer] = grown


def _rounded(length: int) -> int:
    return -(-length // CACHE_BLOCK_TOKENS) * CACHE_BLOCK_TOKENS
