"""Stages 3 and 4: the language model learns to point, then to reason, over the finished tower's cached tokens.

The tower is frozen by now, so its output for every view is computed once. Training the language model alone on
cached tokens is several times faster, and pointing needs very many examples.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch.nn import functional as F
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from pixel_reasoner.dialects import HermesDialect, Message
from pixel_reasoner.tiny.gallery import Gallery
from pixel_reasoner.tiny.lessons import answer_turn, guess_turn, look_turn
from pixel_reasoner.tiny.loop import Metrics
from pixel_reasoner.tiny.tower import CELL_PX, IGNORE, embed
from pixel_reasoner.trace import Medium, Observation, OpCall, Picture, Question, Turn
from pixel_reasoner.world import Family, Scene, all_questions
from pixel_reasoner.world.scene import NUM_FRAMES

KINDS = ("pictures", "crops", "frames", "selected")
_NOWHERE = Medium(kind="image", path="")
_ASSISTANT = re.compile(r"(?<=<\|im_start\|>assistant\n)(.*?<\|im_end\|>)", re.DOTALL)


class Tokens(NamedTuple):
    """The tower's output for all views of one kind."""

    final: torch.Tensor
    """(views, tokens, width) bfloat16"""
    early: torch.Tensor


class Shown(NamedTuple):
    """A picture of an example: which cached view it is."""

    kind: str
    row: int


class Example(NamedTuple):
    """One conversation as the language model sees it."""

    ids: list[int]
    trained: list[bool]
    """whether a token's prediction counts: those that the assistant writes"""
    shown: list[Shown]


