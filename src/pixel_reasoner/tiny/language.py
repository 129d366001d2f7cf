"""Stage 5: the language model learns to look and to answer, over the finished tower's cached tokens.

The tower is frozen by now, so its output for every view is computed once: training the language model alone is several
times faster.

Next-token loss alone hardly teaches a small model to point: finding the item and reading off its place pay only
together. As the tower did, the language model gets a dense label: while it writes, one attention head is to
rest on the visual token that holds what it writes of (`Gaze`). Then pointing is learned within a hundred steps.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch.nn import functional as F
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from pixel_reasoner.dialects import HermesDialect, Message
from pixel_reasoner.tiny.gallery import Gallery
from pixel_reasoner.tiny.lessons import Phrase, answer_turn, guess_turn, look_turn, spoken
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.tower import CELL_PX, IGNORE, embed, position
from pixel_reasoner.trace import Medium, Observation, OpCall, Picture, Question, Turn
from pixel_reasoner.world import Family, Scene, all_questions
from pixel_reasoner.world.scene import NUM_FRAMES, Item

KINDS = ("pictures", "crops", "frames", "selected")
LOOKS = (2, 0)
"""layer and head whose attention rests on what a phrase is about: deep enough to know what is asked"""
NUMBERS = (0, 0)
"""layer and head by which a frame's visual tokens learn the number that was written before them"""
GAZE_WEIGHT = 0.3
_NOWHERE = Medium(kind="image", path="")
_ASSISTANT = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)
_END = "<|im_end|>"


class Tokens(NamedTuple):
    """The tower's output for all views of one kind."""

    final: torch.Tensor
    """(views, tokens, width) bfloat16"""
    early: torch.Tensor


class Shown(NamedTuple):
    """A picture of an example: which cached view it is."""

    kind: str
    row: int


class Spot(NamedTuple):
    """A visual token: which of an example's pictures, counted from 0, and which of its tokens, row by row."""

    picture: int
    cell: int


class Said(NamedTuple):
    """A phrase of the assistant, and where it looks while it writes it."""

    text: str
    spots: list[Spot]


class Gaze(NamedTuple):
    """Where the attention of some tokens is to rest."""

    head: tuple[int, int]
    """layer and head"""
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


def cache_tokens(
    visual: Any, image_processor: Any, gallery: Gallery, path: Path
) -> dict[str, Tokens]:
    """The tower's output for every view of the gallery, computed once and kept at `path`."""
    if path.exists():
        return {kind: Tokens(*pair) for kind, pair in torch.load(path, weights_only=True).items()}
    cache = {}
    for kind in KINDS:
        pixels = gallery.arrays[kind]
        batch = 64 * 192**2 // pixels.shape[1] ** 2
        final, early = [], []
        for start in track(range(0, len(pixels), batch), f"tokens of {kind}"):
            device = next(visual.parameters()).device
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                out = embed(visual, image_processor, pixels[start : start + batch])
            shape = (len(pixels[start : start + batch]), -1, out.pooler_output.shape[-1])
            final.append(out.pooler_output.to("cpu", torch.bfloat16).view(shape))
            early.append(out.deepstack_features[0].to("cpu", torch.bfloat16).view(shape))
        cache[kind] = Tokens(torch.cat(final), torch.cat(early))
    part = path.with_name(path.name + ".part")
    torch.save({kind: tuple(tokens) for kind, tokens in cache.items()}, part)
    part.replace(path)
    return cache


