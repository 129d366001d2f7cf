"""Generation backend of a local model."""

from __future__ import annotations

from copy import copy

import pytest
import torch
from PIL import Image

from engine_fixture import messages_of, world_questions
from pixel_reasoner.dialects import call_marks, get_dialect
from pixel_reasoner.errors import InputError, ModelError
from pixel_reasoner.models import local
from pixel_reasoner.models.api import (
    Completion,
    ContextFull,
    Delta,
    GenerationRequest,
    RoundsBackend,
    get_backend,
)
from pixel_reasoner.models.folder import FolderSettings
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.local_backend import LocalBackend
from pixel_reasoner.models.local_text import TextStream, TokenDecoder
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.settings import SamplingParams

SHORT = SamplingParams(max_new_tokens=48)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel("tiny")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    return world_questions(tmp_path_factory.mktemp("scenes"), seed=50, attribute=3, video=1)


def request(id: str, messages, session: str = "", **given) -> GenerationRequest:
    given = {"sampling": SHORT, **given}
    return GenerationRequest(id=id, session=session or id, messages=messages, **given)


def finished(backend) -> dict[str, Delta]:
    """Return the last delta of every request in progress."""
    last: dict[str, Delta] = {}
    while deltas := [*backend.poll(0.0)] or backend.engine.has_unfinished:
        last |= {one.id: one for one in deltas if one.is_last} if deltas is not True else {}
    return last


def answered(messages, text: str) -> list[dict]:
    """Return the conversation after a turn of the model and another question."""
    return [
        *messages,
        {"role": "assistant", "content": [{"type": "text", "text": text}]},
        {"role": "user", "content": [{"type": "text", "text": "Are you sure?"}]},
    ]


def test_a_model_has_one_backend_and_its_clients_share_it(model):
    assert isinstance(get_backend(model), LocalBackend)
    assert get_backend(model) is model.open_backend()


def test_requests_return_the_turns_of_generate_with_ids_and_logprobs(model, questions):
    conversations = [messages_of(one, model) for one in questions]
    backend = LocalBackend(model)
    for n, messages in enumerate(conversations):
        backend.submit(request(str(n), messages))
    last = finished(backend)
    expected = model.generate(conversations, SHORT)
    for n, turn in enumerate(expected):
        found = last[str(n)].completion
        assert isinstance(found, Completion)
        assert (found.text, found.token_ids) == (turn.text, turn.token_ids)
        assert len(found.logprobs) == len(found.token_ids)
        assert last[str(n)].seconds > 0


def test_text_is_streamed_only_for_requests_that_ask_for_it(model, questions):
    backend, pieces = LocalBackend(model), {"0": [], "1": []}
    for id in pieces:
        backend.submit(request(id, messages_of(questions[0], model), stream=id == "0"))
    last: dict[str, Delta] = {}
    while len(last) < 2:
        for delta in backend.poll(0.0):
            pieces[delta.id] += [delta.text] if delta.text else []
            last |= {delta.id: delta} if delta.is_last else {}
    assert "".join(pieces["0"]) == last["0"].completion.text
    assert len(pieces["0"]) > 2
    assert pieces["1"] == []


def test_a_later_turn_of_a_session_starts_with_the_ids_that_were_generated(model, questions):
    messages = messages_of(questions[0], model)
    backend = LocalBackend(model)
    backend.submit(request("1", messages, "conversation"))
    first = finished(backend)["1"].completion
    (sequence,) = backend.engine.retained
    prompt = sequence.ids[: sequence.num_prompt_tokens]
    backend.submit(request("2", answered(messages, first.text), "conversation"))
    (waiting,) = backend.engine.waiting
    assert waiting.ids[: len(sequence.ids) - 1] == [*prompt, *first.token_ids[:-1]]
    assert backend.engine.num_reusable_tokens(waiting) == len(sequence.ids) - 1
    second = finished(backend)["2"].completion
    fresh = LocalBackend(model)
    fresh.submit(request("2", answered(messages, first.text)))
    assert finished(fresh)["2"].completion.text == second.text