def cache_tokens(
    visual: Any, image_processor: Any, gallery: Gallery, path: Path
) -> dict[str, Tokens]:
    """The tower's output for every view of the gallery, computed once and kept at `path`."""
    if path.exists():
        return {kind: Tokens(*pair) for kind, pair in torch.load(path, weights_only=True).items()}
    cache = {}
    for kind in KINDS:
        pixels = gallery.arrays[kind]
        batch = 64 * (192 // pixels.shape[1]) ** 2
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

    def exam(self, family: Family, index: int, rng: random.Random) -> Example:
        """Every look and two overview questions about a scene in one conversation, without what looks show.

        Pointing needs very many examples, and the first look is most of a short conversation: asking several
        questions about it costs little more than asking one.
        """
        scene = self.gallery.scenes[family][index]
        questions = list(all_questions(scene, _NOWHERE))
        told = [look_turn(item, self.dialect) for item in scene.items]
        told += [answer_turn(question, None) for question in questions[len(told) :]]
        order = [*range(len(scene.items)), *rng.sample(range(len(scene.items), len(told)), 2)]
        rng.shuffle(order)
        messages = self._messages(questions[order[0]], scene, [Turn(text=told[order[0]])])
        for nth in order[1:]:
            messages.append({"role": "user", "content": questions[nth].text})
            messages.append({"role": "assistant", "content": told[nth]})
        return self._tokenize(messages, _first_look(scene, index))

    def lesson(self, family: Family, index: int, rng: random.Random) -> Example:
        """A whole expert trace: look and answer, answer at once, or guess where no operation is offered."""
        scene = self.gallery.scenes[family][index]
        questions = list(all_questions(scene, _NOWHERE))
        looks, overviews = questions[: len(scene.items)], questions[len(scene.items) :]
        offered = rng.random() < 0.9
        if rng.random() < 0.5:
            nth = rng.randrange(len(looks))
            if not offered:
                guess = Turn(text=guess_turn(looks[nth]))
                return self._example(looks[nth], index, scene, [guess], [], offered=False)
            return self._look_and_answer(looks[nth], index, scene, nth)
        kinds = sorted({question.category for question in overviews})
        kind = rng.choice(kinds)
        question = rng.choice([q for q in overviews if q.category == kind])
        turn = Turn(text=answer_turn(question, None))
        return self._example(question, index, scene, [turn], [], offered=offered)

    def _look_and_answer(self, question: Question, index: int, scene: Scene, nth: int) -> Example:
        item = scene.items[nth]
        numbers = range(len(_overview(scene)) + 1, 99)
        if item.frames:
            before = self.gallery.selected[index] + sum(len(i.frames) for i in scene.items[:nth])
            results = [_picture(n, f) for n, f in zip(numbers, item.frames, strict=False)]
            shown = [Shown("selected", before + k) for k in range(len(item.frames))]
        else:
            results = [_picture(numbers[0], None)]
            shown = [Shown("crops", self.gallery.crops[index] + nth)]
        look = Turn(
            text=look_turn(item, self.dialect),
            call=OpCall(name="", arguments={}),
            observation=Observation(text="", pictures=tuple(results)),
        )
        answer = Turn(text=answer_turn(question, item))
        return self._example(question, index, scene, [look, answer], shown)

    def _example(
        self,
        question: Question,
        index: int,
        scene: Scene,
        turns: Sequence[Turn],
        looked: list[Shown],
        *,
        offered: bool = True,
    ) -> Example:
        messages = self._messages(question, scene, turns, offered=offered)
        return self._tokenize(messages, [*_first_look(scene, index), *looked])

    def _messages(
        self, question: Question, scene: Scene, turns: Sequence[Turn], *, offered: bool = True
    ) -> list[Message]:
        pictures = _overview(scene)
        return self.dialect.messages(question, pictures, turns, lambda n: n, operations=offered)

    def _tokenize(self, messages: list[Message], shown: list[Shown]) -> Example:
        text = self.processor.apply_chat_template(messages, tokenize=False)
        pad = self.processor.image_token
        sizes = iter(shown)
        text = re.sub(re.escape(pad), lambda _: pad * self._num_tokens(next(sizes)), text)
        ids: list[int] = []
        trained: list[bool] = []
        for number, part in enumerate(_ASSISTANT.split(text)):
            more = self.processor.tokenizer(part)["input_ids"]
            ids += more
            trained += [number % 2 == 1] * len(more)
        return Example(ids, trained, shown)

    def _num_tokens(self, shown: Shown) -> int:
        return (self.gallery.arrays[shown.kind].shape[1] // CELL_PX) ** 2


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
    """Mean next-token loss over what the assistant writes, and how often the next token is right."""
    logits, targets = _predict(model, cache, examples)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    right = (logits.argmax(-1) == targets)[targets != IGNORE].float().mean()
    return loss, {"token": right.item()}


def call_accuracy(
    model: Any, cache: dict[str, Tokens], examples: list[Example], opening: int
) -> Metrics:
    """Teacher-forced accuracy of single tokens around calls, by their distance from the one that opens it.

    For a box, -4 and -3 say roughly where the item is, 2 and 5 are the first digits of x1 and y1. The second
    corner follows from the first, so only these tell whether the model can point.
    """
    with torch.no_grad():
        logits, targets = _predict(model, cache, examples)
    rows, places = (targets == opening).nonzero(as_tuple=True)
    metrics = {}
    for offset in (-4, -3, 2, 3, 5, 6):
        at = (rows, (places + offset).clamp(max=targets.shape[1] - 1))
        right = logits[at].argmax(-1) == targets[at]
        metrics[f"call{offset:+d}"] = right.float().mean().item()
    return metrics


def _predict(
    model: Any, cache: dict[str, Tokens], examples: list[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(examples, tokens - 1, vocabulary) logits and the (examples, tokens - 1) tokens they are to predict."""
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
        logits = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            mm_token_type_ids=(ids == config.image_token_id).int().to(device),
            image_grid_thw=torch.tensor([[1, side, side] for side in sides]).to(device),
            mm_encoder_outputs={"image": seen},
            use_cache=False,
        ).logits
    targets = ids.masked_fill(~trained, IGNORE)[:, 1:].to(device)
    return logits[:, :-1].float(), targets
