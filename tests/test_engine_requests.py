"""Requests of several clients in one engine: cancellation, sampling parameters, the limit of the cache, exact prefixes."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from engine_fixture import engine_of, prompts, sequences_of, text_prompts, world_questions
from pixel_reasoner.models.engine import (
    FAMILIES,
    ImageInput,
    Sequence,
    SequenceState,
    prefix_cache,
    sample,
    scheduler,
)
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import SamplingParams


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel("tiny")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    return world_questions(tmp_path_factory.mktemp("scenes"), seed=70, attribute=3, video=1)


def finish(engine) -> None:
    while engine.has_unfinished:
        engine.step()


# --- cancellation ---


def test_sequences_cancelled_at_random_steps_do_not_change_the_others(model, questions):
    """The slot is free at once, and the ids of the others equal those of a run without cancellations."""
    mixed = [*prompts(model, questions), *text_prompts(60)]
    expected = sequences_of(mixed, 16)
    engine_of(model).run(expected)
    rng = random.Random(0)
    engine, states = engine_of(model), set()
    for _ in range(12):
        sequences = sequences_of(mixed, 16)
        chosen = rng.sample(sequences, rng.randrange(2, 65))
        left = chosen.copy()
        cancelled = rng.sample(chosen, rng.randrange(1, 1 + len(chosen) // 2))
        to_cancel = list(cancelled)
        while left or engine.has_unfinished:
            for _ in range(min(len(left), rng.choice((0, 1, 8, 64)))):
                engine.add_request(left.pop())
            while to_cancel and to_cancel[-1] not in left and rng.random() < 0.5:
                one = to_cancel.pop()
                num_running, state = len(engine.running), one.state
                states.add(state)
                is_running = one in engine.running
                engine.cancel(one if rng.random() < 0.5 else one.id)
                assert one not in (*engine.running, *engine.waiting, *engine.retained)
                assert len(engine.running) == num_running - is_running
            if engine.has_unfinished:
                engine.step()
        for one in chosen:
            if one.state is SequenceState.FINISHED:
                assert one.new_ids == expected[one.id].new_ids
            else:
                assert one in cancelled
        engine.clear()
    assert states >= {SequenceState.WAITING, SequenceState.RUNNING}


def test_cancelling_an_unknown_sequence_is_reported(model):
    assert not engine_of(model).cancel("no such id")


def test_a_failed_prefill_cancels_only_its_own_sequences(model, monkeypatch):
    first, second = sequences_of(text_prompts(2))
    expected = sequences_of(text_prompts(2))[0]
    engine_of(model).run([expected])
    engine = engine_of(model)
    engine.add_request(first)
    engine.step()
    engine.add_request(second)
    with monkeypatch.context() as patch:
        patch.setattr(engine.family, "prefill", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.step()
    assert second.state is SequenceState.CANCELLED
    assert engine.running == (first,)
    finish(engine)
    assert first.new_ids == expected.new_ids


def test_a_waiting_sequence_is_prefilled_after_a_bounded_number_of_steps(model):
    most = scheduler.MAX_WAITING_STEPS + 40
    engine = engine_of(model)
    for one in sequences_of(text_prompts(8), most):
        engine.add_request(one)
    engine.step()
    late = Sequence(list(range(30, 40)), (), 1)
    engine.add_request(late)
    for _ in range(scheduler.MAX_WAITING_STEPS + 1):
        engine.step()
    assert late.state is SequenceState.FINISHED
    assert len(engine.running) == 8


# --- sampling ---

PARAMS = [
    SamplingParams(),
    SamplingParams(temperature=0.7, seed=1),
    SamplingParams(temperature=1.3, top_p=0.8, seed=2),
    SamplingParams(temperature=1.3, top_p=0.8, seed=3),
    SamplingParams(temperature=1.3, seed=2),
]


def test_different_sampling_parameters_in_one_batch_do_not_change_ids(model, questions):
    inputs = [*prompts(model, questions[:2]), *text_prompts(3)]

    def requests() -> list[Sequence]:
        return [
            Sequence(list(ids), images, 20, sampling=params)
            for ids, images in inputs
            for params in PARAMS
        ]

    together, alone = requests(), requests()
    engine_of(model, sampler=sample).run(together)
    for one in alone:
        engine_of(model, sampler=sample).run([one])
    assert [one.new_ids for one in together] == [one.new_ids for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-4)
    assert len({tuple(one.new_ids) for one in together[-5:]}) == 5, "each has its own parameters"


def test_logprobs_are_computed_after_temperature_and_before_top_k_and_top_p(model):
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    sequences = [
        Sequence([1], (), 1, sampling=SamplingParams()),
        Sequence([1], (), 1, sampling=SamplingParams(temperature=2.0, top_p=0.5)),
    ]
    ids, logprobs = sample(logits, sequences)
    assert ids.tolist() == [1, 1]
    expected = [torch.log_softmax(logits[0] / t, -1)[1] for t in (1.0, 2.0)]
    assert torch.allclose(logprobs, torch.stack(expected))


# --- the limit of the cache ---


def bytes_of(model, num_tokens: int) -> int:
    text = model.model.config.get_text_config()
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    return num_tokens * per_token * 4


def test_the_least_recently_used_sequence_is_evicted_above_the_limit(model):
    inputs = [(list(range(20 + 100 * n, 60 + 100 * n)), ()) for n in range(4)]
    size = bytes_of(model, 40 + 7)  # the last generated id is not in the cache
    engine = engine_of(model, max_cache_bytes=2 * size)
    first, second, third, fourth = sequences_of(inputs, 8)
    for one in (first, second):
        engine.add_request(one)
        finish(engine)
    assert engine.num_cache_bytes == 2 * size
    engine.add_request(third)
    finish(engine)
    assert engine.retained == (second, third)
    engine.add_request(Sequence([*second.ids, 7], (), 1))  # continues the older one
    engine.step()
    engine.add_request(fourth)
    finish(engine)
    assert fourth in engine.retained
    assert second not in engine.retained
    assert engine.num_cache_bytes <= 2 * size


def test_running_sequences_are_never_evicted_and_nothing_is_retained_without_room(model, questions):
    inputs = [*prompts(model, questions), *text_prompts(6)]
    expected, sequences = sequences_of(inputs), sequences_of(inputs)
    engine_of(model).run(expected)
    engine = engine_of(model, max_cache_bytes=0)
    for n, one in enumerate(sequences):
        one.max_new_tokens = 4 + 2 * n
        engine.add_request(one)
    finish(engine)
    for one, other in zip(sequences, expected, strict=True):
        assert one.new_ids == other.new_ids[: one.max_new_tokens]
    assert engine.retained == ()
    assert engine.num_cache_bytes == 0


def test_a_shared_prefix_of_an_evicted_sequence_is_prefilled_again(model, questions):
    (inputs,) = prompts(model, questions[:1])
    engine = engine_of(model, max_cache_bytes=0)
    (first,), (second,) = sequences_of([inputs]), sequences_of([inputs])
    engine.run([first])
    assert engine.num_reusable_tokens(second) == 0
    engine.run([second])
    assert second.new_ids == first.new_ids


# --- exact prefixes ---


def test_prefixes_with_the_same_digest_and_other_ids_are_not_shared(model, questions, monkeypatch):
    """The engine compares the ids themselves. Here all prefixes have one digest."""
    same = SimpleNamespace(update=lambda _: None, digest=bytes)
    monkeypatch.setattr(prefix_cache, "hashlib", SimpleNamespace(blake2b=lambda *_, **__: same))
    (ids, images), (_, others) = prompts(model, questions[:2])
    engine = engine_of(model)
    engine.run(sequences_of([(ids, images)], 1))
    for changed in ([ids[0] + 1, *ids[1:]], ids):
        other = Sequence(list(changed), others, 8)
        engine_of(model).run([alone := Sequence(list(changed), others, 8)])
        assert engine.num_reusable_tokens(other) < changed.index(5) + 1
        engine.run([other])
        assert other.new_ids == alone.new_ids


def test_the_digest_of_an_image_depends_on_its_content_and_is_computed_once(monkeypatch):
    from PIL import Image

    image = Image.new("RGB", (8, 8), "red")
    first = ImageInput.of(image)
    monkeypatch.setattr(image, "tobytes", lambda: pytest.fail("hashed again"))
    assert ImageInput.of(image).digest == first.digest
    assert len(first.digest) == 16
    others = [Image.new("RGB", (4, 16), "red"), Image.new("L", (8, 8)), Image.new("RGB", (8, 8))]
    assert len({first.digest, *(ImageInput.of(one).digest for one in others)}) == 4


# --- families ---


@pytest.mark.parametrize("text_first", [False, True])
def test_positions_equal_those_of_transformers(model, text_first):
    grids = [torch.tensor(grid) for grid in ((1, 4, 8), (1, 6, 2), (1, 10, 10))]
    ids = [7, 8, 9] if text_first else []
    for grid in grids:
        ids += [5] * int(grid.prod() // 4) + [4, 10, 11]
    ours, offset = FAMILIES.get("qwen3_vl").positions(model.model, ids, grids)
    theirs, expected = model.model.model.get_rope_index(
        torch.tensor([ids]),
        mm_token_type_ids=(torch.tensor([ids]) == 5).int(),
        image_grid_thw=torch.stack(grids),
    )
    assert ours.tolist() == theirs[:, 0].tolist()
    assert offset == int(expected)


def test_a_family_of_another_package_is_found_by_its_model_type():
    assert {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"} <= set(FAMILIES)
    with pytest.raises(ValueError, match="'qwen3_vl'"):
        FAMILIES.get("qwen3_v")
