"""Questions, prompts and engines for the tests of the engine."""

from __future__ import annotations

import random
from pathlib import Path

from pixel_reasoner.models.api import collect_images
from pixel_reasoner.models.engine import Engine, ImageInput, Sequence
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.world import render, scenes


def world_questions(folder: Path, seed: int, **counts: int) -> list[Question]:
    """Return questions about the given number of validation scenes per family."""
    wanted = [
        one for family, count in counts.items() for one in scenes(family, "validation", seed, count)
    ]
    return [with_media_root(question, folder) for question in render(wanted, folder)]


def greedy(logits, sequences):
    return logits.argmax(dim=-1), None


def messages_of(question: Question, model: LocalModel) -> list[dict]:
    return Rollout(question, model, RolloutConfig()).messages()


def prompts(model: LocalModel, questions: list[Question]) -> list[tuple[list[int], tuple]]:
    """Return token ids and images of the prompts of questions."""
    conversations = [messages_of(one, model) for one in questions]
    return [
        (
            model.prompt_inputs([messages])["input_ids"][0].tolist(),
            tuple(map(ImageInput.of, collect_images(messages))),
        )
        for messages in conversations
    ]


def text_prompts(count: int, seed: int = 0) -> list[tuple[list[int], tuple]]:
    """Return random token ids of several lengths, without images."""
    rng = random.Random(seed)
    return [
        ([rng.randrange(20, 800) for _ in range(rng.randrange(8, 60))], ()) for _ in range(count)
    ]


def sequences_of(prompts, most: int = 24) -> list[Sequence]:
    return [Sequence(list(ids), images, most, id=n) for n, (ids, images) in enumerate(prompts)]


def engine_of(model: LocalModel, weights=None, ends=(), sampler=greedy, **given) -> Engine:
    image_processor = model.processor.image_processor
    return Engine(weights or model.model, image_processor, ends, sampler=sampler, **given)
