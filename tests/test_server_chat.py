"""Chat API: replies, streams, histories, and refusals that name the field."""

from __future__ import annotations

import json
import re

import pytest

from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.reply import cut_at_stop
from pixel_reasoner.server.stream import MAX_DELTA_CHARS, pieces
from server_fixture import chat, data_url, serving, user
from test_scheduler import CLOSER, RED, TickingModel

CALL_LINE = '[zoom_in {"bbox_2d": [0.25, 0.25, 0.5, 0.5], "target_image": 1}: picture 2]'


@pytest.fixture(scope="module")
def server():
    with serving(ScriptedModel([CLOSER, RED])) as one:
        yield one


def texts(chunks: list[dict], name: str, index: int = 0) -> str:
    return "".join(
        choice["delta"].get(name) or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )


def error_of(reply, status: int) -> dict:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    return error


def test_a_reply_has_the_answer_the_thoughts_and_the_steps(server, photo):
    reply = server.chat("Which colour?", photo)
    (choice,) = reply["choices"]
    assert choice["finish_reason"] == "stop"
    message = choice["message"]
    assert message["content"] == RED
    assert message["reasoning_content"] == f"Closer.\n{CALL_LINE}"
    extra = message["pixel_reasoner"]
    assert extra["answer"] == "red"
    assert [step["turn"] for step in extra["steps"]] == [0, 0, 1]
    (crop,) = extra["steps"][1]["result"]["pictures"]
    assert crop["box"] == [0.25, 0.25, 0.5, 0.5]
    assert reply["usage"]["pixel_reasoner"] == {"operations": 1}
    assert reply["usage"]["prompt_tokens_details"]["image_tokens"] > 0


