"""Turns that a server generated, could not parse, and returned in an error: parsed once, and counted as a repair."""

from __future__ import annotations

import json

import pytest

from chat_server import served
from pixel_reasoner.errors import EndpointError
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.openai_chat import ToolProtocol
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.rollout.ask import ask
from pixel_reasoner.schema.question import MediaItem, Question

POLICY = RetryPolicy(timeout_s=30.0, max_tries=2, first_pause_s=0.01)

REJECTED_CALL = "<|tool_call_start|>[zoom_in(bbox_2d=[0, 0, 0.5, 0.5])]<|tool_call_end|>"
REJECTED = {
    "llama.cpp": {"error": {"code": 500, "message": f"Failed to parse input at pos 9: {REJECTED_CALL}"}},
    "ollama": {
        "error": "error parsing tool call: raw='{\"name\": \"zoom_in\", \"parameters\": {\"bbox_2d\": [0, 0, 0.5, 0.5]}}]', err=bad"
    },
}  # fmt: skip


@pytest.fixture
def server():
    with served(ScriptedModel(lambda conversation: r"\boxed{7}")) as server:
        yield server


def remote(server) -> RemoteModel:
    return RemoteModel(RemoteConfig("served", (server.url,), dialect="compact", policy=POLICY))


def about(photo) -> Question:
    return Question(id="1", text="?", media=(MediaItem(kind="image", path=str(photo)),))


@pytest.mark.parametrize("kind", REJECTED)
@pytest.mark.parametrize("streams", [False, True])
def test_a_call_in_the_error_of_a_server_is_executed_once_as_a_repair(server, photo, kind, streams):
    error = json.dumps(REJECTED[kind])
    server.program = [f"stream {error}" if streams else f"500 {error}"]
    model = remote(server)
    pieces = []
    trace = ask(about(photo), model, on_text=pieces.append if streams else None)
    first = trace.turns[0]
    assert first.observations[0].error is None
    assert first.calls[0].arguments["bbox_2d"] == [0, 0, 0.5, 0.5]
    assert {str(one.kind) for one in first.repairs} >= {"rejected_by_server", "neighbour_syntax"}
    assert len(server.requests) == len(trace.turns)  # the request is not repeated
    assert not model.pool.is_failing


@pytest.mark.parametrize(
    "message",
    [
        "Failed to parse input at pos 0: <tool_call>{",
        'error parsing tool call: raw=\'{"path": "a"}\', err=bad',
        "out of memory",
    ],
)
def test_an_error_without_a_complete_call_is_an_error_of_the_server(server, photo, message):
    server.always = f"500 {json.dumps({'error': message})}"
    with pytest.raises(EndpointError, match=message[:20]):
        ask(about(photo), remote(server))


# --- pictures of results in the role tool ---


def test_pictures_in_the_role_tool_that_a_server_rejects_become_user_messages_for_good(photo):
    def reply(asked: dict) -> dict:
        tools = [one for one in asked["messages"] if one["role"] == "tool"]
        if len(tools) == 3:
            return {"content": r"\boxed{7}"}
        arguments = json.dumps({"bbox_2d": [0, 0, 500, 500], "label": "a", "img_idx": 0})
        return {
            "content": "",
            "tool_calls": [
                {"id": "a", "function": {"name": "image_zoom_in_tool", "arguments": arguments}}
            ],
        }

    with served(ScriptedModel([""])) as server:
        server.message = reply
        server.rejects_tool_pictures = True
        config = RemoteConfig(
            "served", (server.url,), dialect="qwen3_5", policy=POLICY, protocol=ToolProtocol.NATIVE
        )
        model = RemoteModel(config)
        assert model.sends_tool_pictures
        trace = ask(about(photo), model)
        assert not model.sends_tool_pictures
        ask(about(photo), model)
    assert (trace.answer, len(trace.turns)) == ("7", 4)
    assert server.num_rejected == 1
    roles = [one["role"] for one in server.requests[-1]["messages"]]
    assert roles.count("tool") == 3
    assert roles.count("user") == 4  # the question, and one message with the picture of each result


def test_pictures_stay_in_the_role_tool_on_a_server_that_takes_them(photo):
    calls = iter([{"bbox_2d": [0, 0, 500, 500], "label": "a", "img_idx": 0}])

    def reply(asked: dict) -> dict:
        arguments = next(calls, None)
        if arguments is None:
            return {"content": r"\boxed{7}"}
        function = {"name": "image_zoom_in_tool", "arguments": json.dumps(arguments)}
        return {"content": "", "tool_calls": [{"id": "a", "function": function}]}

    with served(ScriptedModel([""])) as server:
        server.message = reply
        config = RemoteConfig(
            "served", (server.url,), dialect="qwen3_5", policy=POLICY, protocol=ToolProtocol.NATIVE
        )
        ask(about(photo), RemoteModel(config))
    (tool,) = [one for one in server.requests[-1]["messages"] if one["role"] == "tool"]
    assert "image_url" in [part["type"] for part in tool["content"]]
