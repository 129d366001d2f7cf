"""Tokens per second of the engine and of transformers `generate`, side by side, for models of each family with random weights.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/engine_families.py [--conversations 8] [--turns 4] [FAMILY ...]

Each conversation starts with 600 words and a picture, and gets a picture and a question in every turn. All conversations of a turn
are generated together: by `generate` in one padded batch that prefills everything, by the engine with its caches. Both run the same
models (8 layers, hidden size 64), so the ratio measures saved prefill and the overhead of a decode step, not matrix products of a
real size.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw
from transformers.utils import logging as transformers_logging

from families import RECIPES, Recipe, build_folder
from pixel_reasoner.models.api import Completion, Messages, generate_turns
from pixel_reasoner.models.engine import FAMILIES
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.local_backend import LocalBackend
from pixel_reasoner.models.local_generate import generate_with_transformers
from pixel_reasoner.models.local_weights import load_processor, load_weights
from pixel_reasoner.schema.settings import SamplingParams

LAYERS = 8
NEW_TOKENS = 32
FIRST_WORDS, NEXT_WORDS = 600, 8
WORDS = ("where", "is", "the", "red", "sign", "what", "number", "does", "it", "show", "on", "page")

Generate = Callable[[Sequence[Messages]], list[Any]]


class Speed(NamedTuple):
    """Generated tokens and seconds of CPU time, which other programs on the machine hardly change."""

    tokens: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def deeper(recipe: Recipe) -> Recipe:
    """Return a recipe with more decoder layers of the same kinds, in turn."""
    text = dict(recipe.config["text_config"])
    for name in ("layer_types", "mlp_layer_types"):
        if name in text:
            text[name] = list(islice(cycle(text[name]), LAYERS))
    text["num_hidden_layers"] = LAYERS
    return replace(recipe, config={**recipe.config, "text_config": text})


def picture(rng: random.Random) -> Image.Image:
    width, height = rng.randrange(80, 160), rng.randrange(80, 160)
    image = Image.new("RGB", (width, height), "white")
    for _ in range(4):
        x, y = rng.randrange(width), rng.randrange(height)
        color = tuple(rng.randrange(256) for _ in range(3))
        ImageDraw.Draw(image).rectangle([x, y, x + 40, y + 20], fill=color)
    return image


def user_turn(rng: random.Random, num_words: int) -> dict[str, Any]:
    text = " ".join(rng.choice(WORDS) for _ in range(num_words))
    parts = [{"type": "image", "image": picture(rng)}, {"type": "text", "text": text}]
    return {"role": "user", "content": parts}


def measure(generate: Generate, conversations: int, turns: int) -> Speed:
    """Return the speed of whole conversations."""
    rng = random.Random(0)
    messages: list[list[dict[str, Any]]] = [[] for _ in range(conversations)]
    tokens, started = 0, time.process_time()
    for _ in range(turns):
        for one in messages:
            one.append(user_turn(rng, NEXT_WORDS if one else FIRST_WORDS))
        for one, turn in zip(messages, generate(messages), strict=True):
            assert isinstance(turn, Completion), "the context is full"
            tokens += len(turn.token_ids)
            one.append({"role": "assistant", "content": [{"type": "text", "text": turn.text}]})
    return Speed(tokens, time.process_time() - started)


def compare(model: LocalModel, conversations: int, turns: int) -> tuple[Speed, Speed]:
    """Return the speeds of the engine and of `generate`."""
    sampling = SamplingParams(max_new_tokens=NEW_TOKENS)
    by_generate = partial(generate_with_transformers, model, sampling=sampling)
    for warm in (True, False):
        size = (1, 1) if warm else (conversations, turns)
        by_engine = partial(generate_turns, LocalBackend(model), sampling=sampling)
        ours, theirs = measure(by_engine, *size), measure(by_generate, *size)
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", help="model types; by default all of the engine")
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {LAYERS} layers")
    print("| family | engine, tokens/s | generate, tokens/s | ratio |\n| --- | --- | --- | --- |")
    for name in options.families or sorted(set(FAMILIES) & set(RECIPES)):
        with tempfile.TemporaryDirectory() as folder:
            path = str(build_folder(deeper(RECIPES[name]), Path(folder)))
            weights, processor = load_weights(path, "float32", "cpu"), load_processor(path)
            model = LocalModel.of(weights, processor, FolderSettings(dialect="pixel_reasoner"))
            ours, theirs = compare(model, options.conversations, options.turns)
        ratio = ours.per_second / theirs.per_second
        print(
            f"| {name} | {ours.per_second:.0f} | {theirs.per_second:.0f} | {ratio:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