class School:
    """Makes examples of scenes: what is asked, what is shown, what an expert says."""

    def __init__(self, gallery: Gallery, processor: Any, dialect: HermesDialect) -> None:
        self.gallery = gallery
        self.processor = processor
        self.dialect = dialect
        self.digit_ids = set(processor.tokenizer.convert_tokens_to_ids(list("0123456789")))
        self.image_id = processor.tokenizer.convert_tokens_to_ids(processor.image_token)

    def lesson(self, family: Family, index: int, rng: random.Random) -> Example:
        """A whole expert trace: look and answer, answer at once, or guess where no operation is offered."""
        scene = self.gallery.scenes[family][index]
        questions = list(all_questions(scene, _NOWHERE))
        looks, overviews = questions[: len(scene.items)], questions[len(scene.items) :]
        offered = rng.random() < 0.9
        if rng.random() < 0.5:
            nth = rng.randrange(len(looks))
            if offered:
                return self._look_and_answer(looks[nth], index, scene, nth)
            turn = guess_turn(looks[nth], scene.items[nth])
            return self._answer(looks[nth], index, scene, turn, offered=False)
        kinds = sorted({question.category for question in overviews})
        kind = rng.choice(kinds)
        question = rng.choice([q for q in overviews if q.category == kind])
        turn = answer_turn(question, scene)
        return self._answer(question, index, scene, turn, offered=offered)

    def _answer(
        self, question: Question, index: int, scene: Scene, turn: list[Phrase], *, offered: bool
    ) -> Example:
        said = [
            Said(phrase.text, self._spots_at_first(phrase.about) if phrase.about else [])
            for phrase in turn
        ]
        messages = self._messages(question, scene, [Turn(text=spoken(turn))], offered=offered)
        return self._tokenize(messages, _first_look(scene, index), [said])

    def _look_and_answer(self, question: Question, index: int, scene: Scene, nth: int) -> Example:
        item = scene.items[nth]
        first = _first_look(scene, index)
        numbers = range(len(first) + 1, 99)
        if item.frames:
            before = self.gallery.selected[index] + sum(len(i.frames) for i in scene.items[:nth])
            results = [_picture(n, f) for n, f in zip(numbers, item.frames, strict=False)]
            looked = [Shown("selected", before + k) for k in range(len(item.frames))]
            place = item.x, item.y
        else:
            results = [_picture(numbers[0], None)]
            looked = [Shown("crops", self.gallery.crops[index] + nth)]
            place = position(self.gallery.crop(index, nth), item)
        (call,), (answer,) = look_turn(item, self.dialect), answer_turn(question, scene, item)
        look = Turn(
            text=call.text,
            call=OpCall(name="", arguments={}),
            observation=Observation(text="", pictures=tuple(results)),
        )
        messages = self._messages(question, scene, [look, Turn(text=answer.text)])
        cell = self._cell(looked[0].kind, *place)
        spots = [Spot(len(first) + k, cell) for k in range(len(looked))]
        said = [[Said(call.text, self._spots_at_first(item))], [Said(answer.text, spots)]]
        return self._tokenize(messages, first + looked, said)

    def _spots_at_first(self, item: Item) -> list[Spot]:
        """Where an item is in the first look."""
        if item.frames:
            cell = self._cell("frames", item.x, item.y)
            return [Spot(number - 1, cell) for number in item.frames]
        return [Spot(0, self._cell("pictures", item.x, item.y))]

    def _messages(
        self, question: Question, scene: Scene, turns: Sequence[Turn], *, offered: bool = True
    ) -> list[Message]:
        pictures = _overview(scene)
        return self.dialect.messages(question, pictures, turns, lambda n: n, operations=offered)

    def _tokenize(
        self, messages: list[Message], shown: list[Shown], turns: list[list[Said]]
    ) -> Example:
        """Token ids of a conversation; `turns` are what the assistant says in it."""
        text = self.processor.apply_chat_template(messages, tokenize=False)
        pad = self.processor.image_token
        sizes = iter(shown)
        text = re.sub(re.escape(pad), lambda _: pad * self._cells(next(sizes).kind) ** 2, text)
        ids: list[int] = []
        trained: list[bool] = []
        spans: list[tuple[int, int, list[Spot]]] = []
        said = iter(turns)
        for number, part in enumerate(_ASSISTANT.split(text)):
            spoken_here = number % 2 == 1
            for phrase in [*next(said), Said(_END, [])] if spoken_here else [Said(part, [])]:
                more = self.processor.tokenizer(phrase.text)["input_ids"]
                # A token is chosen where the one before it stands.
                spans.append((len(ids) - 1, len(ids) + len(more) - 1, phrase.spots))
                ids += more
                trained += [spoken_here] * len(more)
        starts = [0, *accumulate(self._cells(view.kind) ** 2 for view in shown)]
        visual = [place for place, token in enumerate(ids) if token == self.image_id]
        gazes = [
            Gaze(LOOKS, first, end, [visual[starts[spot.picture] + spot.cell] for spot in spots])
            for first, end, spots in spans
            if spots
        ]
        for view, start, end in zip(shown, starts, starts[1:], strict=False):
            if view.kind == "frames":
                digits = self._number_before(ids, visual[start])
                gazes.append(Gaze(NUMBERS, visual[start], visual[end - 1] + 1, digits))
        return Example(ids, trained, shown, gazes)

    def _number_before(self, ids: list[int], place: int) -> list[int]:
        """Positions of the digits of the last number before a place."""
        last = max(at for at in range(place) if ids[at] in self.digit_ids)
        return [at for at in (last - 1, last) if ids[at] in self.digit_ids]

    def _cells(self, kind: str) -> int:
        """How many visual tokens a view of this kind has in a row."""
        return int(self.gallery.arrays[kind].shape[1]) // CELL_PX

    def _cell(self, kind: str, x: float, y: float) -> int:
        """The visual token of a view at (x, y), shares of the view."""
        cells = self._cells(kind)
        col, row = (min(max(int(place * cells), 0), cells - 1) for place in (x, y))
        return row * cells + col