def test_a_completion_has_the_number_of_prompt_tokens_that_were_cached(model, questions):
    messages = messages_of(questions[0], model)
    backend = LocalBackend(model)
    backend.submit(request("1", messages, "conversation"))
    first = finished(backend)["1"].completion
    assert first.num_cached_tokens == 0
    backend.submit(request("2", answered(messages, first.text), "conversation"))
    second = finished(backend)["2"].completion
    assert second.num_cached_tokens == first.num_prompt_tokens + len(first.token_ids) - 1
    # Two equal prompts in one step are computed once, and share the picture with the conversation.
    for id in ("3", "4"):
        backend.submit(request(id, messages, id))
    done = finished(backend)
    shared, whole = sorted(one.completion.num_cached_tokens for one in done.values())
    assert 0 < shared < first.num_prompt_tokens
    assert whole == first.num_prompt_tokens


def test_a_session_that_forked_from_another_reuses_its_turns(model, questions):
    messages = messages_of(questions[0], model)
    backend = LocalBackend(model)
    backend.submit(request("1", messages, "parent"))
    first = finished(backend)["1"].completion
    backend.submit(request("2", answered(messages, first.text), "child"))
    (waiting,) = backend.engine.waiting
    assert backend.engine.num_reusable_tokens(waiting) > first.num_prompt_tokens


def test_a_released_session_leaves_no_state(model, questions):
    backend = LocalBackend(model)
    messages = messages_of(questions[0], model)
    backend.submit(request("1", messages, "done"))
    finished(backend)
    backend.submit(request("2", messages, "running"))
    backend.submit(request("3", messages, "other"))
    backend.poll(0.0)
    assert backend.engine.num_cache_bytes > 0
    backend.release("done")
    backend.release("running")
    backend.release("never heard of")
    assert backend.engine.num_cache_bytes == 0
    assert backend.sessions == ("other",)
    assert set(finished(backend)) == {"3"}
    backend.close()
    assert backend.sessions == backend.engine.retained == ()


def test_a_cancelled_request_returns_no_more_deltas_and_others_continue(model, questions):
    conversations = [messages_of(one, model) for one in questions[:3]]
    expected = [turn.text for turn in model.generate(conversations, SHORT)]
    backend = LocalBackend(model)
    for n, messages in enumerate(conversations):
        backend.submit(request(str(n), messages, stream=True))
    backend.cancel("0")  # waiting
    for _ in range(3):
        backend.poll(0.0)
    backend.cancel("1")  # running
    assert len(backend.engine.running) == 1
    last = finished(backend)
    assert {id: delta.completion.text for id, delta in last.items()} == {"2": expected[2]}
    backend.submit(
        request("4", conversations[0], sampling=SHORT.model_copy(update={"max_context_tokens": 9}))
    )
    backend.cancel("4")  # ready to be reported
    assert backend.poll(0.0) == []
    backend.cancel("2")  # finished


def test_an_invalid_or_too_long_conversation_fails_alone(model, questions):
    good = messages_of(questions[0], model)
    bad = [{"role": "user", "content": [{"type": "text", "text": "<|image_pad|> what is this?"}]}]
    backend = LocalBackend(model)
    backend.submit(
        request("full", good, sampling=SHORT.model_copy(update={"max_context_tokens": 99}))
    )
    backend.submit(request("bad", bad))
    backend.submit(request("good", good))
    last = finished(backend)
    assert isinstance(last["full"].completion, ContextFull)
    assert isinstance(last["bad"].error, InputError)
    assert "remove the model's own image token" in str(last["bad"].error)
    assert last["good"].completion.text


