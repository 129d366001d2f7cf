"""Remote models: the same rollouts as a local model, despite failures of servers and connections."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from PIL import Image

from chat_server import served
from pixel_reasoner.dialects import get_dialect
from pixel_reasoner.errors import EndpointError, InputError, UsageError
from pixel_reasoner.models.api import Completion, ContextFull
from pixel_reasoner.models.endpoint_url import chat_completions_url, read_key
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.local import LocalModel
from pixel_reasoner.models.native_tools import as_native_messages, native_request
from pixel_reasoner.models.openai_chat import MessageWriter, ServerKind, ToolProtocol
from pixel_reasoner.models.openai_reply import ReplyReader, completion, message_text
from pixel_reasoner.models.openai_schema import Message, ServerError, StreamEvent
from pixel_reasoner.models.openai_stream import StreamedReply, stream_events
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.models.spec import ModelSpec
from pixel_reasoner.rollout.ask import ask, ask_many
from pixel_reasoner.rollout.state import Rollout
from pixel_reasoner.schema.question import MediaItem, Question, with_media_root
from pixel_reasoner.schema.settings import RolloutConfig, SamplingParams
from pixel_reasoner.schema.trace import StopReason
from pixel_reasoner.world import render, scenes

KEY = "sk-not-to-be-seen"
QUICK = RetryPolicy(
    timeout_s=10.0, max_tries=3, first_pause_s=0.02, max_consecutive_failures=3, concurrency=4
)
LONG_TIMEOUT = QUICK._replace(timeout_s=60.0)
SHORT = SamplingParams(max_new_tokens=64)
RED = r"It is red. \boxed{red}"


@pytest.fixture(scope="module")
def local() -> LocalModel:
    return LocalModel("tiny")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[Question]:
    folder = tmp_path_factory.mktemp("scenes")
    wanted = [*scenes("attribute", "validation", 70, 4), *scenes("relation", "validation", 70, 2)]
    wanted += scenes("video", "validation", 70, 2)
    return [with_media_root(question, folder) for question in render(wanted, folder)]


@pytest.fixture
def server():
    with served(ScriptedModel([RED])) as server:
        yield server


def about(photo, name: str = "1") -> Question:
    return Question(
        id=name, text="Which colour?", media=(MediaItem(kind="image", path=str(photo)),)
    )


def remote(*servers, **more) -> RemoteModel:
    settings = {"dialect": "compact", "api_key": KEY, "policy": QUICK} | more
    return RemoteModel(RemoteConfig("served", tuple(one.url for one in servers), **settings))


@pytest.mark.parametrize("served_as", ["tiny", str(BUNDLED_MODELS["tiny"])])
def test_a_bundled_model_is_found_by_its_name_and_by_its_folder(server, served_as):
    server.names = [served_as]
    assert ModelSpec("tiny", endpoints=(server.url,)).connect().name == served_as


def user_message(text: str) -> list[dict]:
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


# --- equal to a local model ---


def test_a_remote_rollout_equals_a_local_one(local, questions):
    config = RolloutConfig(sampling=SHORT)
    with served(local) as server:
        model = remote(server, budgets=local.budgets, policy=LONG_TIMEOUT)
        remote_traces = {t.question.id: t for t in ask_many(questions, model, config, batch_size=4)}
    local_traces = {t.question.id: t for t in ask_many(questions, local, config, batch_size=4)}
    assert any(trace.executed for trace in local_traces.values())
    for name, trace in local_traces.items():
        assert [t.text for t in remote_traces[name].turns] == [t.text for t in trace.turns]
        assert [t.call for t in remote_traces[name].turns] == [t.call for t in trace.turns]
        assert [t.num_prompt_tokens for t in remote_traces[name].turns] == [
            t.num_prompt_tokens for t in trace.turns
        ]
        assert (remote_traces[name].answer, remote_traces[name].stop) == (trace.answer, trace.stop)
        for ours, theirs in zip(remote_traces[name].turns, trace.turns, strict=True):
            assert list(ours.logprobs) == pytest.approx(list(theirs.logprobs), abs=1e-3)


def test_a_call_that_a_server_parses_is_written_back_unchanged(local, questions):
    """The server returns `0.4` for `0.40`; the next turn must continue the text that the model generated."""
    config = RolloutConfig(sampling=SHORT)
    with served(local) as server:
        server.reads_calls = True
        model = remote(server, budgets=local.budgets, policy=LONG_TIMEOUT)
        remote_traces = {t.question.id: t for t in ask_many(questions, model, config, batch_size=4)}
    local_traces = {t.question.id: t for t in ask_many(questions, local, config, batch_size=4)}
    for name, trace in local_traces.items():
        assert [t.text for t in remote_traces[name].turns] == [t.text for t in trace.turns]


def test_a_streamed_turn_is_delivered_once_and_completely(local, questions):
    texts: list[str] = []
    with served(local) as server:
        model = remote(server, budgets=local.budgets, policy=LONG_TIMEOUT)
        trace = ask(questions[0], model, RolloutConfig(sampling=SHORT), on_text=texts.append)
    assert "".join(texts) == "".join(turn.text for turn in trace.turns)
    assert len(texts) > 3
    assert trace.answer == ask(questions[0], local, RolloutConfig(sampling=SHORT)).answer


def test_a_picture_is_encoded_once_per_trace(local, questions, monkeypatch):
    from pixel_reasoner.models import openai_chat

    encoded: list[tuple[int, int]] = []
    before = openai_chat.image_url
    monkeypatch.setattr(
        openai_chat, "image_url", lambda image: encoded.append(image.size) or before(image)
    )
    with served(local) as server:
        model = remote(server, budgets=local.budgets, policy=LONG_TIMEOUT)
        traces = list(ask_many(questions, model, RolloutConfig(sampling=SHORT)))
        alone = ask(questions[0], model, RolloutConfig(sampling=SHORT))
    num_pictures = [len(trace.all_pictures) for trace in (*traces, alone)]
    assert len(encoded) <= sum(num_pictures)
    assert any(len(trace.turns) > 1 for trace in traces)


def test_pictures_are_sent_losslessly(photo, server):
    ask(about(photo), remote(server))
    (request,) = server.requests
    (user,) = [m for m in request["messages"] if m["role"] == "user"]
    urls = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
    assert [url[:22] for url in urls] == ["data:image/png;base64,"]


# --- profiles ---


@pytest.mark.parametrize("kind", list(ServerKind))
def test_a_server_gets_only_the_fields_of_its_profile(kind, server, photo, pytestconfig):
    """Recorded request bodies, without pictures; a new field shows as a diff."""
    model = remote(server, server=kind)
    decoding = SamplingParams(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=3)
    model.generate([user_message("Hi")], decoding)
    model.generate([user_message("Hi")], decoding, lambda text: None)
    golden = pytestconfig.rootpath / "tests" / "golden" / f"request-{kind}.json"
    sent = json.dumps(server.requests, indent=1, ensure_ascii=False) + "\n"
    assert sent == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp", "library"])
def test_the_kind_of_a_server_is_detected_by_its_model_list(owner, server):
    server.owned_by = owner
    expected = {"library": ServerKind.OLLAMA}.get(owner)
    assert remote(server).server == (expected or ServerKind(owner))


def test_an_unknown_server_gets_the_fields_that_all_accept(server):
    server.owned_by = "somebody"
    assert remote(server).server is ServerKind.ANY


# --- failures ---


@pytest.mark.parametrize("trouble", ["500", "503", "429", "408", "cut", "no choices"])
def test_a_temporary_failure_is_retried(trouble, server, photo):
    server.program = [trouble, trouble]
    assert ask(about(photo), remote(server)).answer == "red"
    assert len(server.requests) == 3


def test_no_retry_before_the_retry_after_time(server, photo):
    server.program = ["429"]
    started = time.monotonic()
    ask(about(photo), remote(server))
    assert time.monotonic() - started >= 0.2


def test_an_incomplete_stream_is_retried_and_its_text_not_repeated(server, photo):
    texts: list[str] = []
    server.program = ["cut stream"]
    model = remote(server)
    (turn,) = model.generate([user_message("Hi")], SHORT, texts.append)
    assert turn.text == RED
    assert "".join(texts) == f"The red\n{RED}"  # streamed text cannot be removed


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ("401", "--key-file"),
        ("403", "--key-file"),
        ("404", "--endpoint"),
        ("html", "text/html"),
        ("no choices", "none in 3 tries"),
        ("500", "none in 3 tries"),
        ("hang", "no complete reply within"),
        ("blind", "image input"),
        ("400", "--server"),
    ],
)
def test_a_permanent_failure_is_one_error_with_the_server_and_a_fix(
    trouble, expected, server, photo
):
    server.always = trouble
    policy = QUICK._replace(timeout_s=0.3)
    with pytest.raises(EndpointError) as error:
        ask(about(photo), remote(server, policy=policy))
    assert expected in str(error.value)
    assert server.url.removesuffix("/v1") in str(error.value)
    assert KEY not in str(error.value)


def test_an_html_page_ends_the_run_at_once(server, photo):
    server.always = "html"
    with pytest.raises(EndpointError, match="check --endpoint"):
        ask(about(photo), remote(server))
    assert len(server.requests) == 1


def test_null_content_is_an_empty_turn(server, photo):
    server.always = "null"
    assert ask(about(photo), remote(server)).stop is StopReason.NO_ANSWER


def test_a_conversation_beyond_the_context_limit_is_context_full(server):
    server.always = "too long"
    (turn,) = remote(server).generate([user_message("Hi")], SHORT)
    assert isinstance(turn, ContextFull)


def test_an_unknown_model_name_is_an_error_with_the_served_names(server):
    server.names = ["qwen3-vl", "pixel-reasoner"]
    with pytest.raises(EndpointError, match="qwen3-vl, pixel-reasoner"):
        remote(server)


def test_an_unreachable_server_is_named_in_the_error():
    policy = QUICK._replace(max_tries=2)
    model = RemoteModel(
        RemoteConfig("served", ("http://127.0.0.1:9/v1",), dialect="compact", policy=policy)
    )
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9.*none in 2|none in 2.*127\.0\.0\.1:9"):
        model.generate([user_message("Hi")], SHORT)


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://host/v1", "http://", "http://me:secret@host/v1"]
)
def test_an_invalid_address_is_refused_before_anything_is_sent(address):
    with pytest.raises(UsageError) as error:
        chat_completions_url(address)
    assert "secret" not in str(error.value)


def test_one_refused_request_does_not_stop_the_others(server, photo):
    server.program = ["400"]
    traces = list(ask_many([about(photo, str(n)) for n in range(6)], remote(server), batch_size=2))
    stops = sorted(trace.stop for trace in traces)
    assert stops == sorted([StopReason.FAILED, *[StopReason.ANSWERED] * 5])
    (failed,) = [trace for trace in traces if trace.stop is StopReason.FAILED]
    assert "400" in failed.error
    assert KEY not in failed.to_line()


def test_a_run_stops_after_too_many_failures_in_a_row(server, photo):
    server.always = "500"
    asked = [about(photo, str(n)) for n in range(50)]
    with pytest.raises(EndpointError, match="in a row"):
        list(ask_many(asked, remote(server), batch_size=2))
    assert len(server.requests) < 30


def test_a_key_is_sent_and_never_recorded(server, photo):
    model = remote(server)
    trace = ask(about(photo), model)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in trace.to_line()
    assert KEY not in model.describe().model_dump_json()
    server.always = "500"  # repeats the key in its message
    with pytest.raises(EndpointError) as error:
        ask(about(photo), model)
    assert KEY not in str(error.value)


def test_a_key_is_read_from_a_file_or_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text(" abc\n")
    assert read_key(path) == "abc"
    monkeypatch.setenv("OPENAI_API_KEY", "def")
    assert read_key(None) == "def"
    path.write_text("")
    with pytest.raises(InputError, match="empty"):
        read_key(path)
    with pytest.raises(InputError, match="--key-file"):
        read_key(tmp_path / "nothing")


# --- several servers ---


def test_requests_are_balanced_and_never_too_many(photo):
    with served(ScriptedModel([RED])) as one, served(ScriptedModel([RED])) as other:
        one.delay_s = other.delay_s = 0.02
        asked = [about(photo, str(n)) for n in range(24)]
        traces = list(ask_many(asked, remote(one, other), batch_size=12))
        assert len(traces) == 24
        assert min(len(one.requests), len(other.requests)) >= 8
        assert one.max_running + other.max_running <= QUICK.concurrency + 2


def test_a_failing_server_is_replaced_by_others_and_retried_later(photo):
    with served(ScriptedModel([RED])) as one, served(ScriptedModel([RED])) as other:
        model = remote(one, other)
        other.always = "cut"
        asked = [about(photo, str(n)) for n in range(12)]
        assert all(t.answer == "red" for t in ask_many(asked, model, batch_size=4))
        num_requests = len(other.requests)
        assert 0 < num_requests < 12  # backoff
        other.always = None
        time.sleep(2.5)
        more = [about(photo, f"more {n}") for n in range(12)]
        assert all(t.answer == "red" for t in ask_many(more, model, batch_size=4))
        assert len(other.requests) > num_requests


def test_a_server_with_a_fatal_status_gets_no_more_requests(photo):
    with served(ScriptedModel([RED])) as one, served(ScriptedModel([RED])) as other:
        other.always = "404"
        asked = [about(photo, str(n)) for n in range(12)]
        assert all(t.answer == "red" for t in ask_many(asked, remote(one, other), batch_size=4))
        assert len(other.requests) <= 4


def test_a_slow_question_does_not_delay_the_others(photo):
    """Turns are returned as they finish, not in rounds."""
    release = threading.Event()

    def script(conversation):
        if "slow" in str(conversation[-1]["content"]):
            release.wait(5)
        return RED

    class Unlocked(ScriptedModel):
        pass

    with served(Unlocked(script)) as server:
        server.lock = _NoLock()
        slow = about(photo, "slow").model_copy(update={"text": "slow?"})
        asked = [slow, *(about(photo, str(n)) for n in range(5))]
        traces = ask_many(asked, remote(server, policy=LONG_TIMEOUT), batch_size=2)
        first = [next(traces).question.id for _ in range(5)]
        assert "slow" not in first
        release.set()
        assert next(traces).question.id == "slow"


class _NoLock:
    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None


# --- operations as tools ---


def test_native_and_text_protocol_render_the_same_prompt(local, questions):
    """Uses the template of `tests/servers/vllm.sh PORT native`, so both protocols agree on a real server too."""
    template = (Path(__file__).parent / "servers" / "native.jinja").read_text(encoding="utf-8")
    dialect = get_dialect("compact")
    turns = 0
    for question in questions:
        rollout = Rollout(question, local, RolloutConfig(sampling=SHORT))
        while rollout.stop is None:
            conversation = rollout.messages()
            messages, tools = native_request(dialect, conversation)
            for call in (call for message in messages for call in message.get("tool_calls", ())):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
            render = partial(
                local.processor.apply_chat_template, tokenize=False, add_generation_prompt=True
            )
            assert render(messages, chat_template=template, tools=tools) == render(conversation)
            (turn,) = local.generate([conversation], SHORT)
            rollout.take(turn, 0.0)
            turns += 1
    assert turns > len(questions), "some questions use an operation"


# --- messages and replies ---

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=40)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["bbox_2d", "target_image", "label"]),
    st.lists(st.floats(0, 1), min_size=4, max_size=4) | st.integers(0, 9) | WORDS,
)


@given(words=WORDS, name=st.sampled_from(["zoom_in", "image_zoom_in_tool"]), arguments=ARGUMENTS)
def test_a_call_is_unchanged_by_the_native_protocol(words, name, arguments):
    call = json.dumps({"name": name, "arguments": arguments})
    text = f"{words}<tool_call>\n{call}\n</tool_call>"
    (message,) = as_native_messages(
        [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    )
    assert message["content"] == words
    back = message_text(Message.model_validate(message))
    assert back.startswith(words)
    assert json.loads(back.partition("<tool_call>")[2].partition("</tool_call>")[0]) == json.loads(
        call
    )


def test_results_are_tool_messages_followed_by_their_pictures():
    picture = {"type": "image", "image": Image.new("RGB", (4, 4))}
    call = '<tool_call>\n{"name": "zoom_in", "arguments": {}}\n</tool_call>'
    turns = [
        *user_message("What?"),
        {"role": "assistant", "content": [{"type": "text", "text": f"I look.\n{call}"}]},
        {"role": "user", "content": [{"type": "text", "text": "Image 2:"}, picture]},
        {"role": "assistant", "content": [{"type": "text", "text": call}]},
        {"role": "user", "content": [{"type": "text", "text": "Error: no such picture"}]},
    ]
    native = as_native_messages(turns)
    assert [m["role"] for m in native] == ["user", "assistant", "tool", "user", "assistant", "tool"]
    ids = [m["tool_calls"][0]["id"] for m in native if m.get("tool_calls")]
    assert [m["tool_call_id"] for m in native if m["role"] == "tool"] == ids
    assert len(set(ids)) == 2
    assert all(isinstance(m["content"], str) for m in native if m["role"] in ("tool", "assistant"))
    assert native[3]["content"][1] is picture


def test_a_malformed_call_stays_text():
    text = "<tool_call>\nnot json\n</tool_call>"
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    assert as_native_messages([message]) == [message]


def test_reasoning_content_and_call_fields_are_joined_to_one_text(photo, server):
    """The fields of a reply join to one text."""
    message = {
        "reasoning_content": "Small.",
        "content": "I look.",
        "tool_calls": [{"function": {"name": "zoom_in", "arguments": "{}"}}],
    }
    reply = completion({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    assert reply.text.startswith("<think>\nSmall.\n</think>\n\nI look.\n<tool_call>")


@pytest.mark.parametrize(
    ("dialect", "media", "tools"),
    [
        ("plain", "image", ["zoom_in", "select_frames"]),
        ("qwen3_vl", "image", ["image_zoom_in_tool"]),
        ("qwen3_vl", "video", ["image_zoom_in_tool", "select_frames"]),
    ],
)
def test_the_native_protocol_sends_operations_as_tools_and_not_in_the_system_message(
    dialect, media, tools, server, photo, clip
):
    model = remote(server, dialect=dialect, protocol=ToolProtocol.NATIVE)
    file = photo if media == "image" else clip
    asked = Question(id="1", text="Which?", media=(MediaItem(kind=media, path=str(file)),))
    ask(asked, model)
    ask(asked, model, RolloutConfig(operations=False))
    with_, without = server.requests
    offered = [tool["function"]["name"] for tool in with_["tools"]]
    assert sorted(offered) == sorted(tools)
    assert "tools" not in without
    assert not any("<tools>" in str(m["content"]) for m in with_["messages"])


def test_a_dialect_without_tools_has_no_native_protocol(server):
    with pytest.raises(UsageError, match="mini_o3"):
        remote(server, dialect="mini_o3", protocol=ToolProtocol.NATIVE)


def test_the_json_of_earlier_messages_is_reused():
    written = MessageWriter()
    first = user_message("one")
    before = written.messages(first)
    after = written.messages([*first, {"role": "assistant", "content": "two"}])
    assert after.startswith(before[:-1])
    assert json.loads(after)[1] == {"role": "assistant", "content": "two"}
    assert json.loads(written.messages(user_message("other")))[0]["content"] == "other"


def test_a_stream_of_pieces_is_joined_to_one_reply():
    pieces = [
        {"choices": [{"delta": {"role": "assistant", "content": None}}]},
        {"choices": [{"delta": {"reasoning": "Hm."}}]},
        {"choices": [{"delta": {"content": "I "}}]},
        {"choices": [{"delta": {"content": "look."}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "zoom_in"}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}}]},
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": {"prompt_tokens": 7}},
    ]
    lines = [f"data: {json.dumps(piece)}" for piece in pieces]
    streamed = StreamedReply()
    *events, end = stream_events([*lines, "data: [DONE]"])
    assert end is None
    for event in events:
        streamed.add(event)
    turn = ReplyReader().completion(streamed.reply())
    assert isinstance(turn, Completion)
    assert turn.num_prompt_tokens == 7
    assert turn.text.endswith(
        '<tool_call>\n{"name": "zoom_in", "arguments": {"a": 1}}\n</tool_call>'
    )


def test_a_stream_that_ends_early_is_an_error():
    streamed = StreamedReply()
    streamed.add(StreamEvent.model_validate({"choices": [{"delta": {"content": "The"}}]}))
    with pytest.raises(ServerError, match="3 characters"):
        streamed.reply()


def test_names_of_protocols():
    assert [one.value for one in ToolProtocol] == ["text", "native"]
