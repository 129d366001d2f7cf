"""Backend of remote servers: cancellation, priorities, streaming, failures, reasoning and calls over real HTTP."""

from __future__ import annotations

import json
import pickle
import random
import time
from itertools import count

import pytest
from PIL import Image

from chat_server import served
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import EndpointError
from pixel_reasoner.models.api import Completion, GenerationRequest, SupportsBackend
from pixel_reasoner.models.http_errors import RequestFailed
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.native_tools import as_native_messages
from pixel_reasoner.models.openai_chat import ToolProtocol
from pixel_reasoner.models.openai_reply import completion, message_parts, text_to_parse
from pixel_reasoner.models.openai_schema import Message
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.schema.settings import SamplingParams
from pixel_reasoner.schema.trace import Text, Thought, ToolCall

POLICY = RetryPolicy(
    timeout_s=30.0, max_tries=2, first_pause_s=0.01, max_consecutive_failures=3, concurrency=4
)
SHORT = SamplingParams(max_new_tokens=64)
TWO_CALLS = [
    {"function": {"name": "zoom_in", "arguments": '{"target_image": 1}'}},
    {"function": {"name": "zoom_in", "arguments": '{"target_image": 2}'}},
]


def echo(conversation) -> str:
    return rf"\boxed{{{conversation[-1]['content'][-1]['text']}}}"


@pytest.fixture
def server():
    with served(ScriptedModel(echo)) as server:
        yield server


def remote(*servers, policy=POLICY, **more) -> RemoteModel:
    urls = tuple(one.url for one in servers)
    return RemoteModel(RemoteConfig("served", urls, dialect="compact", policy=policy, **more))


def get_backend(server, **policy):
    return remote(server, policy=POLICY._replace(**policy)).open_backend()


def user(text: str, *pictures) -> dict:
    images = [{"type": "image", "image": picture} for picture in pictures]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def request(id: str, text: str = "", **more) -> GenerationRequest:
    fields = {"session": id, "messages": [user(text or id)], "sampling": SHORT} | more
    return GenerationRequest(id=id, **fields)


