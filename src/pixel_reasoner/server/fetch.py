"""Fetching of pictures from allow-listed hosts.

Every hop of a redirect must be on the list. A name is resolved once; all its addresses must be public, and the connection goes
to the address that was checked, so a changed DNS answer has no effect. Size and time are bounded. Errors do not reveal what
an address returned.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple
from urllib.parse import urljoin

from pixel_reasoner.errors import UsageError
from pixel_reasoner.server.addresses import is_public
from pixel_reasoner.server.errors import ApiError

MAX_REDIRECTS = 3
MAX_URL_CHARS = 4096
_CHUNK_BYTES = 2**16
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?][!-~]*)?",
    re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LISTED = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?")

Resolve = Callable[[str, int], Iterable[str]]
Connect = Callable[[str, int, float], socket.socket]


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int
    rest: str

    @property
    def host_header(self) -> str:
        """Value of the Host header."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"


def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


def connect(address: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to an address. No name is resolved."""
    return socket.create_connection((address, port), timeout_s)


def check_media_host(name: str) -> str:
    """Return a host of the allow-list in lower case.

    Raises:
        UsageError: not the exact name of a host, with a port or without.

    >>> check_media_host("Images.example.org")
    'images.example.org'
    """
    if not _LISTED.fullmatch(name.lower()):
        raise UsageError(
            expected="the exact name of a host for --allow-media-host",
            got=repr(name),
            fix="for example images.example.org; patterns and addresses are not allowed",
        )
    return name.lower()


class Fetcher:
    """Fetcher of pictures. Blocking; call it in a thread.

    Args:
        hosts: exact names, or `name:port` for a port other than the scheme's default.
        timeout_s: of one picture, including redirects.
        resolve: host and port -> addresses.
        connect: address, port and timeout -> socket.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        timeout_s: float,
        *,
        resolve: Resolve = resolve,
        connect: Connect = connect,
    ) -> None:
        self.hosts = frozenset(hosts)
        self.timeout_s = timeout_s
        self._resolve = resolve
        self._connect = connect

    def check(self, url: str) -> None:
        """Raise an error if an address is not on the list. Sends and resolves nothing.

        Raises:
            ApiError: 400, or 403 for a host that is not on the list.
        """
        self._target(url)

    def get(self, url: str, max_bytes: int) -> bytes:
        """Return the content of an address.

        Raises:
            ApiError: 403 for a host or address that is not allowed; 400 if there is no content within the limits.
        """
        deadline = time.monotonic() + self.timeout_s
        for _ in range(MAX_REDIRECTS + 1):
            target = self._target(url)
            try:
                found = self._request(target, max_bytes, deadline)
            except (OSError, http.client.HTTPException, ValueError):
                raise _failed("the host gave no usable response") from None
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise _failed(f"more than {MAX_REDIRECTS} redirects")

    def _target(self, url: str) -> _Target:
        found = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
        if found is None:
            raise ApiError(
                400,
                "a URL must begin with http:// or https:// and a host, in ASCII, without user and password",
                code="invalid_image_url",
            )
        scheme, host = found["scheme"].lower(), found["host"].lower().strip("[]")
        port = int(found["port"] or _PORTS[scheme])
        is_listed = host in self.hosts and port == _PORTS[scheme]
        if not is_listed and f"{host}:{port}" not in self.hosts:
            raise ApiError(
                403,
                "pictures are not fetched from this host; send the picture as a data URL, or upload it to /v1/files"
                " (the operator can allow a host with --allow-media-host)",
                code="media_host_not_allowed",
            )
        return _Target(scheme, host, port, found["rest"] or "/")

    def _request(self, target: _Target, max_bytes: int, deadline: float) -> bytes | str:
        """Return the content, or the address of a redirect."""
        address = self._checked_address(target)
        opened = self._connect(address, target.port, _left_s(deadline))
        try:
            opened.settimeout(_left_s(deadline))
            if target.scheme == "https":
                context = ssl.create_default_context()
                opened = context.wrap_socket(opened, server_hostname=target.host)
            rest = target.rest if target.rest.startswith("/") else f"/{target.rest}"
            request = (
                f"GET {rest} HTTP/1.1\r\nHost: {target.host_header}\r\nAccept: image/*, video/*\r\n"
                "Accept-Encoding: identity\r\nUser-Agent: pixel-reasoner\r\nConnection: close\r\n\r\n"
            )
            opened.sendall(request.encode("ascii"))
            response = http.client.HTTPResponse(opened, method="GET")
            response.begin()
            if response.status in _REDIRECTS:
                return response.getheader("Location") or ""
            if response.status != 200:
                raise _failed("the host returned an error")
            return _read(response, opened, max_bytes, deadline)
        finally:
            opened.close()

    def _checked_address(self, target: _Target) -> str:
        """Return the address to connect to. All addresses of the name must be public."""
        addresses = list(self._resolve(target.host, target.port))
        if not addresses or not all(map(is_public, addresses)):
            raise ApiError(403, "the host has no public address", code="media_host_not_allowed")
        return addresses[0]


def _read(
    response: http.client.HTTPResponse, opened: socket.socket, max_bytes: int, deadline: float
) -> bytes:
    if (response.length or 0) > max_bytes:
        raise _failed(f"more than {max_bytes} bytes")
    chunks: list[bytes] = []
    num_bytes = 0
    while True:
        opened.settimeout(_left_s(deadline))
        chunk = response.read1(_CHUNK_BYTES)
        if not chunk:
            return b"".join(chunks)
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _failed(f"more than {max_bytes} bytes")
        chunks.append(chunk)


def _left_s(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _failed(why: str) -> ApiError:
    return ApiError(400, f"the picture could not be fetched: {why}", code="invalid_image_url")
