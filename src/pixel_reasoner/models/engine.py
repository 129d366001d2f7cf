"""Token sequences that a model continues, in a batch whose rows come and go.

    add(row)      joins the batch when `step` is called next; what an earlier row has read already is not read again
    step()        reads the rows that wait, or adds one token to every row in the batch; returns those that are finished
    forget()      when the weights have changed

A row is a conversation turn: the ids of everything said and shown so far, and those that the model adds. Its keys and
values stay when it is finished, so the next turn of the same conversation, whose ids begin with it, reads what is new
alone: the reply to an operation and its pixels. What several rows begin with is read once: the prompt of the G rollouts of a
question, the picture that many questions are about, the system message. A finished row leaves the batch at once.

    slots, first those in the batch, then those that are kept:     | row | row | row | kept | kept |
    keys and values of a layer: (slots, heads, indexes, dim); a row writes behind what it has; padding is overwritten

Covers the families of `FAMILIES`: full attention, and a forward pass that takes encoded pictures. For others there is
`generate` of transformers, which reads every conversation from its beginning in each turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
"""model types whose positions, masks and pictures are handled here"""

READ_AT_ONCE = 16_384
"""tokens, padding included, that one forward pass reads at most, unless a single row has more"""

_ALIKE = 0.7
"""length of a row, as a share of the longest, from which on both are read together: padding is read too"""

_PATIENCE = 0.25
"""rows that wait, as a share of the batch, before they are read: reading one costs about what a token for all does"""

_WORTH_A_PASS = 1024
"""ids that others need not read, from which on a row is read before them, in a forward pass of its own"""

_BLOCK = 128
"""indexes by which room for keys and values grows"""


class Beginning(NamedTuple):
    """The ids of a row up to an edge of a picture. Rows that are about the same begin alike there."""

    name: int
    """of these ids and pixels"""
    size: int
    num_pictures: int


class Seen(NamedTuple):
    """A picture as a model sees it, and a name for its pixels."""

    key: int
    image: Any

    @classmethod
    def of(cls, image: Any) -> Seen:
        """A picture named by its content.

        >>> from PIL import Image
        >>> red, blue = (Image.new("RGB", (8, 8), name) for name in ("red", "blue"))
        >>> Seen.of(red).key == Seen.of(red.copy()).key != Seen.of(blue).key
        True
        """
        return cls(hash((image.mode, image.size, image.tobytes())), image)


@dataclass(eq=False)
class Row:
    """A sequence on its way through the batch."""

    ids: list[int]
    """the prompt, and behind it what was generated"""
    pictures: tuple[Seen, ...]
    """in the order of their placeholders"""
    max_new_tokens: int
    key: Any = None
    """whatever the caller knows it by"""
    draws: Any = None
    """what the chooser needs of its own for this row, such as a random generator"""
    logprobs: list[float] = field(default_factory=list)
    num_prompt: int = field(init=False)
    num_read: int = field(init=False, default=0)
    """ids whose keys and values are there"""
    shift: int = field(init=False, default=0)
    """position of a generated token minus its index"""
    grids: list[torch.Tensor] = field(init=False, default_factory=list)
    """(3,) of each picture that was read"""
    _beginnings: list[Beginning] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.num_prompt = len(self.ids)

    def beginnings(self, placeholder: int) -> list[Beginning]:
        """Those of the prompt, the shortest first; `placeholder` stands for a visual token."""
        if self._beginnings is None:
            self._beginnings = []
            ids = np.array(self.ids[: self.num_prompt], dtype=np.int32)
            edges = np.flatnonzero(np.diff(ids == placeholder, prepend=False, append=False))
            apart = len(edges) == 2 * len(self.pictures)  # no two without a word in between
            name = before = 0
            for n, edge in enumerate(edges.tolist() if apart else ()):
                within = self.pictures[n // 2].key if n % 2 else ids[before:edge].tobytes()
                name, before = hash((name, within, edge)), edge
                if 0 < edge < len(ids):
                    self._beginnings.append(Beginning(name, edge, (n + 1) // 2))
        return self._beginnings

    @property
    def new_ids(self) -> list[int]:
        """What was generated."""
        return self.ids[self.num_prompt :]


Choose = Callable[[torch.Tensor, Sequence[Row]], tuple[torch.Tensor, torch.Tensor | None]]
"""(rows, vocabulary) logits -> (rows,) ids and their logprobs, None where nobody asks for these"""


def unwrap_peft(model: Any) -> Any:
    """A model without what PEFT wraps around it; its LoRA layers stay in it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def supported(model: Any) -> bool:
    """Whether a model is of a family that the engine knows, with the attention that it needs."""
    config = model.config
    text = config.get_text_config()
    kinds = set(text.layer_types) if "layer_types" in text.to_dict() else {"full_attention"}
    return (
        config.model_type in FAMILIES
        and text._attn_implementation == "sdpa"
        and kinds <= {"full_attention"}
    )


