"""The last stage: the language model learns from synthesized traces, over the finished tower's cached tokens.

The tower is frozen by now, so its output for every picture of every trace is computed once: training the language model
alone is several times faster.

Next-token loss alone hardly teaches a small model to point: finding the item and reading off its place pay only
together. As the tower did, the language model gets a dense label: while it writes, one attention head is to
rest on the visual token that holds what it writes of (`Gaze`). Then pointing is learned within a hundred steps. PixelWorld
knows where everything is that a trace names (`gaze.mentions`).
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import track
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from pixel_reasoner.data import wording
from pixel_reasoner.data.wording import say
from pixel_reasoner.dialects import Dialect
from pixel_reasoner.dialects.syntax.hermes import OPEN
from pixel_reasoner.evals.run import TRACES
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.schema.settings import DEFAULT_OPERATIONS
from pixel_reasoner.schema.trace import Picture, Trace, Turn
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.pointing import Mention, mentions, spots_of
from pixel_reasoner.tiny.tower import CELL_PX, IGNORE, embed

Head = tuple[int, int]
"""layer and head"""
LOOKS: Head = (2, 0)
"""layer and head whose attention rests on what a phrase is about: deep enough to know what is asked"""
NUMBERS: Head = (0, 0)
"""layer and head by which a frame's visual tokens learn the number that was written before them"""
GAZE_WEIGHT = 0.3
_PIXELS_AT_ONCE = 64 * 192**2
_TOGETHER = 6
"""examples that go through the model at once"""
WITHOUT = 0.1
"""share of the examples in which no operation is offered, so that a model without them does its best"""
_ASSISTANT = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)
_END = "<|im_end|>"


class Tokens(NamedTuple):
    """The tower's output for all pictures of one size."""

    final: torch.Tensor
    """(pictures, tokens, width) bfloat16"""
    early: torch.Tensor


class Shown(NamedTuple):
    """A picture of an example: which cached one it is."""

    size: Size
    row: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of visual tokens."""
        return self.size[1] // CELL_PX, self.size[0] // CELL_PX


class Said(NamedTuple):
    """A piece of the conversation, whether it is trained, and the visual tokens it looks at: (picture, token)."""

    text: str
    trained: bool = False
    spots: tuple[tuple[int, int], ...] = ()


class Gaze(NamedTuple):
    """Where the attention of some tokens is to rest."""

    head: Head
    first: int
    """position of the first of the tokens: a phrase (where each of its tokens is predicted), or a frame"""
    end: int
    """position after the last"""
    places: list[int]
    """positions of what they look at: visual tokens that show what the phrase is about, or the frame's number"""


class Example(NamedTuple):
    """One conversation as the language model sees it."""

    ids: list[int]
    trained: list[bool]
    """whether a token's prediction counts: those that the assistant writes"""
    shown: list[Shown]
    gazes: list[Gaze]


class Lessons:
    """Traces on disk, and the tower's output for everything they show."""

    def __init__(
        self, path: Path, offsets: list[int], rows: list[list[tuple[int, int]]], sizes: list[Size]
    ) -> None:
        self.path = path
        self.offsets = offsets
        self.rows = rows
        self.sizes = sizes
        self.file = path.open("rb")
        self.families: dict[str, list[int]] = {}
        """the traces of each family"""
        self.overviews: dict[str, list[int]] = {}
        """those of them whose question needs no look"""
        for number, offset in enumerate(offsets):
            self.file.seek(offset)
            line = self.file.readline().decode()
            family, _ = _family_and_seed(line)
            self.families.setdefault(family, []).append(number)
            if '"needs_look":false' in line:
                self.overviews.setdefault(family, []).append(number)

    def trace(self, number: int) -> Trace:
        """One trace."""
        self.file.seek(self.offsets[number])
        return Trace.from_line(self.file.readline().decode())

    def shown(self, number: int) -> list[Shown]:
        """Its pictures, in order."""
        return [Shown(self.sizes[size], row) for size, row in self.rows[number]]