def _overview(scene: Scene) -> list[Picture]:
    if scene.family == "video":
        return [_picture(number, number) for number in range(1, NUM_FRAMES + 1)]
    return [_picture(1, None)]


def _first_look(scene: Scene, index: int) -> list[Shown]:
    if scene.family == "video":
        return [Shown("frames", index * NUM_FRAMES + k) for k in range(NUM_FRAMES)]
    return [Shown("pictures", index)]


def _picture(number: int, frame: int | None) -> Picture:
    return Picture(number=number, medium=0, frame=frame, source_px=(1, 1), seen_px=(1, 1))


def language_loss(
    model: Any, cache: dict[str, Tokens], examples: list[Example]
) -> tuple[torch.Tensor, Metrics]:
    """Mean next-token loss over what the assistant writes, and how far attention is from where it should rest."""
    logits, targets, attentions = _predict(model, cache, examples)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    right = (logits.argmax(-1) == targets)[targets != IGNORE].float().mean()
    metrics = {"token": right.item()}
    for name, head in (("looks", LOOKS), ("numbers", NUMBERS)):
        shares = _gaze(attentions, examples, head)
        if len(shares):
            loss = loss - GAZE_WEIGHT * (shares + 1e-6).log().mean()
            metrics[name] = shares.mean().item()
    return loss, metrics


def _gaze(
    attentions: tuple[torch.Tensor, ...], examples: list[Example], head: tuple[int, int]
) -> torch.Tensor:
    """(gazes of this head,) attention that rests where it should, mean over the tokens that look."""
    attention = attentions[head[0]][:, head[1]]
    shares = [
        attention[row, gaze.first : gaze.end][:, gaze.places].float().sum(-1).mean()
        for row, example in enumerate(examples)
        for gaze in example.gazes
        if gaze.head == head
    ]
    return torch.stack(shares) if shares else torch.empty(0)


def digit_accuracy(
    model: Any, cache: dict[str, Tokens], examples: list[Example], opening: int, offset: int
) -> float:
    """Teacher-forced accuracy of the token that stands `offset` after the one that opens a call.

    Only the first corner of a box tells whether a model can point: the second follows from the first.
    """
    with torch.no_grad():
        logits, targets, _ = _predict(model, cache, examples)
    rows, places = (targets == opening).nonzero(as_tuple=True)
    at = (rows, places + offset)
    return (logits[at].argmax(-1) == targets[at]).float().mean().item()


def _predict(
    model: Any, cache: dict[str, Tokens], examples: list[Example]
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """What the model makes of the examples.

    Returns:
        (examples, tokens - 1, vocabulary) logits, the (examples, tokens - 1) tokens they are to predict, and
        the (examples, heads, tokens, tokens) attention of every layer.
    """
    config = model.config
    device = next(model.parameters()).device
    length = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), length), config.text_config.pad_token_id)
    trained = torch.zeros(ids.shape, dtype=torch.bool)
    mask = torch.zeros(ids.shape, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        trained[row, : len(example.ids)] = torch.tensor(example.trained)
        mask[row, : len(example.ids)] = 1
    shown = [view for example in examples for view in example.shown]
    final = torch.cat([cache[view.kind].final[view.row] for view in shown]).float()
    early = torch.cat([cache[view.kind].early[view.row] for view in shown]).float()
    sides = [2 * round(cache[view.kind].final.shape[1] ** 0.5) for view in shown]
    seen = BaseModelOutputWithDeepstackFeatures(
        pooler_output=[final.to(device)], deepstack_features=[[early.to(device)]]
    )
    with torch.autocast(device.type, torch.bfloat16):
        out = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            mm_token_type_ids=(ids == config.image_token_id).int().to(device),
            image_grid_thw=torch.tensor([[1, side, side] for side in sides]).to(device),
            mm_encoder_outputs={"image": seen},
            use_cache=False,
            output_attentions=True,
        )
    targets = ids.masked_fill(~trained, IGNORE)[:, 1:].to(device)
    return out.logits[:, :-1].float(), targets, out.attentions