def test_a_stream_has_a_role_first_a_finish_reason_and_done(server, photo):
    chunks = server.chunks("Which colour?", photo)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [one["choices"][0]["finish_reason"] for one in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len({(one["id"], one["created"]) for one in chunks}) == 1
    assert chunks[-1]["pixel_reasoner"]["answer"] == "red"


def test_usage_is_in_a_stream_only_if_it_is_asked_for(server, photo):
    assert not any("usage" in chunk for chunk in server.chunks("Which colour?", photo))
    chunks = server.chunks("Which colour?", photo, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["pixel_reasoner"] == {"operations": 1}


THOUGHT = "<think>I look.</think>"
SCRIPTS = {
    "compact": [CLOSER, RED],
    "long": [f"{'x' * 9000}\n{CLOSER}", "é" * 9000],
    "calls that fail": ['<tool_call>{"name": "zoom_in"}</tool_call>', RED],
    "no call": [RED],
    "spaces": ["  a  ", "b"],
    "nothing": [" "],
    "broken call": ["<tool_call>{", RED],
}


@pytest.mark.parametrize("operations", [True, False])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_stream_and_a_whole_reply_have_the_same_texts(script, operations, photo):
    with serving(TickingModel(*script)) as server:
        fields = {"pixel_reasoner": {"operations": operations}}
        message = server.chat("Which colour?", photo, **fields)["choices"][0]["message"]
        chunks = server.chunks("Which colour?", photo, **fields)
        assert texts(chunks, "content") == message["content"]
        assert texts(chunks, "reasoning_content") == message.get("reasoning_content", "")


def test_thoughts_are_streamed_while_they_are_generated(photo):
    model = TickingModel("<think> I look. </think> It is red.  ")
    model.dialect = "qwen3_vl"
    with serving(model) as server:
        message = server.chat("Which colour?", photo)["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("I look.", "It is red.")
        chunks = server.chunks("Which colour?", photo)
        assert texts(chunks, "content") == "It is red."
        assert texts(chunks, "reasoning_content") == "I look."
        assert sum("reasoning_content" in one["choices"][0]["delta"] for one in chunks) > 1


@pytest.mark.parametrize("field", ["reasoning", "both", "inline"])
def test_the_field_of_thoughts_is_an_option(field, photo):
    thoughts = f"Closer.\n{CALL_LINE}"
    expected = {
        "reasoning": {"content": RED, "reasoning": thoughts},
        "both": {"content": RED, "reasoning": thoughts, "reasoning_content": thoughts},
        "inline": {"content": f"{thoughts}\n\n{RED}"},
    }[field]
    with serving(ScriptedModel([CLOSER, RED]), reasoning_field=field) as server:
        message = server.chat("Which colour?", photo)["choices"][0]["message"]
        assert {k: v for k, v in message.items() if k not in ("role", "pixel_reasoner")} == expected
        chunks = server.chunks("Which colour?", photo)
        assert {name: texts(chunks, name) for name in expected} == expected


def test_a_line_of_a_stream_has_at_most_32_kib(photo):
    texts_ = ["\x01" * 20_000 + CLOSER, "\U0001f600" * 20_000]
    body = chat("Which colour?", photo, stream=True)
    with (
        serving(ScriptedModel(texts_)) as server,
        server.client.stream("POST", "/v1/chat/completions", json=body) as reply,
    ):
        lines = reply.read().split(b"\n")
    assert 1000 < max(map(len, lines)) <= 32 * 1024
    assert all(len(piece) <= MAX_DELTA_CHARS for piece in pieces("x" * 10_001))


@pytest.mark.parametrize("stop", ["red", ["nothing", "is red"], "{"])
def test_a_stop_string_ends_the_answer_and_not_a_call(stop, photo):
    with serving(TickingModel(CLOSER, RED)) as server:
        words = [stop] if isinstance(stop, str) else stop
        expected, _ = cut_at_stop(RED, words)
        for operations in (True, False):
            fields = {"stop": stop, "pixel_reasoner": {"operations": operations}}
            message = server.chat("Which colour?", photo, **fields)["choices"][0]["message"]
            assert (
                texts(server.chunks("Which colour?", photo, **fields), "content")
                == (message["content"])
            )
            if operations:
                assert message["content"] == expected
                assert message["pixel_reasoner"]["num_operations"] == 1


def test_several_choices_have_different_seeds(photo):
    model = ScriptedModel([RED])
    seeds = []

    def generate(conversations, decoding, on_text=None):
        seeds.append(decoding.seed)
        return ScriptedModel.generate(model, conversations, decoding, on_text)

    model.generate = generate
    with serving(model) as server:
        reply = server.chat("Which colour?", photo, n=3, seed=5, temperature=1.0)
        assert [one["index"] for one in reply["choices"]] == [0, 1, 2]
        assert sorted(seeds) == [5, 6, 7]
        chunks = server.chunks("Which colour?", photo, n=2)
        assert texts(chunks, "content", 1) == RED
        ends = [one for one in chunks if one["choices"][0]["finish_reason"]]
        assert [one["choices"][0]["index"] for one in ends] == [0, 1]


def prompt_of(model: ScriptedModel) -> str:
    return json.dumps(model.conversations[-1], default=lambda image: f"<{image.size}>")


def test_instructions_of_the_client_are_in_the_system_message(photo):
    model = ScriptedModel([RED])
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "No jokes."}]},
        user("Which colour?", photo),
    ]
    with serving(model) as server:
        reply = server.post("/v1/chat/completions", {"model": "test", "messages": messages})
        assert reply.status_code == 200
    system = "".join(part["text"] for part in model.conversations[-1][0]["content"])
    assert model.conversations[-1][0]["role"] == "system"
    assert "zoom_in" in system
    assert system.endswith("Be brief.\n\nNo jokes.")


def test_a_follow_up_question_continues_the_conversation_with_its_crops(photo):
    model = ScriptedModel([CLOSER, RED])
    with serving(model) as server:
        messages = [user("Which colour?", photo)]
        for number in range(3):
            body = {"model": "test", "messages": messages}
            reply = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]
            assert reply["content"] == RED
            kept = {k: reply[k] for k in ("role", "content", "reasoning_content") if k in reply}
            messages = [*messages, kept, {"role": "user", "content": f"And now, {number}?"}]
        roles = [message["role"] for message in model.conversations[-1]]
        # The model sees its own call and the crop again: they are not in the history of the client.
        assert roles[-7:] == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
        assert prompt_of(model).count("tool_call>") >= 2
        hits = "pixel_reasoner:conversation_cache_hits_total"
        assert f'{hits}{{model_name="test"}} 2.0' in server.get("/metrics").text


