"""States of linear-attention and convolution layers: one per sequence and layer, of a size that does not depend on its length.

    conv       (slots, channels, kernel) last inputs of a causal convolution
    recurrent  (slots, heads, key dimension, value dimension) state of linear attention

A state of zeros is that before the first token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class StateKey(NamedTuple):
    """Name of one state of one layer."""

    kind: str
    """`conv` or `recurrent`"""
    layer: int
    number: int
    """a layer may have several states of a kind"""


StateTensors = dict[StateKey, torch.Tensor]
"""states of one sequence, without the axis of slots"""


class RecurrentStates:
    """States of the running sequences, by slot.

    In a prefill, `update_conv_state` excludes padding on the right. Families with linear attention must not let padding
    change its state (`families._linear_attention`).
    """

    def __init__(self) -> None:
        self.stores: StateTensors = {}
        """(slots, ...) states"""
        self._slots = torch.zeros(0, dtype=torch.long)
        self._counts = torch.zeros(0, dtype=torch.long)
        self._num_decoded: int | None = None
        """running sequences of a decode step; None in a prefill"""

    # --- slots ---

    def reset(self, slot: int) -> None:
        """Set the states of a slot to those before the first token."""
        for store in self.stores.values():
            if slot < len(store):
                store[slot].zero_()

    def move(self, source: int, target: int) -> None:
        """Copy the states of one slot to another."""
        for store in self.stores.values():
            store[target] = store[source]

    def export(self, slot: int) -> StateTensors:
        """Return copies of the states of a slot."""
        return {key: store[slot].clone() for key, store in self.stores.items()}

    def load(self, states: StateTensors, slots: torch.Tensor, num_slots: int) -> None:
        """Copy the states of one sequence into slots."""
        for key, state in states.items():
            self._store(key, state, num_slots)[slots] = state

    def free(self) -> None:
        """Free all memory."""
        self.stores = {}

    def _store(self, key: StateKey, state: torch.Tensor, num_slots: int) -> torch.Tensor:
        """Return the store of a state with room for all slots; new slots are zero."""
        store = self.stores.get(key)
        if store is None or len(store) < num_slots:
            size = num_slots if store is None else max(num_slots, 2 * len(store))
            grown = state.new_zeros((size, *state.shape))
            if store is not None:
                grown[: len(store)] = store
            store = self.stores[key] = grown
        return store

    # --- forward passes ---

    def plan_prefill(self, slots: torch.Tensor, counts: torch.Tensor) -> None:
        """Let the next forward pass prefill sequences in these slots with (sequences,) numbers of new tokens."""
        self._slots, self._counts, self._num_decoded = slots, counts, None

    def plan_decode(self, num_running: int) -> None:
        """Let the next forward pass process one token for each running sequence."""
        self._num_decoded = num_running

    def get_conv_state(self, layer: int, state_idx: int = 0) -> torch.Tensor | None:
        """Return (running, channels, kernel) last inputs as a view that the layer updates in place; None in a prefill.

        None makes the layer call `update_conv_state`, which prepends the last inputs.
        """
        if self._num_decoded is None:
            return None
        return self.stores[StateKey("conv", layer, state_idx)][: self._num_decoded]

    def update_conv_state(
        self,
        new: torch.Tensor,
        layer: int,
        num_slots: int,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
    ) -> torch.Tensor:
        """Prepend the last inputs to (sequences, channels, tokens) new inputs, and write the last of both."""
        size = conv_kernel_size or new.shape[-1]
        key = StateKey("conv", layer, state_idx)
        store = self._store(key, new.new_zeros((new.shape[1], size)), num_slots)
        slots = self._slots if self._num_decoded is None else slice(0, self._num_decoded)
        joined = torch.cat((store[slots].to(new.dtype), new), dim=-1)
        if self._num_decoded is None:
            last = self._counts[:, None] + torch.arange(size, device=new.device)
            store[slots] = joined.gather(2, last[:, None].expand(-1, new.shape[1], -1))
        else:
            store[slots] = joined[..., -size:]
        return joined

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> torch.Tensor | None:
        """Return (sequences, heads, key dim, value dim) states; None before the first forward pass."""
        store = self.stores.get(StateKey("recurrent", layer, state_idx))
        if store is None:
            return None
        if self._num_decoded is not None:
            return store[: self._num_decoded]
        # A slot that joined after the last growth of this store has no state yet.
        if int(self._slots.max()) >= len(store):
            store = self._store(
                StateKey("recurrent", layer, state_idx), store[0], int(self._slots.max()) + 1
            )
        return store[self._slots]

    def update_recurrent_state(
        self, new: torch.Tensor, layer: int, num_slots: int, state_idx: int = 0
    ) -> torch.Tensor:
        """Write (sequences, heads, key dim, value dim) states."""
        store = self._store(StateKey("recurrent", layer, state_idx), new[0], num_slots)
        if self._num_decoded is None:
            store[self._slots] = new
        else:
            store[: self._num_decoded] = new
        return new
