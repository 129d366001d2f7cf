"""RL that learns to aim: calls are paid by the rise of the answer's log-probability under a frozen reader."""

from __future__ import annotations

import dataclasses
from statistics import mean

import pytest
import torch

from pixel_reasoner.dialects import COMPACT
from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.local import load_processor
from pixel_reasoner.schema.geometry import Box
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import ToolCall
from pixel_reasoner.scoring.rewards import RewardConfig
from pixel_reasoner.train.grpo import PixelReasonerTrainer
from pixel_reasoner.train.rl import load_questions
from pixel_reasoner.train.rollouts.generator import GeneratedRollout
from pixel_reasoner.train.samples import CALL_ADVANTAGES
from pixel_reasoner.train.turn_rewards import CallAdvantages, encode_answer, normalize_rises
from rl_fixture import TINY, ScriptedTurns, run_of, trainer_of

FAR = Box(0.0, 0.0, 0.18, 0.18)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory) -> PixelReasonerTrainer:
    run = run_of(tmp_path_factory.mktemp("run"), reward=RewardConfig(delta=0.5), max_turns=3)
    return trainer_of(run, PixelReasonerTrainer)


@pytest.fixture(scope="module")
def questions(trainer) -> list[Question]:
    asked = load_questions(trainer.run, trainer.model_settings.budgets)
    return [q for q in asked if q.evidence and not _overlaps(q.evidence.boxes[0], FAR)]


def _overlaps(one: Box, other: Box) -> bool:
    return one.x1 < other.x2 and one.y1 < other.y2


def zoom(box: Box) -> str:
    arguments = {"bbox_2d": [round(value, 2) for value in box], "target_image": 1}
    call = ToolCall(name="zoom_in", arguments=arguments)
    return COMPACT.write_turn("I zoom in on it.", call)


def square(box: Box) -> Box:
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    x1, y1 = (min(max(middle - 0.09, 0.0), 0.82) for middle in (x, y))
    return Box(x1, y1, x1 + 0.18, y1 + 0.18)


def rolled(trainer, question: Question, turns: list[str]) -> GeneratedRollout:
    """Return a rollout with these turns."""
    generator = trainer.generator
    before, source = generator.source, ScriptedTurns(trainer.processing_class.tokenizer)
    source.begin([turns])
    generator.source = source
    try:
        (one,) = generator.run([question], trainer._current_settings())
    finally:
        generator.source = before
    return one


def test_a_crop_of_the_evidence_raises_the_answer_more_than_a_crop_elsewhere(trainer, questions):
    calls = trainer.call_advantages
    rises = {True: [], False: []}
    for question in questions[:5]:
        for hits, box in ((True, square(question.evidence.boxes[0])), (False, FAR)):
            one = rolled(trainer, question, [zoom(box), r"It is too small. \boxed{R}"])
            ((turn, rise),) = calls.rises([one], 4)[0].items()
            assert turn == 0
            rises[hits].append(rise)
    assert mean(rises[True]) > mean(rises[False]) + 1
    assert sum(a > b for a, b in zip(rises[True], rises[False], strict=True)) >= 4


def test_only_the_tokens_of_calls_have_an_advantage(trainer, questions):
    question = questions[0]
    group = [
        rolled(trainer, question, [zoom(box), r"It carries R. \boxed{R}"])
        for box in (square(question.evidence.boxes[0]), FAR)
    ]
    for one, advantages in zip(
        group, trainer.call_advantages.of_rollouts(group, 2, 2), strict=True
    ):
        (sequence,), (values,) = one.sequences, advantages
        paid = [n for n, value in enumerate(values.tolist()) if value]
        text = trainer.processing_class.tokenizer.decode([sequence.completion_ids[n] for n in paid])
        assert (
            text.strip().removesuffix("<|im_end|>")
            == zoom(one.trace.turns[0].observation.pictures[0].box).partition(" it.")[2].strip()
        )
        assert len({round(values[n].item(), 5) for n in paid}) == 1
        assert abs(values[paid[0]].item()) == pytest.approx(0.5)


def test_calls_without_a_next_turn_and_rejected_calls_are_not_paid(trainer, questions):
    bad = COMPACT.write_turn(
        "I look.",
        ToolCall(name="zoom_in", arguments={"bbox_2d": [0.5, 0.5, 0.2, 0.9], "target_image": 1}),
    )
    one = rolled(trainer, questions[0], [bad, zoom(FAR), zoom(FAR)])
    assert list(trainer.call_advantages.rises([one], 4)[0]) == [1]


def test_the_frozen_reader_keeps_its_weights(trainer):
    reader = trainer.call_advantages.reader
    before = {name: value.clone() for name, value in reader.state_dict().items()}
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1)
    assert all(torch.equal(before[name], value) for name, value in reader.state_dict().items())
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.sub_(0.1)


def test_rises_of_a_group_have_mean_zero_unless_they_are_equal():
    normalized = normalize_rises([{0: 1.0, 1: 5.0}, {0: 2.0}, {}])
    values = [value for one in normalized for value in one.values()]
    assert sum(values) == pytest.approx(0)
    assert [list(one) for one in normalized] == [[0, 1], [0], []]
    assert normalize_rises([{0: 2.0}, {0: 2.0}]) == [{0: 0.0}, {0: 0.0}]
    assert normalize_rises([{0: 3.0}]) == [{0: 0.0}]


def test_the_answer_is_encoded_in_the_words_of_the_finding(questions):
    tokenizer = load_processor(TINY).tokenizer
    for question in questions:
        before, answer = encode_answer(question, COMPACT, tokenizer)
        assert tokenizer.decode(answer).strip() == question.answer[0]
        assert tokenizer.decode(before).rstrip().endswith("carries")
    plain = questions[0].model_copy(update={"evidence": None})
    before, answer = encode_answer(plain, COMPACT, tokenizer)
    assert tokenizer.decode(answer).strip() == plain.answer[0]


def test_loss_batches_contain_an_advantage_per_token(trainer, questions):
    rows = [{"prompt": [{"role": "user", "content": questions[0].to_line()}]} for _ in range(4)]
    trainer.model.train()
    samples = trainer.generate_samples(rows)
    batch = trainer.batches.loss_batch(samples)
    assert batch["advantages"].shape == batch["completion_ids"].shape
    for sample, advantages in zip(samples, batch["advantages"], strict=True):
        (sequence,) = sample.sequences
        calls = sequence.per_token[CALL_ADVANTAGES]
        expected = calls + sample.advantage
        assert torch.allclose(advantages[: len(expected)], expected)


def test_a_reader_of_a_sharded_run_is_refused(trainer):
    sharded = dataclasses.replace(trainer.run, sharding="zero2")
    run, trainer.run = trainer.run, sharded
    try:
        with pytest.raises(UsageError, match="without sharding"):
            CallAdvantages(trainer, 1.0)
    finally:
        trainer.run = run