class Engine:
    """A model that continues rows.

    Args:
        model: of a supported family.
        image_processor: its own.
        end_tokens: ids that end a row.
    """

    def __init__(self, model: Any, image_processor: Any, end_tokens: Sequence[int]) -> None:
        self.model = model
        self.image_processor = image_processor
        self.end_tokens = frozenset(end_tokens)
        # A placeholder that a model writes itself would ask for a picture or a video that is not there.
        self.placeholder = model.config.image_token_id
        self.never = [self.placeholder, model.config.video_token_id]
        self.slots = _Slots(model.device)
        self.waiting: list[Row] = []

    @property
    def busy(self) -> bool:
        """Whether rows are waiting or in the batch."""
        return bool(self.waiting or self.slots.num_active)

    def add(self, row: Row) -> None:
        """Let a row join the batch."""
        self.waiting.append(row)

    @torch.inference_mode()
    def run(self, rows: Sequence[Row], choose: Choose) -> None:
        """Finish all of these rows. Of earlier ones only those stay that one of them goes on from, or begins like."""
        known = self._known()
        useful = {id(self.slots.origin(row)) for row in rows}
        useful |= {id(alike[0]) for row in rows if (alike := self._alike(row, known))}
        self.slots.keep(lambda row: id(row) in useful)
        self.waiting += rows
        while self.busy:
            self.step(choose)

    @torch.inference_mode()
    def forget(self, row: Row | None = None) -> None:
        """Drop what was read: one finished row, or everything."""
        self.slots.keep(lambda kept: row is not None and kept is not row)

    @torch.inference_mode()
    def step(self, choose: Choose) -> list[Row]:
        """Read the rows that wait, or generate one more token for those in the batch; returns those that this finishes."""
        assert self.busy, "a step needs rows"
        slots = self.slots
        joining: list[Row] = []
        if len(self.waiting) >= slots.num_active * _PATIENCE:
            joining, self.waiting = self.waiting, []
        rows = joining or slots.rows[: slots.num_active]
        logits = self._admit(rows) if joining else self._next(rows)
        logits[:, self.never] = -torch.inf
        ids, logprobs = choose(logits, rows)
        for row, token in zip(rows, ids.tolist(), strict=True):
            row.ids.append(token)
        if logprobs is not None:
            for row, logprob in zip(rows, logprobs.tolist(), strict=True):
                row.logprobs.append(logprob)
        if joining:
            slots.settle()
        finished = [row for row in rows if self._finished(row)]
        for row in finished:
            slots.park(row)
        return finished

    def _finished(self, row: Row) -> bool:
        return row.ids[-1] in self.end_tokens or len(row.ids) - row.num_prompt >= row.max_new_tokens

    def _next(self, rows: Sequence[Row]) -> torch.Tensor:
        """Logits behind the last token of each row in the batch."""
        slots = self.slots
        last = torch.tensor([row.ids[-1] for row in rows], device=self.model.device)
        lengths = slots.lengths[: len(rows)]
        slots.write(lengths[:, None])
        mask = slots.index[None, : slots.longest] <= lengths[:, None]
        text = self.model.model.language_model
        out = text(
            inputs_embeds=text.embed_tokens(last[:, None]),
            position_ids=(lengths + slots.shifts[: len(rows)])[None, :, None].expand(3, -1, -1),
            attention_mask=mask[:, None, None],
            past_key_values=slots,
            use_cache=True,
        )
        slots.lengths[: len(rows)] += 1
        for row in rows:
            row.num_read += 1
        return self.model.lm_head(out.last_hidden_state[:, -1])

    # --- rows that join ---

    def _admit(self, rows: list[Row]) -> torch.Tensor:
        """Logits behind the prompts of new rows, which then stand behind the others in the batch."""
        slots = self.slots
        same: dict[tuple[bytes, tuple[int, ...]], list[Row]] = {}
        for row in rows:
            same.setdefault(_identity(row), []).append(row)
        for row in rows:
            slots.join(row)
        logits: dict[int, torch.Tensor] = {}
        for wave in self._waves([alike[0] for alike in same.values()]):
            for batch in _batches(wave):
                for row, told in zip(batch, self._read(batch), strict=True):
                    logits[id(row)] = told
        for first, *others in same.values():
            slots.copy(first, others, first.num_read, len(first.grids))
            for row in others:
                row.shift, logits[id(row)] = first.shift, logits[id(first)]
        return torch.stack([logits[id(row)] for row in rows])

    def _waves(self, rows: list[Row]) -> Iterator[list[Row]]:
        """Rows in the order in which they are read: those with whose beginnings others go on before these."""
        while rows:
            self._take_over(rows)
            first: list[Row] = []
            later: list[Row] = []
            saved, sizes = 0, dict[int, int]()
            for row in rows:
                beginnings = row.beginnings(self.placeholder)
                shared = max((sizes.get(one.name, 0) for one in beginnings), default=0)
                if shared > row.num_read:
                    later.append(row)
                    saved += shared - row.num_read
                else:
                    first.append(row)
                    sizes |= {one.name: one.size for one in beginnings}
            if saved < _WORTH_A_PASS:
                first, later = rows, []
            yield first
            rows = later

    def _take_over(self, rows: Sequence[Row]) -> None:
        """Let rows have what was read of the same beginning for another."""
        known = self._known()
        taking: dict[tuple[int, int], tuple[Row, Beginning, list[Row]]] = {}
        for row in rows:
            if alike := self._alike(row, known):
                source, shared = alike
                taking.setdefault((id(source), shared.size), (*alike, []))[2].append(row)
        for source, shared, takers in taking.values():
            self.slots.copy(source, takers, shared.size, shared.num_pictures)

    def _known(self) -> dict[int, Row]:
        """A row that has read it, for each beginning."""
        return {
            one.name: row
            for row in self.slots.rows
            for one in row.beginnings(self.placeholder)
            if one.size <= row.num_read
        }

    def _alike(self, row: Row, known: dict[int, Row]) -> tuple[Row, Beginning] | None:
        """The longest beginning that was read for another, if the row has not read as much itself."""
        for one in reversed(row.beginnings(self.placeholder)):
            if one.size > row.num_read and one.name in known:
                return known[one.name], one
        return None

    def _read(self, rows: Sequence[Row]) -> torch.Tensor:
        """Logits behind the prompts of rows, of which the first `num_read` ids were read before."""
        slots, device = self.slots, self.model.device
        fresh = [row.pictures[len(row.grids) :] for row in rows]
        encoded = self._encoded({seen.key: seen for some in fresh for seen in some})
        for row, some in zip(rows, fresh, strict=True):
            row.grids += [encoded[seen.key].grid for seen in some]
        counts = [len(row.ids) - row.num_read for row in rows]
        most = max(counts)
        ids = torch.zeros((len(rows), most), dtype=torch.long)
        positions = torch.zeros((3, len(rows), most), dtype=torch.long)
        for n, row in enumerate(rows):
            ids[n, : counts[n]] = torch.tensor(row.ids[row.num_read :])
            positions[:, n, : counts[n]] = self._positions(row)[:, row.num_read :]
        starts = torch.tensor([row.num_read for row in rows])
        at = (starts[:, None] + torch.arange(most)).to(device)
        slots.write(at, [slots.slot(row) for row in rows])
        mask = slots.index[None, None, : slots.longest] <= at[:, :, None]
        shown = _together([encoded[seen.key] for some in fresh for seen in some])
        out = self.model.model(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            attention_mask=mask[:, None],
            past_key_values=slots,
            use_cache=True,
            mm_encoder_outputs={"image": shown} if shown else None,
        )
        last = torch.tensor(counts, device=device) - 1
        hidden = out.last_hidden_state[torch.arange(len(rows), device=device), last]
        for row in rows:
            row.num_read = len(row.ids)
        return self.model.lm_head(hidden)

    def _positions(self, row: Row) -> torch.Tensor:
        """(3, ids) positions of a prompt; what follows goes on from its `shift`."""
        ids = torch.tensor(row.ids)[None]
        if not row.grids:
            return torch.arange(len(row.ids)).expand(3, -1)
        kinds = (ids == self.placeholder).int()
        positions, shift = self.model.model.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=torch.stack(row.grids)
        )
        row.shift = int(shift)
        return positions[:, 0]

    def _encoded(self, pictures: dict[int, Seen]) -> dict[int, _Encoded]:
        """Each picture through the vision tower, once."""
        encoded: dict[int, _Encoded] = {}
        left = list(pictures.values())
        while left:
            some, left = _as_many_as_fit(left)
            inputs = self.image_processor(images=[seen.image for seen in some], return_tensors="pt")
            grids = inputs["image_grid_thw"]
            out = self.model.model.get_image_features(
                inputs["pixel_values"].to(self.model.device), grids.to(self.model.device)
            )
            deep = getattr(out, "deepstack_features", None) or []  # Qwen3-VL has it
            for n, seen in enumerate(some):
                layers = [layer[n] for layer in deep]
                encoded[seen.key] = _Encoded(grids[n].cpu(), out.pooler_output[n], layers)
        return encoded


