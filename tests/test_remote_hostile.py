"""Misbehaving servers: a question fails with one error, in bounded time and memory, and the key stays secret."""

from __future__ import annotations

import base64
import json
import threading
import time
from functools import partial
from urllib.parse import quote

import pytest
from attacks import servers
from attacks.misbehaviour import BODIES, CHAT, FIELDS, MODELS, good
from hypothesis import given, strategies as st

from pixel_reasoner.errors import EndpointError, InputError, UsageError
from pixel_reasoner.models.api import GenerationRequest
from pixel_reasoner.models.endpoint_url import chat_completions_url, read_key
from pixel_reasoner.models.http_body import text_lines
from pixel_reasoner.models.http_client import assert_valid_url
from pixel_reasoner.models.http_connection import retry_after_s
from pixel_reasoner.models.http_errors import FailureKind, RequestFailed
from pixel_reasoner.models.http_pool import HttpPool, RetryPolicy
from pixel_reasoner.models.openai_reply import ReplyReader, completion
from pixel_reasoner.models.openai_schema import (
    MAX_CALLS,
    MAX_JSON_VALUES,
    MAX_TEXT_CHARS,
    InvalidReplyError,
    ModelList,
    ServerError,
    validated,
)
from pixel_reasoner.models.openai_stream import StreamedReply, stream_events
from pixel_reasoner.models.redaction import Redactor, StreamRedactor
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.schema.settings import SamplingParams
from pixel_reasoner.schema.trace import Text, Thought, ToolCall

KEY = "sk-7gQ2+x/9vTn5LwZc4RkYb8Jd"
CALL_A = {"index": 0, "id": "a", "function": {"name": "zoom_in", "arguments": '{"target'}}
VALID = {
    "content has thinking",
    "arguments are an object",
    "arguments are nested",
    "arguments with half a surrogate",
    "a call in the text with half a surrogate",
    "arguments are nested objects",
    "name is empty",
    "index is null",
    "error is null",
    "NUL and escapes",
    "invalid UTF-8",
    "logprobs: null",
    "logprobs: missing",
}
"""modes of `FIELDS` that are a reply, although strange; the others fail the question"""
VALID_WHOLE = VALID - {"invalid UTF-8"}
VALID_STREAM = VALID | {"function is null", "choices are empty", "choices are null"}
"""an event may lack what a reply needs"""


@pytest.fixture(scope="module")
def hostile():
    with servers.served() as server:
        yield server


def remote(server, mode: str, num_good: int = 0, **policy) -> RemoteModel:
    settings = {"timeout_s": 5.0, "max_tries": 1, "max_consecutive_failures": 100} | policy
    path = servers.Task(0, mode, "", num_good, "", "").path
    url = f"http://127.0.0.1:{server.server_address[1]}/{path}/v1"
    config = RemoteConfig("served", (url,), "compact", api_key=KEY, policy=RetryPolicy(**settings))
    return RemoteModel(config)


def outcome(model: RemoteModel, *, stream: bool):
    """Return the last delta of one question."""
    backend = model.open_backend()
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    sampling = SamplingParams(max_new_tokens=8)
    backend.submit(
        GenerationRequest(id="1", session="1", messages=messages, sampling=sampling, stream=stream)
    )
    deltas = []
    while not (deltas and deltas[-1].is_last):
        deltas += backend.poll(1.0)
    return deltas


def streamed(lines):
    """Return the turn of a stream."""
    found = StreamedReply()
    for event in stream_events(lines):
        if event is None:
            found.is_done = True
        else:
            found.add(event)
    return ReplyReader().completion(found.reply())


def turn_of(*events: dict, done: bool = True):
    return streamed([f"data: {json.dumps(event)}" for event in events] + ["data: [DONE]"] * done)


# --- fields ---


def read(mode: str, *, stream: bool):
    """Return the parsed body of a mode."""
    response = b"".join(CHAT[mode](servers.RequestInfo(KEY, stream, 0)))
    body = response.partition(b"\r\n\r\n")[2]
    return streamed(text_lines([body])) if stream else completion(body)


