"""Models with random weights, conversations, and `generate` of transformers as the reference, for tests of the engine's families."""

from __future__ import annotations

import inspect
import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from PIL import Image, ImageDraw

from families import RECIPES
from families.recipe import build_model, build_processor
from pixel_reasoner.models.engine import FAMILIES, Engine, ImageInput, PromptText, Sequence

WEIGHT_SCALE = 4.0
"""Weights of a new model are so small that every prompt would be continued alike."""
MAX_NEW_TOKENS = 8
WORDS = (
    "where",
    "is",
    "the",
    "red",
    "sign",
    "what",
    "number",
    "does",
    "it",
    "show",
    "count",
    "all",
    "page",
)


def _with_text(family: str, **text: Any) -> Any:
    recipe = RECIPES[family]
    config = {**recipe.config, "text_config": {**recipe.config["text_config"], **text}}
    return replace(recipe, config=config)


VARIANTS = {
    "gemma4, shared keys": _with_text(
        "gemma4",
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
    ),
    "gemma4, large": _with_text("gemma4", use_bidirectional_attention="vision"),
    "mistral3, sliding": _with_text("mistral3", model_type="mistral", sliding_window=24),
    "internvl, qwen3": _with_text("internvl", model_type="qwen3", head_dim=16),
    "qwen3_5, 3 to 1": _with_text(
        "qwen3_5",
        num_hidden_layers=4,
        layer_types=["linear_attention"] * 3 + ["full_attention"],
    ),
}
"""decoders of the same family that other checkpoints have"""
FAST = (
    "qwen3_5",
    "gemma3",
    "gemma4, shared keys",
    "gemma4, large",
    "internvl",
    "glm4v",
    "idefics3",
    "mistral3, sliding",
    "lfm2_vl",
    "llava_onevision",
    "minicpmv4_6",
    "cohere2_vision",
    "granite4_vision",
    "kimi_k25",
    "molmo2",
)
"""one decoder for each code path"""
SLOW = (
    "qwen3_5, 3 to 1",
    "qwen3_5_moe",
    "gemma4",
    "gemma4_unified",
    "internvl, qwen3",
    "glm4v_moe",
    "glm46v",
    "mistral3",
    "llava",
    "llava_next",
    "aya_vision",
)
"""further decoders of these families"""


class TinyFamily:
    """Processor and model of a recipe, and what the engine and `generate` return for them."""

    def __init__(self, name: str) -> None:
        recipe = VARIANTS.get(name) or RECIPES[name]
        self.processor = build_processor(recipe)
        self.model = build_model(recipe, self.processor.tokenizer)
        with torch.no_grad():
            for weight in self.model.parameters():
                if weight.dim() >= 2:
                    weight.mul_(WEIGHT_SCALE)
        self.family = FAMILIES.get(self.model.config.model_type)
        self.logits: dict[Sequence, list[torch.Tensor]] = {}

    def engine(self) -> Engine:
        """Return a greedy engine that records logits."""

        def greedy(logits: torch.Tensor, sequences: Any) -> tuple[torch.Tensor, None]:
            for sequence, one in zip(sequences, logits, strict=True):
                self.logits.setdefault(sequence, []).append(one.clone())
            return logits.argmax(dim=-1), None

        return Engine(self.model, self.processor, [], sampler=greedy)

    def tokenize(self, text: str) -> list[int]:
        """Return ids without special tokens around a text."""
        ids: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def prompt_ids(self, text: str, images: list[Any], num_earlier: int = 0) -> list[int]:
        """Return the ids of a text whose images are the last ones of a prompt."""
        linked = self.family.link_images([ImageInput.of(one) for one in images])
        new = PromptText(text, linked[num_earlier:], num_earlier, is_start=num_earlier == 0)
        return self.family.prompt_ids(self.processor, new, self.tokenize)

    def generate(self, ids: list[int], images: list[Any], count: int) -> Any:
        """Return the ids and logits of transformers `generate`, which prefills the whole prompt."""
        given: dict[str, Any] = {}
        if images:
            text = self.processor.image_token * len(images)
            given = dict(self.processor(text=[text], images=[images], return_tensors="pt"))
        known = inspect.signature(self.model.forward).parameters
        given = {name: one for name, one in given.items() if name in known}
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in known:
                kinds = self.processor.create_mm_token_type_ids([ids])
                given[name] = torch.tensor(kinds)
        prompt = torch.tensor([ids])
        given |= {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
        out = self.model.generate(
            **given,
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            suppress_tokens=self.family.banned_tokens(self.model.config),
            output_logits=True,
            return_dict_in_generate=True,
        )
        return out.sequences[0, len(ids) :].tolist(), torch.cat(out.logits)


@cache
def tiny_family(name: str) -> TinyFamily:
    return TinyFamily(name)


def drawn_picture(rng: random.Random) -> Image.Image:
    """Return a picture of random size with boxes."""
    width, height = rng.randrange(60, 160), rng.randrange(60, 160)
    picture = Image.new("RGB", (width, height), _color(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(4):
        x, y = rng.randrange(width), rng.randrange(height)
        draw.rectangle(
            [x, y, x + rng.randrange(10, 60), y + rng.randrange(10, 60)], fill=_color(rng)
        )
    return picture


def _color(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randrange(256) for _ in range(3))


def some_words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


@dataclass
class Conversation:
    """Pictures, text and ids of a conversation so far."""

    images: list[Any] = field(default_factory=list)
    text: str = ""
    ids: list[int] = field(default_factory=list)

    def next_turn(self, tiny: TinyFamily, text: str, images: list[Any], count: int) -> Sequence:
        """Return the sequence of the next turn. Ids of earlier turns are kept unless new images change those of earlier ones."""
        before = len(self.images)
        self.images, self.text = [*self.images, *images], self.text + text
        linked = tiny.family.link_images([ImageInput.of(one) for one in self.images])
        if all(one.is_single for one in linked):
            self.ids = self.ids + tiny.prompt_ids(text, self.images, before)
        else:
            self.ids = tiny.prompt_ids(self.text, self.images)
        return Sequence(list(self.ids), tuple(map(ImageInput.of, self.images)), count)