def test_prompts_that_need_too_much_memory_fail_and_running_requests_continue(
    model, questions, monkeypatch
):
    backend = LocalBackend(model)
    messages = messages_of(questions[0], model)
    backend.submit(request("1", messages))
    backend.poll(0.0)
    backend.submit(request("2", messages_of(questions[1], model)))

    def fail(*_):
        raise torch.OutOfMemoryError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(backend.engine.family, "prefill", fail)
        (delta,) = backend.poll(0.0)
    assert isinstance(delta.error, ModelError)
    assert delta.id == "2"
    assert finished(backend)["1"].completion == model.generate([messages], SHORT)[0]


def test_changed_weights_do_not_use_the_old_cache(model, questions):
    backend = LocalBackend(model)
    backend.submit(request("1", messages_of(questions[0], model)))
    finished(backend)
    backend.clear()
    assert backend.engine.num_cache_bytes == 0


def test_a_family_without_an_engine_generates_in_rounds(model, questions, monkeypatch):
    monkeypatch.setattr(local, "engine_support", lambda _: "it is a test")
    settings = FolderSettings(dialect=model.dialect, budgets=model.budgets)
    other = LocalModel.of(model.model, model.processor, settings)
    backend = other.open_backend()
    assert isinstance(backend, RoundsBackend)
    assert other.open_backend() is backend
    messages = messages_of(questions[0], model)
    backend.submit(request("1", messages))
    (delta,) = backend.poll(0.0)
    assert delta.completion.text == model.generate([messages], SHORT)[0].text


# --- text ---


def test_a_character_of_several_bytes_is_streamed_whole():
    text = "né → 🙂 x"
    stream = TextStream(lambda ids: bytes(ids).decode("utf-8", errors="replace"))
    pieces = [stream.push([byte]) for byte in text.encode()]
    assert "".join(pieces) == text
    assert [piece for piece in pieces if piece] == list(text)
    assert stream.finish(text) == ""


def test_incomplete_characters_are_streamed_at_the_end():
    stream = TextStream(lambda ids: bytes(ids).decode("utf-8", errors="replace"))
    assert stream.push(b"ok") == "ok"
    assert stream.push("🙂".encode()[:2]) == ""
    assert stream.finish("ok\ufffd") == "\ufffd"


def test_special_tokens_are_removed_except_those_of_the_dialect(model, monkeypatch):
    ids = model.tokenize("a<|vision_start|>b<|im_end|>")
    assert TokenDecoder(model.tokenizer)(ids) == "ab"
    assert TokenDecoder(model.tokenizer, {"<|vision_start|>"})(ids) == "a<|vision_start|>b"
    dialect = get_dialect(model.dialect)
    monkeypatch.setattr(type(dialect), "special_tokens", frozenset({"<|im_end|>"}), raising=False)
    settings = FolderSettings(dialect=model.dialect, budgets=model.budgets)
    other = LocalModel.of(model.model, model.processor, settings)
    assert "<|im_end|>" in other.kept_special_tokens
    assert other.decode(ids) == "ab<|im_end|>"


def test_marks_of_calls_of_all_families_survive_decoding():
    """A tokenizer whose call marks are special tokens, as in most new families."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    marks = sorted(call_marks())
    words = {word: number for number, word in enumerate(["[UNK]", "</s>", "hello"])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.add_special_tokens([tokenizers.AddedToken(one, special=True) for one in [*marks, "</s>"]])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    decode = TokenDecoder(tokenizer, call_marks())
    for mark in marks:
        ids = tokenizer(f"hello{mark}</s>")["input_ids"]
        assert decode(ids).replace(" ", "") == f"hello{mark}".replace(" ", "")
        assert mark not in tokenizer.decode(ids, skip_special_tokens=True)


def test_a_prompt_without_the_placeholder_of_the_processor_is_an_error_in_one_line(model):
    conversation = [
        {"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (64, 64))}]}
    ]
    other = copy(model)
    other.render = lambda messages: "no placeholder"
    with pytest.raises(ModelError, match="whose prompt contains none for 1 pictures") as error:
        other.prompt_inputs([conversation])
    assert "copy chat template, tokenizer and processor" in error.value.fix