@pytest.mark.parametrize("mode", FIELDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_field_that_the_protocol_does_not_allow_is_one_short_error(mode, stream):
    if mode in (VALID_STREAM if stream else VALID_WHOLE):
        assert read(mode, stream=stream).text.encode()
        return
    with pytest.raises(ServerError) as error:
        read(mode, stream=stream)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_an_invalid_reply_does_not_stop_the_other_questions(hostile):
    model = remote(hostile, "function is text", num_good=2)
    results = [outcome(model, stream=False)[-1] for _ in range(3)]
    assert [one.error is None for one in results] == [True, True, False]
    assert "choices.0.message.tool_calls.0.function" in str(results[-1].error)


@pytest.mark.parametrize(
    ("reply", "field"),
    [
        ({"choices": [{"message": {"tool_calls": [{"function": {"name": 3}}]}}]}, "function.name"),
        ({"choices": [{"message": {"content": 5}}]}, "choices.0.message.content"),
        ({"choices": [{"message": {"content": [{"type": "image_url"}]}}]}, "content.0"),
        ({"choices": [{"message": {}}], "usage": {"prompt_tokens": "12"}}, "usage.prompt_tokens"),
        ({"choices": []}, "choices"),
        ([1], "reply"),
    ],
)
def test_the_error_names_the_invalid_field(reply, field):
    with pytest.raises(InvalidReplyError) as error:
        completion(json.dumps(reply))
    assert str(error.value).startswith(("choices", "usage", "reply"))
    assert field in str(error.value)


def test_json_with_deep_nesting_large_numbers_or_half_a_surrogate_is_invalid():
    for data in (
        b"[" * 100_000,
        b'{"data": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"data": [' + b"{}," * MAX_JSON_VALUES + b"{}]}",
        b'{"data": [{"id": "\\ud800"}]}',
        b"\xff",
        b"",
    ):
        with pytest.raises(InvalidReplyError):
            validated(ModelList, data)


def test_replies_that_no_model_writes_are_invalid():
    call = {"function": {"name": "zoom_in", "arguments": "{}"}}
    for fields in (
        {"content": "a" * (MAX_TEXT_CHARS + 1)},
        {"tool_calls": [call] * (MAX_CALLS + 1)},
    ):
        with pytest.raises(InvalidReplyError):
            completion({"choices": [{"message": fields}]})


# --- reply formats of real servers ---


def delta(**fields) -> dict:
    return {"choices": [{"delta": fields, "finish_reason": None}], "error": None}


def test_content_in_parts_is_thought_and_text():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Red."},
    ]
    whole = completion({"choices": [{"message": {"content": parts}}]})
    pieces = turn_of(*(delta(content=[part]) for part in parts))
    assert whole.parts == pieces.parts == (Thought(thought="Hm."), Text(text="Red."))
    assert whole.text == pieces.text


@pytest.mark.parametrize("index", [0, None, "none"])
def test_another_id_is_another_call_for_any_index(index):
    where = {} if index == "none" else {"index": index}
    pieces = [
        {**where, "id": "a", "function": {"name": "zoom_in", "arguments": '{"target'}},
        {**where, "id": "a", "function": {"name": "zoom_in", "arguments": '_image": 1}'}},
        {**where, "id": "b", "function": {"name": "zoom_in", "arguments": ""}},
        {**where, "function": {"arguments": '{"target_image": 2}'}},
    ]
    turn = turn_of(*(delta(tool_calls=[piece]) for piece in pieces))
    assert turn.parts == tuple(
        ToolCall(name="zoom_in", arguments={"target_image": n}) for n in (1, 2)
    )


def test_a_piece_without_index_and_id_continues_the_call_before_it():
    pieces = [CALL_A, {"function": {"arguments": "_image"}}, {"function": {"arguments": '": 1}'}}]
    turn = turn_of(*(delta(tool_calls=[piece]) for piece in pieces))
    assert turn.parts == (ToolCall(name="zoom_in", arguments={"target_image": 1}),)


def test_whole_calls_without_an_id_are_separate_calls():
    calls = [
        {"index": 0, "function": {"name": "zoom_in", "arguments": f'{{"target_image": {n}}}'}}
        for n in (1, 2)
    ]
    turn = turn_of(delta(tool_calls=calls[:1]), delta(tool_calls=calls[1:]))
    assert [part.arguments["target_image"] for part in turn.parts] == [1, 2]


def test_a_stream_without_finish_reason_ends_with_done_or_is_incomplete():
    assert turn_of(delta(content="Red.")).text == "Red."
    with pytest.raises(ServerError, match="ends after 4"):
        turn_of(delta(content="Red."), done=False)


def test_an_error_in_a_stream_is_an_error_and_null_is_ignored():
    assert turn_of(delta(content="Red.")).text == "Red."
    with pytest.raises(ServerError, match="out of memory"):
        turn_of({"error": {"message": "out of memory"}})


