"""The server behind nginx, with the configurations of `examples/serve/`: streams, uploads, disconnects, Studio, replicas."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from io import BytesIO

import pytest
from PIL import Image

from nginx_fixture import NAME, NGINX, nginx
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.auth import Key
from pixel_reasoner.server.studio_page import StudioPart
from pixel_reasoner.server.traces import TracesPart
from server_fixture import chat, data_url, serving, wait_until
from server_process import ServerProcess
from test_scheduler import RED, TickingModel
from test_server_load import EndlessModel

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx"),
]
KEY = "a-key-of-a-client-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


class Peers:
    """Part of the server that collects the addresses of connections."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int]] = []

    def mount(self, app, services) -> None:
        app.add_middleware(_Collect, found=self.found)


class _Collect:
    def __init__(self, app, found) -> None:
        self.app, self.found = app, found

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            self.found.append(tuple(scope["client"]))
        await self.app(scope, receive, send)


@pytest.fixture
def behind(tmp_path):
    """Return a function that starts a server of a model behind nginx: (server, client of nginx)."""
    with ExitStack() as stack:

        def start(model, **settings):
            parts = [TracesPart(), StudioPart(is_bundled=False), *settings.pop("parts", [])]
            keys = (Key(hashlib.sha256(KEY.encode()).digest(), "alice"),)
            settings |= {"allowed_hosts": (NAME,), "keys": keys}
            server = stack.enter_context(serving(model, parts=parts, **settings))
            client = stack.enter_context(nginx("nginx.conf", tmp_path, [server.port]))
            client.headers.update(AUTHORIZED)
            return server, client

        yield start


def test_a_stream_arrives_while_it_is_generated_and_a_disconnect_frees_the_slot(behind, photo):
    server, client = behind(EndlessModel())
    body = chat("Which?", photo, stream=True, pixel_reasoner={"operations": False})
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        assert reply.status_code == 200, reply.read()
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in reply.iter_lines() if line.startswith("data: "))
        chunks = [json.loads(next(lines)[6:]) for _ in range(4)]
        assert chunks[-1]["choices"][0]["delta"]["content"]
        assert server.num_unfinished == 1  # it has not ended: this model never does
    wait_until(lambda: server.num_unfinished == 0)
    wait_until(lambda: server.services.admission.num_requests == 0)


def test_a_client_without_stream_that_leaves_frees_the_slot(behind, photo):
    import httpx2

    server, client = behind(EndlessModel())
    with pytest.raises(httpx2.TimeoutException):
        client.post("/v1/chat/completions", json=chat("Which?", photo), timeout=3.0)
    wait_until(lambda: server.num_unfinished == 0)


def test_pictures_of_several_megabytes_can_be_uploaded_and_sent(behind):
    _, client = behind(ScriptedModel([RED]))
    buffer = BytesIO()
    Image.effect_noise((1400, 1400), 200).convert("RGB").save(buffer, "PNG")
    content = buffer.getvalue()
    assert len(content) > 2**21
    reply = client.post("/v1/files", files={"file": ("a.png", content)})
    assert reply.status_code == 200, reply.text
    for url in (reply.json()["id"], data_url(content)):
        part = {"type": "image_url", "image_url": {"url": url}}
        body = {"messages": [{"role": "user", "content": [part]}]}
        reply = client.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text


def test_a_body_that_is_too_large_is_refused_by_the_server_with_its_error(behind):
    _, client = behind(ScriptedModel([RED]), max_body_bytes=1_000_000)
    reply = client.post("/v1/chat/completions", json=chat("x" * 2_000_000))
    assert reply.status_code == 413
    assert reply.json()["error"]["code"] == "request_too_large"


