"""Server under load: admission, disconnects, slow clients, dead upstream servers, and its end."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from chat_server import served
from pixel_reasoner.models.api import Capabilities
from pixel_reasoner.models.http_pool import RetryPolicy
from pixel_reasoner.models.remote import RemoteConfig, RemoteModel
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.admission import Admission, Load
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.settings import ServerSettings
from server_fixture import chat, picture, serving, wait_until
from test_scheduler import CLOSER, RED, TickingBackend, TickingModel

BOX = r"\boxed{1}"


class EndlessBackend(TickingBackend):
    """Backend that generates until a request is cancelled."""

    def poll(self, timeout_s, num_busy_cores=0):
        time.sleep(0.002)
        return [] if self.is_silent else super().poll(timeout_s, num_busy_cores)

    is_silent = False


class EndlessModel(TickingModel):
    def __init__(self, text="x" * 10**6, *, is_silent=False):
        self.backend = EndlessBackend([text], Capabilities(streaming=True))
        self.backend.is_silent = is_silent


def raw_request(server, body: dict) -> socket.socket:
    """Send a request over a connection that the caller closes."""
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_frees_its_slot(stream, photo):
    with serving(EndlessModel()) as server:
        model = server.services.engine.model
        connections = [
            raw_request(server, chat("Which?", photo, stream=stream, n=2)) for _ in range(3)
        ]
        wait_until(lambda: len(model.backend.requests) == 6)
        for connection in connections:
            connection.close()
        wait_until(lambda: not model.backend.requests)
        wait_until(lambda: server.services.admission.num_requests == 0)
        assert server.num_unfinished == 0


def test_a_client_that_does_not_read_is_disconnected(photo):
    with serving(EndlessModel("x" * 10**7), send_timeout_s=0.3) as server:
        body = chat("Which?", photo, stream=True, pixel_reasoner={"operations": False})
        model = server.services.engine.model
        connection = raw_request(server, body)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        model.backend.poll = lambda *_: _flood(model.backend)
        wait_until(lambda: server.services.admission.num_requests == 0, 20.0)
        assert server.num_unfinished == 0
        connection.close()


def _flood(backend) -> list:
    from pixel_reasoner.models.api import Delta

    time.sleep(0.002)
    return [Delta(id, text="x" * 20_000) for id in list(backend.requests)]


def test_a_client_that_reads_slowly_gets_everything_and_delays_nobody(photo):
    with serving(TickingModel("y" * 3000)) as server:
        body = chat("Which?", photo, stream=True, pixel_reasoner={"operations": False})
        slow = raw_request(server, body)
        started = time.monotonic()
        assert server.chat("Which?", photo)["choices"]
        assert time.monotonic() - started < 10
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += slow.recv(1)
        assert b"data: [DONE]" in received
        slow.close()


def test_a_full_queue_is_429_before_anything_is_decoded(photo, monkeypatch):
    with serving(EndlessModel(), max_running=1, max_waiting=1) as server:
        held = [raw_request(server, chat("Which?", photo)) for _ in range(2)]
        wait_until(lambda: server.services.admission.num_requests == 2)
        for name in ("items", "_stored"):
            monkeypatch.setattr(server.services.intake, name, None)  # a call would be an error
        reply = server.post("/v1/chat/completions", chat("Which?", photo))
        assert reply.status_code == 429
        assert int(reply.headers["Retry-After"]) >= 1
        assert reply.json()["error"]["code"] == "rate_limit_exceeded"
        assert server.get("/ready").status_code == 503
        assert server.get("/health").status_code == 200
        for connection in held:
            connection.close()
        wait_until(lambda: server.get("/ready").status_code == 200)


def test_short_requests_without_pictures_have_a_lane_of_their_own(photo):
    model = EndlessModel()
    with serving(model, max_running=1, max_waiting=0, fast_lane_requests=1) as server:
        held = raw_request(server, chat("Which?", photo))
        wait_until(lambda: server.services.admission.num_requests == 1)
        wait_until(lambda: len(model.backend.requests) == 1)
        title = raw_request(server, chat("A title for this chat, please."))
        wait_until(lambda: len(model.backend.requests) == 2)
        assert [one.priority for one in model.backend.served] == [0, 1]
        # Nothing is read from a client if no lane has room.
        assert server.post("/v1/chat/completions", chat("x")).status_code == 429
        held.close()
        title.close()


@pytest.mark.parametrize("limits", [{"max_per_key": 2}, {"max_running": 1, "max_waiting": 1}])
def test_a_request_that_could_never_be_accepted_is_400_and_not_429(limits, photo):
    with serving(ScriptedModel([RED]), **limits) as server:
        reply = server.post("/v1/chat/completions", chat("Which?", photo, n=3))
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "n")
        assert len(server.chat("Which?", photo, n=2)["choices"]) == 2


def test_limits_of_a_key_do_not_limit_other_keys():
    admission = Admission(ServerSettings(max_per_key=1))
    with admission.admit(Load("alice")):
        with pytest.raises(ApiError, match="1 requests of this key"):
            admission.admit(Load("alice")).__enter__()
        with admission.admit(Load("bob")):
            assert admission.num_requests == 2
    assert (admission.num_requests, admission.by_client) == (0, {})


def test_picture_tokens_are_bounded():
    admission = Admission(ServerSettings(max_picture_tokens=100))
    with admission.admit(Load("alice", picture_tokens=90)):
        with pytest.raises(ApiError, match="90 picture tokens, the limit is 100"):
            admission.admit(Load("bob", picture_tokens=20)).__enter__()
        with admission.admit(Load("bob", picture_tokens=10)):
            pass


def test_a_request_beyond_the_time_limit_is_504(photo):
    with serving(EndlessModel(), request_timeout_s=0.3) as server:
        reply = server.post("/v1/chat/completions", chat("Which?", photo))
        assert reply.status_code == 504
        assert reply.headers["x-should-retry"] == "false"
        assert server.num_unfinished == 0


def test_an_error_in_a_stream_is_an_object_and_done_follows(photo):
    with serving(EndlessModel(), request_timeout_s=3.0) as server:
        chunks = server.chunks("Which?", photo, pixel_reasoner={"operations": False})
        assert chunks[-1]["error"]["code"] == "timeout"
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_a_silent_stream_has_comments(photo):
    body = chat("Which?", photo, stream=True)
    with (
        serving(EndlessModel(is_silent=True), ping_interval_s=0.1, request_timeout_s=3.0) as server,
        server.client.stream("POST", "/v1/chat/completions", json=body) as reply,
    ):
        assert reply.read().count(b": ping\n\n") >= 2


def test_requests_are_503_while_the_model_is_loaded(photo):
    is_loaded = threading.Event()
    seen = []

    def load():
        seen.append("loading")
        is_loaded.wait(20)
        return ScriptedModel([RED])

    def ask_while_loading():
        wait_until(lambda: seen)
        is_loaded.set()

    threading.Thread(target=ask_while_loading).start()
    with serving(load) as server:
        services = server.services
        engine, services.loaded = services.loaded, None
        reply = server.post("/v1/chat/completions", chat("Which?", photo))
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "model_loading")
        assert server.get("/ready").status_code == 503
        services.loaded = engine
        server.chat("Which?", photo)


# --- as a proxy ---


def remote(url: str, **policy) -> RemoteModel:
    options = {"max_tries": 2, "timeout_s": 5.0, "concurrency": 8} | policy
    return RemoteModel(RemoteConfig("served", (url,), "compact", policy=RetryPolicy(**options)))


def test_as_a_proxy_clients_of_another_server_get_operations(photo):
    with served(ScriptedModel([CLOSER, RED])) as upstream, serving(remote(upstream.url)) as server:
        message = server.chat("Which colour?", photo)["choices"][0]["message"]
        assert message["content"] == RED
        assert message["pixel_reasoner"]["num_operations"] == 1
        assert len(upstream.requests) == 2
        chunks = server.chunks("Which colour?", photo)
        assert chunks[-1]["pixel_reasoner"]["answer"] == "red"


def test_a_client_that_leaves_a_proxy_ends_the_request_upstream(photo):
    with served(ScriptedModel([RED])) as upstream, serving(remote(upstream.url)) as server:
        upstream.delay_s = 30.0
        connection = raw_request(server, chat("Which?", photo))
        wait_until(lambda: upstream.num_running == 1)
        connection.close()
        wait_until(lambda: upstream.num_running == 0, 20.0)


def test_a_dead_upstream_is_503_and_recovers(photo):
    with served(ScriptedModel([RED])) as upstream, serving(remote(upstream.url)) as server:
        server.chat("Which?", photo)
        for failure, status in (("500", 503), ("cut", 503), ("html", 503), ("blind", 400)):
            upstream.always = failure
            reply = server.post("/v1/chat/completions", chat("Which?", photo))
            assert reply.status_code == status, (failure, reply.text)
            assert upstream.url.rpartition(":")[2] not in reply.text
        upstream.always = None
        deadline = time.monotonic() + 20
        while server.post("/v1/chat/completions", chat("Which?", photo)).status_code != 200:
            assert time.monotonic() < deadline
        assert server.get("/ready").status_code == 200


def test_a_prompt_that_is_too_long_has_the_code_that_clients_know(photo):
    with served(ScriptedModel([RED])) as upstream, serving(remote(upstream.url)) as server:
        upstream.always = "too long"
        reply = server.post("/v1/chat/completions", chat("Which?", photo))
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_a_request_of_our_own_client_works(photo):
    """`--endpoint` of this project in front of this server: a chain of two."""
    with serving(ScriptedModel([RED])) as inner:
        model = RemoteModel(
            RemoteConfig("test", (f"{inner.url}/v1",), "compact", policy=RetryPolicy())
        )
        with serving(model) as outer:
            assert outer.chat("Which?", photo)["choices"][0]["message"]["content"] == RED


# --- the end ---


def test_the_end_waits_for_requests_and_then_cancels_them(photo):
    with serving(TickingModel(BOX * 200)) as server:
        body = chat("Which?", photo)
        connection = raw_request(server, body)
        wait_until(lambda: server.num_unfinished == 1)
        server.server.handle_exit(15, None)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    with serving(EndlessModel(), drain_timeout_s=0.3) as server:
        connection = raw_request(server, chat("Which?", photo))
        stream = raw_request(server, chat("Which?", photo, stream=True))
        wait_until(lambda: server.num_unfinished == 2)
        server.server.handle_exit(15, None)
        assert connection.recv(12) == b"HTTP/1.1 503"
        received = b""
        while part := stream.recv(65536):
            received += part
        assert b'"service_unavailable"' in received or b"HTTP/1.1 503" in received


def test_text_and_pictures_of_clients_are_not_in_metrics(photo):
    with serving(ScriptedModel([CLOSER, RED])) as server:
        server.post("/v1/chat/completions", chat("SECRET") | {"model": "SECRET"})
        server.get("/v1/models/SECRET")
        server.get("/SECRET")
        server.chat("SECRET", photo, messages=[{"role": "user", "content": [picture(photo)]}])
        text = server.get("/metrics").text
        assert "SECRET" not in text
        for name in (
            "num_requests_running",
            "num_requests_waiting",
            "prompt_tokens_total",
            "generation_tokens_total",
            'request_success_total{finished_reason="answered"',
            "e2e_request_latency_seconds_count",
            'operations_total{model_name="test",name="zoom_in",outcome="executed"} 1.0',
        ):
            assert f"pixel_reasoner:{name}" in text.replace(
                'model_name="test",finished_reason', "finished_reason"
            ).replace('finished_reason="answered",model_name="test"', 'finished_reason="answered"')
