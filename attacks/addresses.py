"""Try to make the server fetch, read or reveal what it must not: SSRF, paths, redirects, rebinding, over every API.

    python -m attacks.addresses --count 2000 --seed 0

Addresses go to chat completions, responses, the trace API, and the MCP tools open_media, zoom_in and ask, each over HTTP. The resolver
and the connections are replaced by ones that record. Nothing but the allowed host may be resolved or connected, no content of a file
outside of `--root` may appear in any response or trace, no request may fail with 5xx, and the server must answer at the end. Requests of
foreign pages (Host, Origin) to all routes must be refused. Prints one line per API.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

ALLOWED = "images.example.org"
PUBLIC = "93.184.216.34"
CANARY = "canary-8c1f2a"
"""content of a file that nobody may read"""
PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.254",
    "192.0.0.8",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "2001:db8::1",
]


HOSTS = [
    "evil.com",
    "localhost",
    f"{ALLOWED}.evil.com",
    f"evil.com#{ALLOWED}",
    f"evil.com/{ALLOWED}",
    f"evil.com?{ALLOWED}",
    f"{ALLOWED}@evil.com",
    f"user:pass@{ALLOWED}",
    f"evil.com\\@{ALLOWED}",
    f"{ALLOWED}\\.evil.com",
    f"{ALLOWED}%00.evil.com",
    f"{ALLOWED}%2eevil.com",
    f"{ALLOWED}\t",
    f" {ALLOWED}",
    f"{ALLOWED}..",
    f"{ALLOWED}:22",
    f"{ALLOWED}:99999",
    f"{ALLOWED}:",
    "ⓘmages.example.org",
    "images。example。org",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "",
    *(f"[{one}]" if ":" in one else one for one in PRIVATE),
]
SCHEMES = ["http://", "https://", "HTTP://", "hTTp:", "http:/", "//", "", "http:///"]
OTHER = [
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "FILE:///etc/passwd",
    "/etc/passwd",
    "../../etc/passwd",
    "C:\\Windows\\win.ini",
    "\\\\evil\\share",
    "ftp://images.example.org/a",
    "gopher://127.0.0.1:6379/_x",
    "s3://bucket/key",
    "dict://127.0.0.1:11211/stat",
    "jar:http://images.example.org!/a",
    "data:text/html,<script>",
    "data:image/png,AAAA",
    "data:image/svg+xml;utf8,<svg/>",
    "javascript:alert(1)",
    "blob:http://images.example.org/1",
    "http://images.example.org/a\r\nHost: evil.com",
    "http://images.example.org/a\nX: y",
    "http://images.example.org/ a",
    "http://images.example.org/é",
    "http://images.example.org/" + "a" * 5000,
]
PATHS = [
    "",
    "/",
    "/a.png",
    "/../../etc/passwd",
    "/%2e%2e/x",
    "?a=b",
    "/a#b",
    ":80/a",
    "/\\evil.com",
]


class Network:
    """Fake resolver and connections. A connection to a public address is answered by `responses`, in order."""

    def __init__(
        self, addresses: dict[str, Any], responses: Sequence[bytes] = (), default: bytes = b""
    ) -> None:
        self.default = default
        """response when there are no more of them"""
        self.addresses = addresses
        """host -> addresses, or lists of addresses for one resolution after the other"""
        self.responses = list(responses)
        self.resolved: list[str] = []
        self.connected: list[str] = []

    def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a name."""
        self.resolved.append(host)
        found = self.addresses.get(host, [])
        if found and isinstance(found[0], list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """Return a connection that answers one request."""
        self.connected.append(address)
        ours, theirs = socket.socketpair()
        response = self.responses.pop(0) if self.responses else self.default

        def answer() -> None:
            theirs.recv(65536)
            theirs.sendall(response)
            theirs.close()

        threading.Thread(target=answer, daemon=True).start()
        return ours

    def fetcher(self, *hosts: str) -> Any:
        """Return a fetcher of this network."""
        from pixel_reasoner.server.fetch import Fetcher

        names = hosts or (ALLOWED,)
        return Fetcher(names, 30.0, resolve=self.resolve, connect=self.connect)


def redirect(to: str) -> bytes:
    """Return a response that redirects."""
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")


def content(body: bytes) -> bytes:
    """Return a response with a body."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def addresses(seed: int) -> list[str]:
    """Return all addresses in random order."""
    found = [*OTHER, *("".join(parts) for parts in itertools.product(SCHEMES, HOSTS, PATHS))]
    random.Random(seed).shuffle(found)
    return found


def paths(root: Path, secret: Path) -> list[str]:
    """Return names of a file outside of a folder that MCP clients may read: relative, absolute, encoded, through links."""
    name, up = secret.name, f"../{secret.parent.name}/{secret.name}"
    (root / "link").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    plain = [
        *(str(secret), f"file://{secret}", f"file:{secret}", up, f"{root}/{up}", "link", "folder"),
        *(f"folder/{name}", f"./{up}", f"{root.name}/{up}", f"x/../{up}", f"//{secret}", f"~/{up}"),
        *("/etc/passwd", "/proc/self/environ", "/proc/self/cwd/../etc/passwd", "/dev/stdin"),
        *(f"/proc/self/root{secret}", f"{root}/link", f"picture://{up}", f"trace://{up}", "."),
    ]
    changes = (
        lambda one: one,
        lambda one: one.replace("..", "%2e%2e"),
        lambda one: one.replace("/", "%2f"),
        lambda one: one.replace("/", "\\"),
        lambda one: one.replace("..", "....//"),
        lambda one: one + "\0.png",
        lambda one: one + "%00.png",
        lambda one: " " + one + " ",
        lambda one: one + "/",
        lambda one: one + "#.png",
        lambda one: one.replace("..", "\uff0e\uff0e"),
        lambda one: one.upper(),
    )
    return [change(one) for one in plain for change in changes]


FOREIGN_HOSTS = [
    *(
        "evil.com",
        "evil.com:8008",
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "192.168.0.1",
        "0.0.0.0",
    ),
    *(
        "127.0.0.1@evil.com",
        "evil.com#localhost",
        "localhost:8008/evil.com",
        "127.0.0.1, evil.com",
        "[::1",
        "",
    ),
    *(
        "images.example.org",
        "localhost:99999999",
        "local host",
        "127.1",
        "0x7f000001",
        "2130706433",
    ),
]
FOREIGN_ORIGINS = [
    *("http://evil.com", "https://evil.com", "null", "", "file://", "http://localhost.evil.com"),
    *(
        "http://127.0.0.1",
        "https://localhost:9999",
        "http://evil.com#http://127.0.0.1",
        "*",
        "chrome://x",
    ),
]
ROUTES = [
    *(
        "POST /v1/chat/completions",
        "POST /v1/responses",
        "POST /v1/traces",
        "GET /v1/traces",
        "POST /mcp",
        "GET /mcp",
    ),
    *(
        "DELETE /mcp",
        "POST /v1/files",
        "GET /v1/files",
        "GET /v1/models",
        "GET /",
        "GET /openapi.json",
    ),
    *(
        "GET /metrics",
        "GET /ready",
        "GET /health",
        "GET /shared/x",
        "GET /v1/traces/x/events",
        "DELETE /v1/traces/x",
    ),
]


class Attempts(NamedTuple):
    """What was sent to one API."""

    api: str
    num_sent: int
    statuses: Counter[str]
    problems: list[str]


class Target:
    """Running server of all APIs with a recording network.

    Args:
        server: of `server_fixture.serving`.
        network: of its fetcher.
    """

    def __init__(self, server: Any, network: Network) -> None:
        self.server, self.network = server, network

    def problems_of(self, what: str, text: str, status: int) -> list[str]:
        """Return what must not have happened because of one attempt."""
        found = []
        if set(self.network.connected) - {PUBLIC}:
            found.append(f"{what}: connected to {self.network.connected}")
        if set(self.network.resolved) - {ALLOWED}:
            found.append(f"{what}: resolved {self.network.resolved}")
        if CANARY in text or "root:x:0" in text:
            found.append(f"{what}: the content of a file was returned")
        if status >= 500:
            found.append(f"{what}: {status} {text[:200]}")
        self.network.connected.clear()
        self.network.resolved.clear()
        return found

    def post(self, api: str, path: str, bodies: Iterable[tuple[str, Any]]) -> Attempts:
        """Send bodies to a route, and follow the jobs that it accepts to their ends."""
        statuses: Counter[str] = Counter()
        problems: list[str] = []
        for what, body in bodies:
            content = json.dumps(body).encode("utf-8", "surrogatepass")
            headers = {"Content-Type": "application/json"}
            reply = self.server.client.post(path, content=content, headers=headers)
            text = reply.text
            if path == "/v1/traces" and reply.status_code == 200:
                id = reply.json()["id"]
                text += self.server.get(f"/v1/traces/{id}/events").text
                text += self.server.get(f"/v1/traces/{id}").text
            statuses[str(reply.status_code)] += 1
            problems += self.problems_of(f"{api} {what!r}", text, reply.status_code)
        return Attempts(api, statuses.total(), statuses, problems)

    def redirect(self, locations: Sequence[str]) -> Attempts:
        """Let the allowed host redirect to every address, or resolve to a private one after the first answer."""
        statuses: Counter[str] = Counter()
        problems: list[str] = []
        url = f"http://{ALLOWED}/a.png"
        for number, location in enumerate(locations):
            self.network.responses = [redirect(location)]
            private = PRIVATE[number % len(PRIVATE)]
            self.network.addresses[ALLOWED] = [[PUBLIC], [private]] if number % 2 else [PUBLIC]
            path, (_, body) = (
                ("/v1/chat/completions", _chat(url)) if number % 3 else ("/v1/traces", _trace(url))
            )
            reply = self.server.post(path, body)
            statuses[str(reply.status_code)] += 1
            problems += self.problems_of(f"redirect to {location!r}", reply.text, reply.status_code)
        self.network.addresses[ALLOWED] = [PUBLIC]
        self.network.responses = []
        return Attempts("redirects", statuses.total(), statuses, problems)

    def rebind(self, count: int) -> Attempts:
        """Send requests of foreign pages to all routes: names in the Host header, and origins. All must be refused."""
        statuses: Counter[str] = Counter()
        problems: list[str] = []
        own = f"127.0.0.1:{self.server.port}"
        pairs = [
            *((host, None) for host in FOREIGN_HOSTS),
            *((host, f"http://{host}") for host in FOREIGN_HOSTS),
            *((own, origin) for origin in FOREIGN_ORIGINS),
        ]
        chosen = itertools.product(pairs, ROUTES)
        for (host, origin), route in itertools.islice(itertools.cycle(chosen), count):
            method, path = route.split()
            headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
            reply = self.server.client.request(method, path, headers=headers, content=b"{}")
            statuses[str(reply.status_code)] += 1
            if reply.status_code not in (400, 403):
                problems.append(f"{route} {headers}: {reply.status_code}")
        return Attempts("rebinding", statuses.total(), statuses, problems)

    def call_tools(self, references: Sequence[str]) -> Attempts:
        """Give every reference to an MCP tool; the tools take turns."""
        return asyncio.run(self._call_tools(references))

    async def _call_tools(self, references: Sequence[str]) -> Attempts:
        from mcp import Client

        tools = (
            ("open_media", {}),
            ("zoom_in", {"box": [0, 0, 1, 1]}),
            ("select_frames", {"frames": [1]}),
            ("ask", {"question": "Which?"}),
        )
        statuses: Counter[str] = Counter()
        problems: list[str] = []
        async with Client(f"{self.server.url}/mcp", mode="auto") as client:
            for number, reference in enumerate(references):
                tool, arguments = tools[number % len(tools)]
                found = await client.call_tool(tool, {"media": reference, **arguments})
                text = found.model_dump_json()
                statuses["refused" if found.is_error else "accepted"] += 1
                problems += self.problems_of(f"{tool} {reference!r}", text, 200)
                if not found.is_error:
                    problems.append(f"{tool} {reference!r} was accepted")
        return Attempts("mcp", statuses.total(), statuses, problems)


def send_attempts(count: int, seed: int) -> list[Attempts]:
    """Start a server, send attempts to all its APIs, and return what happened.

    Args:
        count: attempts for each API.
        seed: of their order.
    """
    from PIL import Image

    from pixel_reasoner.models.scripted import ScriptedModel
    from pixel_reasoner.server.mcp_part import McpPart
    from pixel_reasoner.server.traces import TracesPart
    from server_fixture import serving

    buffer = BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, "PNG")
    names: dict[str, Any] = {host: [f"10.0.0.{number}"] for number, host in enumerate(HOSTS)}
    network = Network(names | {ALLOWED: [PUBLIC]}, default=content(buffer.getvalue()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, secret = folder / "pictures", folder / "other" / "secret.png"
        root.mkdir()
        secret.parent.mkdir()
        secret.write_text(CANARY)
        files = paths(root, secret)
        references = list(itertools.islice(itertools.cycle([*files, *addresses(seed)]), count))
        model = ScriptedModel([r"\boxed{red}"])
        parts = [TracesPart(), McpPart([root])]
        with serving(model, parts=parts, fetcher=network.fetcher(), request_timeout_s=30) as server:
            target = Target(server, network)
            found = [
                target.post("chat", "/v1/chat/completions", map(_chat, references)),
                target.post("responses", "/v1/responses", map(_response, references)),
                target.post("traces", "/v1/traces", map(_trace, references)),
                target.call_tools(references),
                target.redirect([one for one in references if one.isascii() and one.isprintable()]),
                target.rebind(count),
            ]
            assert server.get("/ready").status_code == 200, "the server does not answer any more"
    return found


def _chat(url: str) -> tuple[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return url, {"messages": [{"role": "user", "content": [part]}]}


def _response(url: str) -> tuple[str, Any]:
    part = {"type": "input_image", "image_url": url}
    return url, {"input": [{"role": "user", "content": [part]}]}


def _trace(url: str) -> tuple[str, Any]:
    return url, {"question": "Which?", "media": [url]}


def main() -> int:
    """Run the attack and print one line per API, and the problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="attempts for each API")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = send_attempts(options.count, options.seed)
    for one in found:
        shown = ", ".join(f"{status}: {number}" for status, number in sorted(one.statuses.items()))
        print(f"{one.api}: {one.num_sent} attempts, {len(one.problems)} problems ({shown})")
        for problem in one.problems[:20]:
            print(f"  {problem}")
    return any(one.problems for one in found)


if __name__ == "__main__":
    raise SystemExit(main())