class Cache(NamedTuple):
    """The tower's output for all pictures of some traces, each picture once."""

    lessons: Lessons
    tokens: dict[Size, Tokens]


def cache_tokens(visual: Any, image_processor: Any, traces: Path, path: Path) -> Cache:
    """The tower's output for every picture of some traces, computed once and kept at `path`.

    Args:
        visual: the tower.
        image_processor: of the model.
        traces: a folder of synthesized traces.
        path: the file; its name gets a digest of the traces and the tower, so that none is read for others.
    """
    path = path.with_stem(f"{path.stem}-{_digest(visual, traces / TRACES)}")
    if not path.exists():
        _write_cache(visual, image_processor, traces / TRACES, path)
    kept = torch.load(path, weights_only=True)
    sizes = [tuple(size) for size in kept["sizes"]]
    lessons = Lessons(traces / TRACES, kept["offsets"], kept["rows"], sizes)
    return Cache(
        lessons, {size: Tokens(*pair) for size, pair in zip(sizes, kept["tokens"], strict=True)}
    )


def _digest(visual: Any, traces: Path) -> str:
    with traces.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for weights in visual.state_dict().values():
        digest.update(weights.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _write_cache(visual: Any, image_processor: Any, traces: Path, path: Path) -> None:
    with traces.open(encoding="utf-8") as file:
        lines = file.readlines()
    offsets = list(accumulate((len(line.encode()) for line in lines), initial=0))[:-1]
    shelf = _Shelf(visual, image_processor)
    rows: list[list[tuple[int, int]]] = []
    # Traces about one scene stand together: what two of them show is kept once.
    scenes = [list(group) for _, group in groupby(lines, _family_and_seed)]
    with ProcessPoolExecutor() as pool:
        cut = pool.map(partial(_cut, folder=traces.parent), scenes, chunksize=8)
        for pictures, keys in track(cut, "tokens", len(scenes)):
            places = [shelf.add(pixels) for pixels in pictures]
            rows += [[places[key] for key in some] for some in keys]
    kept = {
        "sizes": [list(size) for size in shelf.sizes],
        "offsets": offsets,
        "rows": rows,
        "tokens": shelf.tokens(),
    }
    part = path.with_name(path.name + ".part")
    torch.save(kept, part)
    part.replace(path)


def _cut(lines: list[str], folder: Path) -> tuple[list[np.ndarray], list[list[int]]]:
    """All that the traces of a scene show, each picture once, and which of them each trace shows in order."""
    found: dict[Any, int] = {}
    pictures: list[np.ndarray] = []
    keys = []
    opened: MediaContext | None = None
    for trace in map(Trace.from_line, lines):
        if opened is None:
            asked = with_media_root(trace.question, folder)
            opened = MediaContext.of_trace(trace.model_copy(update={"question": asked}))
        album = opened.replay(trace)
        shown = [(one.frame, one.box, one.seen_px) for one in album.pictures]
        for number, key in enumerate(shown, start=1):
            if key not in found:
                found[key] = len(pictures)
                pictures.append(np.asarray(album.view(number)))
        keys.append([found[key] for key in shown])
    return pictures, keys


def _family_and_seed(line: str) -> tuple[str, str]:
    """Of which scene a trace is."""
    found = re.search(r'"id":"(\w+)-(\d+)-', line)
    assert found is not None, "traces of PixelWorld are named by family and seed"
    return found[1], found[2]


class _Shelf:
    """Pictures come one by one and go through the tower many at once, those of one size together."""

    def __init__(self, visual: Any, image_processor: Any) -> None:
        self.visual = visual
        self.image_processor = image_processor
        self.sizes: list[Size] = []
        self.waiting: list[list[np.ndarray]] = []
        self.done: list[list[Tokens]] = []
        self.counts: list[int] = []

    def add(self, pixels: np.ndarray) -> tuple[int, int]:
        """Put a picture, (height, width, 3), on the shelf; returns the number of its size and its place among those."""
        size = pixels.shape[1], pixels.shape[0]
        if size not in self.sizes:
            self.sizes.append(size)
            self.waiting.append([])
            self.done.append([])
            self.counts.append(0)
        kind = self.sizes.index(size)
        self.waiting[kind].append(pixels)
        self.counts[kind] += 1
        if len(self.waiting[kind]) * size[0] * size[1] >= _PIXELS_AT_ONCE:
            self._look(kind)
        return kind, self.counts[kind] - 1

    def tokens(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The output for all pictures of each size."""
        for kind in range(len(self.sizes)):
            self._look(kind)
        return [
            (torch.cat([t.final for t in done]), torch.cat([t.early for t in done]))
            for done in self.done
        ]

    def _look(self, kind: int) -> None:
        pixels = self.waiting[kind]
        if not pixels:
            return
        device = next(self.visual.parameters()).device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            out = embed(self.visual, self.image_processor, pixels)
        shape = (len(pixels), -1, out.pooler_output.shape[-1])
        both = (out.pooler_output, out.deepstack_features[0])
        self.done[kind].append(Tokens(*(one.to("cpu", torch.bfloat16).view(shape) for one in both)))
        pixels.clear()


class School:
    """Makes examples of traces: tokens, what of them is trained, and where attention is to rest."""

    def __init__(
        self,
        lessons: Lessons,
        processor: Any,
        dialect: Dialect,
        words: float = 0.0,
    ) -> None:
        self.lessons = lessons
        self.words = words
        self.processor = processor
        self.dialect = dialect
        self.digit_ids = set(processor.tokenizer.convert_tokens_to_ids(list("0123456789")))
        self.image_id = processor.tokenizer.convert_tokens_to_ids(processor.image_token)

    def lesson(self, number: int, rng: random.Random) -> Example:
        """A trace as it is, or what is said without an operation."""
        trace = self.lessons.trace(number)
        drawn = rng.random()
        if drawn >= WITHOUT + self.words:
            return self.example(trace, self.lessons.shown(number))
        first = self.lessons.shown(number)[: len(trace.pictures)]
        return self.example(without_operations(trace, rng, offered=drawn >= WITHOUT), first)

    def example(self, trace: Trace, shown: list[Shown]) -> Example:
        """Token ids, mask and gazes of a trace."""
        messages = self.dialect.messages(
            trace.question, trace.pictures, trace.turns, lambda n: n, operations=trace.settings.operations
        )
        text = self.processor.apply_chat_template(messages, tokenize=False)
        pad = self.processor.image_token
        cells = [rows * cols for rows, cols in (view.grid for view in shown)]
        counts = iter(cells)
        text = re.sub(re.escape(pad), lambda _: pad * next(counts), text)
        said = list(self._said(trace, shown))
        ids: list[int] = []
        trained: list[bool] = []
        spans: list[tuple[int, int, Said]] = []
        for number, part in enumerate(_ASSISTANT.split(text)):
            for piece in said[number // 2] if number % 2 else [Said(part)]:
                more = self.processor.tokenizer(piece.text)["input_ids"]
                # A token is chosen where the one before it stands.
                spans.append((len(ids) - 1, len(ids) + len(more) - 1, piece))
                ids += more
                trained += [piece.trained] * len(more)
        starts = [0, *accumulate(cells)]
        visual = [place for place, token in enumerate(ids) if token == self.image_id]
        gazes = [
            Gaze(
                LOOKS, first, end, [visual[starts[picture] + cell] for picture, cell in piece.spots]
            )
            for first, end, piece in spans
            if piece.spots and piece.trained
        ]
        for picture, start, end in zip(trace.pictures, starts, starts[1:], strict=False):
            if picture.frame is not None:
                digits = self._number_before(ids, visual[start])
                gazes.append(Gaze(NUMBERS, visual[start], visual[end - 1] + 1, digits))
        return Example(ids, trained, shown, gazes)

    def _said(self, trace: Trace, shown: list[Shown]) -> Iterator[list[Said]]:
        """What the assistant says in each turn, piece by piece."""
        pictures = list(trace.all_pictures.values())
        grids = {picture.number: view.grid for picture, view in zip(pictures, shown, strict=False)}
        seen = list(trace.pictures)
        for turn in trace.turns:
            words, call = turn.text, ""
            if turn.mistake:
                words, mark, call = turn.text.partition(OPEN)
                call = mark + call
            pieces = []
            for mention in mentions(trace.question, words):
                spots = [
                    (number - 1, cell)
                    for number, cell in spots_of(mention, _looked_at(mention, turn, seen), grids)
                ]
                pieces.append(Said(mention.text, trained=True, spots=tuple(spots)))
            yield [*pieces, Said(call), Said(_END, trained=not turn.mistake)]
            if turn.observation is not None:
                seen += turn.observation.pictures

    def _number_before(self, ids: list[int], place: int) -> list[int]:
        """Positions of the digits of the last number before a place."""
        last = max(at for at in range(place) if ids[at] in self.digit_ids)
        return [at for at in (last - 1, last) if ids[at] in self.digit_ids]


def _looked_at(mention: Mention, turn: Turn, seen: list[Picture]) -> list[Picture]:
    """Where a phrase may look: at the picture that its call zooms into, else at all there are."""
    if mention.last and turn.call is not None and not turn.mistake:
        target = turn.call.arguments.get("target_image")
        return [picture for picture in seen if picture.number == target] or seen
    return seen


def without_operations(trace: Trace, rng: random.Random, *, offered: bool = False) -> Trace:
    """The same question answered at once, or guessed, because no operation is offered or although they are."""
    evidence = trace.question.evidence
    turns: Sequence[Turn] = trace.turns
    if evidence is not None:
        guess = say(rng, wording.GUESS, subject=evidence.subjects[0])
        turns = [Turn(text=f"{guess} \\boxed{{{trace.question.answer[0]}}}")]
    operations = DEFAULT_OPERATIONS if offered else ()
    settings = trace.settings.model_copy(update={"operations": operations})
    return trace.model_copy(update={"turns": tuple(turns), "settings": settings})


WATCHED = "watched"
"""the attention that training uses: as fast as any, and two heads tell where they rest (`_watching`)"""
_seen: dict[Head, torch.Tensor] | None = None


def _watched_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """`sdpa`, which does not tell where attention rests; for the heads that are watched that is computed once more."""
    for layer, head in (LOOKS, NUMBERS):
        if _seen is not None and module.layer_idx == layer:
            scores = (query[:, head] @ key[:, head].transpose(1, 2)).float() * scaling
            length = scores.shape[-1]
            allowed = (
                torch.ones(length, length, dtype=torch.bool, device=scores.device).tril()
                if attention_mask is None
                else attention_mask[:, 0]
            )
            scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
            _seen[layer, head] = scores.softmax(-1)
    out, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **more
    )
    return out, None


AttentionInterface.register(WATCHED, _watched_attention)
AttentionMaskInterface.register(WATCHED, sdpa_mask)


@contextmanager
def _watching() -> Iterator[dict[Head, torch.Tensor]]:
    """Within it, (examples, tokens, tokens) attention of the watched heads is kept."""
    global _seen
    _seen = {}
    try:
        yield _seen
    finally:
        _seen = None


def language_loss(
    model: Any, cache: dict[Size, Tokens], examples: list[Example]
) -> tuple[torch.Tensor, Metrics]:
    """Mean next-token loss over what the assistant writes, and how far attention is from where it should rest.

    Examples of about one length go through the model together: padding to the longest of all would cost as much again.
    """
    by_length = sorted(examples, key=lambda example: len(example.ids))
    told: list[tuple[torch.Tensor, torch.Tensor]] = []
    shares: dict[str, list[torch.Tensor]] = {"looks": [], "numbers": []}
    for start in range(0, len(by_length), _TOGETHER):
        some = by_length[start : start + _TOGETHER]
        with _watching() as watched:
            logits, targets = _predict(model, cache, some)
        told.append((logits[targets != IGNORE], targets[targets != IGNORE]))
        shares["looks"].append(_gaze(watched[LOOKS], some, LOOKS))
        shares["numbers"].append(_gaze(watched[NUMBERS], some, NUMBERS))
    logits, targets = (torch.cat(parts) for parts in zip(*told, strict=True))
    loss = F.cross_entropy(logits, targets)
    metrics = {"token": (logits.argmax(-1) == targets).float().mean().item()}
    for name, parts in shares.items():
        resting = torch.cat(parts)
        if len(resting):
            loss = loss - GAZE_WEIGHT * (resting + 1e-6).log().mean()
            metrics[name] = resting.mean().item()
    return loss, metrics


def _gaze(attention: torch.Tensor, examples: list[Example], head: Head) -> torch.Tensor:
    """(gazes of this head,) attention that rests where it should, mean over the tokens that look."""
    gazes = [(row, g) for row, example in enumerate(examples) for g in example.gazes]
    gazes = [(row, gaze) for row, gaze in gazes if gaze.head == head]
    # All at once: a slice for each gaze would cost a whole matrix of zeros in the backward pass.
    looks = torch.tensor(
        [
            (number, row, token, place)
            for number, (row, gaze) in enumerate(gazes)
            for token in range(gaze.first, gaze.end)
            for place in gaze.places
        ],
        device=attention.device,
        dtype=torch.long,
    ).reshape(-1, 4)
    number, row, token, place = looks.unbind(1)
    shares = attention.new_zeros(len(gazes)).index_add(0, number, attention[row, token, place])
    return shares / shares.new_tensor([gaze.end - gaze.first for _, gaze in gazes])


def digit_accuracy(
    model: Any, cache: dict[Size, Tokens], examples: list[Example], opening: int, offset: int
) -> float:
    """Teacher-forced accuracy of the token that stands `offset` after the one that opens a call.

    Only the first corner of a box tells whether a model can point: the second follows from the first.
    """
    with torch.no_grad():
        logits, targets = _predict(model, cache, examples)
    rows, places = (targets == opening).nonzero(as_tuple=True)
    at = (rows, places + offset)
    return (logits[at].argmax(-1) == targets[at]).float().mean().item()


def _predict(
    model: Any, cache: dict[Size, Tokens], examples: list[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model makes of the examples.

    Returns:
        (examples, tokens - 1, vocabulary) logits, and the (examples, tokens - 1) tokens they are to predict.
    """
    config = model.config
    device = next(model.parameters()).device
    # Few different lengths: kernels for a new shape are made anew.
    length = -(-max(len(example.ids) for example in examples) // 32) * 32
    ids = torch.full((len(examples), length), config.text_config.pad_token_id)
    trained = torch.zeros(ids.shape, dtype=torch.bool)
    mask = torch.zeros(ids.shape, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        trained[row, : len(example.ids)] = torch.tensor(example.trained)
        mask[row, : len(example.ids)] = 1
    shown = [view for example in examples for view in example.shown]
    final = torch.cat([cache[view.size].final[view.row] for view in shown]).float()
    early = torch.cat([cache[view.size].early[view.row] for view in shown]).float()
    grids = [(1, 2 * rows, 2 * cols) for rows, cols in (view.grid for view in shown)]
    seen = BaseModelOutputWithDeepstackFeatures(
        pooler_output=[final.to(device)], deepstack_features=[[early.to(device)]]
    )
    with torch.autocast(device.type, torch.bfloat16):
        out = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            mm_token_type_ids=(ids == config.image_token_id).int().to(device),
            image_grid_thw=torch.tensor(grids).to(device),
            mm_encoder_outputs={"image": seen},
            use_cache=False,
        )
    targets = ids.masked_fill(~trained, IGNORE)[:, 1:].to(device)
    return out.logits[:, :-1].float(), targets
