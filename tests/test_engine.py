"""Engine compared with `generate` of transformers: equal tokens, and every token is prefilled once."""

from __future__ import annotations

import copy
import random
import shutil
import time
from contextlib import contextmanager
from threading import Event

import pytest
import torch
import torch.nn.functional as F
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from engine_fixture import engine_of, prompts, sequences_of, world_questions
from pixel_reasoner.media import decoder
from pixel_reasoner.models.api import GenerationRequest
from pixel_reasoner.models.engine import Sequence, is_supported
from pixel_reasoner.models.engine.families import _cpu_decode
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.local_backend import LocalBackend
from pixel_reasoner.models.local_generate import generate_with_transformers
from pixel_reasoner.models.patches import (
    batch_attention_segments,
    compile_layers,
    embed_patches_by_matmul,
)
from pixel_reasoner.rollout import loop
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams

SHORT = SamplingParams(max_new_tokens=64)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel("tiny")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    return world_questions(
        tmp_path_factory.mktemp("scenes"), seed=70, attribute=6, relation=4, video=2
    )


@pytest.fixture(scope="module")
def other_family() -> torch.nn.Module:
    """A Qwen2.5-VL with random weights: windowed vision attention, no deepstack, grouped heads."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 823,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 16,
            "window_size": 64,
            "fullatt_block_indexes": [1],
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def greedy_with_logprobs(logits, sequences):
    ids = logits.argmax(dim=-1)
    return ids, torch.log_softmax(logits.float(), dim=-1).gather(1, ids[:, None])[:, 0]


@contextmanager
def count_prefill(model: LocalModel):
    """Count the tokens and pictures of forward passes."""
    num = {"tokens": 0, "pictures": 0}

    def language(module, args):
        num["tokens"] += args[0].numel()

    def vision(module, args, inputs):
        grid = inputs.get("grid_thw", args[1] if len(args) > 1 else None)
        num["pictures"] += len(grid)

    hooks = [
        model.model.model.language_model.embed_tokens.register_forward_pre_hook(language),
        model.model.model.visual.register_forward_pre_hook(vision, with_kwargs=True),
    ]
    yield num
    for hook in hooks:
        hook.remove()


def test_rollouts_equal_those_of_a_full_prefill_in_every_turn(model, questions):
    """Compare the tokens of whole conversations with `generate`, which prefills the whole prompt each time."""
    config = RolloutConfig(sampling=SHORT)
    for question in questions[::3]:
        trace = ask(question, model, config)
        again = Rollout(question, model, config)
        while again.stop is None:
            (turn,) = generate_with_transformers(model, [again.messages()], config.sampling)
            again.take(turn, 0.0)
        assert [t.token_ids for t in trace.turns] == [t.token_ids for t in again.turns]
        for ours, theirs in zip(trace.turns, again.turns, strict=True):
            assert ours.num_prompt_tokens == theirs.num_prompt_tokens
            assert torch.allclose(
                torch.tensor(ours.logprobs), torch.tensor(theirs.logprobs), atol=1e-3
            )


def test_another_family_generates_the_tokens_of_transformers(model, other_family, questions):
    """Covers positions, masks and pictures of Qwen2.5-VL, and continued turns in one batch of different lengths."""
    assert is_supported(other_family)
    engine = engine_of(model, other_family)
    inputs = prompts(model, questions[:4])
    sequences = sequences_of(inputs)
    engine.run(sequences)
    extra = inputs[0][1][:1]  # a picture that an operation returns
    (picture,) = model.prompt_inputs([Rollout(questions[0], model, RolloutConfig()).messages()])[
        "image_grid_thw"
    ]
    placeholder = [3, *[5] * int(picture.prod() // 4), 4]
    later = sequences_of([(r.ids + placeholder, r.images + extra) for r in sequences])
    engine.run(later)
    for sequence in (*sequences, *later):
        ids = torch.tensor(sequence.ids[: sequence.num_prompt_tokens])[None]
        pixels = model.processor.image_processor(
            images=[one.image for one in sequence.images], return_tensors="pt"
        )
        out = other_family.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == 5).int(),
            **pixels,
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=None,
        )
        assert out[0, sequence.num_prompt_tokens :].tolist() == sequence.new_ids


@pytest.mark.parametrize("seed", range(3))
def test_generated_tokens_do_not_depend_on_when_a_sequence_joins(model, questions, seed):
    """Sequences of different lengths join a batch in any order at any time, and some are released early."""
    rng = random.Random(seed)
    ends = model.end_tokens
    inputs = prompts(model, questions)
    alone = sequences_of(inputs, 40)
    for sequence in alone:
        engine_of(model, ends=ends).run([sequence])
    engine, sequences = engine_of(model, ends=ends), sequences_of(inputs, 40)
    waiting = rng.sample(sequences, len(sequences))
    while waiting or engine.has_unfinished:
        for _ in range(rng.choice((0, 0, 1, 3))):
            if waiting:
                engine.add_request(waiting.pop())
        if engine.has_unfinished:
            for sequence in engine.step():
                if rng.random() < 0.5:
                    engine.release(sequence)
    assert [sequence.new_ids for sequence in sequences] == [sequence.new_ids for sequence in alone]


def test_a_later_turn_prefills_only_new_tokens(model, questions):
    config = RolloutConfig(sampling=SHORT, limits=RolloutLimits(max_turns=4))
    model = LocalModel("tiny")  # with an empty cache
    with count_prefill(model) as num:
        trace = ask(next(one for one in questions if one.needs_look), model, config)
    assert len(trace.turns) > 1
    last = trace.turns[-1]
    # Each prompt token and each generated token once, except the last one.
    assert num["tokens"] == last.num_prompt_tokens + len(last.token_ids) - 1
    assert num["pictures"] == len(trace.all_pictures)


def test_a_common_prefix_is_prefilled_once(model, questions):
    inputs = prompts(model, questions[:2])
    engine = engine_of(model, ends=model.end_tokens)
    with count_prefill(model) as num:
        engine.run(sequences_of([inputs[0]] * 4 + [inputs[1]] * 4, most=1))
    longest = max(len(ids) for ids, _ in inputs)
    assert num == {"tokens": 2 * longest, "pictures": 2}


def about_one_picture(model, questions, count: int) -> list[tuple[list[int], tuple]]:
    words = [f"Is there a red thing, number {n}?" for n in range(count)]
    return prompts(model, [questions[0].model_copy(update={"text": text}) for text in words])


@pytest.mark.parametrize("count", [2, 16])
def test_a_shared_picture_is_prefilled_once_if_that_saves_a_forward_pass(model, questions, count):
    inputs = about_one_picture(model, questions, count)
    lengths = [len(ids) for ids, _ in inputs]
    num_shared = max(n for n, token in enumerate(inputs[0][0]) if token == 5) + 1
    engine = engine_of(model)
    with count_prefill(model) as num:
        engine.run(sequences := sequences_of(inputs, most=1))
    if count == 2:
        assert num["tokens"] == 2 * max(lengths)
    else:
        new = max(lengths[1:]) - num_shared
        assert num["tokens"] == lengths[0] + new * (count - 1)
    assert num["pictures"] == 1
    for sequence in sequences:
        engine_of(model).run(
            [
                alone := Sequence(
                    list(sequence.ids[: sequence.num_prompt_tokens]), sequence.images, 1
                )
            ]
        )
        assert alone.new_ids == sequence.new_ids


def test_the_next_question_about_a_picture_prefills_only_new_tokens(model, questions):
    first, second = about_one_picture(model, questions, 2)
    num_shared = max(n for n, token in enumerate(first[0]) if token == 5) + 1
    engine = engine_of(model)
    engine.run(sequences_of([first]))
    with count_prefill(model) as num:
        engine.run(sequences := sequences_of([second]))
    assert num == {
        "tokens": len(second[0]) - num_shared + len(sequences[0].new_ids) - 1,
        "pictures": 0,
    }
    engine_of(model).run(alone := sequences_of([second]))
    assert sequences[0].new_ids == alone[0].new_ids


def test_only_the_text_before_a_different_picture_is_shared(model, questions):
    first, other = prompts(model, questions[:2])
    engine = engine_of(model)
    engine.run(sequences_of([first]))
    with count_prefill(model) as num:
        engine.run(sequences_of([other], most=1))
    assert num == {"tokens": len(other[0]) - other[0].index(5), "pictures": 1}


def test_equal_token_ids_with_other_pixels_are_not_shared(model, questions):
    (one, pictures), (_, others) = prompts(model, questions[:2])
    engine = engine_of(model)
    first, again, other = sequences_of([(one, pictures), (one, pictures), (one, others)])
    engine.run([first])
    continued = Sequence([*first.ids, 7], first.images, 8)
    different = Sequence([*first.ids, 7], others, 8)
    with count_prefill(model) as num:
        engine.run([continued, different])
    assert num["pictures"] == 1
    after = Sequence([*continued.ids, 7], pictures, 1)
    assert engine.num_reusable_tokens(after) == len(continued.ids) - 1
    engine.clear()
    engine.run([again, other])
    fresh = engine_of(model)
    fresh.run([recomputed := Sequence(list(different.ids[:-8]), others, 8)])
    assert recomputed.new_ids == different.new_ids


def test_clear_removes_the_cache_of_earlier_weights(model, questions):
    engine = engine_of(model)
    (sequence,) = sequences_of(prompts(model, questions[:1]))
    engine.run([sequence])
    later = Sequence([*sequence.ids, 7], sequence.images, 1)
    assert engine.num_reusable_tokens(later) == len(sequence.ids) - 1
    assert engine.num_cache_bytes > 0
    engine.clear()
    assert engine.num_reusable_tokens(later) == 0
    assert engine.num_cache_bytes == 0


def test_a_finished_conversation_leaves_no_state(model, questions):
    fresh = LocalModel.of(model.model, model.processor, model_settings(model))
    traces = list(ask_many(questions, fresh, RolloutConfig(sampling=SHORT), batch_size=3))
    assert len(traces) == len(questions)
    backend = fresh.open_backend()
    engine = backend.engine
    assert engine.running == engine.waiting == engine.retained == ()
    assert backend.sessions == ()


def model_settings(model: LocalModel):
    return FolderSettings(dialect=model.dialect, budgets=model.budgets)


def test_placeholders_of_pictures_are_never_generated(model, questions):
    """The next turn would have no pixels for them."""
    config = model.model.config
    placeholders = [config.image_token_id, config.video_token_id]

    def favor_placeholders(module, inputs, logits):
        logits[..., placeholders] += 1000.0

    hook = model.model.lm_head.register_forward_hook(favor_placeholders)
    try:
        traces = list(ask_many(questions, model, RolloutConfig(sampling=SHORT), batch_size=8))
    finally:
        hook.remove()
    for trace in traces:
        assert not any(set(placeholders) & set(turn.token_ids) for turn in trace.turns)


def test_logprobs_under_autocast_equal_those_of_a_full_forward_pass(model, other_family, questions):
    """Training on a GPU generates under autocast: 32-bit weights, 16-bit products."""
    sequences = sequences_of(prompts(model, questions[:2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        engine = engine_of(model, other_family, sampler=greedy_with_logprobs)
        engine.run(sequences)
        with torch.inference_mode():
            for sequence in sequences:
                pixels = model.processor.image_processor(
                    images=[one.image for one in sequence.images], return_tensors="pt"
                )
                ids = torch.tensor([sequence.ids])
                kinds = (ids == other_family.config.image_token_id).int()
                logits = other_family(input_ids=ids, mm_token_type_ids=kinds, **pixels).logits[0]
                logprobs = torch.log_softmax(
                    logits[sequence.num_prompt_tokens - 1 : -1].float(), dim=-1
                )
                expected = logprobs.gather(1, torch.tensor(sequence.new_ids)[:, None])[:, 0]
                assert torch.allclose(torch.tensor(sequence.logprobs), expected, atol=0.05)


def test_a_model_with_lora_generates_like_any_model(model, questions):
    from peft import LoraConfig, get_peft_model

    weights = LocalModel("tiny").model
    wrapped = get_peft_model(weights, LoraConfig(target_modules=r".*language_model.*q_proj"))
    tuned = LocalModel.of(wrapped, model.processor, model_settings(model))
    config = RolloutConfig(sampling=SHORT)
    assert (
        ask(questions[0], tuned, config).turns[0].text
        == ask(questions[0], model, config).turns[0].text
    )


def test_a_picture_that_opens_slowly_delays_only_its_own_question(model, questions, monkeypatch):
    answered, slow = Event(), questions[1].media[0].path

    def opened(path, limits, page=None):
        assert str(path) != slow or answered.wait(60), "the others waited for it"
        return open_image(path, limits, page)

    open_image = decoder.open_image
    monkeypatch.setattr(decoder, "open_image", opened)
    monkeypatch.setattr(loop, "MAX_OPENING_WAIT_S", 0.3)
    found = []
    for trace in ask_many(questions, model, RolloutConfig(sampling=SHORT), batch_size=4):
        found.append(trace.question)
        if len(found) == len(questions) - 1:
            answered.set()
    assert sorted(one.id for one in found) == sorted(one.id for one in questions)


def test_seconds_of_turns_add_up_to_the_time_of_the_steps(model, questions):
    """Each step is divided among the requests in progress, waiting ones included."""
    backend = LocalBackend(model)
    for n, question in enumerate(questions):
        messages = Rollout(question, model, RolloutConfig()).messages()
        request = GenerationRequest(id=str(n), session=str(n), messages=messages, sampling=SHORT)
        backend.submit(request)
    total = spent = 0.0
    while backend.engine.has_unfinished:
        started = time.perf_counter()
        deltas = backend.poll(0.0)
        spent += time.perf_counter() - started
        total += sum(delta.seconds for delta in deltas)
    assert 0.5 * spent < total <= spent


def test_the_engine_does_not_support_an_unknown_family(model):
    class UnknownFamily:
        config = model.model.config.__class__(**model.model.config.to_dict())

    UnknownFamily.config.model_type = "some_other_vl"
    assert is_supported(model.model)
    assert not is_supported(UnknownFamily)


def test_patch_embedding_by_matmul_equals_the_convolution(other_family):
    visual = other_family.model.visual
    patches = torch.randn(8, visual.patch_embed.proj.weight[0].numel())
    before = visual.patch_embed(patches)
    embed_patches_by_matmul(visual)
    assert torch.allclose(visual.patch_embed(patches), before, atol=1e-5)


@pytest.mark.parametrize("sides", [[(8, 8)] * 3, [(8, 8), (12, 8), (8, 8), (6, 10)]], ids=str)
def test_attention_segments_of_equal_size_are_batched(other_family, monkeypatch, sides):
    visual, calls = copy.deepcopy(other_family.model.visual), []
    attention = F.scaled_dot_product_attention
    counted = lambda *given, **more: calls.append(1) or attention(*given, **more)  # noqa: E731
    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    grid = torch.tensor([(1, *side) for side in sides])
    patches = torch.randn(int(grid.prod(1).sum()), visual.patch_embed.proj.weight[0].numel())
    patches.requires_grad_()
    results = []
    for _ in range(2):
        calls.clear()
        out = visual(patches, grid_thw=grid).pooler_output
        (grad,) = torch.autograd.grad(out.square().sum(), patches)
        results.append((out, grad, len(calls)))
        batch_attention_segments(visual)
    (out, grad, num_calls), (out_together, grad_together, num_together) = results
    assert torch.allclose(out_together, out, atol=1e-5)
    assert torch.allclose(grad_together, grad, atol=1e-4)
    assert num_together < num_calls
    assert "flash" not in str(visual.config.to_dict()), "a saved model does not name it"


def test_an_explicit_attention_implementation_is_kept(other_family):
    visual = copy.deepcopy(other_family.model.visual)
    visual.config._attn_implementation = "eager"
    batch_attention_segments(visual)
    assert visual.config._attn_implementation == "eager"


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl"])
def test_a_decode_step_on_cpu_equals_transformers_bit_for_bit(
    model, other_family, questions, monkeypatch, family
):
    weights = model.model if family == "qwen3_vl" else other_family
    sequences = sequences_of(prompts(model, questions[:3]))
    plain = sequences_of(prompts(model, questions[:3]))
    engine_of(model, weights, sampler=greedy_with_logprobs).run(sequences)
    assert _cpu_decode.can_decode(weights.model.language_model)
    monkeypatch.setattr(_cpu_decode, "can_decode", lambda _: False)
    engine_of(model, weights, sampler=greedy_with_logprobs).run(plain)
    for one, other in zip(sequences, plain, strict=True):
        assert one.new_ids == other.new_ids
        assert one.logprobs == other.logprobs


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_norms_and_mlps_generate_the_same_tokens(model, other_family, questions):
    plain, compiled = (sequences_of(prompts(model, questions[:2])) for _ in range(2))
    engine_of(model, other_family).run(plain)
    weights = copy.deepcopy(other_family)
    compile_layers(weights.model.language_model)
    engine_of(model, weights).run(compiled)
    assert [sequence.new_ids for sequence in compiled] == [sequence.new_ids for sequence in plain]


def test_reused_tokens_and_the_memory_of_the_cache_are_counted(model, questions):
    engine = engine_of(model)
    first, second = sequences_of(prompts(model, questions)[:1] * 2, 4)
    engine.run([first])
    assert engine.cache_usage[:2] == (first.num_prompt_tokens, 0)
    engine.add_request(second)
    finish_all(engine)
    usage = engine.cache_usage
    assert usage.num_prompt_tokens == first.num_prompt_tokens + second.num_prompt_tokens
    assert 0 < usage.num_reused_tokens < second.num_prompt_tokens
    assert 0 < usage.memory_fraction < 1
    engine.clear()
    assert engine.cache_usage.memory_fraction == 0


def finish_all(engine) -> None:
    while engine.has_unfinished:
        engine.step()
