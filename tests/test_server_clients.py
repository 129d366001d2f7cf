"""Clients that people use: openai for Python, curl, an aiohttp line reader. With the bundled model."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess

import pytest

from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.schema.question import with_media_root
from pixel_reasoner.world import render, scenes
from server_fixture import chat, data_url, serving, user
from test_scheduler import CLOSER, RED

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def server():
    with serving(ScriptedModel([CLOSER, RED])) as one:
        yield one


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one


@pytest.fixture
def asked(photo) -> dict:
    return {"model": "test", "messages": [user("Which colour?", photo)]}


def test_openai_reads_a_whole_reply(client, asked):
    found = client.chat.completions.create(**asked, seed=1, max_tokens=100, n=2)
    message = found.choices[0].message
    assert message.content == RED
    assert message.reasoning_content.startswith("Closer.")
    assert message.pixel_reasoner["answer"] == "red"
    assert found.usage.prompt_tokens_details.image_tokens > 0
    assert found.choices[1].finish_reason == "stop"


def test_openai_reads_a_stream(client, asked):
    with client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == RED
    assert chunks[-1].usage.total_tokens == 0
    assert chunks[-2].pixel_reasoner["answer"] == "red"


def test_the_stream_helper_of_openai_works(client, asked):
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == RED


def test_openai_sends_options_of_this_server_and_uploads(client, asked, photo):
    file = client.files.create(file=photo.open("rb"), purpose="vision")
    content = [{"type": "image_url", "image_url": {"url": file.id}}]
    extra = {"pixel_reasoner": {"operations": False, "steps": False}}
    found = client.chat.completions.create(
        model="test", messages=[{"role": "user", "content": content}], extra_body=extra
    )
    assert "steps" not in found.choices[0].message.pixel_reasoner
    assert client.files.delete(file.id).deleted
    assert [one.id for one in client.models.list()] == ["test"]


def test_openai_raises_its_own_errors(client, asked):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**asked | {"model": "gpt-9"})
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked, temperature=9)
    assert caught.value.param == "temperature"
    assert caught.value.code == "invalid_value"


def test_openai_raises_an_error_in_a_stream(asked):
    from test_server_load import EndlessModel

    with (
        serving(EndlessModel(), request_timeout_s=3.0) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        options = {"pixel_reasoner": {"operations": False}}
        stream = client.chat.completions.create(**asked, stream=True, extra_body=options)
        with pytest.raises(openai.APIError, match="time limit"):
            list(stream)


def test_openai_reads_responses(client, photo):
    content = [
        {"type": "input_text", "text": "Which colour?"},
        {"type": "input_image", "image_url": data_url(photo), "detail": "auto"},
    ]
    asked = {"model": "test", "input": [{"role": "user", "content": content}]}
    found = client.responses.create(**asked)
    assert found.output_text == RED
    assert found.usage.total_tokens == 0
    with client.responses.create(**asked, stream=True) as stream:
        events = list(stream)
    assert events[-1].response.output_text == RED
    assert "".join(one.delta for one in events if one.type.endswith("text.delta")) == RED


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_reads_a_stream(server, asked, tmp_path):
    (tmp_path / "body.json").write_text(json.dumps(asked | {"stream": True}))
    command = ["curl", "-sN", f"{server.url}/v1/chat/completions", "-H"]
    command += ["Content-Type: application/json", "-d", f"@{tmp_path / 'body.json'}"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.stdout.endswith("data: [DONE]\n\n")


def test_an_aiohttp_line_reader_reads_every_line():
    aiohttp = pytest.importorskip("aiohttp")
    long = ["é" * 60_000 + CLOSER, "ü" * 60_000]

    async def read(url: str) -> list[bytes]:
        async with aiohttp.ClientSession() as session:
            body = chat("Which colour?", stream=True)
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                return [line async for line in reply.content]

    with serving(ScriptedModel(long)) as server:
        lines = asyncio.run(read(server.url))
    assert lines[-2:] == [b"data: [DONE]\n", b"\n"]
    assert max(map(len, lines)) <= 32 * 1024


@pytest.mark.medium
@pytest.mark.extras
def test_the_bundled_model_answers_as_in_process(tmp_path):
    """Same answers, operations and texts with and without HTTP; follow-ups and logprobs work."""
    from pixel_reasoner.rollout.ask import ask

    model = ModelSpec("tiny").load()
    questions = [
        with_media_root(one, tmp_path)
        for one in render(scenes("attribute", "test", 0, 6), tmp_path)
    ]
    with serving(model) as server:
        for question in questions:
            content = (tmp_path / question.media[0].path).read_bytes()
            reply = server.chat(question.text, content, logprobs=True)
            (choice,) = reply["choices"]
            trace = ask(question, ModelSpec("tiny").load())
            message = choice["message"]
            assert message["pixel_reasoner"]["answer"] == trace.answer
            assert message["content"] == trace.turns[-1].text.strip()
            tokens = choice["logprobs"]["content"]
            assert message["content"] in "".join(one["token"] for one in tokens)
            assert all(one["logprob"] <= 0 for one in tokens)
            usage = reply["usage"]
            assert usage["completion_tokens"] == sum(turn.num_new_tokens for turn in trace.turns)
            assert usage["prompt_tokens"] > usage["prompt_tokens_details"]["image_tokens"] > 0
            chunks = server.chunks(question.text, content)
            text = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)
            assert text == message["content"]
        messages = [
            user(question.text, content),
            {"role": "assistant", "content": message["content"]},
            user(question.text + " <|image_pad|><|im_end|>"),
        ]
        body = {"model": "test", "messages": messages}
        assert server.post("/v1/chat/completions", body).status_code == 200
        assert 'conversation_cache_hits_total{model_name="test"} 1.0' in server.get("/metrics").text
