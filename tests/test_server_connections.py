"""Models of other servers that users of Studio connect: allowed addresses, the probe in words, and where the key goes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
import pytest
from hypothesis import given, strategies as st

from chat_server import served
from pixel_reasoner.cli.serve import AccessOptions, _endpoint_hosts
from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server import connections
from pixel_reasoner.server.addresses import is_public
from pixel_reasoner.server.auth import Key
from pixel_reasoner.server.endpoint_access import (
    CheckedTransport,
    EndpointAccess,
    check_endpoint_host,
)
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.fetch import resolve
from pixel_reasoner.server.studio_page import StudioPart
from pixel_reasoner.server.traces import TracesPart
from server_fixture import serving, wait_until
from test_scheduler import CLOSER, RED
from test_server_safety import PRIVATE, PUBLIC
from test_server_traces import ask, finished

SECRET = "sk-0123456789abcdefghij"
LOOPBACK_SPELLINGS = (
    *("127.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost", "LOCALHOST."),
    *("[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "0", "10.1"),
)
OWN_KEYS = {"alice": "a-key-of-alice-0123456789", "bob": "a-key-of-bob-0123456789ab"}


class Seeing(ScriptedModel):
    """Model that counts its pictures as tokens, as servers with image input do."""

    def generate(self, conversations, decoding, on_text=None):
        (conversation,) = conversations
        parts = [one for message in conversation for one in message["content"]]
        num_pictures = sum(part["type"] == "image" for part in parts)
        found = super().generate(conversations, decoding, on_text)
        return [one._replace(num_prompt_tokens=10 + 49 * num_pictures) for one in found]


@pytest.fixture
def upstream():
    with served(Seeing([CLOSER, RED])) as one:
        yield one


def place(server) -> str:
    return httpx2.URL(server.url).netloc.decode()


def studio(*upstreams, model=None, **settings):
    hosts = tuple(map(place, upstreams))
    own = model or ScriptedModel([r"\boxed{own}"])
    parts = [TracesPart(), StudioPart(is_bundled=False)]
    settings = {"decode_workers": 1} | settings
    return serving(own, parts=parts, endpoint_hosts=hosts, **settings)


def connect(server, upstream, headers=None, **fields) -> dict:
    body = {"endpoint": upstream.url, "key": SECRET} | fields
    reply = server.post("/v1/connections", body, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def naming(found: dict) -> dict:
    return {"Pixel-Reasoner-Connection": found["connection"]}


def texts(found: dict) -> dict[str, str]:
    return {one["name"]: f"{one['state']}: {one['text']} {one['fix']}" for one in found["findings"]}


# --- which addresses ---


def access(*hosts: str, addresses=()) -> EndpointAccess:
    found = iter(addresses)
    return EndpointAccess(hosts, resolve=lambda host, port: next(found, [PUBLIC]))


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ((), "https://models.example.org/v1"),
        (("models.example.org",), "https://models.example.org:8443/v1"),
        (("models.example.org",), "https://other.example.org/v1"),
        (("models.example.org",), "https://models.example.org.evil.test/v1"),
        (("public",), "http://models.example.org/v1"),
        (("localhost:8000",), "http://localhost:8001/v1"),
    ],
)
def test_a_host_that_no_rule_names_is_refused_with_the_option_that_allows_it(hosts, url):
    with pytest.raises(ApiError, match="--allow-endpoint") as caught:
        access(*hosts).check(url)
    assert (caught.value.status, caught.value.param) == (403, "endpoint")


@pytest.mark.parametrize(
    "url",
    [
        "models.example.org/v1",
        "file:///etc/passwd",
        "https://user:password@models.example.org/v1",
        "https://models.example.org\\@localhost/v1",
        "https://mödels.example.org/v1",
        "https://models.example.org:99999/v1",
        "https:///v1",
        f"https://models.example.org/{'a' * 3000}",
    ],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ApiError) as caught:
        access("public").check(url)
    assert caught.value.status == 400


@pytest.mark.parametrize("private", PRIVATE)
def test_a_public_name_with_a_private_address_is_refused(private):
    with pytest.raises(ApiError) as caught:
        access("public", addresses=[[PUBLIC, private]]).address(httpx2.URL("https://a.test/v1"))
    assert caught.value.status == 403


@given(
    st.sampled_from(LOOPBACK_SPELLINGS),
    st.sampled_from(["", ":443", ":8000", ":22"]),
    st.sampled_from(["", "/", "/v1", "/v1?a=b", "/%2e%2e/"]),
)
def test_no_spelling_of_a_private_address_passes(host, port, rest):
    def local(name: str, port: int) -> list[str]:
        return [] if name.startswith("localhost") else resolve(name, port)

    rules = EndpointAccess(["public"], resolve=local)
    url = f"https://{host}{port}{rest}"
    try:
        rules.check(url)
        found = rules.address(httpx2.URL(url))
    except (ApiError, OSError, httpx2.InvalidURL):
        return
    assert is_public(found)


def test_a_listed_host_may_be_private_and_the_connection_goes_to_the_checked_address(upstream):
    port = httpx2.URL(upstream.url).port
    rules = access(f"models.test:{port}", addresses=[["127.0.0.1"]] * 2)
    with httpx2.Client(transport=CheckedTransport(rules, ssl.create_default_context())) as client:
        url = f"http://models.test:{port}/v1/models"
        assert client.get(url).json()["data"][0]["id"] == "served"
        assert client.post(url, json={"messages": [], "temperature": 0, "max_tokens": 1}).is_success
    assert upstream.headers[-1]["Host"] == f"models.test:{port}"


def test_a_changed_answer_of_dns_has_no_effect():
    rules = access("public", addresses=[[PUBLIC], ["127.0.0.1"]])
    rules.check("https://a.test/v1")
    assert rules.address(httpx2.URL("https://a.test/v1")) == PUBLIC
    transport = CheckedTransport(rules, ssl.create_default_context())
    with httpx2.Client(transport=transport) as client, pytest.raises(ApiError) as caught:
        client.get("https://a.test/v1/models")
    assert caught.value.status == 403


def test_a_redirect_is_not_followed(upstream):
    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(307)
            self.send_header("Location", f"{upstream.url}/models")
            self.end_headers()

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *arguments):
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Redirect) as redirect:
        threading.Thread(target=redirect.serve_forever, args=(0.05,), daemon=True).start()
        redirect.url = f"http://127.0.0.1:{redirect.server_address[1]}/v1"
        with studio(redirect, upstream) as server:
            found = connect(server, redirect, model="served")
        redirect.shutdown()
    assert found["connection"] is None
    assert upstream.requests == []


def test_an_entry_of_the_list_is_the_exact_name_of_a_host():
    assert check_endpoint_host("[::1]:8000") == "[::1]:8000"
    for name in ("http://localhost:8000", "*.example.org", "", "a b", "10.0.0.0/8"):
        with pytest.raises(UsageError, match="--allow-endpoint"):
            check_endpoint_host(name)


def test_public_hosts_are_the_default_only_of_a_server_that_this_machine_alone_uses(tmp_path):
    assert _endpoint_hosts(AccessOptions()) == ("public",)
    assert _endpoint_hosts(AccessOptions(allow_endpoint=["LocalHost:8000"])) == (
        "localhost:8000",
        "public",
    )
    for shared in (
        {"host": "0.0.0.0"},
        {"key_file": tmp_path},
        {"allow_host": ["models.example.org"]},
    ):
        assert _endpoint_hosts(AccessOptions(**shared)) == ()
        allowed = AccessOptions(**shared, allow_endpoint=["public"])
        assert _endpoint_hosts(allowed) == ("public",)


# --- the probe in words ---


def test_the_result_of_the_probe_is_in_plain_words(upstream):
    with studio(upstream) as server:
        found = connect(server, upstream)
    assert found["model"] == "served"
    words = texts(found)
    assert words["answers"].startswith("yes: It answers as served.")
    assert words["pictures"].startswith("yes: It receives pictures.")
    assert words["logprobs"].startswith("no: It returns no log-probabilities.")
    assert words["operations"].startswith("unknown: Its name is of no known family")


def test_a_server_without_image_input_is_not_connected(upstream):
    upstream.model = ScriptedModel(["What picture?"])
    upstream.program = [""] * 2 + ["blind"] * 50
    with studio(upstream) as server:
        found = connect(server, upstream)
    assert found["connection"] is None
    assert texts(found)["pictures"].startswith("no: It receives no pictures")
    assert "--mmproj" in texts(found)["pictures"]


def test_a_refused_key_is_explained_without_the_key(upstream):
    upstream.always = "401"
    with studio(upstream) as server:
        reply = server.post("/v1/connections", {"endpoint": upstream.url, "key": SECRET})
    assert upstream.headers[-1]["Authorization"] == f"Bearer {SECRET}"
    found = reply.json()
    assert found["connection"] is None
    assert "401" in texts(found)["answers"]
    assert "Give a key that may use this model" in texts(found)["answers"]
    assert SECRET not in reply.text


def test_a_server_that_does_not_run_is_explained():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with serving(
        ScriptedModel([RED]), parts=[StudioPart(is_bundled=False)], endpoint_hosts=(url[7:-3],)
    ) as server:
        found = server.post("/v1/connections", {"endpoint": url}).json()
    assert found["connection"] is None
    assert texts(found)["answers"].startswith("no: It cannot be used: ConnectError")
    assert "Start it, or check the address." in texts(found)["answers"]


def test_the_name_may_be_left_out_only_if_the_server_has_one_model(upstream):
    upstream.names = ["one", "two"]
    with studio(upstream) as server:
        found = connect(server, upstream)
        assert (found["connection"], found["models"]) == (None, ["one", "two"])
        assert "Choose one of them." in texts(found)["model"]
        assert connect(server, upstream, model="two")["model"] == "two"
        wrong = connect(server, upstream, model="three")
        assert wrong["connection"] is None
        assert "one, two" in texts(wrong)["answers"] or "'three'" in texts(wrong)["answers"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": "http://10.0.0.1/v1"}, "endpoint"),
        ({"key": "with space"}, "key"),
        ({"key": "ключ"}, "key"),
        ({"model": "m" * 501}, "model"),
        ({"model": 3}, "model"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(upstream, fields, param):
    with studio(upstream) as server:
        body = {"endpoint": upstream.url, "key": SECRET} | fields
        reply = server.post("/v1/connections", body)
    assert reply.status_code in (400, 403)
    assert reply.json()["error"]["param"] == param
    assert "with space" not in reply.text
    assert upstream.requests == []


def test_the_name_of_a_folder_of_this_machine_is_only_a_name(upstream, tmp_path):
    (tmp_path / "pixel_reasoner.json").write_text('{"dialect": "compact"}')
    with studio(upstream) as server:
        upstream.owned_by = "someone"
        found = connect(server, upstream, model=str(tmp_path))
    assert texts(found)["operations"].startswith("unknown: Its name is of no known family")


# --- questions ---


def test_questions_that_name_a_connection_go_to_its_model(upstream, photo):
    with studio(upstream) as server:
        found = connect(server, upstream)
        own = finished(server, ask(server, photo)["id"])
        job = finished(server, ask(server, photo, headers=naming(found))["id"])
        assert (own["answer"], own["model"]) == ("own", "test")
        assert (job["answer"], job["model"]) == ("red", "served")
        assert job["traces"][0]["turns"][0]["observations"]
        further = ask(server, headers=naming(found), question="Sure?", follows=job["id"])
        assert finished(server, further["id"])["model"] == "served"
        metrics = server.get("/metrics").text
        assert "served" not in metrics


def test_the_key_is_in_no_file_no_log_and_no_reply(upstream, photo, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    with studio(upstream, store=tmp_path) as server:
        found = connect(server, upstream)
        job = finished(server, ask(server, photo, headers=naming(found))["id"])
        upstream.always = "400"  # repeats the key
        failed = finished(server, ask(server, photo, headers=naming(found))["id"])
        item = server.get(f"/v1/traces/{failed['id']}/item").text
        page = server.get(f"/v1/traces/{job['id']}/page").text
    for text in (str(found), str(job), str(failed), item, page, caplog.text):
        assert SECRET not in text
        assert SECRET[3:] not in text
    assert found["connection"] not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert not [path for path in files if found["connection"].encode() in path.read_bytes()]


def test_this_server_itself_can_be_connected(photo):
    with serving(ScriptedModel([CLOSER, RED]), decode_workers=1) as inner:
        inner.url = f"{inner.url}/v1"
        with studio(inner) as server:
            found = connect(server, inner)
            assert found["model"] == "test"
            assert "looks closer itself" in texts(found)["own server"]
            job = finished(server, ask(server, photo, headers=naming(found))["id"])
            assert job["answer"] == "red"


# --- ends ---


def test_a_connection_belongs_to_its_key_and_ends_when_it_is_asked_to(upstream, photo):
    keys = tuple(Key(hashlib.sha256(key.encode()).digest(), name) for name, key in OWN_KEYS.items())
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in OWN_KEYS.values())
    with studio(upstream, keys=keys) as server:
        assert server.post("/v1/connections", {"endpoint": upstream.url}).status_code == 401
        found = connect(server, upstream, headers=alice)
        body = {"question": "Which?"}
        for headers in (bob | naming(found), alice | naming({"connection": "guessed"})):
            reply = server.post("/v1/traces", body, headers=headers)
            assert reply.status_code == 404
            assert reply.json()["error"]["code"] == "connection_not_found"
            assert server.delete("/v1/connections", headers=headers).status_code == 404
        assert server.delete("/v1/connections", headers=alice).status_code == 400
        assert server.delete("/v1/connections", headers=alice | naming(found)).status_code == 200
        reply = server.post("/v1/traces", body, headers=alice | naming(found))
        assert reply.status_code == 404
        assert server.services.connections.served == []


def test_unused_connections_end(upstream, monkeypatch):
    with studio(upstream) as server:
        one, other = connect(server, upstream), connect(server, upstream)
        held = server.services.connections
        held.find(one["connection"], "anyone")
        held._by_id[other["connection"]].used_at -= connections.IDLE_S + 1
        held.prune()
        assert list(held._by_id) == [one["connection"]]
        monkeypatch.setattr(connections, "MAX_PER_CLIENT", 1)
        last = connect(server, upstream)
        assert list(held._by_id) == [last["connection"]]


def test_the_server_ends_in_time_during_a_probe(upstream):
    upstream.delay_s = 60.0
    with studio(upstream, drain_timeout_s=0.2) as server:
        body = {"endpoint": upstream.url}

        def connect() -> None:
            with contextlib.suppress(httpx2.TransportError):  # the server may end before it replies
                server.post("/v1/connections", body)

        threading.Thread(target=connect, daemon=True).start()
        wait_until(lambda: upstream.num_running == 1)
        assert server.get("/health").status_code == 200
        started = time.monotonic()
        server.server.handle_exit(15, None)
        wait_until(lambda: upstream.num_running == 0)
    assert time.monotonic() - started < 10