def test_a_missing_logprob_is_not_replaced():
    choice = {
        "message": {"content": "a"},
        "logprobs": {"content": [{"logprob": -1.0}, {"logprob": None}]},
    }
    assert list(completion({"choices": [choice]}).logprobs) == []
    choice["logprobs"]["content"].pop()
    assert list(completion({"choices": [choice]}).logprobs) == [-1.0]


@given(st.text(max_size=12))
def test_any_retry_after_header_is_a_finite_time(value):
    assert 0 <= retry_after_s(value) < float("inf")


# --- size and time ---


@pytest.mark.parametrize(
    "mode",
    [
        "body without end",
        "gzip bomb",
        "gzip of a gzip bomb",
        "lists without end",
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_body_is_bounded_also_after_decompression(mode, stream, hostile):
    *_, last = outcome(remote(hostile, mode, timeout_s=20.0), stream=stream)
    assert isinstance(last.error, RequestFailed)
    assert "more than" in str(last.error)


@pytest.mark.parametrize(
    "mode",
    [
        "slow header",
        "slow body",
        "silent",
        "informational without end",
        "gzip of nothing without end",
    ],
)
def test_a_request_ends_in_time_with_its_retries(mode, hostile):
    started = time.monotonic()
    *_, last = outcome(
        remote(hostile, mode, timeout_s=0.4, max_tries=5), stream=mode == "slow body"
    )
    assert last.error.kind is FailureKind.TIMEOUT
    assert "--timeout-s" in str(last.error)
    assert time.monotonic() - started < 3


def test_the_model_list_has_the_timeout_of_a_reply(hostile):
    started = time.monotonic()
    remote(hostile, "models: slow body", timeout_s=0.4)
    with pytest.raises(EndpointError, match="no complete reply within"):
        remote(hostile, "models: silent", timeout_s=0.4).probe(refresh=True)
    assert time.monotonic() - started < 3


def test_any_model_list_is_parsed_or_ignored(hostile):
    for mode in list(MODELS)[-7:]:
        try:
            remote(hostile, mode)
        except EndpointError as error:
            found = str(error)
            assert not servers.has_key(found, KEY), mode


def test_there_are_many_modes():
    assert len(BODIES) + len(FIELDS) >= 40
    assert len(CHAT) + len(MODELS) >= 100
    assert b"red" in b"".join(good(servers.RequestInfo("", False, 0)))
    assert set(VALID) <= set(FIELDS)


# --- the key ---


def encodings(key: str) -> list[str]:
    data = f"Bearer {key}".encode()
    return [
        key,
        quote(key, safe=""),
        "".join(f"%{ord(one):02x}" for one in key),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(b"x" + data).decode(),
        base64.b64encode(b"xy" + key.encode()).decode(),
        key.encode().hex(),
    ]


@given(st.integers(0, 20), st.integers(8, 30), st.sampled_from(encodings(KEY)), st.text(max_size=9))
def test_no_part_of_a_key_is_left_in_a_text(start, length, form, around):
    shown = Redactor([KEY])(f"{around}{form[start : start + length]}{around}")
    assert not servers.has_key(shown, KEY)
    assert form not in Redactor([KEY])(form)


@given(
    st.lists(st.sampled_from([*encodings(KEY), KEY[:7], KEY[5:], "red", "s", " "]), max_size=6),
    st.data(),
)
def test_a_streamed_text_is_redacted_like_a_whole_one(words, data):
    text = "".join(words)
    redact = Redactor([KEY])
    stream = StreamRedactor(redact)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join([*map(stream.add, pieces), stream.finish()]) == redact(text)


@given(st.text(max_size=200))
def test_a_text_without_a_key_is_unchanged(text):
    assert Redactor([KEY])(text) == text
    assert Redactor(["none"])(text) == text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_echoed_key_is_in_no_reply_and_no_error(stream, hostile):
    modes = (
        "echo in pieces",
        "echo everywhere",
        "echo in a reply: base64",
        "echo in 400: percent",
        "echo in 401: cut off",
        "echo in 500: the end",
    )
    for mode in modes:
        try:
            deltas = outcome(remote(hostile, mode), stream=stream)
        except EndpointError as error:
            text = str(error)
        else:
            turn = deltas[-1].completion
            text = "".join(one.text for one in deltas)
            text += f" {turn.text} {turn.parts}" if turn else str(deltas[-1].error)
        assert not servers.has_key(text, KEY), mode


def test_a_key_in_the_query_of_an_address_is_in_no_error(hostile):
    url = f"http://127.0.0.1:{hostile.server_address[1]}/0-0/echo%20in%20400%3A%20whole/v1?key={KEY[:20]}"
    config = RemoteConfig("served", (url,), "compact", policy=RetryPolicy(timeout_s=5, max_tries=1))
    *_, last = outcome(RemoteModel(config), stream=False)
    assert "400" in str(last.error)
    assert not servers.has_key(str(last.error), KEY)


def test_a_key_is_in_no_log(hostile, caplog):
    caplog.set_level("DEBUG")
    url = f"http://127.0.0.1:{hostile.server_address[1]}/0-9/none/v1?key={quote(KEY)}"
    config = RemoteConfig("served", (url,), "compact", api_key=KEY)
    assert outcome(RemoteModel(config), stream=False)[-1].completion
    assert not servers.has_key(caplog.text, KEY)


@pytest.mark.parametrize(
    "content",
    [
        f'"{KEY}"',
        f"'{KEY}'",
        f"{KEY[:9]} {KEY[9:]}",
        f"{KEY}\0",
        f"{KEY}\n{KEY}",
        f"{KEY}é",
        f"{KEY}\x1b[2J",
        KEY * 999,
    ],
)
def test_a_key_that_cannot_be_sent_is_an_error_of_one_line_without_it(
    content, tmp_path, monkeypatch
):
    path = tmp_path / "key"
    path.write_text(content, encoding="utf-8")
    reads = [partial(read_key, path)]
    if "\0" not in content:
        monkeypatch.setenv("OPENAI_API_KEY", content)
        reads.append(partial(read_key, None))
    for read in reads:
        with pytest.raises(InputError) as error:
            read()
        assert len(str(error.value).splitlines()) == 1
        assert not servers.has_key(str(error.value), KEY)


def test_white_space_and_a_byte_order_mark_around_a_key_are_ignored(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"\xef\xbb\xbf" + f" {KEY}\r\n".encode())
    assert read_key(path) == KEY
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_key(path)


# --- addresses ---


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1/v1", "http://[zz]/v1", "http://::1]/v1", "http://h:abc/v1", "http://h:99999/v1", "http://h:0/v1",
        "http://h:-1/v1", "http://h:８０/v1", "http://a..b/v1", f"http://{'a' * 64}.de/v1", "http://xn--\u2100/v1",
        "http://h\x00/v1", "http://h/\x1b[2J", "http://h/v1\n", "http://h h/v1", "http://\ud800/v1", "http://h/\udcff",
        "http://me:secret@h/v1", "http://me@h/v1", "http://:secret@h/v1", "me:secret@h:8000", "http://me:se/cret@h/v1",
        "http://me:secret?@h/v1", "ftp://me:secret@h", "http:secret", "//h/v1", "", "http:///v1", "http://@/v1",
    ],
)  # fmt: skip
def test_an_unusual_address_is_an_error_of_one_line_without_secrets(address):
    with pytest.raises(UsageError) as error:
        HttpPool((address,), "", RetryPolicy())
    text = str(error.value)
    assert text.isprintable()
    assert text.encode("utf-8")
    assert "secret" not in text.partition("Fix")[0] or address == "http:secret"
    assert "cret@" not in text


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1]:8000/v1",
        "https://b\u00fccher.example/v1",
        "http://127.1/v1",
        "http://h/v1?api-version=2024-10-21",
    ],
)
def test_usual_addresses_are_accepted(address):
    assert chat_completions_url(address).partition("?")[0].endswith("/v1/chat/completions")


def message_of(address: str) -> str:
    """Return the error of an address; empty for one that is accepted."""
    try:
        assert_valid_url(chat_completions_url(address), "--endpoint")
    except UsageError as error:
        return str(error)
    return ""


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=30))
def test_any_address_is_accepted_or_an_error_of_one_line(text):
    for address in (text, f"http://{text}/v1", f"http://h:{text}", f"http://h/{text}"):
        assert message_of(address).isprintable()


# --- short form of the attack ---


@pytest.mark.medium
def test_commands_with_misbehaving_servers_end_with_a_result_or_one_error():
    assert threading.active_count() < 500
    with servers.served() as server:
        for task in servers.tasks(6, seed=5):
            result = servers.run(task._replace(num_good=0), server.server_address[1], 0.5)
            assert [one for one in servers.failures(result, 30.0) if one != "memory"] == [], result