def test_studio_and_events_of_a_trace_work_through_nginx(behind, photo):
    server, client = behind(TickingModel("slow " * 100_000))
    page = client.get("/", headers={"Authorization": ""})
    assert page.status_code == 200
    assert "Pixel Reasoner Studio" in page.text
    assert "script-src 'sha256-" in page.headers["content-security-policy"]
    port = client.base_url.port
    body = {"question": "Which colour?", "media": [data_url(photo)]}
    foreign = client.post("/v1/traces", json=body, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    origin = {"Origin": f"https://{NAME}:{port}"}
    reply = client.post("/v1/traces", json=body, headers=origin)
    assert reply.status_code == 200, reply.text
    id = reply.json()["id"]
    with client.stream("GET", f"/v1/traces/{id}/events") as events:
        lines = (line for line in events.iter_lines() if line.startswith("event: "))
        assert next(lines) == "event: queued"
        assert next(lines) == "event: turn_started"
        assert client.get(f"/v1/traces/{id}").json()["state"] == "running"
    cancelled = client.post(f"/v1/traces/{id}/cancel", headers=origin).json()
    assert cancelled["state"] == "cancelled"
    picture = client.get(f"/v1/traces/{id}/item").json()["traces"][0]["pictures"][0]["view"]["ref"]
    reply = client.get(f"/v1/traces/{id}/pictures/{picture}")
    assert Image.open(BytesIO(reply.content)).size == Image.open(photo).size
    wait_until(lambda: server.num_unfinished == 0)


def test_keys_hosts_and_request_ids_pass_and_connections_stay_open(behind):
    peers = Peers()
    _, client = behind(ScriptedModel([RED]), parts=[peers])
    for number in range(8):
        reply = client.get("/v1/models", headers={"X-Request-Id": f"mine-{number}"})
        assert reply.status_code == 200
        assert reply.headers["x-request-id"] == f"mine-{number}"
    assert len(set(peers.found)) == 1
    assert client.get("/v1/models", headers={"Authorization": "Bearer x"}).status_code == 401
    foreign = client.get("/v1/models", headers={"Host": "evil.example"})
    assert foreign.json()["error"]["code"] == "invalid_host"


# --- replicas ---


def test_replicas_keep_traces_of_a_key_together_and_survive_the_end_of_one(tmp_path, photo):
    keys = tmp_path / "keys.txt"
    names = [f"client{number}" for number in range(20)]
    keys.write_text("".join(f"{one}: {one}-key-0123456789\n" for one in names))
    headers = {one: {"Authorization": f"Bearer {one}-key-0123456789"} for one in names}
    any_key = headers[names[0]]
    replicas = [ServerProcess(tmp_path / f"store-{number}", keys) for number in range(2)]
    try:
        for one in replicas:
            one.wait_ready(headers=any_key)
        ports = [one.port for one in replicas]
        with nginx("nginx-replicas.conf", tmp_path, ports) as client:
            ids = {one: _ask(client, photo, headers[one]) for one in names}
            owners = {one: _replica_of(replicas, ids[one], headers[one]) for one in names}
            assert set(owners.values()) == {0, 1}, "twenty keys are on one of two replicas"
            for one in names:
                for _ in range(3):
                    found = client.get(f"/v1/traces/{ids[one]}", headers=headers[one])
                    assert found.json()["state"] == "finished"
                share = client.post(f"/v1/traces/{ids[one]}/share", headers=headers[one])
                page = client.get(share.json()["path"])  # without a key
                assert page.status_code == 200, one
            replicas[0].kill()
            for one in names:
                reply = client.post("/v1/chat/completions", json=chat("Hi"), headers=headers[one])
                assert reply.status_code == 200, reply.text
                status = client.get(f"/v1/traces/{ids[one]}", headers=headers[one]).status_code
                assert status == (404 if owners[one] == 0 else 200)
    finally:
        for one in replicas:
            one.kill()


def _ask(client, photo, headers) -> str:
    body = {"question": "Which colour?", "media": [data_url(photo)]}
    reply = client.post("/v1/traces", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    id = reply.json()["id"]
    assert "event: finished" in client.get(f"/v1/traces/{id}/events", headers=headers).text
    return id


def _replica_of(replicas, id, headers) -> int:
    import httpx2

    statuses = [
        httpx2.get(f"{one.url}/v1/traces/{id}", headers=headers).status_code for one in replicas
    ]
    assert sorted(statuses) == [200, 404]
    return statuses.index(200)


def test_a_server_that_stops_is_left_out_without_an_error_for_clients(tmp_path):
    peers = [Peers(), Peers()]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                serving(ScriptedModel([RED]), parts=[one], allowed_hosts=(NAME,)),
            )
            for one in peers
        ]
        ports = [one.port for one in servers]
        client = stack.enter_context(nginx("nginx-replicas.conf", tmp_path, ports))
        assert client.get("/v1/models").status_code == 200
        home = 0 if peers[0].found else 1
        servers[home].services.is_draining = True  # answers 503, as during the drain
        for _ in range(4):
            assert client.post("/v1/chat/completions", json=chat("Hi")).status_code == 200
        assert peers[1 - home].found
