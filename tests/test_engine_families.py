"""Families of the engine compared with `generate` of transformers: equal tokens and logits, with all caches and in batches."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from engine_families_fixture import (
    FAST,
    MAX_NEW_TOKENS,
    SLOW,
    Conversation,
    TinyFamily,
    drawn_picture,
    some_words,
    tiny_family,
)
from families import RECIPES, build_folder
from families.recipe import build_model, build_processor
from pixel_reasoner import cli
from pixel_reasoner.models.api import GenerationRequest
from pixel_reasoner.models.engine import (
    FAMILIES,
    ImageInput,
    Sequence,
    engine_support,
    folder_support,
    is_supported,
)
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.local_backend import LocalBackend
from pixel_reasoner.models.local_generate import generate_with_transformers
from pixel_reasoner.schema.settings import SamplingParams

pytestmark = pytest.mark.medium
IN_FULL = [pytest.mark.slow, pytest.mark.families]
ALL = [*FAST, *(pytest.param(name, marks=IN_FULL) for name in SLOW)]
"""names of decoders; `make test` runs one for each code path"""


def run_mixed(engine, sequences, rng) -> None:
    """Run sequences that join at random steps."""
    left = rng.sample(sequences, len(sequences))
    while left or engine.has_unfinished:
        for _ in range(rng.choice((0, 1, 2))):
            if left:
                engine.add_request(left.pop())
        if engine.has_unfinished:
            engine.step()


def assert_conversations_equal_generate(tiny: TinyFamily, count: int, turns: int) -> None:
    """Every third conversation is about the same picture, every fifth starts with two; half of the later turns add one."""
    rng = random.Random(count)
    shared, engine = drawn_picture(rng), tiny.engine()
    conversations = [Conversation() for _ in range(count)]
    replies, places = [], tiny.processor.image_token
    for turn in range(turns):
        sequences = []
        for number, one in enumerate(conversations):
            text, images = some_words(rng, rng.randrange(1, 9)), []
            if turn == 0:
                images = [shared if number % 3 == 0 else drawn_picture(rng)]
                text = f"look well: {places}\n{text}?"
            if (turn == 0 and number % 5 == 4) or (turn and rng.random() < 0.5):
                images.append(drawn_picture(rng))
                text = f"{text} {places} {some_words(rng, 2)}"
            num_new = rng.randrange(2, MAX_NEW_TOKENS + 1)
            sequences.append(one.next_turn(tiny, text, images, num_new))
        run_mixed(engine, sequences, rng)
        for one, sequence in zip(conversations, sequences, strict=True):
            prompt = sequence.ids[: sequence.num_prompt_tokens]
            ids, expected = tiny.generate(prompt, one.images, sequence.max_new_tokens)
            assert sequence.new_ids == ids
            logits = torch.stack(tiny.logits.pop(sequence))
            is_allowed = torch.isfinite(logits)
            assert torch.allclose(logits[is_allowed], expected[is_allowed], atol=1e-4)
            one.ids, one.text = list(sequence.ids), one.text + " so "
            one.ids += tiny.tokenize(" so ")
            replies.append(tuple(ids))
    assert len(set(replies)) > len(replies) / 2, "the weights make all replies alike"
    assert engine.cache_usage.num_reused_tokens > 0


@pytest.mark.parametrize("name", ALL)
def test_conversations_equal_those_of_generate(name):
    """Several turns with pictures, continuous batching, prefix sharing and the vision cache."""
    assert_conversations_equal_generate(tiny_family(name), count=6, turns=2)


@pytest.mark.slow
@pytest.mark.families
@pytest.mark.parametrize("name", FAST + SLOW)
def test_50_conversations_equal_those_of_generate(name):
    assert_conversations_equal_generate(tiny_family(name), count=50, turns=3)


@pytest.mark.parametrize("name", ALL)
def test_prompt_ids_equal_those_of_the_processor(name):
    tiny, rng = tiny_family(name), random.Random(1)
    place, end = tiny.processor.image_token, tiny.processor.tokenizer.eos_token
    for num_images in (0, 1, 2, 3):
        images = [drawn_picture(rng) for _ in range(num_images)]
        parts = [f"see\n{place}\nwhat is it?{end}\n" for _ in images] or [f"hello{end}"]
        given = {"images": [images]} if images else {}
        expected = tiny.processor(text=["".join(parts)], **given, add_special_tokens=False)
        expected_ids = list(expected["input_ids"][0])
        assert tiny.prompt_ids("".join(parts), images) == expected_ids
        if (
            num_images > 1
            and tiny.family.link_images([ImageInput.of(one) for one in images])[0].is_single
        ):
            first = tiny.prompt_ids(parts[0], images[:1])
            assert first + tiny.prompt_ids("".join(parts[1:]), images, 1) == expected_ids


@pytest.mark.parametrize("name", ["qwen3_5", "lfm2_vl", "gemma3", "internvl", "mistral3, sliding"])
def test_a_second_question_about_a_picture_prefills_only_the_text_after_it(name):
    """Layers with a state continue with a copy of the state after the picture."""
    tiny, rng = tiny_family(name), random.Random(2)
    picture, engine = drawn_picture(rng), tiny.engine()
    texts = [f"see {tiny.processor.image_token} {some_words(rng, 5)}" for _ in range(2)]
    sequences = [Conversation().next_turn(tiny, text, [picture], 4) for text in texts]
    for sequence in sequences:
        engine.run([sequence])
    ids = sequences[1].ids
    image_token = tiny.family.image_token(tiny.model.config)
    after = max(n for n, one in enumerate(ids) if one == image_token) + 1
    assert sequences[0].num_reused == 0
    assert sequences[1].num_reused == after
    alone = Sequence(ids[:-4], sequences[1].images, 4)
    tiny.engine().run([alone])
    assert alone.new_ids == sequences[1].new_ids


def test_an_image_is_encoded_once_until_the_weights_change(monkeypatch):
    tiny, rng = tiny_family("internvl"), random.Random(3)
    engine, calls = tiny.engine(), []
    encode = tiny.family.encode_images
    monkeypatch.setattr(
        tiny.family, "encode_images", lambda *given: calls.append(given[2]) or encode(*given)
    )
    picture = drawn_picture(rng)
    for start in ("first", "other"):
        text = f"{start} {tiny.processor.image_token} what?"
        engine.run([Conversation().next_turn(tiny, text, [picture], 2)])
    assert len(calls) == 1
    engine.clear()
    engine.run([Conversation().next_turn(tiny, tiny.processor.image_token, [picture], 2)])
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["qwen3_5", "lfm2_vl"])
def test_cancelled_sequences_do_not_change_states_of_the_others(name):
    """A running sequence moves to the slot of the cancelled one."""
    tiny = tiny_family(name)
    prompts = [tiny.tokenize(some_words(random.Random(n), 3 + 2 * n)) for n in range(5)]
    expected = [Sequence(list(ids), (), 8) for ids in prompts]
    for one in expected:
        tiny.engine().run([one])
    engine, sequences = tiny.engine(), [Sequence(list(ids), (), 8) for ids in prompts]
    for one in sequences:
        engine.add_request(one)
    for step in range(3):
        engine.step()
        engine.cancel(sequences[step])
    while engine.has_unfinished:
        engine.step()
    assert [one.new_ids for one in sequences[3:]] == [one.new_ids for one in expected[3:]]


def test_snapshots_count_as_cached_bytes_and_are_freed_with_their_sequence():
    tiny, rng = tiny_family("qwen3_5"), random.Random(4)
    engine = tiny.engine()
    sequence = Conversation().next_turn(
        tiny, f"{tiny.processor.image_token} a", [drawn_picture(rng)], 2
    )
    engine.run([sequence])
    states = sum(
        one.numel() * one.element_size()
        for some in sequence.snapshots.values()
        for one in some.values()
    )
    assert (
        0 < 2 * states < engine.num_cache_bytes
    )  # the snapshot, the last state, and keys and values
    engine.clear()
    assert engine.num_cache_bytes == 0
    assert sequence.snapshots == {}


# --- local models ---


def local_model(name: str) -> LocalModel:
    tiny = tiny_family(name)
    return LocalModel.of(tiny.model, tiny.processor, FolderSettings(dialect="pixel_reasoner"))


def messages(rng: random.Random, num_images: int) -> list[dict]:
    parts = [{"type": "image", "image": drawn_picture(rng)} for _ in range(num_images)]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": some_words(rng, 5)}]}]


@pytest.mark.parametrize(
    "name", ["qwen3_5", "gemma3", "internvl", "idefics3", "lfm2_vl", "mistral3"]
)
def test_a_local_model_generates_the_same_turn_in_the_engine(name):
    """The backend renders, tokenizes and expands placeholders itself; start tokens are added once."""
    model, rng = local_model(name), random.Random(5)
    sampling = SamplingParams(max_new_tokens=6)
    for num_images in (1, 2):
        asked = messages(rng, num_images)
        backend = LocalBackend(model)
        request = GenerationRequest(id="a", session="a", messages=asked, sampling=sampling)
        prompt, _ = backend._prompt(request)
        assert prompt.ids == model.prompt_inputs([asked])["input_ids"][0].tolist()
        bos = model.tokenizer.bos_token_id
        assert prompt.ids[:2] != [bos, bos]
        (ours,) = model.generate([asked], sampling)
        (theirs,) = generate_with_transformers(model, [asked], sampling)
        assert ours.token_ids == theirs.token_ids
        assert torch.allclose(torch.tensor(ours.logprobs), torch.tensor(theirs.logprobs), atol=0.02)


def test_a_model_without_a_family_names_the_reason_and_its_cost(tmp_path):
    folder = build_folder(RECIPES["deepseek_vl"], tmp_path / "model")
    assert folder_support(folder) == "the engine has no family deepseek_vl"
    recipe = RECIPES["deepseek_vl"]
    processor = build_processor(recipe)
    weights = build_model(recipe, processor.tokenizer)
    settings = FolderSettings(dialect="pixel_reasoner", note="A note.")
    model = LocalModel.of(weights, processor, settings)
    assert model.note == f"A note. {model.engine_note}"
    assert "no family deepseek_vl" in model.engine_note
    assert "Every turn prefills the whole conversation" in model.engine_note
    shown = CliRunner().invoke(cli.app, ["doctor", "--model", str(folder)])
    assert model.engine_note in shown.output.replace("\n", " ")


def test_a_supported_model_has_no_note():
    assert local_model("gemma3").engine_note == ""


def test_layers_and_attention_without_support_are_named():
    text = SimpleNamespace(_attn_implementation="eager", layer_types=["full_attention"])
    model = SimpleNamespace(
        config=SimpleNamespace(model_type="internvl", get_text_config=lambda: text)
    )
    assert engine_support(model) == "the engine does not run attention eager, only sdpa"
    text._attn_implementation, text.layer_types = "sdpa", ["full_attention", "mamba"]
    assert engine_support(model) == "the engine does not run decoder layers of kind mamba"
    text.layer_types = ["linear_attention"]
    assert not is_supported(model), "a family without states"
    assert {"qwen3_5", "gemma3", "gemma4", "internvl", "glm4v", "smolvlm", "mistral3"} <= set(
        FAMILIES
    )