def wait_until(condition, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def collect(backend, *ids: str, timeout_s: float = 30.0) -> dict[str, list]:
    """Poll until these requests have finished, and return all deltas by id."""
    deltas: dict[str, list] = {id: [] for id in ids}
    deadline = time.monotonic() + timeout_s
    while not all(one and one[-1].is_last for one in deltas.values()):
        assert time.monotonic() < deadline, deltas
        for delta in backend.poll(0.2):
            deltas[delta.id].append(delta)
    return deltas


def texts(deltas: dict[str, list]) -> dict[str, str]:
    return {id: one[-1].completion.text for id, one in deltas.items()}


# --- cancellation ---


def test_requests_cancelled_at_random_times_change_no_other_reply(server):
    """Requests are cancelled in all states: waiting, encoding, connecting, before and during the reply, finished."""
    rng = random.Random(0)
    server.delay_s, server.event_delay_s = 0.004, 0.001
    # No retries: a request fails if another one shuts down its connection.
    model = remote(server, policy=POLICY._replace(concurrency=8, max_tries=1))
    picture = Image.new("RGB", (64, 64))
    backend, ids = model.open_backend(), count()
    running: set[str] = set()
    cancelled: set[str] = set()
    replies: dict[str, str] = {}

    def enough() -> bool:
        return len(cancelled) >= 300 and len(replies) > 100 and server.num_aborted > 20

    while running or not enough():
        while len(running) < 16 and not enough():
            id = f"question {next(ids)}"
            messages = [user(id, *[picture] * rng.randrange(2))]
            backend.submit(request(id, stream=rng.random() < 0.5, messages=messages))
            running.add(id)
        for delta in backend.poll(rng.uniform(0, 0.004)):
            assert delta.id not in cancelled
            assert delta.error is None
            if delta.is_last:
                running.remove(delta.id)
                replies[delta.id] = delta.completion.text
        for id in [id for id in running if rng.random() < 0.06]:
            backend.cancel(id)
            running.remove(id)
            cancelled.add(id)
    assert replies == {id: rf"\boxed{{{id}}}" for id in replies}
    assert not model.pool.is_failing
    wait_until(lambda: server.num_running == 0)
    assert server.max_running <= 8 + 4, "those of cancelled requests may still be ending"


@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_a_request_to_a_silent_server_frees_its_slot_at_once(server, stream):
    server.program = ["never"]
    backend = get_backend(server, concurrency=1)
    backend.submit(request("slow", stream=stream))
    wait_until(lambda: server.num_running == 1)
    backend.submit(request("next"))
    assert backend.poll(0.05) == []
    started = time.monotonic()
    backend.cancel("slow")
    assert texts(collect(backend, "next")) == {"next": r"\boxed{next}"}
    wait_until(lambda: server.num_running == 0 and server.num_aborted == 1)
    assert time.monotonic() - started < 10


def test_a_cancelled_request_is_not_a_failure_of_its_server(server):
    server.always = "never"
    model = remote(server, server)  # two endpoints: a failure would put one into backoff
    backend = model.open_backend()
    for number in range(4 * POLICY.max_consecutive_failures):
        backend.submit(request(str(number)))
        wait_until(lambda: server.num_running == 1)
        backend.cancel(str(number))
        wait_until(lambda: server.num_running == 0)
    assert not model.pool.is_failing
    assert all(one.backoff_until == 0.0 and one.error is None for one in model.pool.endpoints)
    server.always = None
    backend.submit(request("after"))
    assert texts(collect(backend, "after")) == {"after": r"\boxed{after}"}


def test_cancellation_ends_the_backoff_before_a_retry(server):
    server.always = "500"
    backend = get_backend(server, first_pause_s=60.0, concurrency=1)
    backend.submit(request("failing"))
    wait_until(lambda: len(server.requests) == 1 and server.num_running == 0)
    backend.cancel("failing")
    server.always = None
    backend.submit(request("next"))
    assert texts(collect(backend, "next", timeout_s=3.0)) == {"next": r"\boxed{next}"}
    assert len(server.requests) == 2


def test_a_waiting_request_is_cancelled_before_it_is_sent(server):
    server.program = ["never"]
    backend = get_backend(server, concurrency=1)
    backend.submit(request("running"))
    backend.submit(request("waiting"))
    wait_until(lambda: server.num_running == 1)
    backend.cancel("waiting")
    backend.cancel("unknown")
    backend.cancel("running")
    backend.submit(request("last"))
    assert texts(collect(backend, "last")) == {"last": r"\boxed{last}"}
    assert len(server.requests) == 2


def test_a_cancelled_id_can_be_used_again(server):
    server.program = ["never"]
    backend = get_backend(server)
    backend.submit(request("1", "old"))
    wait_until(lambda: server.num_running == 1)
    backend.cancel("1")
    backend.submit(request("1", "new"))
    assert texts(collect(backend, "1")) == {"1": r"\boxed{new}"}


def test_releasing_a_conversation_cancels_its_requests_and_drops_its_messages(server, monkeypatch):
    from pixel_reasoner.models import openai_chat

    encoded: list[int] = []
    before = openai_chat.image_url
    monkeypatch.setattr(openai_chat, "image_url", lambda image: encoded.append(1) or before(image))
    backend = get_backend(server)
    conversation = [user("What?", Image.new("RGB", (8, 8)))]
    for number in range(2):
        backend.submit(request(str(number), session="a", messages=conversation))
        collect(backend, str(number))
        conversation = [*conversation, assistant("Hm."), user("And?")]
    assert len(encoded) == 1
    backend.release("a")
    server.program = ["never"]
    backend.submit(request("2", session="a", messages=conversation))
    wait_until(lambda: server.num_running == 1)
    assert len(encoded) == 2
    backend.release("a")
    wait_until(lambda: server.num_running == 0)
    assert backend.poll(0.05) == []


def test_a_closed_backend_has_cancelled_everything_and_can_be_used_again(server):
    server.always = "never"
    backend = get_backend(server)
    for number in range(9):
        backend.submit(request(str(number)))
    wait_until(lambda: server.num_running == 4)
    backend.close()
    wait_until(lambda: server.num_running == 0)
    assert len(server.requests) == 4, "those that waited were never sent"
    server.always = None
    backend.submit(request("0"))
    assert texts(collect(backend, "0")) == {"0": r"\boxed{0}"}


# --- requests ---


def test_waiting_requests_are_sent_by_priority_then_in_order(server):
    server.program = ["never"]
    backend = get_backend(server, concurrency=1)
    backend.submit(request("first"))
    wait_until(lambda: server.num_running == 1)
    for id, priority in [("low", -1), ("a", 0), ("b", 0), ("high", 5)]:
        backend.submit(request(id, priority=priority))
    backend.cancel("first")
    collect(backend, "low", "a", "b", "high")
    sent = [one["messages"][-1]["content"] for one in server.requests]
    assert sent == ["first", "high", "a", "b", "low"]


def test_requests_of_one_conversation_have_their_own_sampling_parameters(server):
    backend = get_backend(server)
    for number, temperature in enumerate((0.0, 0.7)):
        sampling = SamplingParams(max_new_tokens=8 + number, temperature=temperature, seed=number)
        backend.submit(request(str(number), session="same", sampling=sampling))
    collect(backend, "0", "1")
    sent = sorted(server.requests, key=lambda one: one["max_tokens"])
    assert [(one["temperature"], one["seed"]) for one in sent] == [(0.0, 0), (0.7, 1)]


def test_no_more_requests_are_in_progress_than_allowed(server):
    server.delay_s = 0.02
    backend = get_backend(server)
    ids = [str(number) for number in range(20)]
    for id in ids:
        backend.submit(request(id))
    assert texts(collect(backend, *ids)) == {id: rf"\boxed{{{id}}}" for id in ids}
    assert server.max_running == POLICY.concurrency
    assert backend.capabilities.max_concurrency == POLICY.concurrency


def test_a_model_has_one_backend(server):
    model = remote(server)
    assert isinstance(model, SupportsBackend)
    assert model.open_backend() is model.open_backend()
    assert model.capabilities.streaming
    assert not model.capabilities.native_tools


# --- failures ---


def test_a_failed_request_is_a_delta_and_others_continue(server):
    server.program = ["400"]
    backend = get_backend(server, concurrency=1)
    backend.submit(request("bad"))
    backend.submit(request("good"))
    found = collect(backend, "bad", "good")
    assert isinstance(found["bad"][-1].error, RequestFailed)
    assert "400" in str(found["bad"][-1].error)
    assert found["good"][-1].completion.text == r"\boxed{good}"


def test_poll_raises_if_no_reply_is_possible_and_later_requests_are_tried(server):
    server.always = "500"
    backend = get_backend(server, concurrency=1)
    for number in range(9):
        backend.submit(request(str(number)))
    failed = [backend.poll(5.0)[0].error for _ in range(POLICY.max_consecutive_failures - 1)]
    assert all(isinstance(error, RequestFailed) for error in failed)
    with pytest.raises(EndpointError, match="in a row"):
        backend.poll(5.0)
    server.always = None
    backend.submit(request("later"))
    assert texts(collect(backend, "later")) == {"later": r"\boxed{later}"}


def test_a_retry_after_a_dropped_stream_starts_on_a_new_line(server):
    server.program = ["cut stream"]
    backend = get_backend(server)
    backend.submit(request("1", stream=True))
    deltas = collect(backend, "1")["1"]
    assert "".join(delta.text for delta in deltas) == "The red\n\\boxed{1}"
    assert deltas[-1].completion.text == r"\boxed{1}"


def test_errors_and_specifications_can_be_pickled():
    spec = ModelSpec("served", endpoints=("http://localhost:8000/v1",), concurrency=3)
    assert pickle.loads(pickle.dumps(spec)) == spec
    error = RequestFailed(expected="a reply", got="none", fix="wait")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# --- reasoning, content and calls ---


def message(**fields) -> dict:
    return {"choices": [{"message": fields, "finish_reason": "stop"}]}


def test_reasoning_content_and_all_calls_are_separate_parts():
    turn = completion(message(reasoning_content="Small.", content="I look.", tool_calls=TWO_CALLS))
    assert turn.parts == (
        Thought(thought="Small."),
        Text(text="I look."),
        ToolCall(name="zoom_in", arguments={"target_image": 1}),
        ToolCall(name="zoom_in", arguments={"target_image": 2}),
    )
    assert turn.text.startswith("<think>\nSmall.\n</think>\n\nI look.\n<tool_call>")
    assert turn.text.count("<tool_call>") == 2


def test_content_without_fields_is_parsed_by_the_dialect():
    assert completion(message(content="I look.")).parts is None


@pytest.mark.parametrize("arguments", ["[1, 2]", "{bad", '"text"', "3"])
def test_arguments_that_are_no_object_are_rejected(arguments):
    fields = {"tool_calls": [{"function": {"name": "zoom_in", "arguments": arguments}}]}
    (part,) = message_parts(Message.model_validate(fields))
    assert isinstance(part, Text)
    assert arguments in part.text
    turn = completion(message(content="", **fields))
    parsed = get_dialect("compact").parse_completion(turn.text, turn.parts)
    assert parsed.error.kind == "malformed_call"


def test_a_call_that_is_only_mentioned_in_the_reasoning_does_not_count():
    dialect = get_dialect("compact")
    reasoning = 'I could use <tool_call>\n{"name": "zoom_in", "arguments": {}}\n</tool_call>.'
    turn = completion(message(reasoning_content=reasoning, content=r"It is red. \boxed{red}"))
    parsed = dialect.parse_completion(turn.text, turn.parts)
    assert (parsed.answer, parsed.calls, parsed.errors) == ("red", [], ())
    assert not any(isinstance(part, ToolCall) for part in turn.parts)


def test_an_answer_that_is_only_mentioned_in_the_reasoning_does_not_count():
    turn = completion(message(reasoning=r"Maybe \boxed{blue}.", content="I cannot see it."))
    parsed = get_dialect("compact").parse_completion(turn.text, turn.parts)
    assert (parsed.answer, parsed.has_attempted_call) == (None, False)


@pytest.mark.parametrize("text", ["Red.", "<think>\nHm.\n</think>\n\nRed.", ""])
def test_a_completion_without_parts_is_parsed_whole(text):
    assert text_to_parse(Completion(text)) == text


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_and_calls_arrive_separately_streamed_or_not(server, stream):
    server.message = lambda asked: {
        "reasoning_content": "It is small.",
        "content": "I look.",
        "tool_calls": TWO_CALLS,
    }
    backend = remote(server, protocol=ToolProtocol.NATIVE).open_backend()
    backend.submit(request("1", stream=stream))
    deltas = collect(backend, "1")["1"]
    turn = deltas[-1].completion
    assert [type(part) for part in turn.parts] == [Thought, Text, ToolCall, ToolCall]
    assert [part.arguments for part in turn.parts[2:]] == [
        {"target_image": 1},
        {"target_image": 2},
    ]
    if stream:
        assert "".join(one.text for one in deltas if one.is_reasoning) == "It is small."
        content = "".join(one.text for one in deltas if not one.is_reasoning)
        assert content == text_to_parse(turn)


def test_streamed_text_is_the_text_of_the_turn(server):
    server.message = lambda asked: {"reasoning_content": "It is small.", "content": "I look."}
    for fields in (
        {"reasoning_content": "It is small.", "content": "I look.", "tool_calls": TWO_CALLS},
        {"reasoning_content": "It is small.", "content": ""},
        {"content": "Red."},
    ):
        server.message = lambda asked, fields=fields: fields
        streamed: list[str] = []
        (turn,) = remote(server).generate([[user("What?")]], SHORT, streamed.append)
        assert "".join(streamed) == turn.text


# --- calls as fields of messages ---


def conversation_with(text: str, *results: dict) -> list[dict]:
    return [user("What?"), assistant(text), *results]


def turn_text(**fields) -> str:
    return completion(message(**fields)).text


def test_several_calls_of_a_turn_have_unique_ids_and_matching_results():
    picture = Image.new("RGB", (4, 4))
    text = turn_text(content="I look.", tool_calls=TWO_CALLS)
    native = as_native_messages(
        conversation_with(text, user("Image 2:", picture), user("Error: no such picture"))
    )
    assert [one["role"] for one in native] == ["user", "assistant", "tool", "tool", "user"]
    calls = native[1]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [
        {"target_image": 1},
        {"target_image": 2},
    ]
    ids = [call["id"] for call in calls]
    assert len(set(ids)) == 2
    assert [one["tool_call_id"] for one in native[2:4]] == ids
    assert [one["content"] for one in native[2:4]] == ["Image 2:", "Error: no such picture"]
    assert native[4]["content"][0]["image"] is picture


def test_one_result_of_several_calls_answers_each_of_them():
    text = turn_text(content="I look.", tool_calls=TWO_CALLS)
    native = as_native_messages(
        [
            *conversation_with(text, user("Error: 2 calls in one turn")),
            assistant("Well."),
            user("?"),
        ]
    )
    ids = [call["id"] for call in native[1]["tool_calls"]]
    results = [one for one in native if one["role"] == "tool"]
    assert [one["tool_call_id"] for one in results] == ids
    assert {one["content"] for one in results} == {"Error: 2 calls in one turn"}
    assert [one["role"] for one in native[-2:]] == ["assistant", "user"]


def test_a_question_after_a_result_stays_a_question():
    text = turn_text(content="I look.", tool_calls=TWO_CALLS[:1])
    native = as_native_messages(conversation_with(text, user("Image 2:"), user("And now?")))
    assert [one["role"] for one in native] == ["user", "assistant", "tool", "user"]


def test_one_malformed_call_keeps_the_whole_turn_as_text():
    text = turn_text(content="I look.", tool_calls=TWO_CALLS[:1]) + "\n<tool_call>{bad</tool_call>"
    conversation = conversation_with(text)
    assert as_native_messages(conversation) == conversation


def test_reasoning_is_sent_in_its_own_field_if_the_profile_has_one(server):
    text = turn_text(reasoning_content="Small.", content="I look.", tool_calls=TWO_CALLS[:1])
    conversation = conversation_with(text, user("Image 2:"))
    model = remote(server, protocol=ToolProtocol.NATIVE)
    model.generate([conversation], SHORT)
    model.profile = model.profile._replace(reasoning="reasoning_content")
    model.generate([conversation], SHORT)
    before, after = (one["messages"][1] for one in server.requests)
    assert before["content"] == "<think>\nSmall.\n</think>\n\nI look.\n"
    assert "reasoning_content" not in before
    assert (after["reasoning_content"], after["content"]) == ("Small.", "I look.\n")
    assert before["tool_calls"] == after["tool_calls"]


def test_a_call_in_the_reasoning_is_not_sent_as_a_call():
    reasoning = 'Maybe <tool_call>{"name": "zoom_in", "arguments": {}}</tool_call>'
    conversation = conversation_with(turn_text(reasoning_content=reasoning, content="Red."))
    assert as_native_messages(conversation) == conversation