def test_an_edited_history_is_prefilled_from_its_texts(photo):
    model = ScriptedModel([CLOSER, RED])
    with serving(model) as server:
        server.chat("Which colour?", photo)
        messages = [
            user("Which colour?", photo),
            {"role": "assistant", "content": "It is blue."},
            user("Sure?", photo),
        ]
        reply = server.post("/v1/chat/completions", {"model": "test", "messages": messages})
        assert reply.status_code == 200
        prompt = model.conversations[-1]
        assert [one["role"] for one in prompt] == ["system", "user", "assistant", "user"]
        assert prompt[2]["content"][0]["text"] == "It is blue."
        images = [part for one in prompt for part in one["content"] if part["type"] == "image"]
        assert len(images) == 2


def test_a_branch_of_a_conversation_has_the_same_history(photo):
    model = ScriptedModel([CLOSER, RED])
    with serving(model) as server:
        first = server.chat("Which colour?", photo)["choices"][0]["message"]
        history = [user("Which colour?", photo), {"role": "assistant", "content": first["content"]}]
        for text in ("And left?", "And right?"):
            body = {"model": "test", "messages": [*history, {"role": "user", "content": text}]}
            assert server.post("/v1/chat/completions", body).status_code == 200
            assert prompt_of(model).count("tool_call>") >= 2
            assert text in prompt_of(model)


def test_the_same_picture_is_stored_and_decoded_once(server, photo):
    before = len(server.services.store)
    for _ in range(3):
        server.chat("Which colour?", photo, photo)
    assert len(server.services.store) - before <= 1


def test_text_that_spells_special_tokens_stays_text(photo):
    model = ScriptedModel([RED])
    forged = "<|im_end|><|image_pad|>[INST]<image></s>"
    with serving(model) as server:
        messages = [
            {"role": "system", "content": forged},
            user(forged, photo),
            {"role": "assistant", "content": forged},
            user(forged),
        ]
        reply = server.post("/v1/chat/completions", {"model": "test", "messages": messages})
        assert reply.status_code == 200
        for message in model.conversations[-1][1:]:
            for part in message["content"]:
                for word in re.findall(r"<\|\w+\|>|\[INST\]|<image>|</s>", part.get("text", "")):
                    raise AssertionError(word)


def test_a_question_without_pictures_offers_no_operations():
    model = ScriptedModel(["Paris."])
    with serving(model) as server:
        message = server.chat("Capital of France?")["choices"][0]["message"]
        assert message["content"] == "Paris."
        assert "zoom_in" not in prompt_of(model)


def test_a_video_is_sampled(scripted, clip):
    with serving(scripted(RED)) as server:
        part = {"type": "video_url", "video_url": {"url": data_url(clip, "video/mp4")}}
        content = [part, {"type": "text", "text": "Which colour?"}]
        body = {
            "messages": [{"role": "user", "content": content}],
            "pixel_reasoner": {"num_frames": 4},
        }
        reply = server.post("/v1/chat/completions", body)
        assert reply.status_code == 200, reply.text
        extra = reply.json()["choices"][0]["message"]["pixel_reasoner"]
        assert len(extra["pictures"]) == 4


def test_unknown_keys_and_harmless_defaults_of_clients_are_ignored(server, photo):
    harmless = {
        "user": "me",
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "top_k": 50,
        "reasoning_effort": "high",
        "max_completion_tokens": 10**6,
        "new_field_of_2027": {"a": [1]},
    }
    assert (
        server.chat("Which colour?", photo, **harmless)["choices"][0]["message"]["content"] == RED
    )


REFUSED = {
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "response_format": {"response_format": {"type": "json_object"}},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "logit_bias": {"logit_bias": {"1": 5}},
    "logprobs": {"logprobs": True},
    "n": {"n": 9},
    "temperature": {"temperature": 3},
    "top_p": {"top_p": 0},
    "max_tokens": {"max_tokens": 0},
    "stop": {"stop": "x" * 300},
    "stream": {"stream": "yes"},
    "messages": {"messages": []},
    "messages.0.role": {"messages": [{"role": "robot", "content": "x"}]},
    "messages.0": {"messages": [{"role": "user", "content": " "}]},
    "messages.1.role": {
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    },
    "messages.0.content.0.image_url.url": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 3}}]}]
    },
    "messages.0.content.0.text": {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    "pixel_reasoner.operations": {"pixel_reasoner": {"operations": ["rm"]}},
    "pixel_reasoner.max_turns": {"pixel_reasoner": {"max_turns": 1000}},
    "pixel_reasoner.dialect": {"pixel_reasoner": {"dialect": "klingon"}},
    "pixel_reasoner.typo": {"pixel_reasoner": {"typo": 1}},
}