class _Encoded(NamedTuple):
    """What the vision tower says of a picture."""

    grid: torch.Tensor
    tokens: torch.Tensor  # (visual tokens, hidden)
    deep: list[torch.Tensor]


class _Shown(BaseModelOutputWithPooling):
    """Encoded pictures as a forward pass takes them."""

    deepstack_features: Any = None


def _together(pictures: Sequence[_Encoded]) -> _Shown | None:
    if not pictures:
        return None
    deep = [tuple(layer) for layer in zip(*(one.deep for one in pictures), strict=True)]
    shown = _Shown(pooler_output=tuple(one.tokens for one in pictures))
    shown.deepstack_features = deep
    return shown


def _identity(row: Row) -> tuple[bytes, tuple[int, ...]]:
    return np.array(row.ids, dtype=np.int32).tobytes(), tuple(seen.key for seen in row.pictures)


def _batches(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of similar length together, as many as one forward pass may read."""
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.num_read - len(row.ids)):
        size = len(row.ids) - row.num_read
        longest = len(batches[-1][0].ids) - batches[-1][0].num_read if batches else 0
        room = READ_AT_ONCE - longest * len(batches[-1] if batches else ())
        if not batches or size < longest * _ALIKE or longest > room:
            batches.append([])
        batches[-1].append(row)
    return batches


_PIXELS_AT_ONCE = 8_000_000
"""that the vision tower encodes at once, unless a single picture has more"""


def _as_many_as_fit(pictures: list[Seen]) -> tuple[list[Seen], list[Seen]]:
    total = 0
    for n, seen in enumerate(pictures):
        total += seen.image.width * seen.image.height
        if n and total > _PIXELS_AT_ONCE:
            return pictures[:n], pictures[n:]
    return pictures, []


class _Slots:
    """Keys and values of rows; as a cache of transformers, the one method `update`.

    Rows in the batch stand in the first slots, so a step reads them as they lie.
    """

    def __init__(self, device: Any) -> None:
        self.device = device
        self.rows: list[Row] = []
        self.num_active = 0
        self.keys: list[torch.Tensor] = []  # (slots, heads, indexes, dim) of each layer
        self.values: list[torch.Tensor] = []
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.shifts = torch.zeros(0, dtype=torch.long)
        self.longest = 0
        self.span: Any = slice(0)
        """what the next forward pass reads, and `where` and at which indexes it writes"""
        self.where = self.at = torch.zeros(0, dtype=torch.long)
        self.index = torch.arange(0)

    # --- which row lies where ---

    def slot(self, row: Row) -> int:
        """Where a row lies."""
        return self.rows.index(row)

    def origin(self, row: Row) -> Row | None:
        """The kept row with which a row begins, the longest of several."""
        kept = [one for one in self.rows[self.num_active :] if _begins(row, one)]
        return max(kept, key=lambda one: one.num_read, default=None)

    def join(self, row: Row) -> None:
        """Give a row the slot behind the batch, with what it need not read."""
        origin = self.origin(row)
        if origin is None:
            self.rows.append(row)
            self._reserve()
            here = len(self.rows) - 1
        else:
            here = self.slot(origin)
            row.num_read, row.grids = origin.num_read, list(origin.grids)
            self.rows[here] = row  # the row that it goes on from is not needed any more
        self._swap(here, self.num_active)
        self.num_active += 1

    def settle(self) -> None:
        """Take in the lengths of the rows that joined."""
        rows = self.rows[: self.num_active]
        self.lengths = torch.tensor([len(row.ids) - 1 for row in rows], device=self.device)
        self.shifts = torch.tensor([row.shift for row in rows], device=self.device)

    def park(self, row: Row) -> None:
        """Take a finished row out of the batch; its keys and values stay."""
        here, last = self.slot(row), self.num_active - 1
        self._swap(here, last)
        if here != last:
            self.lengths[here], self.shifts[here] = (
                self.lengths[last].clone(),
                self.shifts[last].clone(),
            )
        self.lengths, self.shifts = self.lengths[:last], self.shifts[:last]
        self.num_active = last

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Drop kept rows, all but the wanted."""
        for row in self.rows[self.num_active :]:
            if not wanted(row):
                self._swap(self.slot(row), len(self.rows) - 1)
                self.rows.pop()
        if not self.rows:
            self.keys, self.values = [], []

    def _swap(self, one: int, other: int) -> None:
        if one == other:
            return
        rows = self.rows
        from_one, from_other = rows[one].num_read, rows[other].num_read
        rows[one], rows[other] = rows[other], rows[one]
        for store in (*self.keys, *self.values):
            kept = store[one, :, :from_one].clone()
            store[one, :, :from_other] = store[other, :, :from_other]
            store[other, :, :from_one] = kept

    def copy(self, source: Row, targets: Sequence[Row], size: int, num_pictures: int) -> None:
        """Let rows have the first ids and pictures that another has read."""
        if not targets:
            return
        here = self.slot(source)
        there = torch.tensor([self.slot(row) for row in targets], device=self.device)
        for store in (*self.keys, *self.values):
            store[there, :, :size] = store[here, :, :size]
        for row in targets:
            row.num_read, row.grids = size, source.grids[:num_pictures]

    # --- what a forward pass writes and reads ---

    def write(self, at: torch.Tensor, slots: Sequence[int] | None = None) -> None:
        """Say where the next forward pass writes: (rows, new) indexes, in these slots or in those of the batch."""
        self.at = at
        self.span = slice(0, len(at)) if slots is None else torch.tensor(slots, device=self.device)
        self.where = torch.arange(len(at), device=self.device) if slots is None else self.span
        self.longest = int(at.max()) + 1
        if len(self.index) < self.longest:
            self.index = torch.arange(_rounded(self.longest), device=self.device)
        self._reserve()

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (rows, heads, new, dim) keys and values; returns all that these rows have."""
        if layer == len(self.keys):
            # Under autocast keys come in 32 bits, turned by their positions, and values in 16, in which both are used.
            for stores in (self.keys, self.values):
                stores.append(values.new_zeros((0, keys.shape[1], 0, keys.shape[3])))
            self._reserve()
        read = []
        for store, new in ((self.keys[layer], keys), (self.values[layer], values)):
            store[self.where[:, None], :, self.at] = new.transpose(1, 2).to(store.dtype)
            read.append(store[self.span, :, : self.longest])
        return read[0], read[1]

    def _reserve(self) -> None:
        """Make room for all rows and for the longest. Zeros: what padding leaves is masked, and must be a number all the same."""
        for stores in (self.keys, self.values):
            for layer, store in enumerate(stores):
                slots, heads, length, dim = store.shape
                if slots >= len(self.rows) and length >= self.longest:
                    continue
                size = max(len(self.rows), slots if slots >= len(self.rows) else slots * 3 // 2)
                grown = store.new_zeros((size, heads, max(length, _rounded(self.longest)), dim))
                grown[:slots, :, :length] = store
                stores[layer] = grown


def _rounded(length: int) -> int:
    return -(-length // _BLOCK) * _BLOCK


def _begins(row: Row, origin: Row) -> bool:
    """Whether a row begins with all that another has read."""
    size = origin.num_read
    return (
        0 < size < len(row.ids)
        and row.ids[size - 1] == origin.ids[size - 1]
        and row.ids[:size] == origin.ids[:size]
        and [s.key for s in row.pictures[: len(origin.pictures)]]
        == [s.key for s in origin.pictures]
    )
