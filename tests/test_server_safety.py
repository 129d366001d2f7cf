"""Safety of the server: media of other hosts, files, rebinding, keys, hostile media, messages of errors."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import socket
import zlib

import pytest
from attacks.addresses import (
    ALLOWED,
    HOSTS,
    OTHER,
    PATHS,
    PRIVATE,
    PUBLIC,
    SCHEMES,
    Network,
    content,
    redirect,
    send_attempts,
)
from hypothesis import given, settings, strategies as st
from PIL import Image

from pixel_reasoner.errors import InputError, UsageError
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.server.addresses import is_public
from pixel_reasoner.server.auth import check_exposure, read_keys
from pixel_reasoner.server.errors import ApiError, api_error, redact
from pixel_reasoner.server.fetch import MAX_REDIRECTS, Fetcher, check_media_host
from pixel_reasoner.server.hosts import HostMiddleware
from pixel_reasoner.server.settings import ServerSettings
from server_fixture import chat, serving, user, wait_until
from test_scheduler import RED


def assert_refused(network: Network, url: str, fetcher=None) -> ApiError:
    """Assert that nothing was fetched, and that no connection went to an address that is not public."""
    with pytest.raises(ApiError) as caught:
        (fetcher or network.fetcher()).get(url, 10_000)
    assert caught.value.status in (400, 403)
    assert all(map(is_public, network.connected)), network.connected
    return caught.value


def test_a_picture_of_an_allowed_host_is_fetched():
    network = Network({ALLOWED: [PUBLIC]}, [content(b"pixels")])
    assert network.fetcher().get(f"http://{ALLOWED}/a.png?x=1", 100) == b"pixels"
    assert (network.connected, network.resolved) == ([PUBLIC], [ALLOWED])


def test_redirects_stay_on_the_list():
    other = "cdn.example.org"
    hops = [redirect(f"http://{other}/b"), redirect("/c"), content(b"pixels")]
    network = Network({ALLOWED: [PUBLIC], other: ["93.184.216.35"]}, hops)
    assert network.fetcher(ALLOWED, other).get(f"http://{ALLOWED}/a", 100) == b"pixels"
    assert network.connected == [PUBLIC, "93.184.216.35", "93.184.216.35"]
    loop = [redirect("/again")] * (MAX_REDIRECTS + 1)
    assert_refused(Network({ALLOWED: [PUBLIC]}, loop), f"http://{ALLOWED}/a")


def test_size_and_errors_of_a_host_are_bounded():
    for response in (
        content(b"x" * 20_000),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret",
        b"not http",
        b"",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
    ):
        error = assert_refused(Network({ALLOWED: [PUBLIC]}, [response]), f"http://{ALLOWED}/a")
        assert "secret" not in error.message


def test_a_slow_host_is_given_up():
    network = Network({ALLOWED: [PUBLIC]})
    held = []

    def connect(address, port, timeout_s):
        ours, theirs = socket.socketpair()
        held.append(theirs)
        return ours

    fetcher = Fetcher((ALLOWED,), 0.2, resolve=network.resolve, connect=connect)
    assert_refused(network, f"http://{ALLOWED}/a", fetcher)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_never_connected(address):
    assert not is_public(address)
    assert_refused(Network({ALLOWED: [address]}), f"http://{ALLOWED}/a")
    assert_refused(Network({ALLOWED: [PUBLIC, address]}), f"http://{ALLOWED}/a")
    shown = f"[{address}]" if ":" in address else address
    # Even if the operator lists the address itself.
    network = Network({address: [address]})
    assert_refused(network, f"http://{shown}/a", network.fetcher(address))


def test_the_connection_goes_to_the_address_that_was_checked():
    """A name is resolved once per hop: a second answer, which could be private, is never asked for."""
    network = Network({ALLOWED: [[PUBLIC], ["127.0.0.1"]]}, [content(b"pixels")])
    assert network.fetcher().get(f"http://{ALLOWED}/a", 100) == b"pixels"
    assert network.connected == [PUBLIC]
    network = Network({ALLOWED: [[PUBLIC], ["127.0.0.1"]]}, [redirect("/b"), content(b"secret")])
    assert_refused(network, f"http://{ALLOWED}/a")


def test_2000_attempts_reach_nothing_but_the_allowed_host():
    attempts = [*OTHER, *(s + h + p for s, h, p in itertools.product(SCHEMES, HOSTS, PATHS))]
    assert len(attempts) > 2000
    names = {host: [f"10.0.0.{number}"] for number, host in enumerate(HOSTS)}
    for url in attempts:
        network = Network(names | {ALLOWED: [PUBLIC]}, [content(b"secret")])
        found = None
        with contextlib.suppress(ApiError):
            found = network.fetcher().get(url, 1000)
        assert set(network.connected) <= {PUBLIC}, url
        assert set(network.resolved) <= {ALLOWED}, url
        if found is None:
            continue
        assert url.lower().startswith(("http://images.example.org", "https://images.example.org"))


def test_addresses_and_paths_reach_nothing_over_any_api():
    """A few dozen of each; `python -m attacks.addresses` sends 2,000 to every API."""
    for one in send_attempts(count=60, seed=1):
        assert one.num_sent >= 40
        assert one.problems == [], one.api


def test_redirects_of_an_allowed_host_reach_nothing_else():
    attempts = [*OTHER, *(s + h + "/a" for s, h in itertools.product(SCHEMES, HOSTS))]
    for url in attempts:
        if not url.isascii() or "\r" in url or "\n" in url:
            continue
        network = Network({"evil.com": ["127.0.0.1"], ALLOWED: [PUBLIC]}, [redirect(url)])
        assert_refused(network, f"http://{ALLOWED}/a")
        assert set(network.connected) <= {PUBLIC}, url


@settings(max_examples=500)
@given(st.ip_addresses())
def test_every_public_address_is_global(address):
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_private
        assert not address.is_multicast


@settings(max_examples=300)
@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", f"http://{ALLOWED}"]))
def test_generated_urls_reach_nothing_else(text, start):
    network = Network({ALLOWED: [PUBLIC]}, [content(b"x")])
    with contextlib.suppress(ApiError):
        network.fetcher().get(start + text, 100)
    assert set(network.connected) <= {PUBLIC}
    assert set(network.resolved) <= {ALLOWED}


@pytest.mark.parametrize(
    "name", ["*.example.org", "http://a.b", "a/b", "a b", "", "10.0.0.0/8", "-a"]
)
def test_patterns_are_no_media_hosts(name):
    with pytest.raises(UsageError, match="exact name"):
        check_media_host(name)


def test_a_request_with_a_url_is_fetched_only_from_the_list(photo):
    network = Network({ALLOWED: [PUBLIC]}, [content(photo.read_bytes())])
    with serving(ScriptedModel([RED]), fetcher=network.fetcher()) as server:
        for url, status in (
            (f"http://{ALLOWED}/a.png", 200),
            ("http://127.0.0.1:1/a.png", 403),
            ("http://localhost/a.png", 403),
            ("file:///etc/passwd", 400),
            (str(photo), 400),
            (f"file://{photo}", 400),
            ("file-" + "0" * 32, 404),
        ):
            part = {"type": "image_url", "image_url": {"url": url}}
            body = {"messages": [{"role": "user", "content": [part]}]}
            reply = server.post("/v1/chat/completions", body)
            assert reply.status_code == status, (url, reply.text)
            if status != 200:
                assert "messages.0.content.0" in reply.json()["error"]["param"]
        assert network.connected == [PUBLIC]


# --- hosts, origins, keys ---


def error_of(name: str | None, origin: str | None = None, **fields) -> str | None:
    middleware = HostMiddleware(None, ServerSettings(**fields), has_keys=False)
    headers = [] if name is None else [(b"host", name.encode("latin-1"))]
    headers += [] if origin is None else [(b"origin", origin.encode("latin-1"))]
    found = middleware.error({"type": "http", "headers": headers})
    return found and found.code


@pytest.mark.parametrize("host", ["localhost:8008", "127.0.0.1", "[::1]:8008", "LOCALHOST"])
def test_loopback_names_are_accepted(host):
    assert error_of(host) is None


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.com",
        "evil.com:8008",
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "127.0.0.1@evil.com",
        "evil.com#localhost",
        "localhost:8008/evil.com",
        "192.168.0.1",
        "0.0.0.0",
        "127.0.0.1, evil.com",
        "localhost\t",
        "[::1",
        "\xe4",
    ],
)
def test_other_names_are_refused(host):
    assert error_of(host) == "invalid_host"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com",
        "null",
        "",
        "https://localhost:9999",
        "http://localhost:8008/x",
        "http://localhost:8008@evil.com",
        "file://",
        "http://evil.com#http://localhost:8008",
    ],
)
def test_pages_of_other_origins_are_refused(origin):
    assert error_of("localhost:8008", origin) == "invalid_origin"


def test_the_own_origin_and_listed_ones_are_accepted():
    assert error_of("localhost:8008", "http://localhost:8008") is None
    listed = {"allowed_origins": ("https://chat.example.org",)}
    assert error_of("localhost:8008", "https://chat.example.org", **listed) is None
    assert error_of("box:8008", host="0.0.0.0", allowed_hosts=("box",), no_auth=True) is None
    assert error_of("10.0.0.5:8008", host="0.0.0.0", no_auth=True) is None
    assert error_of("evil.com", host="0.0.0.0", no_auth=True) == "invalid_host"


def test_two_host_headers_are_refused():
    middleware = HostMiddleware(None, ServerSettings(), False)
    headers = [(b"host", b"localhost"), (b"host", b"evil.com")]
    assert middleware.error({"type": "http", "headers": headers}).code == "invalid_host"


ROUTES = [
    "/v1/models",
    "/v1/files",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/",
    "/x",
    "/v1/..%2Fhealth",
]


def test_every_route_but_health_needs_a_key(tmp_path, photo):
    path = tmp_path / "keys.txt"
    path.write_text("# clients\nalice: alice-key-0123456789\n\nbob-key-0123456789abc\n")
    keys = read_keys(path)
    assert [key.client for key in keys] == ["alice", "key-4"]
    assert b"alice-key" not in repr(keys).encode()
    with serving(ScriptedModel([RED]), keys=keys) as server:
        assert server.get("/health").status_code == 200
        wrong = [
            "",
            "Bearer",
            "Bearer x",
            "Basic alice-key-0123456789",
            "Bearer alice-key-012345678",
        ]
        for route, value in itertools.product(ROUTES, wrong):
            headers = {"Authorization": value} if value else {}
            reply = server.get(route, headers=headers)
            assert reply.status_code == 401, (route, value)
            assert reply.headers["WWW-Authenticate"] == "Bearer"
        alice = {"Authorization": "Bearer alice-key-0123456789"}
        bob = {"Authorization": "bearer bob-key-0123456789abc"}
        file = {"file": ("a.png", photo.read_bytes())}
        id = server.client.post("/v1/files", files=file, headers=alice).json()["id"]
        part = {"type": "image_url", "image_url": {"url": id}}
        body = {"messages": [{"role": "user", "content": [part]}]}
        assert server.post("/v1/chat/completions", body, headers=alice).status_code == 200
        # A key cannot see, use or remove the files of another.
        assert server.post("/v1/chat/completions", body, headers=bob).status_code == 404
        assert server.get(f"/v1/files/{id}", headers=bob).status_code == 404
        assert server.client.delete(f"/v1/files/{id}", headers=bob).status_code == 404
        assert server.get("/v1/files", headers=bob).json()["data"] == []
        assert len(server.get("/v1/files", headers=alice).json()["data"]) == 1


def test_conversations_of_a_key_are_not_continued_by_another(tmp_path, photo):
    path = tmp_path / "keys.txt"
    path.write_text("alice: alice-key-0123456789\nbob: bob-key-0123456789abc\n")
    with serving(ScriptedModel([RED]), keys=read_keys(path)) as server:
        alice = {"Authorization": "Bearer alice-key-0123456789"}
        bob = {"Authorization": "Bearer bob-key-0123456789abc"}
        body = chat("Which colour?", photo)
        assert server.post("/v1/chat/completions", body, headers=alice).status_code == 200
        body["messages"] += [{"role": "assistant", "content": RED}, user("And now?")]
        for headers, hits in ((bob, 0.0), (alice, 1.0)):
            assert server.post("/v1/chat/completions", body, headers=headers).status_code == 200
            text = server.get("/metrics", headers=alice).text
            name = 'pixel_reasoner:conversation_cache_hits_total{model_name="test"}'
            assert (f"{name} {hits}" in text) or (hits == 0.0 and name not in text)


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "# none\n",
        "short\n",
        "a: with space in it 123\n",
        "a: 0123456789abcdef\na: 0123456789abcdeg\n",
    ],
)
def test_an_unusable_file_of_keys_is_refused(lines, tmp_path):
    (tmp_path / "keys.txt").write_text(lines)
    with pytest.raises(UsageError) as caught:
        read_keys(tmp_path / "keys.txt")
    assert "0123456789abcdef" not in str(caught.value)
    with pytest.raises(InputError):
        read_keys(tmp_path / "none.txt")


def test_other_machines_need_a_key():
    with pytest.raises(UsageError, match="--key-file"):
        check_exposure(ServerSettings(host="0.0.0.0"), ())
    check_exposure(ServerSettings(host="0.0.0.0", no_auth=True), ())
    check_exposure(ServerSettings(host="::1"), ())


# --- hostile media and bodies ---


def png_of_size(width: int, height: int) -> bytes:
    """Return the beginning of a PNG with these dimensions."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunk = len(header[4:]).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk


def hostile() -> dict[str, bytes]:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    png = buffer.getvalue()
    return {
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "html": b"<!DOCTYPE html>",
        "empty": b"",
        "only a signature": b"\x89PNG\r\n\x1a\n",
        "bomb": png_of_size(60_000, 60_000),
        "flat": png_of_size(2**31 - 1, 1),
        "truncated": png[: len(png) // 2],
        "jpeg": b"\xff\xd8\xff" + b"\0" * 200,
        "gif": b"GIF89a" + b"\xff" * 100,
        "webp": b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 100,
        "tiff": b"II*\0\xff\xff\xff\xff" + b"\0" * 100,
        "video as a picture": b"\0\0\0\x18ftypmp42" + b"\0" * 100,
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "pickle": b"\x80\x04\x95",
    }


@pytest.fixture(scope="module")
def server():
    limits = {"max_body_bytes": 2_000_000, "max_upload_bytes": 100_000, "max_media": 3}
    with serving(ScriptedModel([RED]), **limits) as one:
        yield one


@pytest.mark.parametrize("name", hostile())
def test_hostile_pictures_are_a_400_without_paths(name, server):
    reply = server.post("/v1/chat/completions", chat("Which?", hostile()[name]))
    if name == "truncated" and reply.status_code == 200:  # a picture with missing rows may be used
        return
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["code"].startswith("invalid_image")
    root = str(server.services.store.root)
    assert root not in error["message"]
    assert "0x" not in error["message"]
    assert "/" not in error["message"].replace("image/", "").replace("data:", "")
    assert server.get("/health").status_code == 200


def test_limits_are_applied_before_decoding(server, photo):
    reply = server.post("/v1/chat/completions", chat("Which?", *[photo] * 1, b"x" * 2_000_000))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")
    small = png_of_size(1, 1)
    reply = server.post("/v1/chat/completions", chat("Which?", small, small, small, small))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_many_images")
    files = {"file": ("a.png", b"\x89PNG\r\n\x1a\n" + b"x" * 200_000)}
    assert server.client.post("/v1/files", files=files).status_code == 413


def test_a_chunked_body_is_limited_by_what_arrives(server):
    def body():
        for _ in range(100):
            yield b" " * 100_000

    headers = {"Content-Type": "application/json"}
    reply = server.client.post("/v1/chat/completions", content=body(), headers=headers)
    assert reply.status_code == 413


def test_a_client_that_sends_slowly_is_given_up():
    with serving(ScriptedModel([RED]), body_timeout_s=0.3) as server:
        connection = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        connection.sendall(head.encode())
        assert connection.recv(12) == b"HTTP/1.1 408"
        connection.close()
        wait_until(lambda: server.services.body.num_buffered == 0)


@pytest.mark.parametrize(
    "url",
    [
        "data:,x",
        "data:image/png;base64",
        "data:;base64,!!!!",
        "data:image/png;base64,AAA",
        "data:image/png;base64," + base64.b64encode(b"x").decode() + "\n",
    ],
)
def test_data_urls_that_are_no_base64_are_refused(url, server):
    part = {"type": "image_url", "image_url": {"url": url}}
    reply = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"].startswith("invalid_image")


def test_messages_of_errors_have_no_paths_and_no_reprs():
    error = InputError(
        expected="a picture",
        got="/srv/store/ab/abc.png: cannot identify <_io.BytesIO object at 0x7f0011223344>",
        fix="raise the limit (max_px)",
    )
    message = api_error(error, {"/srv/store/ab/abc.png": "picture 2"}).message
    assert message == "expected a picture; got picture 2: cannot identify an object"
    assert redact("C:\\Users\\me\\x.png is bad") == "the file is bad"


def test_a_bug_is_a_500_without_its_message(monkeypatch):
    with serving(ScriptedModel([RED])) as server:
        monkeypatch.setattr(server.services.engine, "submit", lambda *_, **__: 1 / 0)
        reply = server.post("/v1/chat/completions", chat("Which?"))
        assert reply.status_code == 500
        assert "division" not in reply.text
        monkeypatch.setattr(server.services.body, "json", lambda *_: 1 / 0)
        reply = server.post("/v1/chat/completions", chat("Which?"))
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")


def test_a_key_in_the_address_is_not_logged(caplog, photo):
    with serving(ScriptedModel([RED])) as server, caplog.at_level("DEBUG", "pixel_reasoner.server"):
        server.get("/health?key=SECRET")
        server.chat("SECRET", photo)
        server.post("/v1/chat/completions", {"messages": "SECRET"})
        wait_until(lambda: len(caplog.records) >= 3)
    shown = "".join(
        record.getMessage() + str(vars(record).get("fields")) for record in caplog.records
    )
    assert "SECRET" not in shown
    assert "/v1/chat/completions" in shown