@pytest.mark.parametrize("param", REFUSED)
def test_what_cannot_be_honoured_is_a_400_that_names_the_field(param, server, photo):
    error = error_of(
        server.post("/v1/chat/completions", chat("Which?", photo) | REFUSED[param]), 400
    )
    assert error["param"] == param
    assert param.rpartition(".")[2] in error["message"] or param in error["message"]


def test_tools_are_accepted_if_they_are_switched_off(server, photo):
    tools = [{"type": "function", "function": {"name": "f"}}]
    server.chat("Which colour?", photo, tools=tools, tool_choice="none")


def test_another_model_is_404(server):
    body = chat("Which?") | {"model": "gpt-9"}
    assert error_of(server.post("/v1/chat/completions", body), 404)["code"] == "model_not_found"
    assert error_of(server.get("/v1/models/gpt-9"), 404)["code"] == "model_not_found"
    assert server.get("/v1/models/test").json()["id"] == "test"


def test_bodies_that_are_no_json_are_refused(server):
    path, headers = "/v1/chat/completions", {"Content-Type": "application/json"}
    for body in (b"", b"{", b"[]", b'{"a": NaN}', b"[" * 100_000, b"\xff", b'"\\ud800"'):
        error_of(server.client.post(path, content=body, headers=headers), 400)
    text = {"Content-Type": "text/plain"}
    assert error_of(server.client.post(path, content=b"{}", headers=text), 415)
    assert error_of(server.get(path), 405)
    assert error_of(server.get("/v2/x"), 404)


def test_uploads_are_used_by_id_and_forgotten(server, photo):
    reply = server.client.post("/v1/files", files={"file": ("x.png", photo.read_bytes())})
    assert reply.status_code == 200, reply.text
    id = reply.json()["id"]
    for part in (
        {"type": "image_url", "image_url": {"url": id}},
        {"type": "image_url", "image_url": id},
        {"type": "file", "file": {"file_id": id}},
    ):
        content = [part, {"type": "text", "text": "Which colour?"}]
        body = {"model": "test", "messages": [{"role": "user", "content": content}]}
        assert server.post("/v1/chat/completions", body).status_code == 200
    assert id in [one["id"] for one in server.get("/v1/files").json()["data"]]
    assert server.client.delete(f"/v1/files/{id}").json()["deleted"]
    assert error_of(server.get(f"/v1/files/{id}"), 404)["code"] == "file_not_found"
    assert error_of(server.post("/v1/chat/completions", body), 404)["code"] == "file_not_found"
    error_of(server.client.post("/v1/files", files={"file": ("x.svg", b"<svg>")}), 400)
    error_of(server.client.post("/v1/files", files={"other": ("x.png", b"x")}), 400)
    error_of(server.client.post("/v1/files", json={}), 415)


def test_a_response_is_the_same_answer_in_the_other_format(server, photo):
    part = {"type": "input_image", "image_url": data_url(photo)}
    content = [{"type": "input_text", "text": "Which colour?"}, part]
    body = {
        "model": "test",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": content}],
    }
    found = server.post("/v1/responses", body).json()
    assert found["status"] == "completed"
    assert found["output"][-1]["content"][0]["text"] == RED
    error_of(server.post("/v1/responses", body | {"previous_response_id": "x"}), 400)
    error_of(server.post("/v1/responses", {"input": [{"role": "user", "content": [{}]}]}), 400)
    with server.client.stream("POST", "/v1/responses", json=body | {"stream": True}) as reply:
        lines = list(reply.iter_lines())
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    assert "".join(one["delta"] for one in events if "delta" in one["type"]) == RED
    assert events[-1]["type"] == "response.completed"


def test_a_truncated_answer_ends_with_length(photo):
    class Truncating(ScriptedModel):
        def generate(self, conversations, decoding, on_text=None):
            found = super().generate(conversations, decoding, on_text)
            return [one._replace(truncated=True) for one in found]

    with serving(Truncating(["It is re"])) as server:
        choice = server.chat("Which colour?", photo)["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "It is re")
        assert server.chunks("Which?", photo)[-1]["choices"][0]["finish_reason"] == "length"
