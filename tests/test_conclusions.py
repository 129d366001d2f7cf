"""Examples without pictures: what is given, and what follows from it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
import torch

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.schema.question import MediaItem, Question
from pixel_reasoner.tiny.conclusions import (
    FAMILIES,
    conclusion_example,
    conclusion_segments,
)
from pixel_reasoner.tiny.language import text_loss
from pixel_reasoner.tiny.pointing import find_mentions
from pixel_reasoner.world import v2

MEDIA = MediaItem(kind="image", path="")


@pytest.fixture(scope="module")
def bundled() -> LocalModel:
    return LocalModel("tiny")


def questions(family: str) -> Iterator[Question]:
    for seed in range(15):
        params = v2.Params(size_px=1024, overview_px=192, evidence_px=(2, 8)[seed % 2])
        yield from v2.all_questions(v2.make_scene(family.removeprefix("w2-"), seed, params), MEDIA)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_character_name_or_place_that_only_pictures_show_is_trained(family):
    for question in questions(family):
        pieces = list(conclusion_segments(question, random.Random(question.id)))
        answer_at = next(n for n, piece in enumerate(pieces) if "\\boxed" in piece.text)
        assert pieces[answer_at].trained
        assert not pieces[0].trained
        for piece in pieces[1:answer_at]:
            if piece.trained:
                assert not re.search(
                    r"circle|square|triangle|diamond|frame|carries \w\b", piece.text
                )
                assert not re.search(r"0\.\d\d", piece.text)
        given = "".join(piece.text for piece in pieces if not piece.trained)
        for read in re.findall(r"carries (?:no character|\w)\b", question.reasoning):
            assert read in given


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_same_answer_in_an_example_with_pictures(family, bundled):
    tokenizer = bundled.processor.tokenizer
    for question in questions(family):
        words = "".join(one.text for one in conclusion_segments(question, random.Random(1)))
        mentions = find_mentions(question, words)
        with_pictures = [n for one in mentions for n in tokenizer(one.text)["input_ids"]]
        example = conclusion_example(question, bundled.processor, COMPACT, random.Random(1))
        assert example.ids[-1] == tokenizer.eos_token_id
        assert example.ids[: len(example.ids) - 1][-len(with_pictures) :] == with_pictures
        assert len(example.ids) == len(example.trained)


def test_the_loss_covers_the_trained_tokens_alone(bundled):
    drawn = [
        conclusion_example(question, bundled.processor, COMPACT, random.Random(2))
        for family in FAMILIES
        for question in list(questions(family))[:2]
    ]
    with torch.no_grad():
        loss, metrics = text_loss(bundled.model, drawn)
        total, count = 0.0, 0
        for example in drawn:
            logits = bundled.model(input_ids=torch.tensor([example.ids])).logits[0, :-1]
            targets = torch.tensor(example.ids[1:])
            each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            total += each[torch.tensor(example.trained[1:])].sum().item()
            count += sum(example.trained[1:])
    assert loss.item() == pytest.approx(total / count, rel=0.02)
    assert 0 <= metrics["whole"] <= metrics["token"] <= 1
